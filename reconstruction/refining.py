"""Stage 2 from decoded files to a folder of pictures, in batches that survive a kill (paper, algorithm 1)."""

import hashlib
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save

from feature_decoding import recipes
from feature_extraction.clip_layers import ClipLayers
from minddiffuser import stopping
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.config.method import EMBEDDING, Guidance, layer_name
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.recipe import Recipe
from minddiffuser.store import open_made, reading, write_atomically
from reconstruction.folder import ReconstructionFolder, to_uint8, write_png
from reconstruction.guidance import Targets, best_of, learning_rate, refine, refine_before, steer
from reconstruction.sampler import ImageToImage, draw_noise, open_sampler


@dataclass(frozen=True)
class Decoded:
    """What was decoded of the first test images: where stage 2 begins, and what it aims at.

    Attributes
    ----------
    stimulus_id : array of shape (n,)
    z : tensor of shape (n, 4, height, width)
    c : tensor of shape (n, n_tokens, width)
    targets : Targets
    """

    stimulus_id: np.ndarray
    z: torch.Tensor
    c: torch.Tensor
    targets: Targets

    def of(self, n: int) -> "Decoded":
        """Choose the first n images."""
        return Decoded(self.stimulus_id[:n], self.z[:n], self.c[:n], self.targets.of(slice(n)))


def read_decoded(config: Config, subject: str, guidance: Guidance, is_restored: bool = False) -> Decoded:
    """Read the decoded z, c and Z_CLIP of a subject's test images, which must be of the same images.

    Parameters
    ----------
    guidance : Guidance
        Its loss says whether the targets are those with restored variance.
    is_restored : bool
        Whether z and c, where stage 2 begins, are.
    """
    layers = [layer_name(number) for number in config.experiment.structural.layers]
    start = recipes.restored if is_restored else recipes.decoded
    with open_made(start(config, subject, "detail")) as detail, open_made(start(config, subject, "semantic")) as file:
        stimulus_id, z, c = detail["stimulus_id"][:], torch.from_numpy(detail["z"][:]), torch.from_numpy(file["c"][:])
    aims_at_restored = guidance.loss == "variance_restored"
    aim = recipes.restored if aims_at_restored else recipes.decoded
    with open_made(aim(config, subject, "structural")) as file:
        targets = Targets(
            {name: torch.from_numpy(file[name][:]) for name in layers},
            {name: torch.from_numpy(file[f"{name}_units"][:]) for name in layers},
            torch.from_numpy(file[EMBEDDING][:]) if EMBEDDING in file else None,
        )
        if aims_at_restored:
            with open_made(recipes.restored(config, subject, "detail")) as detail:
                latents = torch.from_numpy(detail["z"][:])
            with open_made(recipes.decoder(config, subject, "detail")) as decoder:
                of_latents = torch.from_numpy(decoder["std"][:].astype(np.float32)).reshape(latents.shape[1:])
            of_units = {name: torch.from_numpy(file[f"{name}_std"][:].astype(np.float32)) for name in layers}
            targets = replace(targets, latents=latents, deviations={**of_units, "latents": of_latents})
    return Decoded(stimulus_id, z, c, targets)


def open_models(run: Run) -> tuple[ImageToImage, ClipLayers]:
    """Open Stable Diffusion as stage 2 runs it, and the CLIP that guides it."""
    models, structural = run.config.experiment.models, run.config.experiment.structural
    clip = open_clip_model(models.clip, models.clip_weights, run.device)
    encoder = ClipLayers(clip, structural.layers, structural.normalisation, structural.antialias)
    return open_sampler(run.config, run.device), encoder


