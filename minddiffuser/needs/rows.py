"""What a script takes, as a row; and the sizes and helpers that rows of all rooms are derived with.

A row is one function of one script or of a few, which counts operations and arrays as they are in it.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from minddiffuser.config import Config

# By count and by measurement at Stable Diffusion's size (512 pixels), in float32; smaller models need less.
VAE_PICTURE = 2.5e9  # of a picture in the autoencoder
UNET_PICTURE = 6e9  # of the gradients of a guided call of the U-Net
DECODER_PICTURE = 4e9  # of the gradients of the autoencoder's decoder and of CLIP
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


def vae_picture(config: Config, models: Models) -> float:
    """Bytes that a picture takes in the autoencoder, by count."""
    return VAE_PICTURE * (config.experiment.detail.image_size / 512) ** 2 * models.vae / 335e6


def refining_picture(config: Config, models: Models) -> float:
    """Bytes that the gradients of a picture take, by count; without checkpoints those of all steps stay."""
    n_steps = 1 if config.execution.checkpoint_steps else config.experiment.sampler.denoise_steps
    unet = UNET_PICTURE * models.unet / 3.44e9
    decoder = DECODER_PICTURE * models.vae / 335e6
    return (config.experiment.detail.image_size / 512) ** 2 * (n_steps * unet + decoder)


def lower_batch(config: Config, kind: str) -> tuple[str, ...]:
    """Name the batch size of a kind of work as a lever, where it can be lower."""
    size = getattr(config.execution.batch_size, kind)
    return (f"lower execution.batch_size.{kind} (now {size})",) if size > 1 else ()
