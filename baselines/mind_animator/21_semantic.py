"""Decode a clip's CLIP embedding f, and from it the tokens c of its caption: Mind-Animator's semantic decoder.

    python baselines/mind_animator/21_semantic.py [--config configs/miniature.yaml] [--subject Subject01]

Reads `prepared.h5`, `films/features/clips.h5` and `varied.h5`. For each form it trains a network on training clips
without those of validation, by InfoNCE and squared errors of f and c, with zeros among the vertices, varied captions
and crops of the middle frames, and writes to `decoded/<form>/`:

    semantic.h5           stimulus_id (n_test,); f (n_test, d) and c (n_test, n_tokens, width) float32, decoded, where
                          the first token is that of training, which is the same for all; f_ridge, c_ridge,
                          f_permuted ...: by the controls beside it
    semantic.safetensors  weights, which baselines/mind_animator/networks.py opens
    semantic.csv          target (f or c), system, mse, r_by_clip, r_over_clips; semantic_curve.csv: by epoch

The form "change" has the files of "corrected". "permuted" is ridge regression on vertices that were shifted against the
clips. A killed run goes on where it was, to the same bytes. Reference: Lu et al. 2025 (arXiv 2405.03280);
the authors' train_semantic_decoder.py. Peak memory: 6 GB at the real size, by count: ridge regression on 14,592 units.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from baselines.mind_animator import recipes
from baselines.mind_animator.augment import sparsified
from baselines.mind_animator.decoding import (
    Rows,
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
from baselines.mind_animator.losses import semantic_loss
from baselines.mind_animator.networks import SemanticDecoder
from feature_decoding.training import Plan, seeded
from minddiffuser.cli import Run, execute, film_subjects, parse
from minddiffuser.config.mind_animator import animator_form
from minddiffuser.store import Artifact, DataError, check_same_images, open_made


def main(argv: list[str] | None = None) -> None:
    """Train and decode, for each subject and form."""
    run = parse(__doc__, argv, subjects_of=film_subjects, divides=False)
    for subject, form, artifact in to_decode(run, "semantic"):
        decode(run, subject, form, artifact)


def decode(run: Run, subject: str, form: str, artifact: Artifact) -> None:
    """Train a form's network, and decode the test clips with it."""
    settings, seed = animator_form(recipes.settings_of(run.config), form), recipes.network_seed(run.config)
    own, zeros, name, device = settings.semantic, settings.sparsify, f"{subject} semantic", run.device
    rows = load_rows(run.config, subject, form)
    with open_targets(run.config, rows, subject) as file:
        c, caption = file["c"][:].astype(np.float32), file["caption"][:]  # (n_clips, n_tokens, width), (n_clips,)
        clip_text, clip_image = file["clip_text"][:], file["clip_image"][:]
    check_width(own.width, clip_text.shape[1])
    tokens = c[:, 1:]
    with seeded(seed, name, "weights"):
        network = SemanticDecoder(
            rows.X.shape[1], own.width, own.n_blocks, own.hidden, c.shape[1], c.shape[2]
        ).to(device)  # fmt: skip
    same = torch.from_numpy(caption).to(device) if own.duplicates == "soft" else None

    def on_device(*arrays: np.ndarray) -> list[torch.Tensor]:
        return [torch.from_numpy(array.astype(np.float32)).to(device) for array in arrays]

    def loss_on(X: torch.Tensor, targets: list[torch.Tensor], same: torch.Tensor | None) -> torch.Tensor:
        f, decoded = network(X)
        text, image, true_c = targets
        weights = own.contrast_weight, own.projection_weight
        return semantic_loss(f, decoded, text, image, true_c, network.scale, *weights, same)

    def losses(start: int) -> Iterator:
        X = rows.X[rows.training]
        arrays = sparsified(X, zeros.semantic, zeros.zeroed, zeros.accumulate, seed, name, start)
        for epoch, zeroed in enumerate(arrays, start=start):
            seen, *targets = on_device(zeroed, *read_variation(run, rows, epoch % own.n_variations, own.crop))
            numbers = None if same is None else same[torch.from_numpy(rows.training).to(device)]

            def loss_of(at: torch.Tensor, _: torch.Generator, seen=seen, targets=targets, numbers=numbers):
                at = at.to(device)
                return loss_on(seen[at], [part[at] for part in targets], None if numbers is None else numbers[at])

            yield loss_of

    X_held, *held = on_device(
        rows.X[rows.validation], *(part[rows.validation] for part in (clip_text, clip_image, tokens))
    )
    same_held = None if same is None else same[torch.from_numpy(rows.validation).to(device)]
    plan = Plan(
        own.epochs,
        settings.batch_size,
        lambda _, epoch: own.learning_rate * own.decay**epoch,
        checkpoint=settings.checkpoint,
    )
    train_to_file(
        run, artifact.recipe, network, losses, lambda: loss_on(X_held, held, same_held).item(), plan,
        len(rows.training),
    )  # fmt: skip
    with torch.no_grad():
        f, decoded = (part.cpu().numpy() for part in network(*on_device(rows.X[rows.test])))
    arrays, tables, ridge = {"stimulus_id": rows.ids[rows.test]}, [], of_training(rows, device)
    for target, Y, by_network in (("f", clip_text, f), ("c", flat(tokens), flat(decoded))):
        systems = {"network": by_network, **controls(rows, Y, ridge)}
        tables.append(score(systems, Y[rows.test], Y[rows.training]).assign(target=target))
        systems["permuted"] = systems["permuted"][0]
        for system, values in systems.items():
            arrays[target if system == "network" else f"{target}_{system}"] = values
    start = np.broadcast_to(c[rows.training[:1], :1], (len(f), 1, c.shape[2]))
    for key in [key for key in arrays if key.startswith("c")]:
        arrays[key] = np.concatenate([start, arrays[key].reshape(len(f), -1, c.shape[2])], axis=1)
    table = pd.concat(tables)
    finish(artifact, arrays, table[["target", *table.columns.drop("target")]])


def check_width(width: int, n_embed: int) -> None:
    """Raise DataError where f is not as wide as the embeddings that it is compared with."""
    if width != n_embed:
        raise DataError(
            f"experiment.mind_animator.semantic.width is {width}, but CLIP's embeddings have {n_embed} numbers"
        )


def read_variation(run: Run, rows: Rows, variation: int, crop: str) -> list[np.ndarray]:
    """Read what training clips are compared with in an epoch: clip_text, clip_image, and c without its first token."""
    recipe, training = recipes.varied(run.config), rows.ids[len(rows.test) :]
    with open_made(recipe) as file:
        check_same_images(training, file["stimulus_id"][:], "prepared.h5", recipe.path)
        found = [file[key][:, variation] for key in ("clip_text", crop, "c")]
    own = rows.training - len(rows.test)
    return [found[0][own], found[1][own], found[2][own, 1:]]


if __name__ == "__main__":
    execute(main)
