"""Fetch files over HTTP(S): resumed by range requests, checked, and never half a file under a whole file's name.

A file grows as `.<name>.<ETag>.partial` beside its place, which it takes when it is whole: so a part is never continued
with bytes of another version. Proxies are those of the environment (`https_proxy`, `no_proxy`), as for other programs.
"""

import fcntl
import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from minddiffuser.store import DataError, reading, write_atomically

RECORD = "fetched.json"
WAITS = (1, 2, 4, 8, 16, 32, 60)  # seconds before a request that failed is made again
_SECONDS = 60  # without a byte, after which a connection counts as broken
_BLOCK = 2**20
_FOR_NOW = (408, 425, 429)  # answers that may be another one later, as those from 500 on
_CONNECTION = (OSError, http.client.HTTPException)  # urllib's errors are OSErrors


class Remote(NamedTuple):
    """A file on a server.

    Attributes
    ----------
    url : str
    size : int
        Bytes.
    etag : str
        Of this version of it, with its quotation marks; of files that were uploaded in one piece the MD5.
    """

    url: str
    size: int
    etag: str


class FailureError(Exception):
    """A request failed, and may succeed the next time."""


class _CannotGoOnError(FailureError):
    """The server does not send what comes after a part."""


def look_up(url: str, waits: Sequence[float] = WAITS) -> Remote:
    """Ask a server for the size and the version of a file.

    Raises
    ------
    DataError
        The server does not have it, refuses it, does not tell its size, or cannot be reached.
    """

    def ask() -> Remote:
        with _open(url, {}, "HEAD") as answer:
            size = answer.headers.get("Content-Length", "")
            if not size.isdecimal():
                raise DataError(f"{url}: the server does not tell how large it is")
            return Remote(url, int(size), answer.headers.get("ETag", ""))

    for wait in [*waits, None]:
        try:
            return ask()
        except FailureError as failure:
            _wait_or_give_up(url, failure, wait)
    raise AssertionError("the last failure is raised")


