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

A decoder works row by row, so that decoding shuffled voxels is shuffling what was decoded.
Peak memory: 19 GB at the real size on a CPU, by count: z and c of the training images, four times (4.5 GB), and all of
Stable Diffusion.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch

from data.nsd import Stimuli
from data.recipes import prepared
from feature_decoding.recipes import decoded as decoded_recipe
from feature_decoding.recipes import permuted as permuted_recipe
from feature_extraction.latents import to_model_range
from feature_extraction.recipes import features as features_recipe
from minddiffuser.cli import execute, parse
from minddiffuser.config import Config
from minddiffuser.recipe import Recipe
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import open_made
from reconstruction import recipes
from reconstruction.controls import JointSpace, Targets
from reconstruction.folder import ReconstructionFolder, to_uint8
from reconstruction.sampler import draw_noise, open_sampler

GREY = 128


def main(argv: list[str] | None = None) -> None:
    """Make the controls of each subject."""
    run = parse(__doc__, argv)
    config, batch_size = run.config, run.config.execution.batch_size.generate
    seed, size = config.experiment.seed, config.experiment.detail.image_size
    open_once = functools.cache(lambda: open_sampler(config, run.device))
    for subject in run.subjects:
        with open_made(prepared(config, subject)) as rows:
            all_ids, n_test = rows["nsd_id"][:], int(rows["is_test"][:].sum())
        ids, train_ids = all_ids[:n_test], all_ids[n_test:]
        decoded, permuted, ceiling = (
            read_targets(config, subject, recipe, slice(n_test))
            for recipe in (decoded_recipe, permuted_recipe, features_recipe)
        )
        joint = JointSpace(read_targets(config, subject, features_recipe, slice(n_test, None)))
        order = numpy_generator(seed, "shuffled").permutation(n_test)
        other = np.empty(n_test, dtype=np.int64)
        other[order] = np.roll(order, 1)  # a cycle: no image keeps its own voxels

        # Pictures that the generator makes: targets, and seed of the noise.
        systems = {
            "control/ceiling": (ceiling, seed),
            "control/shuffled": (Targets(*(part[other] for part in decoded)), seed),
            "control/permuted": (permuted, seed),
            **{f"seed/{k}": (decoded, seed + k) for k in range(1, config.experiment.controls.n_seeds + 1)},
        }
        components = joint.principal_components(max(config.experiment.controls.ranks, default=0), seed)
        for rank in config.experiment.controls.ranks:
            systems[f"bottleneck/{rank}"] = (joint.limited(decoded, components[:rank]), seed)
        nearest = joint.nearest(decoded)
        del joint, components  # before models are opened
        for name, (targets, noise_seed) in systems.items():
            output = ReconstructionFolder(recipes.control(config, subject, name), n_test, run.overwrite)
            for rows in output.each(output.batches_to_do(ids, batch_size, run.shard), f"{subject} {name}"):
                sampler = open_once()
                z, c = (torch.from_numpy(part[rows]).to(run.device) for part in targets)
                noise = draw_noise(z.shape[1:], noise_seed, ids[rows], run.device)
                with torch.no_grad():
                    images = sampler(z, c, noise)
                output.save(ids[rows], to_uint8(images), noise_seed)
            output.finish()

        # Pictures that are there already.
        drawn = [numpy_generator(seed, "random training image", i).integers(len(train_ids)) for i in ids]
        sources = {"control/nearest_training": nearest, "control/random_training": np.array(drawn)}
        stimuli = Stimuli(config.nsd)
        for name, rows_of in sources.items():
            output = ReconstructionFolder(recipes.control(config, subject, name), n_test, run.overwrite)
            for rows in output.each(output.batches_to_do(ids, 64, run.shard), f"{subject} {name}"):
                images = to_model_range(stimuli.read(train_ids[rows_of[rows]]), size) / 2 + 0.5
                output.save(ids[rows], to_uint8(images), seed)
            output.finish()
        for name in ("control/mean_image", "control/grey"):
            output = ReconstructionFolder(recipes.control(config, subject, name), n_test, run.overwrite)
            for rows in output.each(output.batches_to_do(ids, n_test, run.shard), f"{subject} {name}"):
                image = mean_image(stimuli, train_ids, size) if "mean" in name else np.full((size, size, 3), GREY, "u1")
                output.save(ids[rows], np.repeat(image[None], len(rows), axis=0), seed)
            output.finish()


def read_targets(config: Config, subject: str, recipe: Callable[..., Recipe], rows: slice) -> Targets:
    """Read z and c of some images, from the files that `recipe` gives the recipes of."""
    z, c = (recipe(config, subject, family) for family in ("detail", "semantic"))
    with open_made(z) as detail, open_made(c) as semantic:
        return Targets(detail["z"][rows], semantic["c"][rows])


def mean_image(stimuli: Stimuli, nsd_ids: np.ndarray, size: int) -> np.ndarray:
    """Mean of images, (size, size, 3), uint8."""
    total = torch.zeros(3, size, size)
    for start in range(0, len(nsd_ids), 32):
        total += (to_model_range(stimuli.read(nsd_ids[start : start + 32]), size) / 2 + 0.5).sum(dim=0)
    return to_uint8((total / len(nsd_ids))[None])[0]


if __name__ == "__main__":
    execute(main)
