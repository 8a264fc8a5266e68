"""The scores of a dataset, in a folder of tables with a record of what they were made of: kept, read, and told if old.

The record, scores.json, has the settings and the states of the folders that were scored, and the hashes of the tables.
"""

import hashlib
import json
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from evaluation.catalogue import ALL_SUBJECTS, TABULATED, Catalogue
from minddiffuser.cli import Run
from minddiffuser.config import REPOSITORY, Config
from minddiffuser.recipe import pick
from minddiffuser.store import DataError, reading, write_atomically
from reconstruction import folder

Key = tuple[str, str]  # a subject and a system
COLUMNS = ["subject", "system", "stimulus_id", "metric", "value"]
MADE_BY = "; made by: "  # between what is absent and the command lines that make it
_A_RECORD = "the record of what was scored"


class Kept(NamedTuple):
    """What is there of earlier, and what there is to score."""

    scores: pd.DataFrame  # rows of scores.csv that are of what is there now
    subjects: list[str]  # those that are scored now, and those that have scores
    states: dict[Key, str]  # everything that is there
    fresh: set[Key]  # what need not be scored again


def read_kept(
    run: Run,
    output: Path,
    settings: dict[str, Any],
    states_of: Callable[[Config, str], dict[str, str]],
    tables: Collection[str] = ("scores",),
) -> Kept:
    """Read the scores that are there, made with the same settings, of what has not changed since.

    `states_of` gives what there is of a subject: a state for each system. With --overwrite, nothing of the run's
    subjects is fresh; and nothing at all is where one of the `tables` that values are taken over from is missing, or
    not as it was written.
    """
    kept, scored = _read_scores(output, settings, tables)
    subjects = sorted({*run.subjects, *kept["subject"]})
    states = {(s, name): state for s in subjects for name, state in states_of(run.config, s).items()}
    fresh = {
        key
        for key, state in scored.items()
        if states.get(key) == state and not (run.overwrite and key[0] in run.subjects)
    }
    is_fresh = np.array([key in fresh for key in zip(kept["subject"], kept["system"], strict=True)], bool)
    return Kept(kept[is_fresh], subjects, states, fresh)


def _read_scores(
    output: Path, settings: dict[str, Any], tables: Collection[str]
) -> tuple[pd.DataFrame, dict[Key, str]]:
    """Read scores.csv and the states of what it is of; nothing where it was made otherwise, or a table is cut.

    A kill may come after tables are written and before the record is.
    """
    record, none = output / "scores.json", (pd.DataFrame(columns=COLUMNS), {})
    needed = [output / f"{name}.csv" for name in tables]
    if not all(path.is_file() for path in (record, *needed)):
        return none
    with reading(record, _A_RECORD, "delete it, and everything is scored again"):
        content = json.loads(record.read_text())
        if content["settings"] != settings:
            return none
        scored = {(subject, system): state for subject, system, state in content["scored"]}
        is_as_written = all(content["tables"].get(table.name) == _hash(table.read_bytes()) for table in needed)
    if not is_as_written:
        return none
    return pd.read_csv(output / "scores.csv", dtype={"subject": str}), scored


