"""Fetch what a configuration needs of the Natural Scenes Dataset, and COCO's captions (80 GB for one subject).

    python data/00_get_nsd.py --config configs/nsd.yaml --dry-run      # list the files and their sizes
    python data/00_get_nsd.py --config configs/nsd.yaml --subject subj01

NSD is free for those who accept its terms, which forbid passing on its data: betas, stimuli, and also the
`prepared.h5` that are made of them. This asks once whether you accept them (`--accept-terms` answers), and keeps the
answer in the data's folder, `execution.nsd`. The files come from NSD's public bucket, without an account of AWS.

These files are fetched: the stimuli, the design and the table of stimuli; of each subject the volumes of ROIs, the
transforms to the cortical surface, and the betas of as many sessions as `experiment.data.sessions` says; and COCO's
captions and categories, unpacked. A file that is there with the right size is left alone. A broken download goes on
where it ended. A file appears under its name when it is whole: it then has the size, and where the server tells one the
MD5, that the server says. `fetched.json` in the folder has the sizes, with which the doctor compares the files. Proxies
are those of the environment (`https_proxy`).

Peak memory: 0.2 GB.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from data import fetching, nsd, nsd_betas, nsd_rois
from data.fetching import Remote
from data.nsd_surfaces import transform_files
from minddiffuser.cli import Run, execute, parse
from minddiffuser.progress import progress
from minddiffuser.store import DataError, write_atomically

NSD_URL = "https://natural-scenes-dataset.s3.amazonaws.com"
COCO_URL = "http://images.cocodataset.org"
TERMS = "https://cvnlab.slite.page/p/IB6BSeW_7o/Terms-and-Conditions"
FORM = "https://forms.gle/xue2bCdM9LaFNMeb7"
ACCEPTED = "terms_accepted.txt"
ANNOTATIONS = Path("annotations/annotations_trainval2017.zip")


def main(argv: list[str] | None = None) -> None:
    """List what is needed, and fetch what is not there."""
    run = parse(__doc__, argv, add_arguments, divides=False)
    if not run.config.experiment.subjects:
        print("experiment.subjects is empty: nothing to fetch")
        return
    root = run.config.nsd
    remotes = {
        name: fetching.look_up(url) for name, url in progress(wanted(run, root).items(), desc="looking up files")
    }
    todo = {name: remote for name, remote in remotes.items() if fetching.n_there(remote, root / name) < remote.size}
    show(root, remotes)
    if run.own.dry_run:
        print("nothing was fetched (--dry-run)")
        return
    if todo:
        accept_terms(root, run.own.accept_terms)
        check_room(root, todo)
    # What is there is recorded, too: a run may have been killed between a file and its entry.
    fetching.add_to_record(root, {str(name): entry(remotes[name]) for name in remotes if name not in todo})
    there = sum(fetching.n_there(remote, root / name) for name, remote in todo.items())
    total = sum(remote.size for remote in todo.values())
    with progress(total=total, initial=there, desc="fetched", unit="B", unit_scale=True) as bar:
        for name, remote in todo.items():
            fetching.fetch(remote, root / name, bar.update)
            fetching.add_to_record(root, {str(name): entry(remote)})
    if ANNOTATIONS in remotes:
        unpack(root, remotes[ANNOTATIONS])
    print(f"{len(todo)} files are fetched: {root}" if todo else f"all {len(remotes)} files are there already: {root}")


def wanted(run: Run, root: Path) -> dict[Path, str]:
    """Name all files that are needed, relative to the folder, and where they are to be had."""
    data, names = run.config.experiment.data, [nsd.STIMULI, nsd.DESIGN, nsd.STIMULUS_INFO]
    for subject in run.subjects:
        names += nsd_rois.roi_files(subject, data.space, data.rois, run.config.experiment.takagi is not None)
        names += [name for of_side in transform_files(subject, data.space).values() for name in of_side]
        for session in range(1, nsd.n_sessions(subject, data.sessions) + 1):
            path = nsd_betas.session_file(subject, data.space, data.betas, session)
            if not (root / path).with_suffix(".nii.gz").is_file():
                names.append(path)
    found = {name: f"{run.own.nsd_url.rstrip('/')}/{name.as_posix()}" for name in names}
    if not all((root / name).is_file() for name in (*nsd.CAPTIONS, *nsd.INSTANCES)):
        found[ANNOTATIONS] = f"{run.own.coco_url.rstrip('/')}/{ANNOTATIONS.as_posix()}"
    return found


def show(root: Path, remotes: dict[Path, Remote]) -> None:
    """Print a line for each file: its size, and what is there of it."""
    for name, remote in remotes.items():
        n = fetching.n_there(remote, root / name)
        state = "is there" if n == remote.size else f"{as_bytes(n)} are there" if n else "to fetch"
        if not n and (root / name).is_file():
            state = f"has {as_bytes((root / name).stat().st_size)} here: to fetch again"
        print(f"{as_bytes(remote.size):>10}  {name}  {state}")
    rest = sum(remote.size - fetching.n_there(remote, root / name) for name, remote in remotes.items())
    print(f"{as_bytes(sum(remote.size for remote in remotes.values())):>10}  in all, {as_bytes(rest)} to fetch")


def accept_terms(root: Path, is_accepted: bool) -> None:
    """Ask once whether the terms are accepted; raise DataError if they are not."""
    if (root / ACCEPTED).is_file():
        return
    print(f"\nNSD's terms: {TERMS}\nIts form, which NSD asks every user to fill in: {FORM}")
    if not is_accepted and not sys.stdin.isatty():
        raise DataError("NSD's terms are not accepted yet", "read them, and give --accept-terms")
    if not is_accepted and input("Do you accept the terms? [yes/no] ").strip().lower() not in ("y", "yes"):
        raise DataError("NSD's terms are not accepted: nothing was fetched")
    root.mkdir(parents=True, exist_ok=True)
    write_atomically(root / ACCEPTED, f"{TERMS}\naccepted {datetime.now(UTC).isoformat(timespec='seconds')}\n")


def check_room(root: Path, todo: dict[Path, Remote]) -> None:
    """Raise DataError unless the disk has room for the rest."""
    rest = sum(remote.size - fetching.n_there(remote, root / name) for name, remote in todo.items())
    if (free := shutil.disk_usage(root).free) < rest:
        raise DataError(f"{root} has room for {as_bytes(free)}, and {as_bytes(rest)} are to be fetched")


def entry(remote: Remote) -> dict[str, object]:
    """Give what the record has of a file."""
    return {"bytes": remote.size, "etag": remote.etag, "url": remote.url}


def unpack(root: Path, remote: Remote) -> None:
    """Unpack COCO's captions and categories, and delete the zip."""
    sizes = fetching.unpack(root / ANNOTATIONS, [name.as_posix() for name in (*nsd.CAPTIONS, *nsd.INSTANCES)], root)
    fetching.add_to_record(root, {name: entry(Remote(remote.url, size, "")) for name, size in sizes.items()})
    (root / ANNOTATIONS).unlink()


def as_bytes(n: int) -> str:
    """Write a number of bytes: 1.05 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n} B"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this script has."""
    parser.add_argument("--dry-run", action="store_true", help="list the files and their sizes, and fetch nothing")
    parser.add_argument("--accept-terms", action="store_true", help="you have read NSD's terms, and accept them")
    parser.add_argument(
        "--nsd-url", metavar="URL", default=NSD_URL, help="where NSD's files are (default: %(default)s)"
    )
    parser.add_argument("--coco-url", metavar="URL", default=COCO_URL, help="where COCO's are (default: %(default)s)")


if __name__ == "__main__":
    execute(main)
