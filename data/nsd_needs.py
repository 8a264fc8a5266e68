"""What must be there of the Natural Scenes Dataset, and what reading it takes."""

import filecmp
import hashlib
import itertools
from collections import Counter
from pathlib import Path

import numpy as np

from data import fetching, nsd, nsd_betas, nsd_rois, own
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.rows import FLOAT32, FLOAT64, Row, Subject
from minddiffuser.store import DataError

READING = 100e6  # bytes of betas a second, a guess


def subjects_of(run: Run) -> tuple[str, ...]:
    """Give those of NSD."""
    return tuple(name for name in run.subjects if name in run.config.experiment.subjects)


def look(findings: Findings, names: tuple[str, ...]) -> None:
    """Check all files."""
    config = findings.run.config
    findings.check("stimuli", check_stimuli, config)
    for name in names:
        count(findings, name)
    if not own.is_own(config):
        findings.check("files", check_fetched, config)
        findings.check("sessions", check_alike, config, names)


def count(findings: Findings, name: str) -> Subject | None:
    """Check all that is of one subject; give its counts, where they could be found out."""
    config, check = findings.run.config, findings.check
    if own.is_own(config):
        return check(f"{name} rows", own.check_taken, config, name)
    design = check(f"{name} design", check_design, config, name)
    check(f"{name} captions", check_captions, config, design)
    voxels = check(f"{name} ROIs", check_rois, config, name)
    return check(f"{name} betas", check_sessions, config, name, design, voxels)


def counted(findings: Findings, name: str) -> Subject:
    """Give a subject's counts for the estimates: NSD's, or the miniature's, where they could not be found out."""
    if found := count(findings, name):
        return found
    found = usual(findings.run.config, name)
    text = f"{found.n_train:,} training and {found.n_test:,} test images, {found.n_voxels:,} voxels"
    return findings.assume(f"size of {name}'s data", found, text)


def usual(config: Config, name: str) -> Subject:
    """Give the counts that a subject of the configuration's dataset has: in NSD, those of subj01 in 37 sessions."""
    miniature, n_sessions = config.experiment.miniature, nsd.n_sessions(name, config.experiment.data.sessions)
    if miniature:
        n_voxels, v1 = (round(miniature.roi_scale * n) for n in (11694, 2392))
        n_trials = 3 * (miniature.n_shared + miniature.n_own) * n_sessions // miniature.sessions
        return Subject(name, miniature.n_own, miniature.n_shared, n_trials, n_voxels, v1, 0)
    n_bytes = n_sessions * 750 * 81 * 104 * 83 * 2
    return Subject(name, 8859, 982, 750 * n_sessions, 11694, 2392, n_bytes)


def check_fetched(config: Config) -> tuple[bool, str]:
    """Compare the sizes of files with those that data/00_get_nsd.py was told when it fetched them."""
    record = fetching.read_record(config.nsd)
    sizes = {config.nsd / name: entry["bytes"] for name, entry in record.items()}
    found = {path: path.stat().st_size for path in sizes if path.is_file()}
    wrong = [
        DataError(
            f"{path} has {n:,} bytes, and had {sizes[path]:,} when it was fetched",
            "delete it, and run data/00_get_nsd.py again",
            path,
        )
        for path, n in found.items()
        if n != sizes[path]
    ]
    if wrong:
        raise ExceptionGroup("files of NSD", wrong)
    return True, f"{len(found)} have the size that the server gave" if found else "fetched by hand: no sizes to compare"


def check_alike(config: Config, names: tuple[str, ...]) -> tuple[bool, str]:
    """Look for sessions that are the same file under two names: whole files are compared if some blocks of them agree.

    A published dataset had the first session of one subject twice, the second time as that of another.
    """
    data, n_files, wrong = config.experiment.data, 0, []
    known: dict[bytes, list[Path]] = {}
    for name, session in itertools.product(names, range(1, data.sessions + 1)):
        if session > nsd.n_sessions(name, data.sessions):
            continue
        try:
            path = nsd_betas.session_path(config.nsd, name, data.space, data.betas, session)
        except DataError:
            continue  # said elsewhere
        n_files += 1
        similar = known.setdefault(_glance(path), [])
        first = next((other for other in similar if filecmp.cmp(other, path, shallow=False)), None)
        if first is not None:
            wrong.append(DataError(f"{path} has the same betas as {first}", "fetch both again", path))
        else:
            similar.append(path)
    if wrong:
        raise ExceptionGroup("sessions", wrong)
    return True, f"{n_files} files, no two alike"


def _glance(path: Path, n_blocks: int = 16, size: int = 2**14) -> bytes:
    """Hash the size of a file, and some blocks of it.

    The blocks are at multiples of the golden ratio: evenly spaced ones could all lie in the air at the same edge of the
    volumes, where every session is 0.
    """
    n = path.stat().st_size
    digest = hashlib.sha256(str(n).encode())
    with path.open("rb") as file:
        for k in range(n_blocks):
            file.seek(int(k * 0.6180339887 % 1 * max(n - size, 0)))
            digest.update(file.read(size))
    return digest.digest()


