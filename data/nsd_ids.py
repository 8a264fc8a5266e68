"""Say by which other ids an image of NSD is known, and when each subject saw it.

    python data/nsd_ids.py 3050 [2950 ...]      nsd_id, counted from 0: a row of nsd_stimuli.hdf5, the id used here
    python data/nsd_ids.py --coco 532481        ids of COCO
    python data/nsd_ids.py --shared 1           places among the shared images, counted from 1: shared0001

Reads the design (`nsd_expdesign.mat`), the table of stimuli (`nsd_stim_info_merged.csv`) and the number of stimuli
under `execution.nsd`. docs/nsd_ids.md says where each id is used.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse

import numpy as np

from data import nsd
from minddiffuser.cli import Run, execute, parse
from minddiffuser.store import DataError

TRIALS = 750  # of a session of NSD
RUNS = np.cumsum([63, 62] * 6)  # after how many of these each of the 12 runs ends: NSD data manual


def main(argv: list[str] | None = None) -> None:
    """Print the ids of each image that is asked for."""
    run = parse(__doc__, argv, add_arguments, divides=False)
    root, subjects = run.config.nsd, (run.own.subject,) if run.own.subject else nsd.read_subjects(run.config.nsd)
    coco_ids = nsd.read_coco_ids(root)
    designs = {subject: nsd.read_design(root, subject) for subject in subjects}
    first = next(iter(designs.values()))
    shared = first.stimuli[: first.n_shared]
    for nsd_id in asked_for(run, coco_ids, shared):
        place = np.flatnonzero(shared == nsd_id)
        print(f"nsd_id {nsd_id}, counted from 0 (rows of nsd_stimuli.hdf5, nsdId, and all ids here)")
        print(f"    {nsd_id + 1:6d}  73k id, counted from 1 (nsd_expdesign.mat, names such as nsd{nsd_id + 1:05d})")
        print(f"    {coco_ids[nsd_id]:6d}  COCO id")
        print(f"    {place[0] + 1:6d}  of the {len(shared)} shared images, from 1" if len(place) else "    not shared")
        for subject, design in designs.items():
            print_trials(subject, design, nsd_id, trials_of_session(run, design))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the ids, and what they are."""
    parser.add_argument("ids", type=int, nargs="+", metavar="ID", help="nsd_id, counted from 0")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--coco", action="store_true", help="these are ids of COCO")
    kind.add_argument("--shared", action="store_true", help="these are places among the shared images, from 1")


def asked_for(run: Run, coco_ids: np.ndarray, shared: np.ndarray) -> list[int]:
    """Turn what was asked for into nsd_ids."""
    found = []
    for number in run.own.ids:
        if run.own.coco:
            rows = np.flatnonzero(coco_ids == number)
            if not len(rows):
                raise DataError(f"{run.config.nsd / nsd.STIMULUS_INFO}: no stimulus has the COCO id {number}")
            found.append(int(rows[0]))
        elif run.own.shared:
            if not 1 <= number <= len(shared):
                raise DataError(f"--shared {number}: shared images are counted from 1 to {len(shared)}")
            found.append(int(shared[number - 1]))
        else:
            if not 0 <= number < len(coco_ids):
                raise DataError(f"{number} is no nsd_id: they are counted from 0 to {len(coco_ids) - 1}")
            found.append(number)
    return found


def trials_of_session(run: Run, design: nsd.Design) -> int:
    """Count the trials of a session: 750, or the miniature's."""
    miniature = run.config.experiment.miniature
    return len(design.ordering) // miniature.sessions if miniature else TRIALS


def print_trials(subject: str, design: nsd.Design, nsd_id: int, per_session: int) -> None:
    """Print where a subject's list has an image, and in which trials it was to be shown."""
    place = np.flatnonzero(design.stimuli == nsd_id)
    if not len(place):
        return
    print(f"    {subject}: 10k index {place[0] + 1} from 1 ({place[0]} from 0)")
    for trial in np.flatnonzero(design.ordering == place[0]).tolist():
        session, within = divmod(trial, per_session)
        text = f"session {session + 1}, trial {within + 1} of it"
        if per_session == TRIALS:
            number = int(np.searchsorted(RUNS, within, side="right"))
            text += f" (run {number + 1}, trial {within - (RUNS[number - 1] if number else 0) + 1} of the run)"
        print(f"        {text}; trial {trial + 1} of all; from 1")


if __name__ == "__main__":
    execute(main)
