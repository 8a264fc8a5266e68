"""Random numbers that do not depend on the order, the batch size or the number of processes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(seed: int, *key: int | str) -> int:
    """63-bit seed of one use of randomness, such as `seed_of(42, stimulus_id, "noise")`."""
    text = ":".join(str(part) for part in (seed, *key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def torch_generator(seed: int, *key: int | str) -> torch.Generator:
    """CPU generator of one use of randomness: draw on the CPU, then move, so that devices agree."""
    import torch  # here, for those who only need NumPy's

    return torch.Generator().manual_seed(seed_of(seed, *key))


def numpy_generator(seed: int, *key: int | str) -> np.random.Generator:
    """NumPy generator of one use of randomness."""
    return np.random.default_rng(seed_of(seed, *key))
