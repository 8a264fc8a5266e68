"""What must be there for Mind-Animator, and what it takes."""

import math
from typing import Any, NamedTuple

import torch
from torch import nn

from baselines.mind_animator import recipes
from baselines.mind_animator.decoding import ALPHAS, N_FOLDS, distinct_forms
from baselines.mind_animator.maps import N_CLIPS
from baselines.mind_animator.networks import MotionGenerator, SemanticDecoder, StructureDecoder
from baselines.mind_animator.sampler import clips_at_once
from baselines.semantic_brain_decoding.wordnet import open_wordnet
from data import film_needs
from data.film_needs import PART, Recorded, counted, subjects_of
from minddiffuser.config import Config
from minddiffuser.config.mind_animator import animator_form
from minddiffuser.needs import models
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.models import V1_4, device_of
from minddiffuser.needs.rows import FLOAT32, FLOAT64, Means, Row, encoding_memory, generating_memory, lower_batch
from minddiffuser.needs.speed import now
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.store import DataError

FLOAT16 = 2
N_STATES = 4  # what the state of training has of each weight: itself, two moments of Adam, and the best so far
N_SYSTEMS = 10  # of films of latents that 23 writes
FRAME = 3e8  # bytes of a frame of 512 pixels in the inflated U-Net, without gradients, by count
EMBEDDING = 1 / 50  # of a call of the U-Net, that a text or a small picture takes in an encoder, a guess


class Sizes(NamedTuple):
    """What networks have, and how long they train.

    Attributes
    ----------
    semantic, structure, motion : int
        Weights, by count.
    n_c, d : int
        Numbers of c without its first token, and of a frame's latents.
    n_in : int
        Columns that are decoded from.
    by_step : float
        Seconds that a weight takes in a step of training, with one row a clip; NaN if not timed.
    by_step_of_films : float
        The same with a row for each frame that is made.
    """

    semantic: int
    structure: int
    motion: int
    n_c: int
    d: int
    n_in: int
    by_step: float
    by_step_of_films: float


def look(findings: Findings, _names: tuple[str, ...]) -> None:
    """Check models, and words of the same meaning where captions are varied by them."""
    config = findings.run.config
    findings.check("text of films", check_text, config, models.stable_diffusion(findings))
    findings.check("CLIP of films", check_clip, config)
    if film_needs.settings_of(config).semantic.eda == "synonyms":
        findings.check("WordNet of captions", check_wordnet, config)


def check_text(config: Config, parts: dict[str, Any]) -> tuple[bool, str]:
    """Check that the text encoder has as many tokens as are asked for."""
    n, asked = parts["text_encoder"].config.max_position_embeddings, film_needs.settings_of(config).max_length
    if asked > n:
        text = f"experiment.mind_animator.max_length is {asked}, and the text encoder has {n} tokens"
        raise DataError(text, f"lower it to {n} or less")
    return True, f"{asked} of {n} tokens"


def check_clip(config: Config) -> tuple[bool, str]:
    """Check that f is as wide as the embeddings of the CLIP that guides."""
    names, asked = config.experiment.models, film_needs.settings_of(config).semantic.width
    clip: Any = open_clip_model(names.clip, names.clip_weights, torch.device("cpu"))
    width = int(clip.model.visual.output_dim)
    if asked != width:
        text = f"experiment.mind_animator.semantic.width is {asked}, but CLIP's embeddings have {width} numbers"
        raise DataError(text, "set it to that")
    return True, f"{names.clip}, embeddings of {width} numbers"


def check_wordnet(config: Config) -> tuple[bool, str]:
    """Open WordNet."""
    open_wordnet(config.wordnet)
    return True, str(config.wordnet)