def refine_images(
    run: Run,
    decoded: Decoded,
    recipe: Recipe,
    models: Callable[[], tuple[ImageToImage, ClipLayers]],
    guidance: Guidance,
    among_noises: bool = False,
) -> None:
    """Refine images, batch by batch, and write them to the folder of a system.

    With the pictures go, in `trajectory/`, the loss of every iteration and the picture of every `save_every`-th, and
    with each of these what is needed to continue the batch (`state/`): a run that was killed goes on from there, to the
    same bytes. With `guidance.method: in_sampler` an iteration is a step of the sampler, and a batch that was killed
    starts again. Among noises an iteration is a noise, and no pictures are kept on the way.

    Parameters
    ----------
    run : Run
    decoded : Decoded
    recipe : Recipe
        Of the system's folder.
    models : callable
        Gives what `open_models` opens; called only if there is something to do.
    guidance : Guidance
    among_noises : bool
        Do not descend the loss, but take the best of `n_iterations` noises (`guidance.best_of`).
    """
    experiment, batch_size = run.config.experiment, run.config.execution.batch_size.refine
    path, n_images = recipe.path, len(decoded.stimulus_id)
    output = ReconstructionFolder(recipe, n_images, run.overwrite)
    todo = output.batches_to_do(decoded.stimulus_id, batch_size, run.shard)
    if todo:
        sampler, encoder = models()
        extract = partial(encoder, resize=experiment.structural.generated_resize)
    with ThreadPoolExecutor(max_workers=1) as writer:  # so that nothing is computed later because files are written
        for rows in output.each(todo, f"{recipe.subject} {path.name}"):
            ids = decoded.stimulus_id[rows]
            state_path = place_of_state(recipe, ids)
            kind = kind_of_noise(guidance, among_noises)
            noise = partial(draw_noise, decoded.z.shape[1:], experiment.seed, ids, run.device, kind)
            z, c = (part[rows].to(run.device) for part in (decoded.z, decoded.c))
            targets, precision = decoded.targets.of(rows).to(run.device), experiment.sampler.precision
            given = (z, c, sampler, extract, noise, targets, guidance, precision)
            keep = _Keeper(writer, output, state_path, ids)
            if among_noises:
                result = best_of(*given, state=_read_state(state_path), keep=keep)
            elif guidance.method == "in_sampler":
                result = steer(*given, keep=keep)
            elif guidance.method == "before_sampler":
                result = refine_before(*given, state=_read_state(state_path), keep=keep)
            else:
                result = refine(*given, state=_read_state(state_path), keep=keep)
            keep.wait()
            output.check()
            descends = not among_noises and guidance.method != "in_sampler"
            rates = [learning_rate(k, guidance) if descends else 0.0 for k in range(len(result.losses))]
            losses, iterations = result.losses.cpu(), result.iteration.cpu()
            for column, i in enumerate(ids):
                curve = pd.DataFrame({"loss": losses[:, column], "learning_rate": rates})
                write_atomically(path / "trajectory" / f"{i:05d}.csv", curve.to_csv(index_label="iteration"))
            final = losses.gather(0, iterations[None])[0]
            output.save(ids, to_uint8(result.images), experiment.seed, final.tolist(), iterations.tolist())
            state_path.unlink(missing_ok=True)
    output.finish()
    if output.is_whole(decoded.stimulus_id):
        shutil.rmtree(path / "state", ignore_errors=True)  # of a kill in the last moment, or of other batches


def kind_of_noise(guidance: Guidance, among_noises: bool) -> str:
    """Say whether each iteration has new noise: `guidance.noise` is of a descent, other ways need it to be new."""
    return "fresh" if among_noises or guidance.method == "in_sampler" else guidance.noise


def place_of_state(recipe: Recipe, stimulus_ids: np.ndarray) -> Path:
    """Give the file of what a batch goes on from: another one for other settings, or other images."""
    batch = hashlib.sha256(recipe.fingerprint.encode() + stimulus_ids.tobytes()).hexdigest()[:16]
    return recipe.path / "state" / f"{batch}.safetensors"


def _read_state(path: Path) -> dict[str, torch.Tensor] | None:
    """Read what a batch goes on from, where it was begun."""
    if not path.exists():
        return None
    with reading(path, "a state to go on from", "delete it, and the batch starts again"):
        return load_file(path)


class _Keeper:
    """Writes pictures of an iteration, and then all that is needed to go on from there after a kill, in a thread."""

    def __init__(
        self, writer: ThreadPoolExecutor, output: ReconstructionFolder, state_path: Path, ids: np.ndarray
    ) -> None:
        self._writer, self._output, self._state_path, self._ids = writer, output, state_path, ids
        self._written: Future | None = None

    def __call__(self, k: int, images: torch.Tensor | None, state: dict[str, torch.Tensor]) -> None:
        """Hand copies of them to the thread, once it has written the last ones."""
        self.wait()
        pictures = None if images is None else to_uint8(images)
        self._written = self._writer.submit(self._write, k, pictures, save(state) if state else None)
        if state and stopping.is_asked():
            self.wait()
            stopping.saved()

    def wait(self) -> None:
        """Wait until all is written, or raise what went wrong."""
        if self._written:
            self._written.result()

    def _write(self, k: int, pictures: np.ndarray | None, state: bytes | None) -> None:
        self._output.check()
        for i, picture in () if pictures is None else zip(self._ids, pictures, strict=True):
            write_png(self._output.path / "trajectory" / f"{i:05d}" / f"{k:04d}.png", picture)
        if state:
            write_atomically(self._state_path, state)
