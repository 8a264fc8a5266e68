"""Time data/02_prepare_subject.py on betas as NSD stores them, and hold it against its limit.

    python benchmarks/prepare.py                   # about a minute on two cores, 1.4 GB of disk
    python benchmarks/prepare.py --sessions 1 37   # all sessions truly read; 3 GB of disk

Writes one session of subject 1's real shape, 750 volumes of 81 x 104 x 83 voxels with a chunk of HDF5 for each voxel,
and ROI volumes with 11,694 voxels, the design of 30,000 trials, the table of 73,000 stimuli, and stimuli that take no
room. Runs the script on a few sessions, all links to that file, and on more: the difference is what a session takes,
the rest what a run takes whatever their number. A session brings fewer new images than the one before, so that the
line through the two is, if anything, too steep. CPU seconds are the script's own, of all threads, with the file in the
page cache; the limit is 30 for 37 sessions. The last line is JSON.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from scipy.io import savemat

from data import nsd, nsd_rois
from data.nsd_betas import BETA_SCALE
from minddiffuser.config import REPOSITORY, load

CONFIG = REPOSITORY / "configs" / "nsd.yaml"
SUBJECT, SPACE, BETAS = "subj01", "func1pt8mm", "betas_fithrf_GLMdenoise_RR"
SHAPE, N_VOXELS = nsd.VOLUMES[SUBJECT], nsd_rois.KNOWN_VOXELS[SUBJECT]["all"]
N_TRIALS, N_STIMULI, N_SHARED, N_OWN, N_SUBJECTS, ALL_SESSIONS = 750, 73_000, 1000, 9000, 8, 37
LIMIT = 30.0  # CPU seconds


class Cost(NamedTuple):
    """CPU seconds and peak memory, in bytes, of a process."""

    seconds: float
    memory: int


def main() -> None:
    """Write the files, run the script, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, nargs=2, default=(1, 4), metavar=("FEW", "MANY"))
    few, many = parser.parse_args().sessions
    if not 1 <= few < many <= ALL_SESSIONS:
        parser.error(f"1 <= FEW < MANY <= {ALL_SESSIONS}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The session, z-scores of each session, and the result.
        needed = 2.1 * N_TRIALS * np.prod(SHAPE) + 4 * (many * N_TRIALS + N_SHARED + N_OWN) * N_VOXELS
        if shutil.disk_usage(folder).free < 1.1 * needed:
            sys.exit(f"{folder} needs {1.1 * needed / 1e9:.1f} GB free; set TMPDIR to a folder that has them")
        write_dataset(folder / "nsd", many)
        start = cost("--help")
        runs = {n: prepare(folder, n) for n in (few, many)}
    each = (runs[many].seconds - runs[few].seconds) / (many - few)
    rest = runs[few].seconds - few * each
    total = rest - start.seconds + ALL_SESSIONS * each
    for n, run in runs.items():
        print(f"{n} sessions: {run.seconds:.1f} s of CPU, peak memory {run.memory / 1e9:.2f} GB")
    print(f"a session: {each:.2f} s; imports: {start.seconds:.1f} s; all else: {rest - start.seconds:.1f} s")
    print(f"{ALL_SESSIONS} sessions, without imports: {total:.1f} s of CPU; limit {LIMIT:.0f} s")
    print(json.dumps({"seconds": round(total, 1), "limit": LIMIT, "peak_memory": runs[many].memory, "sessions": many}))


def write_dataset(root: Path, n_sessions: int) -> None:
    """Write all that the script reads of subject 1."""
    rng = np.random.default_rng(0)
    folder = root / "nsddata_betas/ppdata" / SUBJECT / SPACE / BETAS
    folder.mkdir(parents=True)
    first = folder / "betas_session01.hdf5"
    write_session(first, rng)
    for session in range(2, n_sessions + 1):
        first.with_name(f"betas_session{session:02d}.hdf5").symlink_to(first)

    # A spherical shell stands for the cortex: long and thin in each direction, as ROIs are.
    distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - np.array([40, 30, 40]), axis=-1).ravel()
    labels = np.zeros(distance.size, np.int16)
    voxels = np.argsort(np.abs(distance - 25), kind="stable")[:N_VOXELS]
    n_labels = max(label for members in nsd_rois.ROI_LABELS.values() for label in members)
    labels[np.sort(voxels)] = np.sort(np.arange(N_VOXELS) % n_labels) + 1
    rois = root / "nsddata/ppdata" / SUBJECT / SPACE / "roi"
    rois.mkdir(parents=True)
    for name, values in (("Kastner2015", labels), ("prf-visualrois", np.where(labels <= 7, labels, 0))):
        nib.save(nib.Nifti1Image(values.reshape(SHAPE).astype(np.int16), np.eye(4)), rois / f"{name}.nii.gz")

    (root / nsd.DESIGN).parent.mkdir(parents=True)
    ids = rng.permutation(N_STIMULI) + 1
    shared, own = np.sort(ids[:N_SHARED]), ids[N_SHARED:].reshape(N_SUBJECTS, N_OWN)
    ordering = rng.permutation(np.repeat(np.arange(N_SHARED + N_OWN), 3)) + 1
    lists = np.stack([np.r_[shared, part] for part in own])
    savemat(root / nsd.DESIGN, {"masterordering": ordering[None], "subjectim": lists, "sharedix": shared[None]})
    table = pd.DataFrame({"cocoId": rng.permutation(N_STIMULI) + 1, "nsdId": np.arange(N_STIMULI)})
    table.to_csv(root / nsd.STIMULUS_INFO)
    (root / nsd.STIMULI).parent.mkdir(parents=True)
    with h5py.File(root / nsd.STIMULI, "w", locking=False) as file:  # no value is written, so that no room is taken
        file.create_dataset("imgBrick", (N_STIMULI, 425, 425, 3), np.uint8, chunks=(1, 425, 425, 3))


def write_session(path: Path, rng: np.random.Generator) -> None:
    """Write betas of (trials, Z, Y, X) with a deviation of 1 %, a chunk for each voxel."""
    X, Y, Z = SHAPE
    noise = rng.normal(0, BETA_SCALE, 100_000).astype("<i2")
    begin = rng.integers(0, len(noise) - N_TRIALS, X * Y * Z).tolist()
    with h5py.File(path, "w", locking=False) as file:
        dataset = file.create_dataset("betas", (N_TRIALS, Z, Y, X), "<i2", chunks=(N_TRIALS, 1, 1, 1))
        for start, place in zip(begin, np.ndindex(Z, Y, X), strict=True):
            dataset.id.write_direct_chunk((0, *place), noise[start : start + N_TRIALS])


def prepare(folder: Path, n_sessions: int) -> Cost:
    """Run the script on the first sessions."""
    settings = {
        "experiment.subjects": f"[{SUBJECT}]",
        "experiment.data.sessions": n_sessions,
        "execution.nsd": folder / "nsd",
        "execution.runs": folder / "runs",
    }
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    used = cost("--config", str(CONFIG), "--device", "cpu", *options)
    name = load(CONFIG).name
    with h5py.File(folder / "runs" / name / SUBJECT / "prepared.h5", locking=False) as file:
        assert file["betas"].shape[1] == N_VOXELS
    shutil.rmtree(folder / "runs")
    return used


def cost(*arguments: str) -> Cost:
    """Run data/02_prepare_subject.py as a user does, and take what its process used."""
    command = [sys.executable, str(REPOSITORY / "data" / "02_prepare_subject.py"), *arguments]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{output.read().decode(errors='replace')}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


if __name__ == "__main__":
    main()
