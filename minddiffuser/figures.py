"""Saving the figures that stage scripts draw."""

import io

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

mpl.use("Agg")  # files only: no screen is needed, or tried


def as_png(figure: Figure) -> bytes:
    """Give a figure as PNG, the same bytes for the same figure, and close it."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return content.getvalue()
