"""What `evaluation/41_score.py` writes, for the scripts that read it, and the states of what it scores."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from minddiffuser.store import DataError, open_arrays
from reconstruction import folder

FAMILIES = {"c": "semantic", "z": "detail", "z_clip": "structural"}  # files of what is decoded, by target
SPLITS = ("naive_split", "held_out_clusters")
_MADE_BY = "make it with: python evaluation/41_score.py"


def read_table(output: Path, name: str) -> pd.DataFrame:
    """Read a table of scores, such as "summary", from the folder that it was written to.

    Raises
    ------
    DataError
        It is missing; the message names the command that makes it.
    """
    path = output / f"{name}.csv"
    if not path.is_file():
        raise DataError(f"{path} is missing; {_MADE_BY}")
    return pd.read_csv(path, dtype={"subject": str})


def read_record(output: Path) -> dict[str, Any]:
    """Read the settings, states and absent metrics that the scores were made with.

    Raises
    ------
    DataError
        It is missing; the message names the command that makes it.
    """
    path = output / "scores.json"
    if not path.is_file():
        raise DataError(f"{path} is missing; {_MADE_BY}")
    return json.loads(path.read_text())


def samples_of(record: dict[str, Any]) -> dict[str, str]:
    """How many samples each system was scored on, where that is more than one: "5", or "2–5" if subjects differ."""
    numbers: dict[str, list[int]] = {}
    for _, name, n in record.get("samples", []):
        numbers.setdefault(name, []).append(n)
    return {name: str(min(n)) if min(n) == max(n) else f"{min(n)}–{max(n)}" for name, n in numbers.items()}


def states_of(folder_of_subject: Path) -> dict[str, str]:
    """Systems of a subject that are there, and what they were made of; samples count as part of a system."""
    root = folder_of_subject / "reconstruction"
    folders = {path.parent: folder.state(path.parent) for path in sorted(root.glob("*/*/index.csv"))}
    found = {path.relative_to(root).as_posix(): state for path, state in folders.items() if state}
    splits = folder_of_subject / "decoded" / "splits.h5"
    for target, family in FAMILIES.items():
        paths = [folder_of_subject / part / f"{family}.h5" for part in ("decoded", "decoded/halves")]
        paths = paths[:1] if target == "z_clip" else paths
        if all(path.is_file() for path in paths):
            found[f"features/{target}"] = _fingerprints(paths)
        if target != "z_clip" and splits.is_file():
            found.update({f"features/{target}@{split}": _fingerprints([splits]) for split in SPLITS})
    # Scores depend on which images are tested, too.
    tested = _fingerprints([folder_of_subject / "prepared.h5"])
    return {name: f"{state}; test images of {tested}" for name, state in found.items()}


def stale(record: dict[str, Any], subject: str, states: dict[str, str]) -> dict[str, str]:
    """Systems whose scores are not of what is there now, with the reason.

    Parameters
    ----------
    record : dict
        Of `read_record`.
    subject : str
    states : dict of system to str
        What is there: `states_of` the subject's folder.

    Returns
    -------
    dict of system to str
    """
    scored = {name: state for of_subject, name, state in record["scored"] if of_subject == subject}
    found = {}
    for name in {**scored, **states}:
        if name not in scored:
            found[name] = "is not scored yet"
        elif name not in states:
            found[name] = "was scored, but is not there any more"
        elif scored[name] != states[name]:
            found[name] = "has changed since it was scored"
    return found


def _fingerprints(paths: list[Path]) -> str:
    """Fingerprints of HDF5 files, joined."""
    found = []
    for path in paths:
        with open_arrays(path, "the stage before") as file:
            found.append(str(file.attrs["fingerprint"]))
    return ", ".join(found)
