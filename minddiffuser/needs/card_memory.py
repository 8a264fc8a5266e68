"""What a batch takes of a card's memory at the real sizes, and so which batch sizes a card has room for.

    bytes(work, precision, n) = counted(work, precision, n) * correction(work, precision)

`card_memory.csv` has the counts, which benchmarks/card_memory.py makes without a card: the weights, and all else that
is alive at the peak, for n pictures of 512 pixels (IC-GAN's have 256); for none the weights alone. `card_measured.csv`
has peaks of real cards. The correction is the largest ratio of the two for that work in that precision, or, where none
was measured, for any work in that precision; and 1 at least. TF32 takes as much as float32. Between two counted batch
sizes, and above the last, the memory grows linearly.
"""

import csv
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

TABLE, MEASURED = (Path(__file__).with_name(name) for name in ("card_memory.csv", "card_measured.csv"))
WORKS = ("VAE encoding", "CLIP", "stage 1", "stage 2", "IC-GAN inversion")
# Of each kind of `execution.batch_size` the works that it sets the batch of.
OF_KIND = {"encode": WORKS[:2], "generate": ("stage 1",), "refine": ("stage 2", "IC-GAN inversion")}
IMAGE_SIZE = 512  # pixels, of the table
CARDS = (16, 24, 40, 80)  # GiB
SHARE = 0.9  # of a card's memory: the rest goes to the driver's context, and to gaps between what is allocated
MOST = 64  # pictures at a time: more do not make it faster


class Measured(NamedTuple):
    """The peak of a real card.

    Attributes
    ----------
    card, torch, work, precision : str
    batch_size, n_bytes : int
    """

    card: str
    torch: str
    work: str
    precision: str
    batch_size: int
    n_bytes: int


@cache
def table() -> dict[tuple[str, str], dict[int, int]]:
    """Read the counts: by work and precision, bytes by batch size."""
    found: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    with TABLE.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["work"], row["precision"]][int(row["batch_size"])] = int(row["bytes"])
    return dict(found)


@cache
def measured() -> tuple[Measured, ...]:
    """Read what cards took."""
    with MEASURED.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        Measured(row["card"], row["torch"], row["work"], row["precision"], int(row["batch_size"]), int(row["bytes"]))
        for row in rows
    )


def counted(work: str, precision: str, n: int) -> float:
    """Give the bytes that a batch of n pictures takes by count."""
    counts = table().get((work, _type_of(precision))) or table()[work, "float32"]
    sizes = sorted(size for size in counts if size)
    if n > sizes[-1]:
        last, before = counts[sizes[-1]], counts[sizes[-2]]
        return last + (n - sizes[-1]) * (last - before) / (sizes[-1] - sizes[-2])
    return float(np.interp(n, sizes, [counts[size] for size in sizes]))


@cache
def correction(work: str, precision: str) -> float:
    """Give what the count is multiplied by."""
    kind = _type_of(precision) if (work, _type_of(precision)) in table() else "float32"
    alike = [row for row in measured() if _type_of(row.precision) == kind]
    rows = [row for row in alike if row.work == work] or alike
    return max([1.0, *(row.n_bytes / counted(row.work, kind, row.batch_size) for row in rows)])


def predicted(work: str, precision: str, n: int) -> float:
    """Give the bytes that a batch of n pictures takes of a card, with weights."""
    return counted(work, precision, n) * correction(work, precision)


def weights(work: str) -> float:
    """Give the bytes of the weights."""
    return table()[work, "float32"][0]


def beside_weights(work: str, precision: str, n: int) -> float:
    """Give the bytes that a batch of n pictures takes of a card beside the weights."""
    return predicted(work, precision, n) - weights(work)


def largest_batch(kind: str, precision: str, card: float) -> int:
    """Give how many pictures of a kind of `execution.batch_size` a card has room for; 0 for not even one.

    Parameters
    ----------
    kind : "encode", "generate" or "refine"
    precision : "float32", "tf32" or "float16"
        Of stage 1 and stage 2; the rest is float32.
    card : float
        Bytes of its memory.
    """
    works = OF_KIND[kind]
    fitting = [n for n in range(1, MOST + 1) if all(predicted(work, precision, n) <= SHARE * card for work in works)]
    return max(fitting, default=0)


def _type_of(precision: str) -> str:
    """Name what numbers are stored in."""
    return "float32" if precision == "tf32" else precision
