"""Single trials of NSD's streams, as Takagi & Nishimoto use them: not averaged, and not standardised by session."""

from collections.abc import Callable, Iterator

import h5py
import numpy as np
from tqdm import tqdm

from baselines.takagi import recipes
from baselines.takagi.recipes import STREAMS
from data import nsd, nsd_betas
from data.recipes import prepared
from minddiffuser.cli import Run
from minddiffuser.store import Artifact, open_made


def write_trials(run: Run, subject: str) -> None:
    """Write trials of the training images, and means over the trials of each test image, to `takagi/trials.h5`.

        train           (n_trials, n_voxels) float32  percent signal change
        image_of_trial  (n_trials,)  which of the training images, in the order of `prepared.h5`
        test            (n_test, n_voxels) float32
        stream          (n_voxels,)  name
        nsd_id          (n_images,)  as in `prepared.h5`: test images first

    Sessions are parts, which survive a kill and which shards share; the file is there when all are.

    Raises
    ------
    DataError
        A file of NSD is missing or broken, or a session or a trial has no data, or a voxel has none in a session and
        `data.invalid_voxels` is "error". With "zero" such a voxel is 0 in that session, as it is in NSD's files, which
        the released code uses as they are; their number is printed.
    """
    root, data = run.config.nsd, run.config.experiment.data
    artifact = Artifact(recipes.trials(run.config, subject))
    if artifact.is_done(run.overwrite):
        return
    design = nsd.read_design(root, subject)
    voxels = nsd.read_streams(root, subject, data.space, STREAMS)
    paths = [nsd_betas.session_path(root, subject, data.space, data.betas, s + 1) for s in range(data.sessions)]
    for session, _ in tqdm(artifact.parts_to_do(data.sessions, 1, run.shard), desc=f"{subject} trials"):
        betas = nsd_betas.read_session(paths[session], voxels)
        empty = nsd_betas.find_empty(betas, voxels, paths[session], data.invalid_voxels)
        if empty.any():
            tqdm.write(f"{paths[session].name}: set to 0 for want of data: {voxels.count(empty)}")
        betas[:, empty] = 0
        artifact.write_part(session, {"betas": betas})
    with open_made(prepared(run.config, subject)) as rows:
        ids, n_test = rows["nsd_id"][:], int(rows["is_test"][:].sum())
    row_of = {nsd_id: row for row, nsd_id in enumerate(ids)}

    def make(read_sessions: Callable[[], Iterator[h5py.File]]) -> dict[str, np.ndarray]:
        betas = np.concatenate([session["betas"][:] for session in read_sessions()])
        shown = design.stimuli[design.ordering[: len(betas)]]
        row = np.array([row_of.get(nsd_id, -1) for nsd_id in shown])  # -1: left out, of a real test image in validation
        train = row >= n_test
        return {
            "train": betas[train],
            "image_of_trial": row[train] - n_test,
            "test": np.stack([betas[row == image].mean(axis=0) for image in range(n_test)]),
            "stream": voxels.roi.astype("S"),
            "nsd_id": ids,
        }

    artifact.reduce(data.sessions, make)
