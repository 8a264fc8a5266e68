"""Make the latents of a clip's eight frames, one after the other: Mind-Animator's motion generator (CMG).

    python baselines/mind_animator/23_motion.py [--config configs/miniature.yaml] [--subject Subject01]

Reads `prepared.h5`, `films/features/clips.h5` and `decoded/<form>/structure.h5`, which has the first frames of test
clips. For each form it trains a generator on training clips without those of validation, from whose true frames it
makes the next; first frames of training are true, or decoded while they are held out (ridge regression in five folds of
neighbouring clips), as `motion.first` says. Writes to `decoded/<form>/`:

    motion.h5           stimulus_id (n_test,); z (n_test, n_frames, 4, height, width) float32, decoded; other_clip: the
                        same from the vertices of another test clip; static, the first frame throughout; ridge, of all
                        frames; mean, nearest_training, permuted: see 22_structure.py
    motion.safetensors  weights, which baselines/mind_animator/networks.py opens
    motion.csv          system, mse, r_by_clip, r_over_clips of frames from the second on; change_r, r by clip of the
                        change from the first frame to the last; motion_curve.csv: loss and validation by epoch

The mover of baselines/mind_animator/mover.py is not here: it needs a velocity, which is not measured yet. A killed run
goes on with the epoch in flight, to the same bytes. Reference: Lu et al. 2025 (arXiv 2405.03280); the authors'
train_CMG.py. Peak memory: 22 GB at the real size, by count: 336 million weights, which are written with
what training needs to go on, and latents of 5,520 clips in float32.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from baselines.mind_animator import recipes
from baselines.mind_animator.decoding import (
    Rows,
    controls,
    distinct_forms,
    finish,
    flat,
    held_out,
    load_rows,
    open_targets,
    score,
    train_to_file,
)
from baselines.mind_animator.losses import l1_norm, l1_weight, noam
from baselines.mind_animator.masks import visible
from baselines.mind_animator.networks import MotionGenerator
from feature_decoding.training import Plan, seeded
from minddiffuser.cli import Run, execute, film_subjects, parse
from minddiffuser.config.mind_animator import animator_form
from minddiffuser.correlation import correlate_pairs
from minddiffuser.seeds import torch_generator
from minddiffuser.store import Artifact, open_made


def main(argv: list[str] | None = None) -> None:
    """Train and decode, for each subject and form."""
    run = parse(__doc__, argv, subjects_of=film_subjects, divides=False)
    for subject in run.subjects:
        for form in distinct_forms(run.config, "motion"):
            artifact = Artifact(recipes.decoded(run.config, subject, form, "motion"))
            if artifact.is_done(run.overwrite):
                print(f"{artifact.path} is there already")
            else:
                decode(run, subject, form, artifact)


def decode(run: Run, subject: str, form: str, artifact: Artifact) -> None:
    """Train a form's generator, and make the test clips with it."""
    settings, seed, device = (
        animator_form(recipes.settings_of(run.config), form),
        run.config.experiment.seed,
        run.device,
    )
    own, name = settings.motion, f"{subject} motion"
    rows = load_rows(run.config, subject, form)
    with open_targets(run.config, rows, subject) as file:
        Z = file[f"z_{settings.clips.posterior}"][:].astype(np.float32)  # (n_clips, n_frames, 4, height, width)
    with open_made(recipes.decoded(run.config, subject, form, "structure")) as file:
        first_of_test = torch.from_numpy(flat(file["z"][:])).to(device)
    shape, n_frames = Z.shape[2:], Z.shape[1]
    frames = Z.reshape(*Z.shape[:2], -1)  # (n_clips, n_frames, d)
    d = frames.shape[2]
    first = held_out(rows, frames[:, 0], device) if own.first == "decoded" else frames[:, 0]
    X, X_held, X_test = (
        torch.from_numpy(rows.X[part]).to(device) for part in (rows.training, rows.validation, rows.test)
    )
    true, true_held = (torch.from_numpy(frames[part]).to(device) for part in (rows.training, rows.validation))
    first_held = torch.from_numpy(first[rows.validation]).to(device)
    first_seen = torch.from_numpy(first[rows.training]).to(device)
    with seeded(seed, name, "weights"):
        network = MotionGenerator(
            X.shape[1], d, own.inner, own.heads, own.d_ff, own.n_layers, own.n_memory, own.output
        ).to(device)
    once = visible(n_frames - 1, own.train_keep, torch_generator(seed, name, "mask")).to(device)

    def losses(start: int) -> Iterator:
        for epoch in itertools.count(start):
            weight = l1_weight(own.l1, own.l1_rate, epoch, own.l1_compounds)

            def loss_of(at: torch.Tensor, generator: torch.Generator, weight=weight) -> torch.Tensor:
                mask = once
                if own.train_mask == "per_step":
                    mask = visible(n_frames - 1, own.train_keep, generator, len(at)).to(device)
                at = at.to(device)
                seen = torch.cat([first_seen[at, None], true[at, 1:-1]], dim=1)
                made = network(X[at], seen, mask)
                return functional.mse_loss(made, true[at, 1:]) + weight * l1_norm(network)

            yield loss_of

    def make(vertices: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """Make films, a batch at a time; the random mask, if there is one, is the same for all."""
        return torch.cat([
            network.roll_out(x, z, n_frames, own.infer_keep, torch_generator(seed, name, "roll_out"))
            for x, z in zip(vertices.split(settings.batch_size), first.split(settings.batch_size), strict=True)
        ])  # fmt: skip

    def rate(step: int, _: int) -> float:
        return noam(step, d, own.warm_up) if own.learning_rate == "noam" else own.learning_rate

    plan = Plan(own.epochs, settings.batch_size, rate, (0.9, 0.98), 1e-9, settings.checkpoint)
    train_to_file(
        run, artifact.recipe, network, losses,
        lambda: functional.mse_loss(make(X_held, first_held)[:, 1:], true_held[:, 1:]).item(), plan, len(X),
    )  # fmt: skip
    made, other = (make(x, first_of_test).cpu().numpy() for x in (X_test, X_test.roll(len(X_test) // 2, 0)))
    static = np.repeat(first_of_test.cpu().numpy()[:, None], n_frames, axis=1)
    of_frames = [controls(rows, frames[:, k], device) for k in range(n_frames)]  # of all at once weights have 5 GB
    simple = {key: np.stack([of_frame[key] for of_frame in of_frames], axis=1) for key in of_frames[0]}
    systems = {"network": made, "other_clip": other, "static": static, **simple}
    table = tabulate(systems, frames, rows)
    arrays = {key: values.reshape(-1, n_frames, *shape) for key, values in systems.items()}
    artifact.write({"stimulus_id": rows.ids[rows.test], "z": arrays.pop("network"), **arrays})
    finish(artifact.recipe, table)


def tabulate(systems: dict[str, np.ndarray], frames: np.ndarray, rows: Rows) -> pd.DataFrame:
    """Score films (n_test, n_frames, d) by their frames from the second on, and by their changes."""
    later = {name: flat(values[:, 1:]) for name, values in systems.items()}
    table = score(later, flat(frames[rows.test, 1:]), flat(frames[rows.training, 1:]))
    true = frames[rows.test, -1] - frames[rows.test, 0]
    changes = [correlate_pairs(values[:, -1] - values[:, 0], true).mean() for values in systems.values()]
    return table.assign(change_r=changes)


if __name__ == "__main__":
    execute(main)
