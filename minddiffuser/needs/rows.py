"""What a script takes, as a row; and the sizes and helpers that rows of all rooms are derived with.

A row is one function of one script or of a few, which counts operations and arrays as they are in it.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from minddiffuser.config import Config
from minddiffuser.needs import card_memory

UNET_PICTURE = 6e9  # of the gradients of a guided call of the U-Net, of a picture of 512 pixels in float32
PROCESS = 6e8  # of Python with torch
FLOAT32, FLOAT64 = 4, 8


class Row(NamedTuple):
    """What a script takes.

    Attributes
    ----------
    subject : str
        Empty where it works for all of them.
    scripts : str
        Its number, such as "21", or those of a few, such as "11-13".
    name : str
    seconds : float
    memory, on_device, disk : float
        Bytes in RAM, beside what Python takes; on the device, which are in RAM too where that is a CPU; on the disk.
    how : str
        What they are derived from.
    levers : tuple of str
        What takes less memory, of what is not yet set so.
    is_optional : bool
        Not part of `make all`.
    """

    subject: str
    scripts: str
    name: str
    seconds: float
    memory: float
    on_device: float
    disk: float
    how: str
    levers: tuple[str, ...] = ()
    is_optional: bool = False


@dataclass(frozen=True)
class Subject:
    """What a subject's `prepared.h5` has, or will have.

    Attributes
    ----------
    name : str
    n_train, n_test, n_trials, n_voxels, largest_roi : int
        Images, trials, and voxels.
    n_bytes : int
        Of the betas on the disk.
    """

    name: str
    n_train: int
    n_test: int
    n_trials: int
    n_voxels: int
    largest_roi: int
    n_bytes: int

    @property
    def n_images(self) -> int:
        """Training and test images."""
        return self.n_train + self.n_test


class Speed(NamedTuple):
    """How fast this machine is.

    Attributes
    ----------
    generate : float
        Seconds a picture of a guided U-Net call, without gradients, in batches of `batch_size.generate`.
    refine, refine_backward : float
        Seconds a picture of such a call in batches of `batch_size.refine`, and of its backward pass.
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
    factorise: float
    multiply: float
    generate_memory: float
    refine_memory: float


class Models(NamedTuple):
    """Sizes of Stable Diffusion.

    Attributes
    ----------
    n_channels, width, max_tokens : int
        Of z; of c; of the text encoder.
    unet, vae, text_encoder : float
        Bytes of the weights.
    """

    n_channels: int
    width: int
    max_tokens: int
    unet: float
    vae: float
    text_encoder: float

    @property
    def stable_diffusion(self) -> float:
        """Bytes of all weights."""
        return self.unet + self.vae + self.text_encoder


@dataclass(frozen=True)
class Means:
    """What works on every subject.

    Attributes
    ----------
    config : Config
    models : Models
    speed : Speed
    n_threads : int
    layers : dict of str to int
        Units of each layer of the CLIP that guides.
    clip : float
        Bytes of its weights.
    """

    config: Config
    models: Models
    speed: Speed
    n_threads: int
    layers: dict[str, int] = field(default_factory=dict)
    clip: float = 0.0

    @property
    def n_z(self) -> int:
        """Numbers in z."""
        return self.models.n_channels * (self.config.experiment.detail.image_size // 8) ** 2

    @property
    def n_c(self) -> int:
        """Numbers in c that are decoded: without the token that begins every caption."""
        return (self.config.experiment.semantic.max_length - 1) * self.models.width


def picture(config: Config) -> float:
    """Bytes of a PNG."""
    return config.experiment.detail.image_size**2 * 1.5


def encoding_memory(config: Config, models: Models) -> float:
    """Bytes of a batch in the autoencoder's encoder, beside weights: those of the table, or a share of them."""
    n_bytes = card_memory.beside_weights("VAE encoding", "float32", config.execution.batch_size.encode)
    return n_bytes * _share(config) * models.vae / card_memory.weights("VAE encoding")


def generating_memory(config: Config, models: Models) -> float:
    """Bytes of a batch in stage 1, beside weights: those of the table, or a share of them."""
    precision, n = config.experiment.sampler.precision, config.execution.batch_size.generate
    n_bytes = card_memory.beside_weights("stage 1", precision, n)
    return n_bytes * _share(config) * models.vae / card_memory.weights("VAE encoding")


def refining_memory(config: Config, models: Models) -> float:
    """Bytes of a batch in stage 2, beside weights, as of the table; without checkpoints those of all steps stay."""
    precision, n = config.experiment.sampler.precision, config.execution.batch_size.refine
    n_bytes = card_memory.beside_weights("stage 2", precision, n) + n_kept(config) * n * UNET_PICTURE
    return n_bytes * _share(config) * (models.unet + models.vae) / card_memory.weights("stage 1")


def n_kept(config: Config) -> int:
    """Count the U-Net calls of stage 2 whose memory stays until gradients have passed them, beside the last one."""
    sampler, guidance = config.experiment.sampler, config.experiment.guidance
    if config.execution.checkpoint_steps or guidance.method != "descent":
        return 0
    n_steps = sampler.solver_steps or sampler.denoise_steps
    return min(guidance.gradient_steps or n_steps, n_steps) - 1


def _share(config: Config) -> float:
    """Pixels of a picture, as a share of those that the table is of."""
    return (config.experiment.detail.image_size / card_memory.IMAGE_SIZE) ** 2


def lower_batch(config: Config, kind: str) -> tuple[str, ...]:
    """Name the batch size of a kind of work as a lever, where it can be lower."""
    size = getattr(config.execution.batch_size, kind)
    return (f"lower execution.batch_size.{kind} (now {size})",) if size > 1 else ()
