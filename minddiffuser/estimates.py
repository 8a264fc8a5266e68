"""What each stage will take: time, memory and disk, derived from counts and from what the doctor timed.

A row is one function of one stage, which knows nothing of the others. Operations and arrays are counted as in the
stage's scripts; `Speed` says how fast this machine is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from minddiffuser.config import Config, ozcelik_form, takagi_form

# By count and by measurement at Stable Diffusion's size (512 pixels), in float32; smaller models need less.
VAE_PICTURE = 2.5e9  # of a picture in the autoencoder
UNET_PICTURE = 6e9  # of the gradients of a guided call of the U-Net
DECODER_PICTURE = 4e9  # of the gradients of the autoencoder's decoder and of CLIP
SCORE_PICTURE = 5e8  # of a picture in the networks that score
PROCESS = 6e8  # of Python with torch
_FLOAT32, _FLOAT64 = 4, 8


class Speed(NamedTuple):
    """How fast this machine is.

    Attributes
    ----------
    generate : float
        Seconds a picture of a guided U-Net call, without gradients, in batches of `batch_size.generate`.
    refine, refine_backward : float
        Seconds a picture of such a call in batches of `batch_size.refine`, and of its backward pass.
    score : float
        Seconds a picture of the CLIP that scores.
    factorise : float
        Operations a second of Cholesky factorisations in float32 on the device.
    multiply : float
        Operations a second of matrix products in float64 on the CPU.
    generate_memory, refine_memory : float
        Bytes on the device beside all weights: measured on a GPU, by count on a CPU.
    """

    generate: float
    refine: float
    refine_backward: float
    score: float
    factorise: float
    multiply: float
    generate_memory: float
    refine_memory: float


@dataclass(frozen=True)
class Models:
    """Sizes of the models.

    Attributes
    ----------
    n_channels, width, max_tokens : int
        Of z; of c; of the text encoder.
    layers : dict of str to int
        Units of each CLIP layer.
    weights : dict of str to float
        Bytes of the weights, by model.
    """

    n_channels: int
    width: int
    max_tokens: int
    layers: dict[str, int]
    weights: dict[str, float]

    @property
    def stable_diffusion(self) -> float:
        """Bytes of its weights."""
        return sum(self.weights[name] for name in ("unet", "vae", "text_encoder"))


@dataclass(frozen=True)
class Subject:
    """What a subject of NSD has, and what works on it.

    Attributes
    ----------
    name : str
    n_train, n_test, n_trials, n_voxels, largest_roi : int
        Images, trials, and voxels.
    n_bytes : int
        Of the betas on the disk.
    n_streams : tuple of two int
        Voxels of the streams that Takagi's method decodes z and c from.
    inversion : float
        Seconds a picture of a step of IC-GAN's inversion.
    n_noise, n_dense : int
        Numbers that IC-GAN's generator makes a picture from.
    """

    config: Config
    models: Models
    speed: Speed
    n_threads: int
    name: str
    n_train: int
    n_test: int
    n_trials: int
    n_voxels: int
    largest_roi: int
    n_bytes: int
    n_streams: tuple[int, int] = (0, 0)
    inversion: float = 0.0
    n_noise: int = 0
    n_dense: int = 0

    @property
    def n_images(self) -> int:
        """Training and test images."""
        return self.n_train + self.n_test

    @property
    def n_z(self) -> int:
        """Numbers in z."""
        return self.models.n_channels * (self.config.experiment.detail.image_size // 8) ** 2

    @property
    def n_c(self) -> int:
        """Numbers in c that are decoded: without the token that begins every caption."""
        return (self.config.experiment.semantic.max_length - 1) * self.models.width

    @property
    def families(self) -> list[tuple[int, int]]:
        """Outputs, and voxels of each output: of c, of z, and of each CLIP layer at its selected units."""
        experiment = self.config.experiment
        decoding, layers = experiment.decoding, self.models.layers.values()
        found = [(self.n_c, decoding.n_voxels_semantic), (self.n_z, decoding.n_voxels_detail)]
        kept = [round(experiment.units.keep * n) for n in layers]
        found += zip(kept, decoding.n_voxels_structural, strict=True)
        return [(n, min(k, self.n_voxels)) for n, k in found]

    @property
    def n_refined(self) -> int:
        """Images that stage 2 refines."""
        return min(self.config.experiment.guidance.n_images or self.n_test, self.n_test)

    @property
    def n_ablated(self) -> int:
        """Images of each ablation."""
        return min(self.config.experiment.controls.n_ablated or self.n_refined, self.n_refined)

    @property
    def n_controls(self) -> int:
        """Controls that the generator makes."""
        controls = self.config.experiment.controls
        return 3 + len(controls.ranks) + controls.n_seeds

    @property
    def n_scored(self) -> int:
        """Pictures of all systems."""
        experiment = self.config.experiment
        n_systems = 1 + 4 + self.n_controls
        if takagi := experiment.takagi:
            n_systems += sum(takagi_form(experiment, takagi, form).n_samples for form in takagi.forms)
        if experiment.ozcelik:
            n_systems += len(experiment.ozcelik.forms)
        return n_systems * self.n_test + self.n_refined + 2 * self.n_ablated


class Row(NamedTuple):
    """What the scripts of a stage take.

    Attributes
    ----------
    scripts : str
        Their numbers.
    name : str
    seconds : float
    memory, on_device, disk : float
        Bytes in RAM, beside what Python takes; on the device, which are in RAM too where that is a CPU; on the disk.
    how : str
        What they are derived from.
    levers : tuple of str
        What takes less memory, of what is not yet set so.
    rival : str
        Whose method it is, where it is a rival's: the others can run without it.
    is_optional : bool
        Not part of `make demo`.
    """

    scripts: str
    name: str
    seconds: float
    memory: float
    on_device: float
    disk: float
    how: str
    levers: tuple[str, ...] = ()
    rival: str = ""
    is_optional: bool = False


def picture(config: Config) -> float:
    """Bytes of a PNG."""
    return config.experiment.detail.image_size**2 * 1.5


def lower_batch(config: Config, kind: str) -> tuple[str, ...]:
    """Name the batch size of a kind of work as a lever, where it can be lower."""
    size = getattr(config.execution.batch_size, kind)
    return (f"lower execution.batch_size.{kind} (now {size})",) if size > 1 else ()


def lower_voxels(config: Config, *families: str) -> tuple[str, ...]:
    """Name the numbers of voxels of decoders as levers: each thread has a system of that size."""
    decoding = config.experiment.decoding
    keys = [f"n_voxels_{family}" for family in families]
    found = [f"lower experiment.decoding.{key} (now {getattr(decoding, key)})" for key in keys]
    return (*found, "leave out ROIs (experiment.data.rois)")


def fitting(s: Subject, families: list[tuple[int, int]]) -> float:
    """Operations to fit decoders: a factorisation an output where voxels are selected, and the Gram matrix."""
    return sum(n * k**3 / 3 for n, k in families if k < s.n_voxels) + 2 * s.n_voxels**2 * s.n_train


def fitting_memory(s: Subject, families: list[tuple[int, int]]) -> tuple[float, float]:
    """Bytes to fit decoders, in RAM and on the device: voxels and a target; voxels, Gram matrix and systems."""
    voxels, target = s.n_train * s.n_voxels * _FLOAT64, max(n for n, _ in families) * s.n_images * _FLOAT32
    systems = s.n_threads * 12 * max((k for _, k in families if k < s.n_voxels), default=0) ** 2
    return voxels + 2 * target, voxels + s.n_voxels**2 * _FLOAT64 + systems


def stored(families: list[tuple[int, int]]) -> float:
    """Bytes of stored decoders: weights and voxels."""
    return sum(n * 8 * k for n, k in families)


# Stages, in order.


def prepare(s: Subject) -> Row:
    """02: betas to rows."""
    rows = s.n_images * s.n_voxels * _FLOAT32
    block = 3 * s.n_images * min(2048, s.n_voxels) * _FLOAT64
    halves = 2 * s.n_test * s.n_voxels * _FLOAT32
    return Row(
        "02", "prepare", s.n_bytes / 100e6, rows + halves + block, 0, rows + halves, "reading the betas at 100 MB/s",
        ("leave out ROIs (experiment.data.rois)",),
    )  # fmt: skip


def features(s: Subject) -> Row:
    """11 to 13: targets of all images."""
    n_units, batch = sum(s.models.layers.values()), s.config.execution.batch_size.encode
    largest = max(s.models.weights[name] for name in ("vae", "text_encoder", "clip"))
    return Row(
        "11-13", "features", s.n_images * s.speed.generate / 4, 2 * 256 * n_units * _FLOAT32,
        largest + batch * vae_picture(s.config, s.models), s.n_images * _FLOAT32 * (n_units + s.n_z + s.n_c),
        "a quarter of a U-Net call an image", lower_batch(s.config, "encode"),
    )  # fmt: skip


def units(s: Subject) -> Row:
    """21: scores of all units of the CLIP layers."""
    settings, n_units = s.config.experiment.units, sum(s.models.layers.values())
    n_folds, n_block = settings.n_folds, 2048
    n_fit = s.n_train * (1 - 1 / n_folds)
    n_held_out = s.n_train - n_fit
    voxels, gram = s.n_train * s.n_voxels * _FLOAT64, n_fit**2 * _FLOAT64
    block = 6 * s.n_train * n_block * _FLOAT64
    if settings.method == "ridge":
        once = 2 * n_fit * s.n_train * s.n_voxels + n_fit**3 / 3
        each = 2 * n_fit * s.n_train
        memory = 4 * voxels + n_folds * (gram + n_fit * n_held_out * _FLOAT64) + block
    else:
        n_singular = min(n_fit, s.n_voxels)
        once = 6 * n_fit * s.n_voxels * n_singular + 20 * n_singular**3
        each = 2 * n_singular * s.n_train + 4 * 300 * n_singular
        memory = 4 * voxels + n_folds * n_singular * s.n_train * _FLOAT64 + 3 * gram + block + 2 * 300 * n_block * 8
    return Row(
        "21", "units", n_folds * (once + n_units * each) / s.speed.multiply, memory, 0, n_units * 10,
        f"{n_folds} folds of {n_units} units on the CPU",
        (f"lower experiment.units.n_folds (now {n_folds})", "leave out ROIs (experiment.data.rois)"),
    )  # fmt: skip


def decoders(s: Subject) -> Row:
    """22 to 24: decoders of c, z and the CLIP layers, each script with a Gram matrix of its own."""
    operations = fitting(s, s.families) + 2 * fitting(s, [])
    return Row(
        "22-24", "decoders", operations / s.speed.factorise, *fitting_memory(s, s.families), stored(s.families),
        "operations by count",
        lower_voxels(s.config, "semantic", "detail", "structural"),
    )  # fmt: skip


def accuracy(s: Subject) -> Row:
    """25: regressions on each ROI alone, of all targets."""
    n_rois, n_outputs = len(s.config.experiment.data.rois), sum(n for n, _ in s.families)
    largest = max(n for n, _ in s.families)
    once = 2 * s.n_train * s.n_voxels * (s.largest_roi + s.n_test)
    each = 2 * s.n_test * (n_rois * s.n_train + 2 * (n_rois + 1) * s.n_test)
    operators = n_rois * s.n_test * s.n_train * _FLOAT64
    regression = 3 * s.n_train * s.largest_roi * _FLOAT64 + s.largest_roi**2 * _FLOAT64
    target = s.n_train * largest * _FLOAT32 + 8 * s.n_test * largest * _FLOAT64
    return Row(
        "25", "accuracy", (once + n_outputs * each) / s.speed.multiply, operators + max(regression, target), 0, 1e6,
        f"regressions of {n_rois} ROIs on the CPU", ("leave out ROIs (experiment.data.rois)",),
    )  # fmt: skip


def search(s: Subject) -> Row:
    """26: the grid of voxels and penalties, in cross-validation."""
    settings = s.config.experiment.search
    n_outputs = sum(min(settings.n_units, n) for n, _ in s.families)
    grid = [(n_outputs, min(k, s.n_voxels)) for k in settings.n_voxels]
    each = fitting(s, grid) + (len(settings.alphas) - 1) * sum(n * k**3 / 3 for n, k in grid if k < s.n_voxels)
    return Row(
        "26", "search", settings.n_folds * each / s.speed.factorise, *fitting_memory(s, grid), 1e6,
        "optional, not in `make demo`: helps to choose settings", ("lower experiment.search.n_voxels",),
        is_optional=True,
    )  # fmt: skip


def maps(s: Subject) -> Row:
    """27: where targets are decoded from."""
    n_outputs, block = sum(n for n, _ in s.families), 5 * s.n_train * 1024 * _FLOAT64
    return Row(
        "27", "maps", 4 * n_outputs * s.n_train * s.n_voxels / s.speed.multiply,
        s.n_train * s.n_voxels * (_FLOAT64 + _FLOAT32) + block, 0, 1e7,
        f"{n_outputs} outputs of all training images on the CPU", ("leave out ROIs (experiment.data.rois)",),
    )  # fmt: skip


def decoder_controls(s: Subject) -> Row:
    """28: decoders of permuted images, and two cross-validations."""
    controls, two = s.config.experiment.controls, s.families[:2]
    some = [(min(controls.n_units, n), k) for n, k in two]
    operations = fitting(s, two) + fitting(s, []) + 2 * controls.n_folds * fitting(s, some)
    return Row(
        "28", "controls", operations / s.speed.factorise, *fitting_memory(s, two), stored(two),
        "22 and 23 once more, and two cross-validations", lower_voxels(s.config, "semantic", "detail"),
    )  # fmt: skip


def stage1(s: Subject) -> Row:
    """31: a pass of the sampler an image."""
    seconds = s.n_test * s.config.experiment.sampler.denoise_steps * s.speed.generate
    memory = s.models.stable_diffusion + s.speed.generate_memory
    return Row(
        "31", "stage 1", seconds, s.models.weights["unet"], memory, s.n_test * picture(s.config),
        f"a U-Net call, {s.speed.generate:.3g} s a picture", lower_batch(s.config, "generate"),
    )  # fmt: skip


def stage2(s: Subject) -> Row:
    """32: passes of the sampler forward, forward again and back, in each iteration."""
    sampler, guidance = s.config.experiment.sampler, s.config.experiment.guidance
    a_call = 2 * s.speed.refine + s.speed.refine_backward
    seconds = s.n_refined * guidance.n_iterations * sampler.denoise_steps * a_call * 1.15
    memory = s.models.stable_diffusion + s.models.weights["clip"] + s.speed.refine_memory
    kept = () if s.config.execution.checkpoint_steps else ("set execution.checkpoint_steps to true",)
    n_pictures = s.n_refined * guidance.n_iterations / guidance.save_every
    return Row(
        "32", "stage 2", seconds, s.models.weights["unet"], memory, n_pictures * picture(s.config),
        f"calls of {s.speed.refine:.3g} s, {s.speed.refine_backward:.3g} s back, and 15 %",
        (*lower_batch(s.config, "refine"), *kept),
    )  # fmt: skip


def picture_controls(s: Subject) -> Row:
    """33: stage 1 from other targets, and training images."""
    once = stage1(s)
    memory = 4 * s.n_train * (s.n_z + s.n_c) * _FLOAT32 + s.models.weights["unet"]
    return once._replace(
        scripts="33", name="controls", seconds=s.n_controls * once.seconds, memory=memory,
        disk=(s.n_controls + 4) * once.disk, how=f"31 {s.n_controls} times",
    )  # fmt: skip


def ablations(s: Subject) -> Row:
    """34: stage 2 of fewer images, twice."""
    once, share = stage2(s), 2 * s.n_ablated / max(s.n_refined, 1)
    return once._replace(
        scripts="34", name="ablations", seconds=share * once.seconds, disk=share * once.disk,
        how="32 of fewer images, twice",
    )  # fmt: skip


def takagi_decoding(s: Subject) -> Row:
    """35: single trials, features in other sizes, and regressions with a penalty for each output."""
    experiment, takagi = s.config.experiment, s.config.experiment.takagi
    assert takagi
    forms = [takagi_form(experiment, takagi, form) for form in takagi.forms]
    n_by_trials = sum(form.decoder == "ridge_cv" for form in forms)
    n_z = s.n_z * takagi.image_share**2
    n_c = (takagi.max_length or s.models.max_tokens) * s.models.width
    n_outputs, n_trials = 20_000, s.n_trials * s.n_train / s.n_images
    n_fit, seconds = 0.8 * n_trials, 0.0
    for n, n_voxels in zip((n_z, n_c), s.n_streams, strict=True):
        n_rows = min(n_fit, n_voxels)
        factorise = 6 * n_fit * n_voxels * n_rows + 20 * n_rows**3
        blocks = math.ceil(n_by_trials * n / n_outputs)
        predict = n_by_trials * n * len(takagi.alphas) * 2 * (n_trials - n_fit) * n_fit
        seconds += 5 * (blocks * factorise + predict) / (2 * s.speed.multiply)  # in float32
    trials = n_trials * sum(s.n_streams) * _FLOAT32
    n_at_once = min(n_outputs, n_by_trials * n_c)
    memory = 2 * trials + (3 * n_trials + 2 * max(s.n_streams)) * n_at_once * _FLOAT32
    return Row(
        "35", "Takagi", seconds + s.n_bytes / 100e6 + s.n_images * s.speed.generate / 4, memory,
        s.models.weights["vae"] + s.models.weights["text_encoder"] + features(s).on_device,
        s.n_images * (2 * n_z + n_c) * _FLOAT32 + trials, "the betas again; regressions by count, on the CPU",
        lower_batch(s.config, "encode"), rival="takagi",
    )  # fmt: skip


def takagi_pictures(s: Subject) -> Row:
    """36: samples of each image."""
    experiment, takagi, once = s.config.experiment, s.config.experiment.takagi, stage1(s)
    assert takagi
    forms = [takagi_form(experiment, takagi, form) for form in takagi.forms]
    n_calls = sum(form.n_samples * form.sampler.denoise_steps for form in forms)
    n_samples = sum(form.n_samples for form in forms)
    return once._replace(
        scripts="36", name="Takagi", seconds=s.n_test * n_calls * s.speed.generate, disk=n_samples * once.disk,
        how=f"31 with {n_calls} calls an image", rival="takagi",
    )  # fmt: skip


def ozcelik_decoding(s: Subject) -> Row:
    """37: the inversion of the training images, and regressions."""
    settings = s.config.experiment.ozcelik
    assert settings
    n_outputs = s.n_noise + s.n_dense
    forms = [ozcelik_form(settings, form) for form in settings.forms]
    n_regressions = sum(3 + 5 * (form.restore_variance == "train") for form in forms)
    inversion = s.n_train * settings.inversion_steps * s.inversion
    operations = n_regressions * (2 * s.n_train**2 * s.n_voxels + s.n_train**3 / 3)
    operations += len(forms) * 2 * s.n_train**2 * n_outputs
    memory = 4 * s.n_train * s.n_voxels * _FLOAT64 + s.n_train**2 * _FLOAT64 + s.n_train * n_outputs * _FLOAT32
    return Row(
        "37", "Ozcelik", inversion + operations / s.speed.multiply, memory,
        s.models.weights["generator"] + s.models.weights["instance_encoder"],
        2 * s.n_train * n_outputs * _FLOAT32,
        f"a step of the inversion, {s.inversion:.3g} s a picture; regressions by count, on the CPU",
        (*lower_batch(s.config, "refine"), *lower_batch(s.config, "encode")), rival="ozcelik",
    )  # fmt: skip


def ozcelik_pictures(s: Subject) -> Row:
    """38: one pass of the generator an image."""
    settings = s.config.experiment.ozcelik
    assert settings
    n = s.n_test * len(settings.forms)
    return Row(
        "38", "Ozcelik", n * s.inversion, 0, s.models.weights["generator"], n * picture(s.config),
        "a step of the inversion a picture", lower_batch(s.config, "generate"), rival="ozcelik",
    )  # fmt: skip


def scores(s: Subject) -> Row:
    """41: all systems through the networks that score."""
    evaluation, batch = s.config.experiment.evaluation, s.config.execution.batch_size.score
    share = (evaluation.image_size / 425) ** 2
    networks = 1.8e9 if evaluation.networks == "imagenet" else 0.0
    return Row(
        "41", "scores", s.n_scored * 3.5 * s.speed.score, networks + 5e6 * s.n_test * share,
        s.models.weights["scoring_clip"] + networks / 4 + batch * SCORE_PICTURE * share, s.n_scored * 4e3,
        f"{s.n_scored} pictures; CLIP, {s.speed.score:.3g} s each, and as much thrice",
        lower_batch(s.config, "score"),
    )  # fmt: skip


def page(s: Subject) -> Row:
    """43: pictures of all systems, small."""
    page_size = 5e3 * s.n_scored
    one_system = s.n_test * s.config.experiment.detail.image_size**2 * 3
    return Row(
        "43", "page", s.n_scored * 0.015, 2 * one_system + 3 * page_size, 0, page_size,
        f"{s.n_scored} pictures of 15 ms, a guess",
    )  # fmt: skip


ROWS: tuple[Callable[[Subject], Row], ...] = (
    prepare, features, units, decoders, accuracy, search, maps, decoder_controls, stage1, stage2, picture_controls,
    ablations, scores, page,
)  # fmt: skip
TAKAGI_ROWS = (takagi_decoding, takagi_pictures)
OZCELIK_ROWS = (ozcelik_decoding, ozcelik_pictures)


class Recording(NamedTuple):
    """What a subject of Generic Object Decoding has."""

    name: str
    n_trials: int
    n_columns: int  # of the recording: voxels of all ROIs
    n_test: int


def bank(config: Config, n_classes: int) -> Row:
    """14: reading its images is what takes long, on a disk that we do not know."""
    settings = config.experiment.semantic_brain_decoding
    assert settings
    n = settings.bank_per_class * n_classes
    return Row(
        "14", "bank", n / 200, 5e8, 5e8, 2 * n * 2048 * _FLOAT32, f"{n} images at 200 a second, a guess",
        lower_batch(config, "encode"),
    )  # fmt: skip


def labels(config: Config, recording: Recording, speed: Speed) -> Row:
    """29: regressions on single trials, and a walk through the bank for each form."""
    settings = config.experiment.semantic_brain_decoding
    assert settings
    n, n_features = recording.n_trials, 2048
    regressions = len(settings.forms) * 6 * (2 * n**2 * recording.n_columns + n**3 / 3 + 2 * n**2 * n_features)
    memory = 4 * n * recording.n_columns * _FLOAT64 + 9e8
    return Row(
        "29", "labels", regressions / speed.multiply + 60 * len(settings.forms), memory, 5e8, 1e8,
        "regressions by count, on the CPU, and a minute a form for the bank", lower_batch(config, "encode"),
    )  # fmt: skip


def label_pictures(config: Config, recording: Recording, models: Models, speed: Speed) -> Row:
    """39: pictures of labels."""
    n = n_label_pictures(config, recording)
    settings = config.experiment.semantic_brain_decoding
    assert settings
    return Row(
        "39", "pictures of labels", n * (settings.n_steps + 1) * speed.generate, models.weights["unet"],
        models.stable_diffusion + speed.generate_memory, n * picture(config),
        f"{n} pictures of {settings.n_steps} steps", lower_batch(config, "generate"),
    )  # fmt: skip


def label_scores(config: Config, recording: Recording, models: Models, speed: Speed) -> Row:
    """40: as 41."""
    n, share = n_label_pictures(config, recording), (config.experiment.evaluation.image_size / 425) ** 2
    on_device = models.weights["scoring_clip"] + config.execution.batch_size.score * SCORE_PICTURE * share
    return Row(
        "40", "scores of labels", n * 3.5 * speed.score, 1.8e9 * share + 5e6 * recording.n_test * share, on_device,
        n * 4e3, f"{n} pictures", lower_batch(config, "score"),
    )  # fmt: skip


def n_label_pictures(config: Config, recording: Recording) -> int:
    """Pictures of all forms and labels, and of the constant label."""
    settings = config.experiment.semantic_brain_decoding
    assert settings
    return recording.n_test * (len(settings.forms) * settings.n_pictures + 1)


def vae_picture(config: Config, models: Models) -> float:
    """Bytes that a picture takes in the autoencoder, by count."""
    return VAE_PICTURE * (config.experiment.detail.image_size / 512) ** 2 * models.weights["vae"] / 335e6


def refining_picture(config: Config, models: Models) -> float:
    """Bytes that the gradients of a picture take, by count; without checkpoints those of all steps stay."""
    n_steps = 1 if config.execution.checkpoint_steps else config.experiment.sampler.denoise_steps
    unet = UNET_PICTURE * models.weights["unet"] / 3.44e9
    decoder = DECODER_PICTURE * models.weights["vae"] / 335e6
    return (config.experiment.detail.image_size / 512) ** 2 * (n_steps * unet + decoder)
