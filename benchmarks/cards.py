"""What to ask a cluster for: by stage, how many images at a time a card has room for, and how much RAM a job takes.

    python benchmarks/cards.py        # the table of docs/cluster.md

By the doctor's counts, at the real sizes of configs/nsd.yaml in float32, with no more than nine tenths of a card.
Batches are `execution.batch_size`; results depend on them in the last bits alone.
"""

from collections.abc import Callable

import feature_decoding.needs
import feature_extraction.needs
import reconstruction.needs
from data.nsd_needs import usual
from doctor.machine import ram_of
from minddiffuser.config import REPOSITORY, load
from minddiffuser.config.method import layer_name
from minddiffuser.needs.models import V1_4
from minddiffuser.needs.rows import Means, Row, Subject
from minddiffuser.needs.speed import not_measured

CARDS = (24, 40, 80)  # GB
SIZES = (1, 2, 4, 8, 16, 32, 64)
SUBJECT = usual(load(REPOSITORY / "configs/nsd.yaml"), "subj01")
SHARE, N_THREADS, CLIP = 0.9, 4, 6.05e8
# By what a row of the table is of: the kind of batch size, and the estimate.
STAGES: dict[str, tuple[str, Callable[[Subject, Means], Row]]] = {
    "`11` to `13`": ("encode", feature_extraction.needs.features),
    "`22` to `24`": ("", feature_decoding.needs.decoders),
    "`31`": ("generate", reconstruction.needs.stage1),
    "`32`, `34`": ("refine", reconstruction.needs.stage2),
    "`33`": ("generate", reconstruction.needs.picture_controls),
}


def main() -> None:
    """Print the table."""
    print("\n".join(table()))


def table() -> list[str]:
    """Give the lines of the table."""
    head = ["script", "setting", *(f"{card} GB card" for card in CARDS), "RAM"]
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "---|" * (len(CARDS) + 1)]
    for name, (kind, estimate) in STAGES.items():
        cells = [room(kind, estimate, card) for card in CARDS]
        setting = f"`batch_size.{kind}`" if kind else "none"
        ram = ram_of(estimate(SUBJECT, means(kind, 1)), on_gpu=True) / 1e9
        lines.append(f"| {name} | {setting} | {' | '.join(cells)} | {1.25 * ram:.0f} GB |")
    return lines


def room(kind: str, estimate: Callable[[Subject, Means], Row], card: float) -> str:
    """Say how many images at a time a card of so many GB has room for, and what they take."""
    taken = {n: estimate(SUBJECT, means(kind, n)).on_device / 1e9 for n in (SIZES if kind else (1,))}
    fitting = [n for n, gb in taken.items() if gb <= SHARE * card]
    if not fitting:
        return "too small"
    return f"{fitting[-1]} ({taken[fitting[-1]]:.0f} GB)" if kind else f"fits ({taken[1]:.0f} GB)"


def means(kind: str, n: int) -> Means:
    """Give what works on a subject, with so many images at a time."""
    config = load(REPOSITORY / "configs/nsd.yaml", [f"execution.batch_size.{kind}={n}"] if kind else [])
    layers = {layer_name(k): 50 * 768 for k in config.experiment.structural.layers}
    return Means(config, V1_4, not_measured(config, V1_4), N_THREADS, layers, CLIP)


if __name__ == "__main__":
    main()
