"""Controls: what scores are worth without the brain, with perfect decoding, and by the generator alone.

    python reconstruction/33_controls.py [--config configs/miniature.yaml] [--subject subj01]
    python reconstruction/33_controls.py --only ceiling shuffled bottleneck/10

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
Peak memory: 8.5 GB at the real size on a CPU, one picture at a time (`execution.batch_size`): all of Stable Diffusion;
before it, z and c of the training images.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
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
from reconstruction.controls import JointSpace, Targets, chosen, other_images
from reconstruction.folder import ReconstructionFolder, to_uint8
from reconstruction.sampler import draw_noise, open_sampler

GREY = 128


def main(argv: list[str] | None = None) -> None:
    """Make the controls of each subject."""
    run = parse(__doc__, argv, add_arguments)
    config, batch_size = run.config, run.config.execution.batch_size.generate
    seed, size = config.experiment.seed, config.experiment.detail.image_size
    wanted = chosen(recipes.controls(config), run.own.only)
    open_once = functools.cache(lambda: open_sampler(config, run.device))
    for subject in run.subjects:
        with open_made(prepared(config, subject)) as rows:
            all_ids, n_test = rows["stimulus_id"][:], int(rows["is_test"][:].sum())
        ids, train_ids = all_ids[:n_test], all_ids[n_test:]
        test = functools.partial(read_targets, config, subject, rows=slice(n_test))
        decoded, ceiling = test(decoded_recipe), test(features_recipe)
        other = other_images(n_test, seed)

        # Pictures that the generator makes: targets, and seed of the noise.
        systems = {
            "control/ceiling": (ceiling, seed),
            "control/shuffled": (Targets(*(part[other] for part in decoded)), seed),
            **{f"seed/{k}": (decoded, seed + k) for k in range(1, config.experiment.controls.n_seeds + 1)},
        }
        if "control/permuted" in wanted:
            systems["control/permuted"] = (test(permuted_recipe), seed)
        # Pictures that are there already: rows among the training images.
        drawn = [numpy_generator(seed, "random training image", i).integers(len(train_ids)) for i in ids]
        sources = {"control/random_training": np.array(drawn)}
        ranks = [rank for rank in config.experiment.controls.ranks if f"bottleneck/{rank}" in wanted]
        if ranks or "control/nearest_training" in wanted:
            joint = JointSpace(read_targets(config, subject, features_recipe, slice(n_test, None)))
            sources["control/nearest_training"] = joint.nearest(decoded)
            if ranks:  # as many components whatever is wanted: their last digits depend on the number
                components = joint.principal_components(max(config.experiment.controls.ranks), seed)
                for rank in ranks:
                    systems[f"bottleneck/{rank}"] = (joint.limited(decoded, components[:rank]), seed)
                del components
            del joint  # before models are opened

        stimuli = Stimuli(config.nsd)
        for name in wanted:
            output = ReconstructionFolder(recipes.control(config, subject, name), n_test, run.overwrite)
            n_at_once = batch_size if name in systems else 64 if name in sources else n_test
            for rows in output.each(output.batches_to_do(ids, n_at_once, run.shard), f"{subject} {name}"):
                noise_seed = seed
                if name in systems:
                    targets, noise_seed = systems[name]
                    sampler = open_once()
                    z, c = (torch.from_numpy(part[rows]).to(run.device) for part in targets)
                    noise = draw_noise(z.shape[1:], noise_seed, ids[rows], run.device)
                    with torch.no_grad():
                        images = to_uint8(sampler(z, c, noise))
                elif name in sources:
                    shown = stimuli.read(train_ids[sources[name][rows]])
                    images = to_uint8(to_model_range(shown, size) / 2 + 0.5)
                else:
                    grey = np.full((size, size, 3), GREY, "u1")
                    image = mean_image(stimuli, train_ids, size) if name == "control/mean_image" else grey
                    images = np.repeat(image[None], len(rows), axis=0)
                output.save(ids[rows], images, noise_seed)
            output.finish()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the choice of controls."""
    parser.add_argument("--only", nargs="+", metavar="NAME", help="make these alone, such as ceiling or bottleneck/10")


def read_targets(config: Config, subject: str, recipe: Callable[..., Recipe], rows: slice) -> Targets:
    """Read z and c of some images, from the files that `recipe` gives the recipes of."""
    z, c = (recipe(config, subject, family) for family in ("detail", "semantic"))
    with open_made(z) as detail, open_made(c) as semantic:
        return Targets(detail["z"][rows], semantic["c"][rows])


def mean_image(stimuli: Stimuli, stimulus_ids: np.ndarray, size: int) -> np.ndarray:
    """Mean of images, (size, size, 3), uint8."""
    total = torch.zeros(3, size, size)
    for start in range(0, len(stimulus_ids), 32):
        total += (to_model_range(stimuli.read(stimulus_ids[start : start + 32]), size) / 2 + 0.5).sum(dim=0)
    return to_uint8((total / len(stimulus_ids))[None])[0]


if __name__ == "__main__":
    execute(main)
