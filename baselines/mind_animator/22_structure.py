"""Decode the latents of a clip's first frame: Mind-Animator's structure decoder.

    python baselines/mind_animator/22_structure.py [--config configs/miniature.yaml] [--subject Subject01]

Reads `prepared.h5` and `films/features/clips.h5`. For each form it trains a network on training clips without those of
validation, mean squared error and an L1 penalty, with zeros among the vertices, and writes to `decoded/<form>/`:

    structure.h5           stimulus_id (n_test,); z (n_test, 4, height, width) float32, decoded; ridge, mean,
                           nearest_training, permuted: the same by the controls beside it; z_validation, of the
                           validation clips, for 23_motion.py
    structure.safetensors  weights, which baselines/mind_animator/networks.py opens
    structure.csv          system, mse, r_by_clip, r_over_clips; structure_curve.csv: loss and validation by epoch

"permuted" is ridge regression on vertices that were shifted against the clips. All forms are scored against posterior
means. A killed run goes on where it was, to the same bytes. Reference: Lu et al. 2025 (arXiv 2405.03280); the authors'
train_structure_decoder.py. Peak memory: 5 GB at the real size, by count: ridge regression on 16,384 units.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

from collections.abc import Iterator

import torch
from torch.nn import functional

from baselines.mind_animator import recipes
from baselines.mind_animator.augment import sparsified, sparsify
from baselines.mind_animator.decoding import (
    controls,
    finish,
    flat,
    load_rows,
    of_training,
    open_targets,
    score,
    to_decode,
    train_to_file,
)
from baselines.mind_animator.losses import l1_norm, l1_weight
from baselines.mind_animator.networks import StructureDecoder
from feature_decoding.training import Plan, seeded
from minddiffuser.cli import Run, execute, film_subjects, parse
from minddiffuser.config.mind_animator import animator_form
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import Artifact


def main(argv: list[str] | None = None) -> None:
    """Train and decode, for each subject and form."""
    run = parse(__doc__, argv, subjects_of=film_subjects, divides=False)
    for subject, form, artifact in to_decode(run, "structure"):
        decode(run, subject, form, artifact)


def decode(run: Run, subject: str, form: str, artifact: Artifact) -> None:
    """Train a form's network, and decode the test clips with it."""
    settings, seed = animator_form(recipes.settings_of(run.config), form), recipes.network_seed(run.config)
    own, zeros, name = settings.structure, settings.sparsify, f"{subject} structure"
    rows = load_rows(run.config, subject, form)
    with open_targets(run.config, rows, subject) as file:
        first = file[f"z_{settings.clips.posterior}"][:, 0]  # (n_clips, 4, height, width)
        true_of_test = flat(file["z_mean"][: len(rows.test), 0])
    Y, X = flat(first), rows.X[rows.training]
    true = torch.from_numpy(Y[rows.training]).to(run.device)
    X_validation, X_test = rows.X[rows.validation], torch.from_numpy(rows.X[rows.test]).to(run.device)
    if zeros.validation:  # as released, where it is the first pass over the same array
        chosen = zeros.structure, zeros.zeroed
        X_validation = sparsify(X_validation, *chosen, numpy_generator(seed, name, "validation", "sparsify"))
        if zeros.accumulate:
            X = sparsify(X, *chosen, numpy_generator(seed, name, "before", "sparsify"))
    X_held, true_held = (torch.from_numpy(part).to(run.device) for part in (X_validation, Y[rows.validation]))
    with seeded(seed, name, "weights"):
        network = StructureDecoder(X.shape[1], Y.shape[1], own.width, own.n_blocks).to(run.device)

    def losses(start: int) -> Iterator:
        arrays = sparsified(X, zeros.structure, zeros.zeroed, zeros.accumulate, seed, name, start)
        for epoch, zeroed in enumerate(arrays, start=start):
            seen = torch.from_numpy(zeroed).to(run.device)
            weight = l1_weight(own.l1, own.l1_rate, epoch, own.l1_compounds)

            def loss_of(at: torch.Tensor, _: torch.Generator, seen=seen, weight=weight) -> torch.Tensor:
                at = at.to(seen.device)
                return functional.mse_loss(network(seen[at]), true[at]) + weight * l1_norm(network)

            yield loss_of

    plan = Plan(
        own.epochs,
        settings.batch_size,
        lambda _, epoch: own.learning_rate * own.decay**epoch,
        checkpoint=settings.checkpoint,
    )
    train_to_file(
        run, artifact.recipe, network, losses,
        lambda: functional.mse_loss(network(X_held), true_held).item(), plan, len(X),
    )  # fmt: skip
    with torch.no_grad():
        systems = {"network": network(X_test).cpu().numpy(), **controls(rows, Y, of_training(rows, run.device))}
        of_validation = network(torch.from_numpy(rows.X[rows.validation]).to(run.device)).cpu().numpy()
    table = score(systems, true_of_test, Y[rows.training])
    systems["permuted"] = systems["permuted"][0]
    shaped = {name: values.reshape(-1, *first.shape[1:]) for name, values in systems.items()}
    arrays = {"stimulus_id": rows.ids[rows.test], "z": shaped.pop("network"), **shaped}
    finish(artifact, arrays | {"z_validation": of_validation.reshape(-1, *first.shape[1:])}, table)


if __name__ == "__main__":
    execute(main)
