"""The three targets of Ozcelik's method, of all images of a subject, to files."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from baselines.ozcelik import recipes
from baselines.ozcelik.features import instance_features, invert
from baselines.ozcelik.generator import Generator, open_generator
from data.nsd import Stimuli
from data.recipes import prepared
from feature_extraction.latents import to_model_range
from minddiffuser.cli import Run
from minddiffuser.config.ozcelik import Ozcelik
from minddiffuser.pretrained.icgan import InstanceEncoder, open_instance_encoder
from minddiffuser.progress import progress
from minddiffuser.store import Artifact, open_made

ROWS_PER_PART = 256
Models = tuple[Generator, InstanceEncoder]


def extract_instances(run: Run, subject: str, models: Callable[[], Models]) -> None:
    """Extract the instance features of all images to `ozcelik/instance.h5`."""
    artifact = Artifact(recipes.instances(run.config, subject))
    if artifact.is_done(run.overwrite):
        return
    with open_made(prepared(run.config, subject)) as rows_of:
        ids = rows_of["stimulus_id"][:]
    for number, rows in artifact.parts_to_do(len(ids), ROWS_PER_PART, run.shard):
        what = f"{subject} instances, part {number}"
        batches = seen(run, *models(), ids[rows], run.config.execution.batch_size.encode, what)
        features = torch.cat([features for _, features in batches])
        artifact.write_part(number, {"features": features.cpu().numpy(), "stimulus_id": ids[rows]})
    artifact.join(len(ids), ROWS_PER_PART)


def invert_training_images(run: Run, subject: str, models: Callable[[], Models]) -> None:
    """Find the noise and dense vectors of the training images, and write them to `ozcelik/inversion.h5`."""
    settings = run.config.experiment.ozcelik
    assert settings
    artifact = Artifact(recipes.inversion(run.config, subject))
    if artifact.is_done(run.overwrite):
        return
    with open_made(prepared(run.config, subject)) as rows_of:
        ids = rows_of["stimulus_id"][:][~rows_of["is_test"][:]]
    for number, rows in artifact.parts_to_do(len(ids), ROWS_PER_PART, run.shard):
        generator, encoder = models()
        what = f"{subject} inversion, part {number}"
        batches = seen(run, generator, encoder, ids[rows], run.config.execution.batch_size.refine, what)
        found = [
            invert(generator, encoder, pictures, features, settings.inversion_steps, settings.inversion_rate)
            for pictures, features in batches
        ]
        noise, dense, error = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
        artifact.write_part(number, {"noise": noise, "dense": dense, "error": error, "stimulus_id": ids[rows]})
    artifact.join(len(ids), ROWS_PER_PART)


def open_models(run: Run, settings: Ozcelik) -> Models:
    """Open the generator, and the network whose features condition it."""
    encoder = open_instance_encoder(settings.instance_encoder, run.config.execution.torch_hub, run.device)
    return open_generator(settings.generator, run.device), encoder


def seen(
    run: Run, generator: Generator, encoder: InstanceEncoder, ids: np.ndarray, batch: int, what: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of stimuli, in [0, 1] and of the generator's size, and their features."""
    stimuli = Stimuli(run.config.nsd)
    for start in progress(range(0, len(ids), batch), desc=what):
        pictures = to_model_range(stimuli.read(ids[start : start + batch]), generator.size).to(run.device) / 2 + 0.5
        with torch.no_grad():
            features = instance_features(encoder, pictures)
        yield pictures, features
