"""From NSD's files to rows of voxels (specification sections 1.2 to 1.4).

    python data/02_prepare_subject.py [--config configs/miniature.yaml] [--subject subj01]

Reads betas, ROI volumes, design and table of stimuli under `execution.nsd`. For each subject it writes
`runs/<name>/<subject>/prepared.h5`:

    betas          (n_images, n_voxels) float32  session-wise z-scores, averaged over repetitions
    nsd_id         (n_images,)  0-based row of the stimuli; test images first, both in the order of NSD's lists
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
goes on with the next session, and shards can share them. Peak memory: one session (1 GB for a real .nii.gz)
and n_images x n_voxels in float64 (0.9 GB for a real subject).
"""

import numpy as np
import pandas as pd
from tqdm import tqdm

from data import nsd
from minddiffuser.cli import execute, parse
from minddiffuser.store import Artifact, DataError, write_atomically


def main(argv: list[str] | None = None) -> None:
    """Prepare each subject."""
    run = parse(__doc__, argv)
    root, data = run.config.nsd, run.config.experiment.data
    for subject in run.subjects:
        folder = run.config.folder(subject)
        artifact = Artifact(folder / "prepared.h5", subject, {"data": data.model_dump(mode="json")})
        if artifact.is_done(run.overwrite):
            print(f"{artifact.path} is there already")
            continue
        design = nsd.read_design(root, subject)
        coco_ids = nsd.read_coco_ids(root)
        voxels = nsd.read_voxels(root, subject, data.space, data.rois)
        paths = [nsd.session_path(root, subject, data.space, data.betas, s + 1) for s in range(data.sessions)]
        n_trials = nsd.check_session(paths[0], voxels.shape)
        if n_trials * data.sessions > len(design.ordering):
            raise DataError(
                f"{paths[0]} has {n_trials} trials; {data.sessions} such sessions are more than the design has"
            )

        todo = list(artifact.parts_to_do(data.sessions, 1, run.shard))
        for session, _ in tqdm(todo, desc=f"{subject} sessions"):
            betas = nsd.read_session(paths[session], voxels)
            if len(betas) != n_trials:
                raise DataError(f"{paths[session]} has {len(betas)} trials, but {paths[0]} has {n_trials}")
            betas = nsd.standardise_session(betas, voxels, paths[session], data.invalid_voxels)
            artifact.write_part(session, {"betas": betas})
        if not artifact.has_all_parts(data.sessions, 1):
            continue

        # Average the repetitions of each image, and separate what repeats from what does not.
        rows = design.ordering[: n_trials * data.sessions]
        seen, row_of_trial, n_repetitions = np.unique(rows, return_inverse=True, return_counts=True)
        total = np.zeros((len(seen), len(voxels.index)))
        squares = np.zeros(len(voxels.index))
        for session, part in enumerate(artifact.read_parts()):
            betas = part["betas"][:].astype(np.float64)
            np.add.at(total, row_of_trial[session * n_trials : (session + 1) * n_trials], betas)
            squares += (betas**2).sum(axis=0)
        mean = total / n_repetitions[:, None]
        ceiling = nsd.noise_ceiling(mean, n_repetitions, squares)
        is_test = seen < design.n_shared
        kept = np.arange(len(seen))
        if data.validation_rows:  # the real test images are left out, and the last training images stand in
            training = np.flatnonzero(~is_test)
            kept = np.r_[training[-data.validation_rows :], training[: -data.validation_rows]]
            is_test = np.isin(kept, kept[: data.validation_rows])
        halves = np.zeros((is_test.sum(), 2, len(voxels.index)))
        half = n_repetitions // 2  # trials in each
        place = np.full(len(seen), -1)  # row in `halves`
        place[kept[is_test]] = np.arange(is_test.sum())
        repetition = repetition_of(row_of_trial)
        for session, part in enumerate(artifact.read_parts()):
            trials = slice(session * n_trials, (session + 1) * n_trials)
            row, number = row_of_trial[trials], repetition[trials]
            used = (place[row] >= 0) & (number < 2 * half[row])
            np.add.at(halves, (place[row[used]], number[used] // half[row[used]]), part["betas"][:][used])
        with np.errstate(invalid="ignore"):
            halves /= half[kept[is_test], None, None]
        nsd_id = design.stimuli[seen][kept]
        artifact.write(
            {
                "betas": mean[kept].astype(np.float32),
                "nsd_id": nsd_id,
                "coco_id": coco_ids[nsd_id],
                "is_test": is_test,
                "n_repetitions": n_repetitions[kept],
                "betas_halves": halves.astype(np.float32),
                "voxel_index": voxels.index,
                "roi": voxels.roi.astype("S"),
                "noise_ceiling": ceiling,
                "volume_shape": np.array(voxels.shape),
                "affine": voxels.affine,
            }
        )
        artifact.delete_parts()
        table = pd.DataFrame({"roi": voxels.roi, "noise_ceiling": ceiling}).groupby("roi", sort=False)["noise_ceiling"]
        table = table.agg(n_voxels="size", median="median", mean="mean").round(1).reset_index()
        write_atomically(folder / "noise_ceiling.csv", table.to_csv(index=False))
        n_test = int(is_test.sum())
        print(f"\n{subject}: {len(nsd_id) - n_test} training and {n_test} test images, {len(voxels.index)} voxels")
        print("noise ceiling (percent of variance, three trials) by ROI:")
        print(table.to_string(index=False), "\n")


def repetition_of(row_of_trial: np.ndarray) -> np.ndarray:
    """Count, for each trial, the earlier trials of its image: array of shape (n_trials,)."""
    order = np.argsort(row_of_trial, kind="stable")
    counts = np.bincount(row_of_trial)
    number = np.empty_like(order)
    number[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return number


if __name__ == "__main__":
    execute(main)