def check_training(config: Config, device: torch.device) -> tuple[tuple[float, float], str]:
    """Time a step of training, forward, back and Adam's, with one row a clip and with one a frame.

    Returns
    -------
    tuple of float
        Seconds a weight, of each.
    """
    settings = film_needs.settings_of(config)
    found = []
    for n in (settings.batch_size, settings.batch_size * (settings.clips.n_frames - 1)):
        layer = nn.Linear(2048, 2048, bias=False, device=device)
        optimiser, x = torch.optim.Adam(layer.parameters()), torch.randn(n, 2048, device=device)
        times = []
        for _ in range(4):
            began = now(device)
            optimiser.zero_grad()
            layer(x).square().mean().backward()
            optimiser.step()
            times.append(now(device) - began)
        found.append(min(times) / layer.weight.numel())
    text = ", ".join(f"{1e6 * seconds:.2g}" for seconds in found)
    return (found[0], found[1]), f"{text} s a million weights, with a row a clip and with a row a frame"


def sizes(findings: Findings) -> Sizes:
    """Count the weights of the networks of real sizes, without making them, and time a step."""
    config, settings = findings.run.config, film_needs.settings_of(findings.run.config)
    means = models.means(findings)
    by_step = findings.check("speed of training", check_training, config, device_of(findings)) or (math.nan, math.nan)
    n_in, d = settings.voxels.n * settings.voxels.n_volumes, 4 * (settings.clips.size // 8) ** 2
    semantic, structure, motion = settings.semantic, settings.structure, settings.motion
    width = means.models.width
    with torch.device("meta"):
        networks = (
            SemanticDecoder(n_in, semantic.width, semantic.n_blocks, semantic.hidden, settings.max_length, width),
            StructureDecoder(n_in, d, structure.width, structure.n_blocks),
            MotionGenerator(
                n_in, d, motion.inner, motion.heads, motion.d_ff, motion.n_layers, motion.n_memory, motion.output
            ),
        )
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
    return Sizes(counts[0], counts[1], counts[2], (settings.max_length - 1) * width, d, n_in, *by_step)


def rows(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 11 to 32 take."""
    means, of_networks = models.means(findings), sizes(findings)
    recorded = [counted(findings, name) for name in names]
    found = [features(recorded[0], means, of_networks)] if recorded else []
    for s in recorded:
        found += [row(s, means, of_networks) for row in (semantic, structure, motion)]
        found += [retrieval(s, means), maps(s, means, of_networks), films(s, means), controls(s, means)]
    return found


def features(s: Recorded, m: Means, n: Sizes) -> Row:
    """11: latents of all frames, and variations of captions and middle frames."""
    settings = film_needs.settings_of(m.config)
    forms = [animator_form(settings, form) for form in settings.forms]
    n_posteriors, n_crops = len({form.clips.posterior for form in forms}), len({form.semantic.crop for form in forms})
    n_frames, n_variations = s.n_clips * settings.clips.n_frames, s.n_training * settings.semantic.n_variations
    n_embedded = s.n_clips * 2 + n_variations * (1 + n_crops)
    tokens = (n.n_c + m.models.width) * FLOAT16
    disk = n_posteriors * n_frames * n.d * FLOAT16 + s.n_clips * tokens + n_variations * tokens
    disk += (s.n_clips * 2 + n_variations * (1 + n_crops)) * settings.semantic.width * FLOAT32
    pictures = 120 * settings.clips.size**2 * 3 * (1 + FLOAT32)
    return Row(
        "", "11", "targets of films", (n_frames / 4 + n_embedded * EMBEDDING) * m.speed.generate, 2 * pictures,
        m.models.vae + m.models.text_encoder + 6e8 + encoding_memory(m.config, m.models), 2 * disk,
        f"a quarter of a U-Net call a frame, a fiftieth for each of {n_embedded:,} embeddings",
        lower_batch(m.config, "encode"),
    )  # fmt: skip


def n_steps(s: Recorded, config: Config, n_epochs: int) -> int:
    """Count the steps of a training."""
    settings = film_needs.settings_of(config)
    return n_epochs * math.ceil((s.n_training - settings.n_validation) / settings.batch_size)


def regression(s: Recorded, n: Sizes, n_units: int, n_fits: int) -> tuple[float, float, float]:
    """Ridge regressions with every penalty: operations; bytes in RAM; bytes on the device."""
    by_penalty = n.n_in**3 / 3 + 8 * n.n_in**2 * n_units + 2 * n.n_in * n_units * s.n_training
    operations = n_fits * (2 * n.n_in**2 * s.n_training + len(ALPHAS) * by_penalty)
    memory = 5 * n.n_in * n_units * FLOAT64 + 4 * s.n_clips * n_units * FLOAT64
    return operations, memory, (s.n_training + 2 * n.n_in) * n.n_in * FLOAT64


def training(n_weights: int) -> tuple[float, float]:
    """Count the bytes that a training takes in RAM and on the device.

    While its state is written, RAM has it twice, and the best weights; the device has weights, gradients, Adam's two
    moments, and the gradients of the penalty.
    """
    weights = n_weights * FLOAT32
    return (2 * N_STATES + 1) * weights, 5 * weights


def semantic(s: Recorded, m: Means, n: Sizes) -> Row:
    """21: one network for each form of its own, and ridge regression on c."""
    return _decoder(s, m, n, "21", "semantic", n.semantic, n.n_c, film_needs.settings_of(m.config).semantic.epochs)


def structure(s: Recorded, m: Means, n: Sizes) -> Row:
    """22: one network for each form of its own, and ridge regression on the latents of the first frame."""
    return _decoder(s, m, n, "22", "structure", n.structure, n.d, film_needs.settings_of(m.config).structure.epochs)


def _decoder(
    s: Recorded, m: Means, n: Sizes, script: str, decoder: str, n_weights: int, n_units: int, n_epochs: int
) -> Row:
    n_forms, n_trained = len(distinct_forms(m.config, decoder)), n_steps(s, m.config, n_epochs)
    of_state, on_device = training(n_weights)
    operations, of_ridge, of_gram = regression(s, n, n_units, 2)
    voxels, targets = s.n_clips * n.n_in * FLOAT32, s.n_clips * n_units * FLOAT32
    seconds = n_trained * n_weights * n.by_step + operations / m.speed.factorise
    state = N_STATES * n_weights * FLOAT32
    kept = n_weights * FLOAT32 + 5 * s.n_test * n_units * FLOAT32
    return Row(
        s.name, script, f"{decoder} decoder", n_forms * seconds, 2 * voxels + 2 * targets + max(of_state, of_ridge),
        max(on_device + voxels + targets, of_gram), 2 * state + n_forms * kept,
        f"{n_forms} x {n_trained:,} steps of {n_weights / 1e6:,.1f} million weights, and ridge by count",
        (f"lower experiment.mind_animator.voxels.n (now {n.n_in})",),
    )  # fmt: skip


def motion(s: Recorded, m: Means, n: Sizes) -> Row:
    """23: the generator, whose state is written now and then, and ridge regression on each frame."""
    settings = film_needs.settings_of(m.config)
    own, n_frames, n_forms = settings.motion, settings.clips.n_frames, len(distinct_forms(m.config, "motion"))
    n_trained = n_steps(s, m.config, own.epochs)
    of_state, on_device = training(n.motion)
    operations, of_ridge, of_gram = regression(s, n, n.d, 2 * n_frames + N_FOLDS + 1)
    film = n_frames * n.d * FLOAT32
    # Each epoch makes the validation films, which takes a third of a step forward and back for each frame again.
    n_made = own.epochs * settings.n_validation / settings.batch_size * n_frames / 2 / 3
    seconds = (n_trained + n_made) * n.motion * n.by_step_of_films + operations / m.speed.factorise
    tokens = settings.batch_size * n_frames * n.d * FLOAT32
    made = N_SYSTEMS * s.n_test * film
    state = N_STATES * n.motion * FLOAT32
    kept = n.motion * FLOAT32 + made
    return Row(
        s.name, "23", "motion generator", n_forms * seconds, 1.5 * s.n_clips * film + max(of_state, made + of_ridge),
        max(on_device + s.n_training * film + 40 * tokens, of_gram), 2 * state + n_forms * kept,
        f"{n_forms} x {n_trained:,} steps of {n.motion / 1e6:,.1f} million weights, a state of "
        f"{state / 1e9:.1f} GB",
        (f"lower experiment.mind_animator.motion.inner (now {own.inner})",),
    )  # fmt: skip


def retrieval(s: Recorded, m: Means) -> Row:
    """24: cosines of each test clip with all clips."""
    n_tables, width = len(distinct_forms(m.config, "semantic")) * 20, film_needs.settings_of(m.config).semantic.width
    seconds = n_tables * (2 * s.n_test * s.n_clips * width / m.speed.multiply + s.n_test * s.n_clips * 5e-9)
    return Row(
        s.name, "24", "retrieval", seconds, 5 * s.n_test * s.n_clips * FLOAT64, 0, 1e5, f"{n_tables} galleries",
    )  # fmt: skip


def maps(s: Recorded, m: Means, n: Sizes) -> Row:
    """25: gradients of each network with respect to the vertices, at some clips, and ridge regression."""
    settings = film_needs.settings_of(m.config)
    n_forms, n_batches = len(distinct_forms(m.config, "motion")), math.ceil(N_CLIPS / settings.batch_size)
    deep = settings.clips.n_frames / 2  # a film is made by as many looks at all of its frames
    operations, of_ridge, of_gram = regression(s, n, 2, 1)
    of_networks = (2 * n.semantic + n.structure) * n.by_step + deep * n.motion * n.by_step_of_films
    tokens = settings.batch_size * settings.clips.n_frames * n.d * FLOAT32
    return Row(
        s.name, "25", "maps", n_forms * (n_batches * of_networks + operations / m.speed.factorise),
        2 * s.n_clips * n.n_in * FLOAT32 + of_ridge + 5e8, max(n.motion * FLOAT32 + 40 * tokens * deep, of_gram), 1e7,
        f"{n_forms} x {n_batches} batches of films, forward and back",
        (f"lower experiment.mind_animator.batch_size (now {settings.batch_size}; decoders are trained anew)",),
    )  # fmt: skip


def films(s: Recorded, m: Means) -> Row:
    """31: DDIM backwards without guidance, and the guided steps, for each frame of each form."""
    n, folders = n_calls(m.config), len(recipes.sampled_forms(m.config))
    return _pictures(s, m, "31", "films", folders * n, folders, f"{folders} x {n:g} U-Net calls a frame")


def controls(s: Recorded, m: Means) -> Row:
    """32: one control by all steps, and the others by the autoencoder alone, which is a quarter of a call a frame."""
    n, folders = n_calls(m.config), len(recipes.controls(m.config))
    how = f"{n:g} U-Net calls a frame, and a quarter for each of {folders - 1} controls"
    return _pictures(s, m, "32", "controls of films", n + (folders - 1) / 4, folders, how)


def n_calls(config: Config) -> float:
    """Count the guided calls of the U-Net that a frame takes; one without guidance is half of one."""
    video = film_needs.settings_of(config).video
    guided = video.n_steps if video.start == "inversion" else math.ceil(video.renoise / 1000 * video.n_steps)
    return guided + video.n_steps / 2 * (video.start == "inversion")


def _pictures(s: Recorded, m: Means, script: str, name: str, calls: float, folders: int, how: str) -> Row:
    clips = film_needs.settings_of(m.config).clips
    n_frames, share = s.n_test * clips.n_frames, (clips.size / 512) ** 2
    at_once = 2 * clips_at_once(m.config) * clips.n_frames * FRAME * share * m.models.unet / V1_4.unet
    batch = generating_memory(m.config, m.models)
    return Row(
        s.name, script, name, n_frames * calls * m.speed.generate, 4 * clips.n_frames * clips.size**2 * 3 * FLOAT32,
        m.models.stable_diffusion + max(at_once, batch), folders * n_frames * 1.5 * clips.size**2,
        how, lower_batch(m.config, "generate"),
    )  # fmt: skip


ROOM = Room(subjects_of, rows, look, part=PART, scripts=("baselines/mind_animator/",))
