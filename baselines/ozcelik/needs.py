"""What must be there for the rival of Ozcelik et al., and what it takes."""

from typing import NamedTuple

import torch

from baselines.ozcelik.generator import Generator, open_generator
from data import nsd_needs
from feature_extraction.needs import known
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.config.ozcelik import ozcelik_form
from minddiffuser.needs import card_memory
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.models import device_of
from minddiffuser.needs.rows import FLOAT32, FLOAT64, Means, Row, Subject, lower_batch, picture
from minddiffuser.needs.speed import now, room_for, weight_bytes
from minddiffuser.pretrained.icgan import open_instance_encoder

INSTANCE_ENCODER = 1e8  # bytes of its weights


class Inversion(NamedTuple):
    """A step of the inversion.

    Attributes
    ----------
    seconds : float
        A picture, forward and back.
    n_noise, n_dense : int
        Numbers that the generator makes a picture from.
    weights : float
        Bytes, of the generator.
    """

    seconds: float
    n_noise: int
    n_dense: int
    weights: float


def subjects_of(run: Run) -> tuple[str, ...]:
    """Give those of NSD, where the configuration has this rival."""
    return nsd_needs.subjects_of(run) if run.config.experiment.ozcelik else ()


def look(findings: Findings, _names: tuple[str, ...]) -> None:
    """Open the models."""
    icgan(findings)


def icgan(findings: Findings) -> Generator | None:
    """Give the generator, on the CPU."""
    return findings.check("IC-GAN", check_icgan, findings.run.config)


def check_icgan(config: Config) -> tuple[Generator, str]:
    """Open the generator's weights, and the network whose features condition it."""
    settings = config.experiment.ozcelik
    assert settings
    generator = open_generator(settings.generator, torch.device("cpu"))
    open_instance_encoder(settings.instance_encoder, config.execution.torch_hub, torch.device("cpu"))
    n = sum(tensor.numel() for tensor in generator.parameters()) / 1e6
    text = f"{settings.generator}, {generator.size} pixels, {n:,.1f} million weights, and {settings.instance_encoder}"
    return generator, text


def time_inversion(config: Config, device: torch.device, generator: Generator) -> tuple[Inversion, str]:
    """Time a step forward and back; the least of three times."""
    n, times = config.execution.batch_size.refine, []
    try:
        with room_for("refine", config, device):
            generator.to(device)
            n_features = generator.shared_feat.weight.shape[1]
            features = torch.nn.functional.normalize(torch.randn(n, n_features, device=device), dim=1)
            noise = torch.randn(n, generator.n_noise, device=device, requires_grad=True)
            for _ in range(3):
                began = now(device)
                torch.autograd.grad(generator(noise, features).sum(), noise)
                times.append(now(device) - began)
    finally:
        generator.to("cpu")
    found = Inversion(min(times) / n, generator.n_noise, 16 * generator.n_first, weight_bytes(generator))
    return found, f"{found.seconds:.3g} s a picture, forward and back"


def rows(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 37 and 38 take."""
    if not (pairs := known(findings, names)):
        return []
    config, device = findings.run.config, device_of(findings)
    step = findings.check("speed of IC-GAN", time_inversion, config, device, icgan(findings))
    return [row(subject, means, step) for subject, means in pairs for row in (decoding, pictures)] if step else []


def decoding(s: Subject, m: Means, step: Inversion) -> Row:
    """37: the inversion of the training images, and regressions."""
    settings = m.config.experiment.ozcelik
    assert settings
    n_outputs = step.n_noise + step.n_dense
    forms = [ozcelik_form(settings, form) for form in settings.forms]
    n_regressions = sum(3 + 5 * (form.restore_variance == "train") for form in forms)
    inversion = s.n_train * settings.inversion_steps * step.seconds
    operations = n_regressions * (2 * s.n_train**2 * s.n_voxels + s.n_train**3 / 3)
    operations += len(forms) * 2 * s.n_train**2 * n_outputs
    memory = 4 * s.n_train * s.n_voxels * FLOAT64 + s.n_train**2 * FLOAT64 + s.n_train * n_outputs * FLOAT32
    return Row(
        s.name, "37", "Ozcelik", inversion + operations / m.speed.multiply, memory,
        inverting_memory(m.config, step),
        2 * s.n_train * n_outputs * FLOAT32,
        f"a step of the inversion, {step.seconds:.3g} s a picture; regressions by count, on the CPU",
        (*lower_batch(m.config, "refine"), *lower_batch(m.config, "encode")),
    )  # fmt: skip


def inverting_memory(config: Config, step: Inversion) -> float:
    """Bytes of a batch of the inversion on the device: of the table, or for a smaller generator a share of that."""
    work, weights = "IC-GAN inversion", step.weights + INSTANCE_ENCODER
    beside = card_memory.beside_weights(work, "float32", config.execution.batch_size.refine)
    return weights + beside * weights / card_memory.weights(work)


def pictures(s: Subject, m: Means, step: Inversion) -> Row:
    """38: one pass of the generator an image."""
    settings = m.config.experiment.ozcelik
    assert settings
    n = s.n_test * len(settings.forms)
    return Row(
        s.name, "38", "Ozcelik", n * step.seconds, 0, step.weights, n * picture(m.config),
        "a step of the inversion a picture", lower_batch(m.config, "generate"),
    )  # fmt: skip


ROOM = Room(subjects_of, rows, look, part="Ozcelik et al.", scripts=("baselines/ozcelik/",))
