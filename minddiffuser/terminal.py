"""Text that is no wider than the terminal: of 80 columns where there is none, and of at most 120."""

import shutil
import textwrap

_LEAST, _MOST = 40, 120


def width() -> int:
    """Give the columns that a line may have."""
    return max(_LEAST, min(shutil.get_terminal_size().columns, _MOST))


def wrapped(text: str) -> str:
    """Break a text into lines that fit, the later ones indented; a word that does not fit has a line of its own."""
    return textwrap.fill(text, width(), subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def shortened(text: str) -> str:
    """Make one line of a text that fits, and that ends in three points where words were left out."""
    return textwrap.shorten(text, width(), placeholder=" ...")
