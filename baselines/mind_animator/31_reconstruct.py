"""Make films from the decoded latents and tokens, by an inflated Stable Diffusion.

    python baselines/mind_animator/31_reconstruct.py [--config configs/miniature.yaml] [--subject Subject01]
    python baselines/mind_animator/31_reconstruct.py --only corrected

Reads `decoded/<form>/motion.h5` (z) and `semantic.h5` (c). Writes `reconstruction/mind_animator/<form>/`: the film of
each test clip as a strip of its frames, and an index; `python -m reconstruction.export` makes GIF or MP4 of them. Each
clip has its own noise, so that batches, shards and restarts do not change it.

The settings are `mind_animator.video`. With `start: inversion` the latents are inverted by DDIM, noised again and
denoised by all steps; with `start: latents` they go through the last steps alone. Reference: Lu et al. 2025 (arXiv
2405.03280); the authors' video_recons.py. Peak memory: 9 GB at the real size on a CPU, by count, one picture at a time
(`execution.batch_size`): Stable Diffusion, and a clip, of which the U-Net takes eight frames twice.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
import functools
import itertools
from typing import Any

import torch

from baselines.mind_animator import recipes
from baselines.mind_animator.sampler import clips_at_once, draw_video_noise, open_video_sampler
from minddiffuser.cli import execute, film_subjects, parse
from minddiffuser.config.mind_animator import animator_form
from minddiffuser.store import open_made
from reconstruction.controls import chosen
from reconstruction.folder import ReconstructionFolder, to_uint8


def main(argv: list[str] | None = None) -> None:
    """Reconstruct each subject's test clips, in each form."""
    run = parse(__doc__, argv, add_arguments, film_subjects)
    config, seed = run.config, run.config.experiment.seed
    if config.experiment.mind_animator is None:
        print("experiment.mind_animator is null: nothing to do")
        return
    settings = recipes.settings_of(config)
    open_once = functools.lru_cache(maxsize=1)(functools.partial(open_video_sampler, config, run.device))
    forms = chosen(recipes.sampled_forms(config), run.own.only)
    for form, subject in itertools.product(forms, run.subjects):
        own: Any = animator_form(settings, form).video
        with (
            open_made(recipes.decoded(config, subject, form, "motion")) as motion,
            open_made(recipes.decoded(config, subject, form, "semantic")) as semantic,
        ):
            ids, shape = motion["stimulus_id"][:], motion["z"].shape[1:]  # (n_frames, 4, height, width)
            output = ReconstructionFolder(
                recipes.films(config, subject, form), len(ids), run.overwrite, n_frames=shape[0]
            )
            todo = output.batches_to_do(ids, clips_at_once(config), run.shard)
            for rows in output.each(todo, f"{subject} mind_animator/{form}"):
                z, c = (
                    torch.from_numpy(part[rows[0] : rows[-1] + 1]).to(run.device)
                    for part in (motion["z"], semantic["c"])
                )
                noise = draw_video_noise(shape, own.noise, seed, ids[rows], run.device)
                output.save(ids[rows], to_uint8(open_once(own, shape[0], c.shape[1])(z, c, noise)), seed)
        output.finish()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the choice of forms."""
    parser.add_argument("--only", nargs="+", metavar="FORM", help="make the films of these alone, such as corrected")


if __name__ == "__main__":
    execute(main)
