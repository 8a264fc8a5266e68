"""Check everything that a run needs before hours are spent on it, and estimate what it will take.

    python -m doctor --config configs/nsd.yaml [--subject subj01] [--json FILE] [--estimates] [--scripts SCRIPT ...]

Looks at every file of the dataset, the ROIs, the captions of all images, a little of each session, every run of films,
the models (each is opened), the device, and the free disk; then estimates time, memory and disk of each stage, and
compares them with this machine. Checks do not depend on each other: whatever is broken is one line, and the others go
on; estimates are made in any case, with usual sizes in place of what is missing. Ends with exit code 1 and a checklist
if something is wrong: what, where, and what mends it. What concerns a rival alone is marked, for `make all` leaves it
out. What a run can do without is a warning, and no problem. What must be there, and what it takes, is said by each
room's `needs.py`.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
import json
import shlex
import sys
from pathlib import Path

import torch

import baselines.mind_animator.needs
import baselines.ozcelik.needs
import baselines.semantic_brain_decoding.needs
import baselines.takagi.needs
import data.film_needs
import data.nsd_needs
import evaluation.concepts.needs
import evaluation.pictures.needs
import evaluation.videos.needs
import feature_decoding.needs
import feature_extraction.needs
import reconstruction.needs
from doctor.checklist import as_json, checklist
from doctor.estimates import as_csv
from doctor.machine import advise, check_disk, check_memory, show
from minddiffuser.cli import Run, concept_subjects, execute, film_subjects, parse
from minddiffuser.config import REPOSITORY, Experiment
from minddiffuser.jobs import ESTIMATES
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.models import device_of
from minddiffuser.needs.rows import Row
from minddiffuser.store import DataError, write_atomically

# Every room. A new one is added here.
ROOMS: tuple[Room, ...] = (
    data.nsd_needs.ROOM,
    feature_extraction.needs.ROOM,
    feature_decoding.needs.ROOM,
    feature_decoding.needs.MAPS,
    reconstruction.needs.ROOM,
    baselines.takagi.needs.ROOM,
    baselines.ozcelik.needs.ROOM,
    baselines.semantic_brain_decoding.needs.ROOM,
    data.film_needs.ROOM,
    baselines.mind_animator.needs.ROOM,
    evaluation.pictures.needs.ROOM,
    evaluation.concepts.needs.ROOM,
    evaluation.videos.needs.ROOM,
)


def main(argv: list[str] | None = None) -> None:
    """Print findings and estimates."""
    run = parse(
        __doc__,
        argv,
        add_own=add_arguments,
        subjects_of=all_subjects,
        divides=False,
    )
    for script in run.own.scripts or ():
        if not (REPOSITORY / shlex.split(script)[0]).is_file():
            raise DataError(f"--scripts: there is no {script} in {REPOSITORY}")
    findings = examine(run)
    if run.own.json:
        write_atomically(run.own.json, json.dumps(as_json(findings.problems, ROOMS), indent=1))
    if findings.problems:
        sys.exit(checklist(findings.problems))
    print("\nnothing is wrong")
    if n := findings.n_warnings:
        print(f"what is absent is said above, after warn ({n}); run the same again once it is there")


def all_subjects(experiment: Experiment) -> tuple[str, ...]:
    """Subjects of every dataset."""
    return (*experiment.subjects, *concept_subjects(experiment), *film_subjects(experiment))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this program has."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what is wrong to this file, too")
    parser.add_argument("--estimates", action="store_true", help="write jobs/estimates.csv, for cluster/submit.sh")
    parser.add_argument(
        "--scripts", nargs="+", metavar="SCRIPT",
        help="look only at what these need, such as reconstruction/31_stage1.py (default: all scripts)",
    )  # fmt: skip


def is_asked(room: Room, scripts: list[str] | None) -> bool:
    """Tell whether any of these scripts is of a room."""
    return scripts is None or any(script.startswith(room.scripts) for script in scripts)


def examine(run: Run) -> Findings:
    """Check and estimate all; return what was found."""
    findings = Findings(run)
    used = [(room, names) for room in ROOMS if (names := room.subjects(run)) and is_asked(room, run.own.scripts)]
    is_alone = len({room.part for room, _ in used}) == 1  # of a run of nothing else nothing can be left out
    device = device_of(findings)
    for room, names in used:
        findings.part = "" if is_alone else room.part
        if room.look:
            room.look(findings, names)
    rows: list[tuple[Row, str]] = []
    estimated: list[tuple[Room, Row]] = []
    for room, names in used:
        findings.part = "" if is_alone else room.part
        estimated += [(room, row) for row in room.rows(findings, names)]
        rows += [(row, findings.part) for of, row in estimated if of is room]
    rows.sort(key=lambda pair: (pair[0].subject, pair[0].scripts))
    findings.part = ""
    if device is None:  # for the estimates
        device = torch.device("cuda" if run.device_name.startswith("cuda") else "cpu")
    if run.own.estimates:
        write_atomically(run.config.folder() / ESTIMATES, as_csv(estimated, on_gpu=device.type == "cuda"))
    check_memory(findings, rows, device)
    findings.check("disk", check_disk, run.config, sum(row.disk for row, _ in rows), bool(findings.assumed))
    if rows:
        show([row for row, _ in rows], run.config, device, findings.assumed)
    if rows and device.type == "cuda":
        advise(run.config, device)
    return findings


if __name__ == "__main__":
    execute(main)
