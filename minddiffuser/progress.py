"""Progress of long work: a bar on a terminal, and in a log file a line now and then."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_SECONDS = 30.0  # between two lines
_LINE = "{desc}: {n_fmt}/{total_fmt}, {elapsed} gone, {remaining} left"


class _Lines:
    """Standard error for tqdm, which goes back to the start of a line where a file should have a new one."""

    def write(self, text: str) -> None:
        if line := text.strip():
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress(iterable: Iterable | None = None, *, leave: bool = True, **options: Any) -> tqdm:
    """Wrap a loop, with the arguments of tqdm.

    Where standard error is no terminal, work of less than half a minute says nothing, and longer work says how far it
    is each half minute. Bars inside of others, those with `leave=False`, are for terminals only.
    """
    if sys.stderr.isatty():
        return tqdm(iterable, leave=leave, **options)
    return tqdm(
        iterable, file=_Lines(), mininterval=_SECONDS, delay=_SECONDS, bar_format=_LINE, disable=not leave, **options
    )
