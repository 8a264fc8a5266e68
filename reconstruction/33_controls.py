"""Controls: what scores are worth without the brain, with perfect decoding, and by the generator alone.

    python reconstruction/33_controls.py [--config configs/miniature.yaml] [--subject subj01]

Writes, beside the reconstructions of the method and in the same form:

    control/ceiling           stage 1 from the true z and c of each test image: all that decoding could give
    control/shuffled          stage 1 from the z and c decoded from the voxels of another test image
    control/permuted          stage 1 from what decoders made that were fitted to permuted images (28_controls.py)
    control/nearest_training  the training image whose true z and c correlate most with the decoded ones
    control/random_training   a training image, drawn for each test image
    control/mean_image        the mean of the training images, for every test image
    control/grey              uniform grey
    bottleneck/<k>            stage 1 from z and c of which k numbers were decoded, their coordinates on the first k
                              principal components of the training images' z and c; with 0 the generator is alone
    seed/<k>                  stage 1 with other noise

A decoder works row by row, so that decoding shuffled voxels is shuffling what was decoded. Peak memory: z and c of
the training images, four times (4.5 GB at the real size).
"""

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data.nsd import Stimuli
from feature_extraction.latents import to_model_range
from minddiffuser.cli import execute, parse
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import check_same_rows, open_arrays
from reconstruction.controls import JointSpace, Targets
from reconstruction.folder import ReconstructionFolder, flags, to_uint8
from reconstruction.sampler import draw_noise, open_sampler

SCRIPTS = {
    "features": ("feature_extraction/12_detail.py", "feature_extraction/11_semantic.py"),
    "decoded": ("feature_decoding/23_detail.py", "feature_decoding/22_semantic.py"),
    "decoded/permuted": ("feature_decoding/28_controls.py", "feature_decoding/28_controls.py"),
}
GREY = 128


def main(argv: list[str] | None = None) -> None:
    """Make the controls of each subject."""
    run = parse(__doc__, argv)
    experiment, batch_size = run.config.experiment, run.config.execution.batch_size
    seed, size = experiment.seed, experiment.detail.image_size
    settings = experiment.model_dump(include={"sampler", "models"})
    for subject in run.subjects:
        folder = run.config.folder(subject)
        ids, decoded, used = read_targets(folder, "decoded", subject)
        all_ids, true, used_true = read_targets(folder, "features", subject)
        _, permuted, used_permuted = read_targets(folder, "decoded/permuted", subject)
        n_test = len(ids)
        joint = JointSpace(Targets(*(part[n_test:] for part in true)))
        order = numpy_generator(seed, "shuffled").permutation(n_test)
        other = np.empty(n_test, dtype=np.int64)
        other[order] = np.roll(order, 1)  # a cycle: no image keeps its own voxels

        # Pictures that the generator makes: targets, seed of the noise, fingerprints of what they come from.
        systems = {
            "control/ceiling": (Targets(*(part[:n_test] for part in true)), seed, used_true),
            "control/shuffled": (Targets(*(part[other] for part in decoded)), seed, used),
            "control/permuted": (permuted, seed, used_permuted),
            **{f"seed/{k}": (decoded, seed + k, used) for k in range(1, experiment.controls.n_seeds + 1)},
        }
        components = joint.principal_components(max(experiment.controls.ranks, default=0), seed)
        for rank in experiment.controls.ranks:
            limited = joint.limited(decoded, components[:rank])
            systems[f"bottleneck/{rank}"] = (limited, seed, {**used, "rank": str(rank), "components": used_true["z"]})
        sampler = None
        for name, (targets, noise_seed, inputs) in systems.items():
            output = ReconstructionFolder(
                folder / "reconstruction" / name, subject, {"seed": noise_seed, **settings}, inputs, run.overwrite,
                flags(experiment) if inputs is not used_true else [],
            )  # fmt: skip
            for rows in tqdm(list(output.batches_to_do(ids, batch_size, run.shard)), desc=f"{subject} {name}"):
                sampler = sampler or open_sampler(run.config, run.device)
                z, c = (torch.from_numpy(part[rows]).to(run.device) for part in targets)
                noise = draw_noise(z.shape[1:], noise_seed, ids[rows], run.device)
                with torch.no_grad():
                    images = sampler(z, c, noise)
                output.save(ids[rows], to_uint8(images), noise_seed)
            output.write_index()

        # Pictures that are there already.
        train_ids = all_ids[n_test:]
        drawn = [numpy_generator(seed, "random training image", i).integers(len(train_ids)) for i in ids]
        sources = {"control/nearest_training": joint.nearest(decoded), "control/random_training": np.array(drawn)}
        stimuli = Stimuli(run.config.nsd)
        for name, rows_of in sources.items():
            inputs = {**used, **{f"true {key}": value for key, value in used_true.items()}}
            path = folder / "reconstruction" / name
            known = flags(experiment) if "nearest" in name else []
            output = ReconstructionFolder(
                path, subject, {"seed": seed, "image_size": size}, inputs, run.overwrite, known
            )
            for rows in output.batches_to_do(ids, 64, run.shard):
                images = to_model_range(stimuli.read(train_ids[rows_of[rows]]), size) / 2 + 0.5
                output.save(ids[rows], to_uint8(images), seed)
            output.write_index()
        for name in ("control/mean_image", "control/grey"):
            path = folder / "reconstruction" / name
            output = ReconstructionFolder(path, subject, {"image_size": size}, used_true, run.overwrite)
            for rows in output.batches_to_do(ids, n_test, run.shard):
                image = mean_image(stimuli, train_ids, size) if "mean" in name else np.full((size, size, 3), GREY, "u1")
                output.save(ids[rows], np.repeat(image[None], len(rows), axis=0), seed)
            output.write_index()
        print(f"{folder / 'reconstruction'}: {len(systems) + 4} controls of {n_test} test images")


def read_targets(folder: Path, kind: str, subject: str) -> tuple[np.ndarray, Targets, dict[str, str]]:
    """Read nsd_id, z and c, and the fingerprints of their files."""
    script_z, script_c = SCRIPTS[kind]
    with (
        open_arrays(folder / kind / "detail.h5", script_z, subject) as detail,
        open_arrays(folder / kind / "semantic.h5", script_c, subject) as semantic,
    ):
        check_same_rows(detail, semantic)
        inputs = {"z": detail.attrs["fingerprint"], "c": semantic.attrs["fingerprint"]}
        return detail["nsd_id"][:], Targets(detail["z"][:], semantic["c"][:]), inputs


def mean_image(stimuli: Stimuli, nsd_ids: np.ndarray, size: int) -> np.ndarray:
    """Mean of images, (size, size, 3), uint8."""
    total = torch.zeros(3, size, size)
    for start in range(0, len(nsd_ids), 32):
        total += (to_model_range(stimuli.read(nsd_ids[start : start + 32]), size) / 2 + 0.5).sum(dim=0)
    return to_uint8((total / len(nsd_ids))[None])[0]


if __name__ == "__main__":
    execute(main)