def fetch(remote: Remote, path: Path, tell: Callable[[int], object], waits: Sequence[float] = WAITS) -> None:
    """Fetch a file, and go on with what an earlier try has left.

    Parameters
    ----------
    remote : Remote
    path : Path
        Its place. What is there is replaced when the new file is whole.
    tell : callable
        Is told of each number of bytes that were added; below zero where a part had to be thrown away.
    waits : sequence of float
        Seconds before each further try; a try that brought bytes starts them anew.

    Raises
    ------
    DataError
        The server does not have it, refuses it, sends another version or number of bytes than it had said, or cannot be
        reached; or the file's MD5 is wrong.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, n_failed = partial_of(remote, path), 0
    for older in path.parent.glob(f".{path.name}.*.partial"):
        if older != partial or not remote.etag:  # without an ETag nobody knows which version a part is of
            older.unlink()
    with _alone(partial):
        while (before := partial.stat().st_size) != remote.size:
            try:
                _go_on(remote, partial, before, tell)
            except FailureError as failure:
                if isinstance(failure, _CannotGoOnError):
                    os.truncate(partial, 0)
                    tell(-before)
                n_failed = n_failed + 1 if partial.stat().st_size <= before else 1
                _wait_or_give_up(remote.url, failure, waits[n_failed - 1] if n_failed <= len(waits) else None)
        if (wanted := _md5_in(remote.etag)) and (found := _md5(partial)) != wanted:
            partial.unlink()
            raise DataError(f"{remote.url} arrived with MD5 {found}, but the server has {wanted}", "run this again")
        os.replace(partial, path)


def partial_of(remote: Remote, path: Path) -> Path:
    """Name the file that a remote file grows in."""
    version = re.sub(r"[^\w-]", "", remote.etag) or "unversioned"
    return path.with_name(f".{path.name}.{version}.partial")


def n_there(remote: Remote, path: Path) -> int:
    """Count the bytes that are there of a file: all, those of a part, or none."""
    if path.is_file() and path.stat().st_size == remote.size:
        return remote.size
    partial = partial_of(remote, path)
    return min(partial.stat().st_size, remote.size) if remote.etag and partial.is_file() else 0


def unpack(path: Path, members: Sequence[str], folder: Path) -> dict[str, int]:
    """Unpack some members of a zip into a folder, each whole or not at all; give their sizes.

    Raises
    ------
    DataError
        The zip is broken, or lacks a member.
    """
    sizes = {}
    with reading(path, "a zip", "delete it, and fetch it again"), zipfile.ZipFile(path) as file:
        for name in members:
            sizes[name] = file.getinfo(name).file_size
            place = folder / name
            if place.is_file() and place.stat().st_size == sizes[name]:
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            partial = place.with_name(f".{place.name}.partial")
            with file.open(name) as source, partial.open("wb") as target:
                while block := source.read(_BLOCK):  # at the end, its checksum is compared
                    target.write(block)
            os.replace(partial, place)
    return sizes


def read_record(root: Path) -> dict[str, dict[str, Any]]:
    """Read what was fetched into a folder: by name, "bytes", "etag" and "url"; empty where nothing was."""
    path = root / RECORD
    if not path.is_file():
        return {}
    with reading(path, "the record of what was fetched", "delete it; data/00_get_nsd.py writes it again"):
        return {str(name): dict(entry) for name, entry in json.loads(path.read_text())["files"].items()}


def add_to_record(root: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Add files to the record of what was fetched."""
    record = {"files": {**read_record(root), **entries}}
    write_atomically(root / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Keep other processes from adding to the same part, where the file system has locks."""
    with partial.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"another process is fetching {partial}", "wait for it, or end it") from error
        except OSError:
            pass  # there are no locks here
        yield


def _go_on(remote: Remote, partial: Path, start: int, tell: Callable[[int], object]) -> None:
    """Add to a part what the server sends."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    if start and remote.etag:
        headers["If-Range"] = remote.etag
    with _open(remote.url, headers) as answer:
        if answer.headers.get("ETag", "") != remote.etag:
            raise DataError(f"{remote.url} has changed on the server while it was fetched", "run this again")
        is_part = answer.status == 206
        if is_part:
            sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
            if not sent or int(sent[1]) != start or sent[2] not in ("*", str(remote.size)):
                text = f"{remote.url}: asked for what comes after {start} of {remote.size} bytes, the server sent"
                raise DataError(f"{text} {answer.headers.get('Content-Range')!r}", "try again later")
        elif (length := answer.headers.get("Content-Length", str(remote.size))) != str(remote.size):
            raise DataError(
                f"{remote.url} had {remote.size} bytes, and now the server sends {length}", "run this again"
            )
        if start and not is_part:
            tell(-start)
        with partial.open("ab" if is_part else "wb") as file:
            size = start if is_part else 0
            while block := _read(answer):
                file.write(block)
                tell(len(block))
                size += len(block)
                if size > remote.size:
                    os.truncate(partial, 0)
                    raise DataError(
                        f"{remote.url} had {remote.size} bytes, and the server sends more", "run this again"
                    )
            file.flush()
            os.fsync(file.fileno())
    if size < remote.size:
        raise FailureError(f"the connection ended after {size:,} of {remote.size:,} bytes")


def _open(url: str, headers: Mapping[str, str], method: str = "GET") -> Any:
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        return urllib.request.build_opener().open(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        said = f"{error.code} {error.reason}".strip()
        if error.code == 416 and "Range" in headers:
            raise _CannotGoOnError(said) from error
        if error.code in _FOR_NOW or error.code >= 500:
            raise FailureError(said) from error
        meaning = {403: "refuses it, or does not have it", 404: "does not have it"}.get(error.code, "does not give it")
        raise DataError(f"{url}: the server {meaning} ({said})") from error
    except _CONNECTION as error:
        raise FailureError(str(getattr(error, "reason", "")) or str(error) or type(error).__name__) from error


def _read(answer: Any) -> bytes:
    try:
        return answer.read1(_BLOCK)  # what is there, so that a kill loses little
    except http.client.IncompleteRead as error:
        return error.partial
    except _CONNECTION as error:
        raise FailureError(str(error) or type(error).__name__) from error


def _wait_or_give_up(url: str, failure: FailureError, wait: float | None) -> None:
    if wait is None:
        raise DataError(f"{url} could not be fetched: {failure}", "run this again: what has arrived is kept")
    time.sleep(wait)


def _md5_in(etag: str) -> str | None:
    """Read the MD5 out of an ETag; None where it is of several pieces, or of something else."""
    found = re.fullmatch(r'"?([0-9a-f]{32})"?', etag)
    return found[1] if found else None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
