"""The three targets of Ozcelik's method, of all images of a subject, to files."""

from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from baselines.ozcelik.features import instance_features, invert
from baselines.ozcelik.generator import Generator, open_generator
from data.nsd import Stimuli
from feature_extraction.latents import to_model_range
from minddiffuser.cli import Run
from minddiffuser.config import Ozcelik
from minddiffuser.pretrained import InstanceEncoder, open_instance_encoder
from minddiffuser.store import Artifact, open_arrays

ROWS_PER_PART = 256


def extract_instances(run: Run, subject: str, settings: Ozcelik) -> Artifact:
    """Extract the instance features of all images to `ozcelik/instance.h5`."""
    prepared_path = run.config.folder(subject) / "prepared.h5"
    models = settings.model_dump(include={"generator", "instance_encoder"})
    artifact = Artifact(run.config.folder(subject) / "ozcelik" / "instance.h5", subject, models, [prepared_path])
    if artifact.is_done(run.overwrite):
        return artifact
    with open_arrays(prepared_path, "data/02_prepare_subject.py", subject) as prepared:
        ids = prepared["nsd_id"][:]
    generator, encoder = open_models(run, settings)
    for number, rows in artifact.parts_to_do(len(ids), ROWS_PER_PART, run.shard):
        batches = seen(run, generator, encoder, ids[rows], f"{subject} instances, part {number}")
        features = torch.cat([features for _, features in batches])
        artifact.write_part(number, {"features": features.cpu().numpy(), "nsd_id": ids[rows]})
    if artifact.has_all_parts(len(ids), ROWS_PER_PART):
        artifact.join(len(ids), {})
    return artifact


def invert_training_images(run: Run, subject: str, settings: Ozcelik) -> Artifact:
    """Find the noise and dense vectors of the training images, and write them to `ozcelik/inversion.h5`."""
    prepared_path = run.config.folder(subject) / "prepared.h5"
    inversion = settings.model_dump(include={"generator", "instance_encoder", "inversion_steps", "inversion_rate"})
    artifact = Artifact(run.config.folder(subject) / "ozcelik" / "inversion.h5", subject, inversion, [prepared_path])
    if artifact.is_done(run.overwrite):
        return artifact
    with open_arrays(prepared_path, "data/02_prepare_subject.py", subject) as prepared:
        ids = prepared["nsd_id"][:][~prepared["is_test"][:]]
    generator, encoder = open_models(run, settings)
    for number, rows in artifact.parts_to_do(len(ids), ROWS_PER_PART, run.shard):
        found = [
            invert(generator, encoder, pictures, features, settings.inversion_steps, settings.inversion_rate)
            for pictures, features in seen(run, generator, encoder, ids[rows], f"{subject} inversion, part {number}")
        ]
        noise, dense, error = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
        artifact.write_part(number, {"noise": noise, "dense": dense, "error": error, "nsd_id": ids[rows]})
    if artifact.has_all_parts(len(ids), ROWS_PER_PART):
        artifact.join(len(ids), {})
    return artifact


def open_models(run: Run, settings: Ozcelik) -> tuple[Generator, InstanceEncoder]:
    """Open the generator, and the network whose features condition it."""
    encoder = open_instance_encoder(settings.instance_encoder, run.config.execution.torch_hub, run.device)
    return open_generator(settings.generator, run.device), encoder


def seen(
    run: Run, generator: Generator, encoder: InstanceEncoder, ids: np.ndarray, what: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of stimuli, in [0, 1] and of the generator's size, and their features."""
    stimuli, batch = Stimuli(run.config.nsd), run.config.execution.batch_size
    for start in tqdm(range(0, len(ids), batch), desc=what):
        pictures = to_model_range(stimuli.read(ids[start : start + batch]), generator.size).to(run.device) / 2 + 0.5
        with torch.no_grad():
            features = instance_features(encoder, pictures)
        yield pictures, features
