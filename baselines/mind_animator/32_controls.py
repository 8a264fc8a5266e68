"""Controls of films: what scores are worth with perfect decoding, without the generator, without motion, or the brain.

    python baselines/mind_animator/32_controls.py [--config configs/miniature.yaml] [--subject Subject01]
    python baselines/mind_animator/32_controls.py --only ceiling static no_generator/original

Reads `films/features/clips.h5` and `decoded/<form>/motion.h5`. Writes, in `reconstruction/`, beside the films of
31_reconstruct.py and in the same form:

    control/ceiling           the true z and c of each clip through the same sampler: all that decoding could give
    no_generator/<form>       the form's latents through the autoencoder alone, without Stable Diffusion

and through the autoencoder alone, of the form "corrected" (or the first one, if it is not among them):

    control/true_latents      the true latents: what the autoencoder costs
    control/static            the decoded first frame, throughout
    control/other_clip        from the decoded first frame, and the vertices of another clip
    control/ridge_frames      every frame decoded by itself, by ridge regression
    control/mover             from the decoded first frame and velocity, by the mover of mover.py
    control/moved             the decoded first frame, moved by the decoded velocity
    control/mover_of_truth    from the true first frame and velocity, by the mover
    control/nearest_training  the training clip whose vertices correlate most with the test clip's
    control/mean_clip         the mean of the latents of training clips, for every test clip

What does not depend on the subject is copied from another subject that has it, unless --overwrite is given; subjects
that run side by side begin with other clips, and so share the work. Peak memory: 9 GB at the real size on a CPU, by
count, one picture at a time (`execution.batch_size`), as in 31_reconstruct.py.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import torch

from baselines.mind_animator import recipes
from baselines.mind_animator.sampler import clips_at_once, draw, draw_video_noise, open_video_sampler
from data.film_recipes import prepared
from minddiffuser.cli import Run, execute, film_subjects, parse
from minddiffuser.config import Config
from minddiffuser.config.mind_animator import animator_form
from minddiffuser.pretrained.stable_diffusion import open_vae
from minddiffuser.recipe import Recipe
from minddiffuser.store import check_same_images, open_made
from reconstruction.controls import chosen
from reconstruction.folder import SETTINGS, ReconstructionFolder, read_done, read_settings, to_uint8


def main(argv: list[str] | None = None) -> None:
    """Make the controls of each subject."""
    run = parse(__doc__, argv, add_arguments, film_subjects)
    config = run.config
    if config.experiment.mind_animator is None:
        print("experiment.mind_animator is null: nothing to do")
        return
    names = chosen(recipes.controls(config), run.own.only)
    models = config.experiment.models
    vae = functools.cache(lambda: open_vae(models.stable_diffusion, models.stable_diffusion_revision, run.device))
    sampler = functools.cache(functools.partial(open_video_sampler, config, run.device))
    for subject in run.subjects:
        with open_made(prepared(config, subject)) as rows:
            ids = rows["stimulus_id"][:][rows["is_test"][:]]
        for name in names:
            make(run, subject, name, ids, vae, sampler)


def make(run: Run, subject: str, name: str, ids: np.ndarray, open_vae_once: Callable, open_sampler: Callable) -> None:
    """Make one control of one subject."""
    config, seed = run.config, run.config.experiment.seed
    own = animator_form(recipes.settings_of(config), recipes.form_of_control(config, name))
    with ExitStack() as stack:
        if name in ("control/ceiling", "control/true_latents"):
            file = stack.enter_context(open_made(recipes.clips(config)))
            check_same_images(ids, file["stimulus_id"][: len(ids)], prepared(config, subject).path, file.filename)
            latents = file["z_mean"]
        else:
            form = recipes.form_of_control(config, name)
            file = stack.enter_context(open_made(recipes.decoded(config, subject, form, "motion")))
            latents = file[recipes.OF_LATENTS.get(name, "z")]
        shape = latents.shape[1:]  # (n_frames, 4, height, width)
        recipe = recipes.control(config, subject, name)
        output = ReconstructionFolder(recipe, len(ids), run.overwrite, n_frames=shape[0])
        todo = output.batches_to_do(ids, clips_at_once(config), run.shard)
        if others := [] if run.overwrite else same_of_others(config, subject, name):
            todo = in_turn(todo, subject, recipes.settings_of(config).subjects)
        for rows in output.each(todo, f"{subject} {name}"):
            films = copied(recipe, others, ids[rows])
            if films is None:
                z = read_rows(latents, rows, run.device)
                if name == "control/ceiling":
                    c = read_rows(file["c"], rows, run.device)
                    noise = draw_video_noise(shape, own.video.noise, seed, ids[rows], run.device)
                    made = open_sampler(own.video, shape[0], c.shape[1])(z, c, noise)
                else:
                    made = draw(open_vae_once(), z, config.execution.batch_size.generate, own.video)
                films = to_uint8(made)
            output.save(ids[rows], films, seed)
    output.finish()


def read_rows(dataset: h5py.Dataset, rows: np.ndarray, device: torch.device) -> torch.Tensor:
    """Read neighbouring rows, as float32."""
    return torch.from_numpy(dataset[rows[0] : rows[-1] + 1].astype(np.float32)).to(device)


def same_of_others(config: Config, subject: str, name: str) -> list[Path]:
    """List the folders of other subjects that are or will be the same: none of what is made of decoded targets."""
    subjects, recipe = recipes.settings_of(config).subjects, recipes.control(config, subject, name)
    is_own = any(part.subject == subject for part in recipe.inputs)
    return [] if is_own else [recipes.control(config, other, name).path for other in subjects if other != subject]


def copied(recipe: Recipe, others: list[Path], ids: np.ndarray) -> np.ndarray | None:
    """Read films from the first folder that has all of them and was made by the same recipe; None if there is none."""
    for path in others:
        if (path / SETTINGS).is_file() and not recipe.differences(read_settings(path)["lineage"]):
            films = read_done(path, ids)
            if films is not None:
                return films
    return None


def in_turn(batches: list[np.ndarray], subject: str, subjects: Sequence[str]) -> list[np.ndarray]:
    """Begin with another part of the batches for each subject, so that those side by side do not make the same."""
    start = subjects.index(subject) * len(batches) // len(subjects)
    return batches[start:] + batches[:start]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the choice of controls."""
    parser.add_argument("--only", nargs="+", metavar="NAME", help="make these alone, such as ceiling or static")


if __name__ == "__main__":
    execute(main)