def check_stimuli(config: Config) -> tuple[bool, str]:
    """Read the first stimulus and the last."""
    stimuli = nsd.Stimuli(config.nsd)
    for picture in stimuli.read(np.array([0, stimuli.n - 1])):
        if not np.ptp(picture):
            raise DataError(f"{stimuli.path} has no picture in its first or last place", "fetch it again", stimuli.path)
    return True, f"{stimuli.n}"


def check_design(config: Config, subject: str) -> tuple[nsd.Design, str]:
    """Read which image was shown when."""
    design = nsd.read_design(config.nsd, subject)
    return design, f"{len(design.ordering)} trials of {len(design.stimuli)} images"


def check_captions(config: Config, design: nsd.Design) -> tuple[bool, str]:
    """Check the captions of every stimulus that the subject saw, and read the categories where they are."""
    ids = np.unique(nsd.read_coco_ids(config.nsd)[design.stimuli])
    n = config.experiment.semantic.n_captions
    nsd.read_captions(config.nsd, ids, n)
    there = nsd.read_categories(config.nsd, ids) is not None
    return True, f"{len(ids)} images have {n} or more" + ("" if there else "; the page will have no categories")


def check_rois(config: Config, subject: str) -> tuple[nsd.Voxels, str]:
    """Read the ROI volumes, and compare counts with the authors' where these are of the same ROIs."""
    root, data = config.nsd, config.experiment.data
    voxels = nsd_rois.read_voxels(root, subject, data.space, data.rois)
    of_nsd, n_known = voxels.shape == nsd.VOLUMES.get(subject), nsd_rois.NSDGENERAL.get(subject)
    if of_nsd and data.rois == ("nsdgeneral",) and len(voxels.index) != n_known:
        text = f"{root}: nsdgeneral of {subject} has {len(voxels.index):,} voxels, but NSD's has {n_known:,}"
        raise DataError(text, "fetch the volume again")
    comparable = of_nsd and set(data.rois) <= set(nsd_rois.ROI_LABELS)  # others may take voxels that these share
    for name, expected in nsd_rois.KNOWN_VOXELS.get(subject, {}).items() if comparable else ():
        if name in data.rois:
            found = int((voxels.roi == name).sum())
        elif name == "all" and set(data.rois) == set(nsd_rois.ROI_LABELS):
            found = len(voxels.index)
        else:
            continue
        if abs(found - expected) > 0.01 * expected:
            raise DataError(
                f"{root}: {subject} has {found} voxels in {name}, but the authors had {expected}; the ROI volumes are "
                "not those of this subject and space, or of another release: fetch them again"
            )
    counts = Counter(voxels.roi.tolist())
    missing = nsd_rois.missing_labels(root, subject, data.space, data.rois)
    note = f"; no voxel of {', '.join(missing)}" if missing else ""
    return voxels, f"{len(voxels.index)} voxels ({', '.join(f'{n} in {roi}' for roi, n in counts.items())}){note}"


def check_sessions(config: Config, subject: str, design: nsd.Design, voxels: nsd.Voxels) -> tuple[Subject, str]:
    """Check every session's file, of which a few trials or voxels are read."""
    root, data, wrong = config.nsd, config.experiment.data, []
    n_sessions = nsd.n_sessions(subject, data.sessions)
    n_trials: dict[Path, int] = {}
    for session in range(1, n_sessions + 1):
        try:
            path = nsd_betas.session_path(root, subject, data.space, data.betas, session)
            nsd_betas.try_session(path, voxels)
            n_trials[path] = nsd_betas.check_session(path, voxels.shape)
        except Exception as error:
            wrong.append(error)
    usual = Counter(n_trials.values()).most_common(1)[0][0] if n_trials else 0
    wrong += [
        DataError(f"{path} has {n} trials, but the others have {usual}", "fetch it again", path)
        for path, n in n_trials.items()
        if n != usual
    ]
    if usual * n_sessions > len(design.ordering):
        wrong.append(
            DataError(
                f"{n_sessions} sessions of {usual} trials are more than the design's {len(design.ordering)}; lower "
                "experiment.data.sessions"
            )
        )
    if wrong:
        raise ExceptionGroup(f"{subject} betas", wrong)
    seen = np.unique(design.ordering[: usual * n_sessions])
    n_test = data.validation_rows or int((seen < design.n_shared).sum())
    n_train = int((seen >= design.n_shared).sum()) - data.validation_rows
    found = Subject(
        subject, n_train, n_test, usual * n_sessions, len(voxels.index), max(Counter(voxels.roi.tolist()).values()),
        sum(path.stat().st_size for path in n_trials),
    )  # fmt: skip
    return found, f"{n_sessions} sessions of {usual} trials, {n_train} training and {n_test} test images"


def rows(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 02 takes."""
    return [prepare(counted(findings, name)) for name in names]


def prepare(s: Subject) -> Row:
    """02: betas to rows."""
    rows = s.n_images * s.n_voxels * FLOAT32
    block = 3 * s.n_images * min(2048, s.n_voxels) * FLOAT64
    halves = 2 * s.n_test * s.n_voxels * FLOAT32
    return Row(
        s.name, "02", "prepare", s.n_bytes / READING, rows + halves + block, 0, rows + halves,
        "reading the betas at 100 MB/s", ("leave out ROIs (experiment.data.rois)",),
    )  # fmt: skip


ROOM = Room(subjects_of, rows, look, scripts=("data/02",))
