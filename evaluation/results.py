"""What `evaluation/41_score.py` writes, for the scripts that read it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.catalogue import ALL_SUBJECTS
from minddiffuser.config import Config
from minddiffuser.recipe import pick
from minddiffuser.store import DataError, reading, write_atomically

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
    return read_scores_table(path, _MADE_BY)


def write_tables(output: Path, tables: Mapping[str, pd.DataFrame], record: dict[str, Any]) -> None:
    """Write tables, `<name>.csv`, and then their record, scores.json, which knows them by their hashes."""
    texts = {f"{name}.csv": table.to_csv(index=False, float_format="%.6f") for name, table in tables.items()}
    for name, text in texts.items():
        write_atomically(output / name, text)
    hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    write_atomically(output / "scores.json", json.dumps({**record, "tables": hashes}, indent=2) + "\n")


def is_as_written(path: Path) -> bool:
    """Tell whether a table is the one that its record knows: half a table looks like a whole one."""
    record = path.with_name("scores.json")
    if not record.is_file():
        raise DataError(f"{record} is missing; {_MADE_BY}")
    with reading(record, "the record of what was scored", _MADE_BY):
        known = json.loads(record.read_text())["tables"].get(path.name)
    return known == hashlib.sha256(path.read_bytes()).hexdigest()


def read_scores_table(path: Path, made_by: str) -> pd.DataFrame:
    """Read a table of scores; `made_by` is the way out where it is not as it was written."""
    if not is_as_written(path):
        raise DataError(f"{path} is not as it was written: cut short, or changed since; {made_by}")
    return pd.read_csv(path, dtype={"subject": str, "incomplete": str}).fillna({"incomplete": ""})


def scoring_settings(config: Config) -> dict[str, Any]:
    """Give the settings that scores depend on, by their full names."""
    keys = ("image_size", "networks", "n_way")
    models = ("models.scoring_clip", "models.scoring_clip_weights")
    return pick(config.experiment, *(f"evaluation.{key}" for key in keys), *models)


def read_record(output: Path, config: Config, made_by: str = _MADE_BY) -> dict[str, Any]:
    """Read the states and absent metrics that scores were made with; `made_by` is the way out where there are none.

    Raises
    ------
    DataError
        It is missing or broken, or the scores were made with other settings than the configuration has.
    """
    path = output / "scores.json"
    if not path.is_file():
        raise DataError(f"{path} is missing; {made_by}")
    with reading(path, "the record of what was scored", made_by):
        record = json.loads(path.read_text())
        found, wanted = record["settings"], scoring_settings(config)
        pairs = {key: (found.get(key, "absent"), value) for key, value in wanted.items()}
        differing = [f"{key} was {was}, is {now}" for key, (was, now) in pairs.items() if was != now]
    if differing:
        raise DataError(f"{path} has scores made with other settings: {'; '.join(differing)}; {made_by}")
    return record


def samples_of(record: dict[str, Any]) -> dict[str, str]:
    """How many samples each system was scored on, where that is more than one: "5", or "2–5" if subjects differ."""
    numbers: dict[str, list[int]] = {}
    for _, name, n in record.get("samples", []):
        numbers.setdefault(name, []).append(n)
    return {name: str(min(n)) if min(n) == max(n) else f"{min(n)}–{max(n)}" for name, n in numbers.items()}


def lacking_of(record: dict[str, Any]) -> dict[str, list[str]]:
    """Give what each system lacks, such as "subj01: 3 of 6 pictures"."""
    found: dict[str, list[str]] = {}
    for subject, name, text in record.get("incomplete", []):
        found.setdefault(name, []).append(f"{subject}: {text}")
    return found


def mark_incomplete(summary: pd.DataFrame, lacking: dict[tuple[str, str], str]) -> pd.DataFrame:
    """Add to a summary the column `incomplete`: what a system lacks, or nothing.

    Parameters
    ----------
    summary : DataFrame
        Columns subject, system and others.
    lacking : dict of (subject, system) to str
        Such as "3 of 6 pictures". The mean over subjects tells what each of them lacks.
    """
    of_all: dict[str, list[str]] = {}
    for (subject, name), text in lacking.items():
        of_all.setdefault(name, []).append(f"{subject}: {text}")
    keys = zip(summary["subject"], summary["system"], strict=True)
    found = [
        ", ".join(of_all.get(name, [])) if subject == ALL_SUBJECTS else lacking.get((subject, name), "")
        for subject, name in keys
    ]
    return summary.assign(incomplete=found)


def stale(record: dict[str, Any], subject: str, states: dict[str, str]) -> dict[str, str]:
    """Systems whose scores are not of what is there now, with the reason.

    Parameters
    ----------
    record : dict
        Of `read_record`.
    subject : str
    states : dict of system to str
        What is there: `systems.states_of` the subject.

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
