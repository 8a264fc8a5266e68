"""Make the latents of a clip's eight frames, one after the other: Mind-Animator's motion generator (CMG).

    python baselines/mind_animator/23_motion.py [--config configs/miniature.yaml] [--subject Subject01]

Reads `prepared.h5`, `films/features/clips.h5` and `decoded/<form>/structure.h5`, which has the first frames of test
clips. For each form it trains a generator on training clips without those of validation, from whose true frames it
makes the next; first frames of training are true, or decoded while they are held out (ridge regression in five folds of
neighbouring clips), as `motion.first` says. Writes to `decoded/<form>/`:

    motion.h5           stimulus_id (n_test,); z (n_test, n_frames, 4, height, width) float32, decoded; other_clip: the
                        same from the vertices of another test clip; static, the first frame throughout; ridge, mean,
                        nearest_training, of all frames, see 22_structure.py; mover and moved, the first frame moved by
                        the decoded velocity, by baselines/mind_animator/mover.py and as a whole; mover_of_truth, by the
                        mover from the true first frame and velocity; velocity (n_test, 2), decoded by ridge
                        regression, in pixels a frame
    motion.safetensors  weights, which baselines/mind_animator/networks.py opens
    motion.csv          system, mse, r_by_clip, r_over_clips of frames from the second on; change_r, r by clip of the
                        change from the first frame to the last; motion_curve.csv: loss and validation by epoch

All forms are scored against posterior means. A killed run goes on where it was, to the same bytes. Reference: Lu et al.
2025 (arXiv 2405.03280); the authors' train_CMG.py. Peak memory: 22 GB at the real size, by count: latents of 5,520
clips in float32, and the generator, which has 336 million weights.
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
    Ridge,
    Rows,
    controls,
    finish,
    flat,
    held_out,
    load_rows,
    of_training,
    open_targets,
    score,
    to_decode,
    train_to_file,
)
from baselines.mind_animator.losses import l1_norm, l1_weight, noam
from baselines.mind_animator.masks import visible
from baselines.mind_animator.mover import fit_mover, shift
from baselines.mind_animator.networks import MotionGenerator
from feature_decoding.training import Plan, seeded
from minddiffuser.cli import Run, execute, film_subjects, parse
from minddiffuser.config.mind_animator import animator_form
from minddiffuser.correlation import correlate_pairs
from minddiffuser.seeds import torch_generator
from minddiffuser.store import Artifact, open_made

MOVER_ALPHAS = (1000.0, 10_000.0)  # penalties of the mover, chosen from on validation clips


def main(argv: list[str] | None = None) -> None:
    """Train and decode, for each subject and form."""
    run = parse(__doc__, argv, subjects_of=film_subjects, divides=False)
    for subject, form, artifact in to_decode(run, "motion"):
        decode(run, subject, form, artifact)


def decode(run: Run, subject: str, form: str, artifact: Artifact) -> None:
    """Train a form's generator, and make the test clips with it."""
    settings, seed, device = (
        animator_form(recipes.settings_of(run.config), form),
        recipes.network_seed(run.config),
        run.device,
    )
    own, name = settings.motion, f"{subject} motion"
    rows = load_rows(run.config, subject, form)
    with open_targets(run.config, rows, subject) as file:
        Z = file[f"z_{settings.clips.posterior}"][:].astype(np.float32)  # (n_clips, n_frames, 4, height, width)
        true_of_test, velocity = file["z_mean"][: len(rows.test)].astype(np.float32), file["velocity"][:]
    with open_made(recipes.decoded(run.config, subject, form, "structure")) as file:
        first_of_test, first_held = (torch.from_numpy(flat(file[key][:])).to(device) for key in ("z", "z_validation"))
    shape, n_frames = Z.shape[2:], Z.shape[1]
    frames = Z.reshape(*Z.shape[:2], -1)  # (n_clips, n_frames, d)
    d = frames.shape[2]
    if own.first == "decoded":
        first_seen = torch.from_numpy(held_out(rows, frames[:, 0], device)).to(device)
    else:
        first_seen, first_held = (
            torch.from_numpy(frames[part, 0]).to(device) for part in (rows.training, rows.validation)
        )
    X, X_held, X_test = (
        torch.from_numpy(rows.X[part]).to(device) for part in (rows.training, rows.validation, rows.test)
    )
    true, true_held = (torch.from_numpy(frames[part]).to(device) for part in (rows.training, rows.validation))
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
    ridge = of_training(rows, device)
    of_frames = [controls(rows, frames[:, k], ridge, n_shifts=0) for k in range(n_frames)]  # all at once have 5 GB
    simple = {key: np.stack([of_frame[key] for of_frame in of_frames], axis=1) for key in of_frames[0]}
    moved, decoded_velocity = move(rows, frames, velocity, first_of_test.cpu().numpy(), shape, ridge)
    systems = {"network": made, "other_clip": other, "static": static, **moved, **simple}
    true_of_test = true_of_test.reshape(len(rows.test), n_frames, d)
    table = tabulate(systems, true_of_test, frames[rows.training])
    arrays = {key: values.reshape(-1, n_frames, *shape) for key, values in systems.items()}
    finish(
        artifact,
        {"stimulus_id": rows.ids[rows.test], "z": arrays.pop("network"), **arrays, "velocity": decoded_velocity},
        table,
    )


def move(
    rows: Rows,
    frames: np.ndarray,
    velocity: np.ndarray,
    first: np.ndarray,
    shape: tuple[int, ...],
    ridge: Ridge,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Make films by the mover and by shifting, from the decoded first frames of test clips and the decoded velocity.

    The penalty of the mover is that with which validation clips, of true first frames and velocities, come out best.

    Returns
    -------
    films : dict of arrays of shape (n_test, n_frames, d), float32
    decoded : array of shape (n_test, 2)
        Velocities.
    """
    training, held, test, n_frames = rows.training, rows.validation, rows.test, frames.shape[1]
    decoded = ridge.decode(velocity[training], velocity[held], rows.X[test])
    best, mover = np.inf, None
    for alpha in MOVER_ALPHAS:
        fitted = fit_mover(frames[training], velocity[training], alpha)
        error = np.square(fitted.roll_out(frames[held, 0], velocity[held], n_frames) - frames[held]).mean()
        if error < best:
            best, mover = error, fitted
    assert mover
    films = {
        "mover": mover.roll_out(first, decoded, n_frames),
        "moved": shift(first.reshape(-1, *shape), decoded, n_frames).reshape(len(test), n_frames, -1),
        "mover_of_truth": mover.roll_out(frames[test, 0], velocity[test], n_frames),
    }
    return {name: film.astype(np.float32) for name, film in films.items()}, decoded


def tabulate(systems: dict[str, np.ndarray], true: np.ndarray, training: np.ndarray) -> pd.DataFrame:
    """Score films (n_test, n_frames, d) by their frames from the second on, and by their changes."""
    later = {name: flat(values[:, 1:]) for name, values in systems.items()}
    table = score(later, flat(true[:, 1:]), flat(training[:, 1:]))
    true = true[:, -1] - true[:, 0]
    changes = [correlate_pairs(values[:, -1] - values[:, 0], true).mean() for values in systems.values()]
    return table.assign(change_r=changes)


if __name__ == "__main__":
    execute(main)
