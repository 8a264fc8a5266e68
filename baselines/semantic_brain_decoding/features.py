"""What is decoded: features of a convolutional network, averaged over places (ResNet-50's 2,048)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

from minddiffuser.pretrained.pooled import PooledNetwork
from minddiffuser.store import DataError

BATCH_AS_RELEASED = 64


def prepare(picture: Image.Image, size: int) -> torch.Tensor:
    """Resize a picture so that its shorter side has `size` pixels (bilinear, antialiased), and crop its middle.

    The stimuli are squares, of which nothing is cropped.

    Returns
    -------
    tensor of shape (3, size, size), uint8
    """
    return pil_to_tensor(center_crop(resize(picture.convert("RGB"), [size]), [size]))


def read_prepared(paths: Iterable[Path], size: int) -> Iterator[torch.Tensor]:
    """Read and prepare pictures, several at a time, in order: yields tensors of shape (3, size, size), uint8.

    Raises
    ------
    DataError
        A file is not a picture; the message names it.
    """

    def read(path: Path) -> torch.Tensor:
        try:
            with Image.open(path) as picture:
                return prepare(picture, size)
        except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors for a broken file are of all three kinds
            raise DataError(f"{path} cannot be read as a picture: {error}; fetch it again") from error

    with ThreadPoolExecutor() as pool:
        yield from pool.map(read, paths)


def pooled_features(
    network: PooledNetwork,
    pictures: Iterable[torch.Tensor],
    batch_size: int,
    device: torch.device,
    batch_norm: str = "evaluation",
) -> np.ndarray:
    """Compute the features of prepared pictures.

    Parameters
    ----------
    network : PooledNetwork
    pictures : iterable of n tensors of shape (3, size, size), uint8
    batch_size : int
        With batch_norm "training" a picture's features depend on the others in its batch, and so on this.
    device : torch.device
    batch_norm : "evaluation" or "training"
        Which statistics the network's batch norm uses: those that it was trained to; or those of each batch, as in the
        released code, which forgot to put the network into evaluation mode.

    Returns
    -------
    array of shape (n, n_features), float32
    """
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (network.mean, network.std))
    found, batch = [], []

    def compute() -> None:
        pixels = torch.stack(batch).to(device).float() / 255
        found.append(network.forward((pixels - mean) / std).float().cpu().numpy())
        batch.clear()

    with torch.no_grad(), _batch_statistics(network.model, batch_norm == "training"):
        for picture in pictures:
            batch.append(picture)
            if len(batch) == batch_size:
                compute()
        if batch:
            compute()
    return np.concatenate(found)


@contextmanager
def _batch_statistics(model: torch.nn.Module, wanted: bool) -> Iterator[None]:
    """Let batch norm use the batch's own statistics for a while, without learning from them."""
    layers = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)] if wanted else []
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.train()
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.eval()
            layer.momentum = momentum
