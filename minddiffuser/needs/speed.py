"""How fast this machine is, and what a batch takes of its GPU: timed with the models of a run."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from minddiffuser.cli import is_for_want_of_memory
from minddiffuser.config import Config
from minddiffuser.needs.rows import Models, Speed, generating_memory, lower_batch, n_kept, refining_memory
from minddiffuser.precision import autocast, products
from minddiffuser.store import DataError

ENOUGH = 5.0  # seconds after which nothing is timed again


def name_of(device: torch.device) -> str:
    """Name a device as people know it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else "a GPU, which is not here"
    return f"{device} with {torch.get_num_threads()} threads"


def weight_bytes(model: torch.nn.Module) -> float:
    """Bytes of a model's weights."""
    return float(sum(p.numel() * p.element_size() for p in model.parameters()))


def measure_speed(config: Config, device: torch.device, parts: dict[str, Any], models: Models) -> tuple[Speed, str]:
    """Time U-Net calls and matrices; on a GPU measure memory, too."""
    size = config.execution.batch_size
    with room_for("generate", config, device):
        generate, _, generate_memory = time_unet(parts, config, device, size.generate, gradients=False)
    refine, backward, refine_memory = generate, 0.0, 0.0
    if config.experiment.subjects:
        with room_for("refine", config, device):
            refine, backward, refine_memory = time_unet(parts, config, device, size.refine, gradients=True)
    if device.type != "cuda":
        generate_memory, refine_memory = generating_memory(config, models), refining_memory(config, models)
    factorise, multiply = cholesky_rate(device), product_rate()
    speed = Speed(generate, refine, backward, factorise, multiply, generate_memory, refine_memory)
    text = f"{generate:.3g} s a picture and U-Net call, forward and back {refine + backward:.3g} s; "
    return speed, f"{text}{factorise / 1e9:.0f} Gflop/s in factorisations, {multiply / 1e9:.0f} in products"


def not_measured(config: Config, models: Models) -> Speed:
    """Give a speed that is not known, with the memory of batches of the table."""
    unknown = math.nan
    memory = generating_memory(config, models), refining_memory(config, models)
    return Speed(unknown, unknown, unknown, unknown, unknown, *memory)


@contextmanager
def room_for(kind: str, config: Config, device: torch.device) -> Iterator[None]:
    """Say what helps, where memory does not suffice for one batch of a kind of work; other errors stay what they are.

    Parameters
    ----------
    kind : str
        Of `execution.batch_size`.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_for_want_of_memory(error):
            raise
        reason = (str(error) or "MemoryError").splitlines()[0]
        ways = ", or ".join([*lower_batch(config, kind), "take a GPU with more memory, or one that nobody else uses"])
        raise DataError(f"{name_of(device)} has no room for one batch ({reason}); {ways}") from error


def time_unet(
    parts: dict[str, Any], config: Config, device: torch.device, n: int, gradients: bool
) -> tuple[float, float, float]:
    """Time a guided U-Net call of n pictures, and with gradients its backward pass to its inputs.

    Returns
    -------
    forward, backward : float
        Seconds a picture, the least of up to three times; backward is 0 without gradients.
    memory : float
        On a GPU, bytes beside the weights, with the autoencoder's decoder after it; elsewhere 0.
    """
    experiment, unet, vae = config.experiment, parts["unet"], parts["vae"]
    precision, size = experiment.sampler.precision, experiment.detail.image_size // 8
    x, c = (
        torch.randn(2 * n, *shape, device=device, requires_grad=gradients)
        for shape in (
            (unet.config.in_channels, size, size),
            (experiment.semantic.max_length, unet.config.cross_attention_dim),
        )
    )

    def call() -> torch.Tensor:
        with torch.set_grad_enabled(gradients), autocast(precision, device):
            return unet(x, 500, c).sample

    on_gpu, memory, times = device.type == "cuda", 0.0, []
    try:
        unet.to(device)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        with products(precision):
            while len(times) < 3 and sum(map(sum, times)) < ENOUGH:
                moments = [now(device)]
                out = call()
                moments.append(now(device))
                if gradients:
                    torch.autograd.grad(out.float().sum(), (x, c))
                    moments.append(now(device))
                times.append(np.diff(moments).tolist())
            if on_gpu:
                memory = torch.cuda.max_memory_allocated(device) - weight_bytes(unet)
                if config.execution.checkpoint_steps:
                    vae.enable_gradient_checkpointing()
                of_decoder = _decoder_memory(vae, x[:n].detach(), gradients, precision, device)
                memory = max(memory, of_decoder) + gradients * n_kept(config) * memory
    finally:
        unet.to("cpu")
        if on_gpu:
            torch.cuda.empty_cache()
    best = [min(each) / n for each in zip(*times, strict=True)]
    return best[0], best[1] if gradients else 0.0, memory


def _decoder_memory(vae: Any, z: torch.Tensor, gradients: bool, precision: Any, device: torch.device) -> float:
    """Bytes that the autoencoder's decoder takes on a GPU beside all weights."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        vae.to(device)
        with torch.set_grad_enabled(gradients), autocast(precision, device):
            out = vae.decode(z.requires_grad_(gradients)).sample
        if gradients:
            torch.autograd.grad(out.float().sum(), z)
        return torch.cuda.max_memory_allocated(device) - before - weight_bytes(vae)
    finally:
        vae.to("cpu")


def cholesky_rate(device: torch.device, n: int = 3000) -> float:
    """Operations a second of float32 Cholesky factorisations on the device."""
    A = torch.eye(n, device=device) * n + torch.rand(n, n, device=device) / n
    A = A + A.T
    torch.linalg.cholesky(A)
    began = now(device)
    torch.linalg.cholesky(A)
    return n**3 / 3 / (now(device) - began)


def product_rate(n: int = 2000) -> float:
    """Operations a second of matrix products in float64 on the CPU."""
    A = np.random.default_rng(0).random((n, n))
    np.dot(A, A)
    began = time.perf_counter()
    np.dot(A, A)
    return 2 * n**3 / (time.perf_counter() - began)


def now(device: torch.device) -> float:
    """Seconds, when all that the device was given is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
