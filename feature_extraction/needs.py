"""What must be there for the three targets, and what they take."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch

from data.nsd_needs import counted, subjects_of
from minddiffuser.config import Config
from minddiffuser.config.method import layer_name
from minddiffuser.needs import models
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.rows import FLOAT32, Means, Row, Subject, encoding_memory, lower_batch
from minddiffuser.needs.speed import weight_bytes
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.store import DataError


class Layers(NamedTuple):
    """Units of each layer of the CLIP that guides, and bytes of its weights."""

    n_units: dict[str, int]
    weights: float


def look(findings: Findings, _names: tuple[str, ...]) -> None:
    """Open the models."""
    models.stable_diffusion(findings)
    guiding_clip(findings)


def guiding_clip(findings: Findings) -> Layers | None:
    """Give what rows need to know of the CLIP that guides."""
    return findings.check("CLIP that guides", check_clip, findings.run.config)


def known(findings: Findings, names: tuple[str, ...]) -> list[tuple[Subject, Means]]:
    """Give subjects, each with what works on it, for the estimates; what could not be found out is assumed."""
    means, layers = models.means(findings), guiding_clip(findings)
    if layers is None:
        of_real = Layers({layer_name(k): 50 * 768 for k in findings.run.config.experiment.structural.layers}, 6.05e8)
        layers = findings.assume("size of the CLIP that guides", of_real, "ViT-B/32")
    means = replace(means, layers=layers.n_units, clip=layers.weights)
    return [(counted(findings, name), means) for name in names]


def check_clip(config: Config) -> tuple[Layers, str]:
    """Open the CLIP that guides; count the units of each layer, and the bytes of its weights."""
    names, structural = config.experiment.models, config.experiment.structural
    clip = open_clip_model(names.clip, names.clip_weights, torch.device("cpu"))
    visual: Any = clip.model.visual
    if max(structural.layers) > 2 * len(visual.transformer.resblocks):
        raise DataError(f"experiment.structural.layers: {names.clip} has no Linear-{max(structural.layers)}")
    n = visual.positional_embedding.numel()
    found = Layers({layer_name(k): n for k in structural.layers}, weight_bytes(clip.model))
    return found, f"{names.clip}, {n} units a layer"


def rows(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 11 to 13 take."""
    return [features(subject, means) for subject, means in known(findings, names)]


def features(s: Subject, m: Means) -> Row:
    """11 to 13: targets of all images."""
    n_units = sum(m.layers.values())
    largest = max(m.models.vae, m.models.text_encoder, m.clip)
    return Row(
        s.name, "11-13", "features", s.n_images * m.speed.generate / 4, 2 * 256 * n_units * FLOAT32,
        largest + encoding_memory(m.config, m.models), s.n_images * FLOAT32 * (n_units + m.n_z + m.n_c),
        "a quarter of a U-Net call an image", lower_batch(m.config, "encode"),
    )  # fmt: skip


ROOM = Room(subjects_of, rows, look, scripts=("feature_extraction/",))
