"""SIGTERM, which a cluster sends before it takes a machine away, ends a script once what is in hand is on the disk.

Around work that is kept piece by piece stand `defer` and `release`; after each piece, `saved`. A signal that comes
elsewhere ends the script at once, as always: nothing that is kept would be gained by waiting.
"""

import signal
import threading

AGAIN = 75  # the exit code: "try again" by the convention of sysexits.h; the same command goes on

_is_deferred = _has_come = False


class StoppedError(BaseException):
    """SIGTERM came, and all that was in hand is on the disk. No error of the work: nothing catches it on the way."""


def defer() -> None:
    """From now on SIGTERM waits for the next `saved` or `release`."""
    global _is_deferred, _has_come
    if not _is_deferred and threading.current_thread() is threading.main_thread():
        _is_deferred, _has_come = True, False
        signal.signal(signal.SIGTERM, _note)


def saved() -> None:
    """Stop here if SIGTERM came: a piece of the work has just been written."""
    if _has_come:
        release()


def is_asked() -> bool:
    """Tell whether SIGTERM waits: what is written now and then only should be written now."""
    return _has_come


def release() -> None:
    """From now on SIGTERM ends the script at once; if it came, stop here."""
    global _is_deferred, _has_come
    if _is_deferred:
        has_come, _is_deferred, _has_come = _has_come, False, False
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if has_come:
            raise StoppedError


def _note(*_: object) -> None:
    global _has_come
    _has_come = True
