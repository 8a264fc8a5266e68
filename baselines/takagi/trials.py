"""Single trials of NSD's streams, as Takagi & Nishimoto use them: not averaged, and not standardised by session."""

from collections.abc import Callable, Iterator

import h5py
import numpy as np

from baselines.takagi import recipes
from baselines.takagi.recipes import STREAMS
from data import nsd, nsd_rois
from data.averaging import remaining_sessions
from data.recipes import prepared
from minddiffuser.cli import Run
from minddiffuser.store import Artifact, open_made


def write_trials(run: Run, subject: str) -> None:
    """Write trials of the training images, and means over the trials of each test image, to `takagi/trials.h5`.

        train           (n_trials, n_voxels) float32  percent signal change
        image_of_trial  (n_trials,)  which of the training images, in the order of `prepared.h5`
        test            (n_test, n_voxels) float32
        stream          (n_voxels,)  name
        stimulus_id     (n_images,)  as in `prepared.h5`: test images first

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
    voxels = nsd_rois.read_streams(root, subject, data.space, STREAMS)
    for session, betas in remaining_sessions(run, artifact, voxels, standardise=False):
        artifact.write_part(session, {"betas": betas})
    with open_made(prepared(run.config, subject)) as rows:
        ids, n_test = rows["stimulus_id"][:], int(rows["is_test"][:].sum())
    row_of = {stimulus_id: row for row, stimulus_id in enumerate(ids)}

    def make(read_sessions: Callable[[], Iterator[h5py.File]]) -> dict[str, np.ndarray]:
        betas = np.concatenate([session["betas"][:] for session in read_sessions()])
        shown = design.stimuli[design.ordering[: len(betas)]]
        row = np.array(
            [row_of.get(stimulus_id, -1) for stimulus_id in shown]
        )  # -1: left out, of a real test image in validation
        train = row >= n_test
        return {
            "train": betas[train],
            "image_of_trial": row[train] - n_test,
            "test": np.stack([betas[row == image].mean(axis=0) for image in range(n_test)]),
            "stream": voxels.roi.astype("S"),
            "stimulus_id": ids,
        }

    artifact.reduce(nsd.n_sessions(subject, data.sessions), make)
