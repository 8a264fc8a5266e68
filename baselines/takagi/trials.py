"""Single trials of NSD's streams, as Takagi & Nishimoto use them: not averaged, and not standardised by session."""

import numpy as np
from tqdm import tqdm

from data import nsd
from minddiffuser.cli import Run
from minddiffuser.store import Artifact, DataError, open_arrays

STREAMS = ("early", "ventral")  # z is decoded from the first, c from the second


def write_trials(run: Run, subject: str) -> Artifact:
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
        A file of NSD is missing or broken, or a voxel is constant or not a number in a session and
        `data.invalid_voxels` is "error". With "zero" such values are 0, as they are in NSD's files where there is no
        data: the released code uses them as they are.
    """
    root, data, folder = run.config.nsd, run.config.experiment.data, run.config.folder(subject)
    settings = {"data": data.model_dump(mode="json", exclude={"rois"}), "streams": STREAMS}
    artifact = Artifact(folder / "takagi" / "trials.h5", subject, settings, [folder / "prepared.h5"])
    if artifact.is_done(run.overwrite):
        return artifact
    design = nsd.read_design(root, subject)
    voxels = nsd.read_streams(root, subject, data.space, STREAMS)
    paths = [nsd.session_path(root, subject, data.space, data.betas, s + 1) for s in range(data.sessions)]
    for session, _ in tqdm(list(artifact.parts_to_do(data.sessions, 1, run.shard)), desc=f"{subject} trials"):
        betas = nsd.read_session(paths[session], voxels)
        bad = ~np.isfinite(betas).all(axis=0) | (np.ptp(np.nan_to_num(betas), axis=0) == 0)
        if bad.any() and data.invalid_voxels == "error":
            raise DataError(
                f"{paths[session]}: {bad.sum()} voxels of the streams are constant or not a number; fetch the file "
                "again, or set experiment.data.invalid_voxels=zero"
            )
        artifact.write_part(session, {"betas": np.nan_to_num(betas)})
    if not artifact.has_all_parts(data.sessions, 1):
        return artifact
    parts = [part["betas"][:] for part in artifact.read_parts()]
    if len(parts) != data.sessions:  # another shard, which finished at the same time, has used and deleted them
        return artifact
    betas = np.concatenate(parts)
    with open_arrays(folder / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
        ids, n_test = prepared["nsd_id"][:], int(prepared["is_test"][:].sum())
    row_of = {nsd_id: row for row, nsd_id in enumerate(ids)}
    shown = design.stimuli[design.ordering[: len(betas)]]
    row = np.array([row_of.get(nsd_id, -1) for nsd_id in shown])  # -1: left out, of a real test image in validation
    train = row >= n_test
    test = np.stack([betas[row == image].mean(axis=0) for image in range(n_test)])
    artifact.write(
        {
            "train": betas[train],
            "image_of_trial": row[train] - n_test,
            "test": test,
            "stream": voxels.roi.astype("S"),
            "nsd_id": ids,
        }
    )
    artifact.delete_parts()
    return artifact
