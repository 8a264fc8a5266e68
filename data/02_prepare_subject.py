"""From NSD's files to rows of voxels: X in the paper's algorithm 1, of the authors' sessions and ROIs.

    python data/02_prepare_subject.py [--config configs/miniature.yaml] [--subject subj01]

Reads betas, ROI volumes, design and table of stimuli under `execution.nsd`. For each subject it writes
`runs/<name>/<subject>/prepared.h5`:

    betas          (n_images, n_voxels) float32  session-wise z-scores, averaged over repetitions
    stimulus_id    (n_images,)  0-based row of the stimuli; test images first, both in the order of NSD's lists
    coco_id        (n_images,)
    is_test        (n_images,)  bool: one of the shared images
    n_repetitions  (n_images,)
    betas_halves   (n_test, 2, n_voxels) float32  of test images: means of the first and of the second half of their
                                trials, as many in both (the last of three is left out); NaN where there is one trial
    voxel_index    (n_voxels,)  position in the C-order of the volume
    roi            (n_voxels,)  name
    noise_ceiling  (n_voxels,)  percent of variance with three trials
    volume_shape, affine        to project maps back

and `noise_ceiling.csv`, a table by ROI. Sessions are read one by one and kept as parts, so that a killed run
goes on with the next session, and shards can share them. Voxels without data in a session are counted, and are 0 there
if `experiment.data.invalid_voxels` is "zero"; trials and files without data stop the run.

Peak memory: 1.4 GB for a real subject.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

from collections.abc import Callable, Iterator
from functools import partial

import h5py
import numpy as np
import pandas as pd

from data import nsd, nsd_betas, nsd_rois, recipes
from data.averaging import average, ceiling_by_roi, choose_rows, remaining_sessions
from minddiffuser import terminal
from minddiffuser.cli import Run, execute, parse
from minddiffuser.store import Artifact, DataError, open_made, write_atomically


def main(argv: list[str] | None = None) -> None:
    """Prepare each subject."""
    run = parse(__doc__, argv)
    for subject in run.subjects:
        artifact = Artifact(recipes.prepared(run.config, subject))
        if artifact.is_done(run.overwrite):
            print(f"{artifact.path} is there already")
        elif not prepare(run, subject, artifact):
            continue
        write_ceiling(run, subject)


def prepare(run: Run, subject: str, artifact: Artifact) -> bool:
    """Read the sessions of this shard, and make the file once all are there; tell whether it is."""
    root, data = run.config.nsd, run.config.experiment.data
    design = nsd.read_design(root, subject)
    coco_ids = nsd.read_coco_ids(root)
    voxels = nsd_rois.read_voxels(root, subject, data.space, data.rois)
    first = nsd_betas.session_path(root, subject, data.space, data.betas, 1)
    n_trials = nsd_betas.check_session(first, voxels.shape)
    n_sessions = nsd.n_sessions(subject, data.sessions)
    if n_trials * n_sessions > len(design.ordering):
        raise DataError(f"{first} has {n_trials} trials; {n_sessions} such sessions are more than the design has")
    for session, betas in remaining_sessions(run, artifact, voxels, standardise=True):
        artifact.write_part(session, {"betas": betas})
    make = partial(make_rows, design, voxels, coco_ids, n_trials, n_sessions, data.validation_rows)
    return artifact.reduce(n_sessions, make)


def make_rows(
    design: nsd.Design,
    voxels: nsd.Voxels,
    coco_ids: np.ndarray,
    n_trials: int,
    n_sessions: int,
    validation_rows: int,
    read_sessions: Callable[[], Iterator[h5py.File]],
) -> dict[str, np.ndarray]:
    """Average the repetitions of each image, and say what each row and each column is."""
    seen, rows = choose_rows(design.ordering[: n_trials * n_sessions], design.n_shared, validation_rows)
    stimulus_id = design.stimuli[seen][rows.kept]
    return {
        **average(read_sessions, n_trials, len(voxels.index), rows),
        "stimulus_id": stimulus_id,
        "coco_id": coco_ids[stimulus_id],
        "is_test": np.arange(len(stimulus_id)) < rows.n_test,
        "n_repetitions": rows.n_repetitions[rows.kept],
        "voxel_index": voxels.index,
        "roi": voxels.roi.astype("S"),
        "volume_shape": np.array(voxels.shape),
        "affine": voxels.affine,
    }


def write_ceiling(run: Run, subject: str) -> None:
    """Write and print the noise ceiling by ROI, which the rows have by voxel."""
    with open_made(recipes.prepared(run.config, subject)) as prepared:
        voxels = pd.DataFrame({"roi": prepared["roi"][:].astype(str), "noise_ceiling": prepared["noise_ceiling"][:]})
        n_images, n_test = len(prepared["stimulus_id"]), int(prepared["is_test"][:].sum())
    table = ceiling_by_roi(voxels)
    write_atomically(run.config.folder(subject) / "noise_ceiling.csv", table.to_csv(index=False))
    print(f"\n{subject}: {n_images - n_test} training and {n_test} test images, {len(voxels)} voxels")
    print("noise ceiling (percent of variance, three trials) by ROI:")
    print(table.to_string(index=False, line_width=terminal.width()), "\n")


if __name__ == "__main__":
    execute(main)
