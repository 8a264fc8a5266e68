"""What U-Net and autoencoder compute in: float32, float32 with products in TF32, or float16."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from minddiffuser.config.method import Precision


@contextmanager
def products(precision: Precision) -> Iterator[None]:
    """Let NVIDIA cards multiply float32 matrices, and convolve, in TF32 inside this block; or neither.

    By itself torch takes TF32 for convolutions, and float32 for the rest. A backward pass belongs inside too.
    """
    backends: Any = torch.backends  # annotations do not know these two
    matrices, convolutions = backends.cuda.matmul, backends.cudnn
    before = matrices.allow_tf32, convolutions.allow_tf32
    try:
        matrices.allow_tf32 = convolutions.allow_tf32 = precision == "tf32"
        yield
    finally:
        matrices.allow_tf32, convolutions.allow_tf32 = before


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Compute in float16 inside this block, if that is the precision, wherever it suffices."""
    return torch.autocast(device.type, torch.float16, enabled=precision == "float16")