def rows_of(subject: str, system: str, values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Make a row an image and metric, columns `COLUMNS`, of the arrays of a system: "stimulus_id", and metrics."""
    table = pd.DataFrame({"subject": subject, "system": system, **values}).sort_values("stimulus_id")
    return table.melt(["subject", "system", "stimulus_id"], var_name="metric").dropna()


def scoring_settings(config: Config) -> dict[str, Any]:
    """Give the settings that scores depend on, by their full names."""
    keys = ("image_size", "networks", "n_way")
    models = ("models.scoring_clip", "models.scoring_clip_weights")
    return pick(config.experiment, *(f"evaluation.{key}" for key in keys), *models)


def place_of(config: Config, subject: str, name: str) -> Path:
    """Where the pictures of a system are."""
    return config.folder(subject) / "reconstruction" / name


def make_record(
    config: Config,
    settings: dict[str, Any],
    absent: dict[str, str],
    states: Mapping[Key, str],
    pictured: Collection[Key],
    lacking: Mapping[Key, str],
) -> dict[str, Any]:
    """Make the record of what was scored: `states`, of which the `pictured` have pictures; see `mark_incomplete`."""
    samples = {key: len(folder.sample_folders(place_of(config, *key))) for key in pictured}
    return {
        "settings": settings,
        "absent": absent,
        "scored": [[*key, state] for key, state in sorted(states.items())],
        "samples": [[*key, n] for key, n in sorted(samples.items()) if n > 1],
        "incomplete": [[*key, text] for key, text in sorted(lacking.items())],
    }


def write_tables(output: Path, tables: Mapping[str, pd.DataFrame], record: dict[str, Any]) -> None:
    """Write tables, `<name>.csv`, and then their record, scores.json, which knows them by their hashes."""
    texts = {f"{name}.csv": table.to_csv(index=False, float_format="%.6f") for name, table in tables.items()}
    for name, text in texts.items():
        write_atomically(output / name, text)
    hashes = {name: _hash(text.encode()) for name, text in texts.items()}
    write_atomically(output / "scores.json", json.dumps({**record, "tables": hashes}, indent=2) + "\n")


def is_scored(catalogue: Catalogue, config: Config) -> bool:
    """Tell whether a dataset has scores."""
    return (catalogue.output(config) / "scores.json").is_file()


def read_tables(
    catalogue: Catalogue, names: Iterable[str], config: Config
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Read tables of scores, such as "summary", and their record.

    Raises
    ------
    DataError
        Something is missing, is not as it was written, or was made with other settings than the configuration has; the
        message names the command that makes it.
    """
    output = catalogue.output(config)
    made_by, path = f"make it with: python {catalogue.script}", output / "scores.json"
    tables = {name: output / f"{name}.csv" for name in names}
    for needed in (*tables.values(), path):
        if not needed.is_file():
            raise DataError(f"{needed} is missing; {made_by}")
    with reading(path, _A_RECORD, made_by):
        record = json.loads(path.read_text())
        found, wanted, hashes = record["settings"], scoring_settings(config), record["tables"]
        pairs = {key: (found.get(key, "absent"), value) for key, value in wanted.items()}
        differing = [f"{key} was {was}, is {now}" for key, (was, now) in pairs.items() if was != now]
    if differing:
        raise DataError(f"{path} has scores made with other settings: {'; '.join(differing)}; {made_by}")
    for table in tables.values():  # half a table looks like a whole one
        if hashes.get(table.name) != _hash(table.read_bytes()):
            raise DataError(f"{table} is not as it was written: cut short, or changed since; {made_by}")
    kinds = {"subject": str, "incomplete": str}
    return {name: pd.read_csv(t, dtype=kinds).fillna({"incomplete": ""}) for name, t in tables.items()}, record


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def samples_of(record: Mapping[str, Any]) -> dict[str, str]:
    """How many samples each system was scored on, where that is more than one: "5", or "2–5" if subjects differ."""
    numbers: dict[str, list[int]] = {}
    for _, name, n in record.get("samples", []):
        numbers.setdefault(name, []).append(n)
    return {name: str(min(n)) if min(n) == max(n) else f"{min(n)}–{max(n)}" for name, n in numbers.items()}


def lacking_of(record: Mapping[str, Any]) -> dict[str, list[str]]:
    """Give what each system lacks, such as "subj01: 3 of 6 pictures"."""
    found: dict[str, list[str]] = {}
    for subject, name, text in record.get("incomplete", []):
        found.setdefault(name, []).append(f"{subject}: {text}")
    return found


def mark_incomplete(summary: pd.DataFrame, lacking: dict[tuple[str, str], str]) -> pd.DataFrame:
    """Add to a summary the column `incomplete`: what a system lacks, such as "3 of 6 pictures", or nothing.

    The mean over subjects tells what each of them lacks.
    """
    of_all = lacking_of({"incomplete": [(*key, text) for key, text in lacking.items()]})
    keys = zip(summary["subject"], summary["system"], strict=True)
    found = [
        ", ".join(of_all.get(name, [])) if subject == ALL_SUBJECTS else lacking.get((subject, name), "")
        for subject, name in keys
    ]
    return summary.assign(incomplete=found)


def stale(record: dict[str, Any], subject: str, states: dict[str, str]) -> dict[str, str]:
    """Systems of a subject whose scores are not of what is there now, as `states` has it, with the reason."""
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


def scripts(pattern: str) -> list[str]:
    """Scripts that match a pattern, such as "baselines/takagi/[0-9]*.py", in order, as paths in the repository."""
    return sorted(path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob(pattern))


def absent(names: Iterable[str], scripts: Iterable[str], arguments: list[str]) -> str:
    """Say what is absent, and by which command lines it is made."""
    return f"absent: {', '.join(names)}{MADE_BY}{_commands(scripts, arguments)}"


def remarks_on(
    catalogue: Catalogue,
    record: dict[str, Any],
    states: Mapping[str, dict[str, str]],
    missing_of: Callable[[str], Mapping[tuple[str, ...], list[str]]],
    arguments: list[str],
) -> list[str]:
    """Say what is absent, and what has changed since it was scored; what is true of several subjects in one line.

    `states` is by subject; `missing_of` gives the systems that a subject lacks, by the scripts that make them.
    """
    found: dict[str, list[str]] = {}
    for subject, there in states.items():
        for scripts, names in missing_of(subject).items():
            found.setdefault(absent(names, scripts, arguments), []).append(subject)
        for name, reason in stale(record, subject, there).items():
            if catalogue.system(name).kind in TABULATED:
                command = _commands([catalogue.script], arguments)
                found.setdefault(f"WARNING: {name} {reason}; score it with: {command}", []).append(subject)
    return [f"{', '.join(subjects)}: {remark}" for remark, subjects in found.items()]


def _commands(scripts: Iterable[str], arguments: list[str]) -> str:
    """Command line that runs scripts one after the other."""
    return " && ".join(shlex.join(["python", script, *arguments]) for script in scripts)
