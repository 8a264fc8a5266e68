"""Saving the figures that stage scripts draw."""

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from minddiffuser.store import write_atomically

mpl.use("Agg")  # files only: no screen is needed, or tried


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, the same bytes for the same figure, and close it."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    write_atomically(path, content.getvalue())
