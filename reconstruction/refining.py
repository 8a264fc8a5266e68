"""Stage 2 from decoded files to a folder of pictures, in batches that survive a kill (specification section 5.3)."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save

from feature_decoding import recipes
from feature_extraction.clip_layers import ClipLayers
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.config.method import EMBEDDING, layer_name
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.recipe import Recipe
from minddiffuser.store import Shard, open_made, reading, write_atomically
from reconstruction.folder import ReconstructionFolder, to_uint8, write_png
from reconstruction.guidance import Targets, learning_rate, refine
from reconstruction.sampler import ImageToImage, draw_noise, open_sampler


@dataclass(frozen=True)
class Decoded:
    """What was decoded of the first test images.

    Attributes
    ----------
    nsd_id : array of shape (n,)
    z : tensor of shape (n, 4, height, width)
    c : tensor of shape (n, n_tokens, width)
    features : dict of tensors of shape (n, n_kept)
        CLIP's, by layer, at the selected units; perhaps `EMBEDDING`.
    units : dict of tensors of shape (n_kept,)
    """

    nsd_id: np.ndarray
    z: torch.Tensor
    c: torch.Tensor
    features: dict[str, torch.Tensor]
    units: dict[str, torch.Tensor]


def read_decoded(config: Config, subject: str, n_images: int | None = None) -> Decoded:
    """Read the decoded z, c and Z_CLIP of a subject, which must be of the same images.

    They are of the first `experiment.guidance.n_images` test images, or of the first `n_images` of these.
    """
    experiment = config.experiment
    layers = [layer_name(number) for number in experiment.structural.layers]
    with (
        open_made(recipes.decoded(config, subject, "detail")) as detail,
        open_made(recipes.decoded(config, subject, "semantic")) as semantic,
        open_made(recipes.decoded(config, subject, "structural")) as structure,
    ):
        n = min(n_images or len(detail["z"]), experiment.guidance.n_images or len(detail["z"]))
        return Decoded(
            nsd_id=detail["nsd_id"][:n],
            z=torch.from_numpy(detail["z"][:n]),
            c=torch.from_numpy(semantic["c"][:n]),
            features={
                name: torch.from_numpy(structure[name][:n]) for name in [*layers, EMBEDDING] if name in structure
            },
            units={name: torch.from_numpy(structure[f"{name}_units"][:]) for name in layers},
        )


def open_models(run: Run) -> tuple[ImageToImage, ClipLayers]:
    """Open Stable Diffusion as stage 2 runs it, and the CLIP that guides it."""
    models, structural = run.config.experiment.models, run.config.experiment.structural
    clip = open_clip_model(models.clip, models.clip_weights, run.device)
    encoder = ClipLayers(clip, structural.layers, structural.normalisation, structural.antialias)
    return open_sampler(run.config, run.device), encoder


def refine_images(
    run: Run, decoded: Decoded, recipe: Recipe, models: Callable[[], tuple[ImageToImage, ClipLayers]]
) -> None:
    """Refine images, batch by batch, and write them to the folder of a system.

    With the pictures go, in `trajectory/`, the loss of every iteration and the picture of every `save_every`-th, and
    with each of these what is needed to continue the batch (`state/`): a run that was killed goes on from there, to the
    same bytes.

    Parameters
    ----------
    run : Run
    decoded : Decoded
    recipe : Recipe
        Of the system's folder.
    models : callable
        Gives what `open_models` opens; called only if there is something to do.
    """
    experiment, batch_size = run.config.experiment, run.config.execution.batch_size.refine
    guidance, structural, path = experiment.guidance, experiment.structural, recipe.path
    layers = [layer_name(number) for number in structural.layers]
    output = ReconstructionFolder(recipe, len(decoded.nsd_id), run.overwrite)
    todo = output.batches_to_do(decoded.nsd_id, batch_size, run.shard)
    if todo:
        sampler, encoder = models()
        units = {layer: indices.to(run.device) for layer, indices in decoded.units.items()}
    for rows in output.each(todo, f"{recipe.subject} {path.name}"):
        ids = decoded.nsd_id[rows]
        state_path = path / "state" / f"{hashlib.sha256(ids.tobytes()).hexdigest()[:16]}.safetensors"
        here = {key: values[rows].to(run.device) for key, values in decoded.features.items()}
        result = refine(
            decoded.z[rows].to(run.device),
            decoded.c[rows].to(run.device),
            sample=sampler,
            extract=partial(encoder, resize=structural.generated_resize),
            noise=partial(draw_noise, decoded.z.shape[1:], experiment.seed, ids, run.device, guidance.noise),
            targets=Targets({layer: here[layer] for layer in layers}, units, here.get(EMBEDDING)),
            settings=guidance,
            precision=experiment.sampler.precision,
            state=_read_state(state_path),
            keep=partial(_keep, path, state_path, ids),
        )
        losses, iterations = result.losses.cpu(), result.iteration.cpu()
        rates = [learning_rate(k, guidance) for k in range(len(losses))]
        for column, i in enumerate(ids):
            curve = pd.DataFrame({"loss": losses[:, column], "learning_rate": rates})
            write_atomically(path / "trajectory" / f"{i:05d}.csv", curve.to_csv(index_label="iteration"))
        final = losses.gather(0, iterations[None])[0]
        output.save(ids, to_uint8(result.images), experiment.seed, final.tolist(), iterations.tolist())
        state_path.unlink(missing_ok=True)
    output.finish()
    if not output.batches_to_do(decoded.nsd_id, 1, Shard()):
        shutil.rmtree(path / "state", ignore_errors=True)  # of a kill in the last moment, or of other batches


def _read_state(path: Path) -> dict[str, torch.Tensor] | None:
    """Read what a batch goes on from, where it was begun."""
    if not path.exists():
        return None
    with reading(path, "a state to go on from", "delete it, and the batch starts again"):
        return load_file(path)


def _keep(
    path: Path, state_path: Path, ids: np.ndarray, k: int, images: torch.Tensor, state: dict[str, torch.Tensor]
) -> None:
    """Write the pictures of iteration k, and then all that is needed to go on from there after a kill."""
    for i, picture in zip(ids, to_uint8(images), strict=True):
        write_png(path / "trajectory" / f"{i:05d}" / f"{k:04d}.png", picture)
    write_atomically(state_path, save(state))
