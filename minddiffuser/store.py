"""Arrays on disk: HDF5 files with rows, made whole or in parts, that know what they were made from.

An artifact is one HDF5 file beside a JSON file with its provenance. Its fingerprint is a hash of the settings
that made it and of the fingerprints of the files it was made from; the same fingerprint means that there is
nothing to do, another one that something else is in the way. Files appear whole or not at all.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

_PACKAGES = ("numpy", "scipy", "torch", "diffusers", "transformers", "open_clip_torch")


class DataError(Exception):
    """A file is missing, broken, stale or does not fit another; the message says which and what to do."""


class Shard(NamedTuple):
    """Part `k` of `n`, counted from 1: the parts k-1, k-1+n, ... of any numbered list."""

    k: int = 1
    n: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `k-of-n`, for example `3-of-8`."""
        k, separator, n = text.partition("-of-")
        if not (separator and k.isdigit() and n.isdigit() and 1 <= int(k) <= int(n)):
            raise ValueError(f"expected k-of-n with 1 <= k <= n, such as 3-of-8, not {text!r}")
        return cls(int(k), int(n))

    def holds(self, index: int) -> bool:
        """Tell whether the item with this 0-based index belongs to this shard."""
        return index % self.n == self.k - 1


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a small file so that it is seen whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """Write arrays to one HDF5 file that is seen whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with h5py.File(partial, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array)
            file.attrs.update(attributes)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def open_arrays(path: Path, made_by: str, subject: str | None = None) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises
    ------
    DataError
        It is absent (the message names `made_by`, the command that makes it), broken, or of another subject.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; make it with: python {made_by}")
    try:
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise DataError(f"{path} is truncated or not an HDF5 file ({error}); delete it and make it again") from error
    found = file.attrs.get("subject")
    if subject is not None and found != subject:
        file.close()
        raise DataError(f"{path} belongs to {found}, not to {subject}; voxels and features of two people never mix")
    return file


def check_same_rows(a: h5py.File, b: h5py.File, rows: np.ndarray | slice = slice(None)) -> None:
    """Raise DataError unless two files have the same subject and `nsd_id`; of the first only some `rows`, if given."""
    ids_a, ids_b = a["nsd_id"][:][rows], b["nsd_id"][:]
    if a.attrs.get("subject") != b.attrs.get("subject"):
        raise DataError(f"{a.filename} is of {a.attrs.get('subject')}, but {b.filename} of {b.attrs.get('subject')}")
    if not np.array_equal(ids_a, ids_b):
        n = sum(x != y for x, y in zip(ids_a, ids_b, strict=False))
        raise DataError(
            f"rows of {a.filename} ({len(ids_a)}) and {b.filename} ({len(ids_b)}) are different images: "
            f"{n} of the nsd_id differ; make the second again from the first"
        )


class Artifact:
    """An HDF5 file, the settings that make it, and the parts of it that are done.

    Parameters
    ----------
    path : Path
        The HDF5 file; `<stem>.json` beside it gets the provenance.
    subject : str
    settings : dict
        What was set to make it: sections of the configuration, dumped.
    inputs : sequence of Path
        The artifacts that it is made from.
    """

    def __init__(self, path: Path, subject: str, settings: dict[str, Any], inputs: Sequence[Path] = ()) -> None:
        self.path, self.subject, self.settings = path, subject, settings
        self.inputs = {str(p.name): _fingerprint_in(p, subject) for p in inputs}
        text = json.dumps([settings, sorted(self.inputs.items()), subject], sort_keys=True, default=str)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._began = time.monotonic()

    @property
    def _parts(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{self.fingerprint}.parts")

    def is_done(self, overwrite: bool = False) -> bool:
        """Tell whether the file is there, made with these settings.

        Raises
        ------
        DataError
            A file made with other settings, or of another subject, is in the way, and `overwrite` is false.
        """
        if overwrite:
            shutil.rmtree(self._parts, ignore_errors=True)
            self.path.unlink(missing_ok=True)
        if not self.path.exists():
            return False
        if _fingerprint_in(self.path, self.subject) == self.fingerprint:
            return True
        raise DataError(
            f"{self.path} was made with other settings or inputs: {self._differences()}. "
            "Use --overwrite to replace it, or another name in the configuration to keep both."
        )

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the whole file at once."""
        attributes = {"subject": self.subject, "fingerprint": self.fingerprint}
        write_arrays(self.path, arrays, attributes)
        self._write_provenance()

    def parts_to_do(self, n_rows: int, rows_per_part: int, shard: Shard = Shard()) -> Iterator[tuple[int, slice]]:
        """Yield the number and the rows of each part that this shard still has to make."""
        for number, start in enumerate(range(0, n_rows, rows_per_part)):
            if shard.holds(number) and not self._part(number).exists():
                yield number, slice(start, min(start + rows_per_part, n_rows))

    def write_part(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one part; it survives a kill."""
        write_arrays(self._part(number), arrays, {})

    def read_parts(self) -> Iterator[h5py.File]:
        """Yield the parts, open for reading, in order."""
        for path in sorted(self._parts.glob("[0-9]*.h5")):
            with h5py.File(path, "r") as file:
                yield file

    def has_all_parts(self, n_rows: int, rows_per_part: int) -> bool:
        """Tell whether every part is done, by this process or another."""
        missing = sum(1 for _ in self.parts_to_do(n_rows, rows_per_part))
        if missing:
            print(f"{self.path.name}: {missing} parts are left to other shards; the last to finish joins them")
        return not missing

    def join(self, n_rows: int, constants: Mapping[str, np.ndarray]) -> None:
        """Put the parts together, row after row, with arrays that have no rows, and delete them."""
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        try:
            with h5py.File(partial, "w") as file:
                row = 0
                for part in self.read_parts():
                    n_here = 0
                    for name, array in part.items():
                        n_here = len(array)
                        if name not in file:
                            file.create_dataset(name, (n_rows, *array.shape[1:]), array.dtype)
                        file[name][row : row + n_here] = array[:]
                    row += n_here
                for name, array in constants.items():
                    file.create_dataset(name, data=array)
                file.attrs.update({"subject": self.subject, "fingerprint": self.fingerprint})
            if row != n_rows:
                raise DataError(f"{self.path}: its parts have {row} rows, not {n_rows}; delete {self._parts}")
            os.replace(partial, self.path)
        except (OSError, DataError):
            # Two shards that finish together both join, and the first deletes the parts.
            if self.path.exists() and _fingerprint_in(self.path) == self.fingerprint:
                return
            raise
        finally:
            partial.unlink(missing_ok=True)
        self._write_provenance()
        self.delete_parts()

    def delete_parts(self) -> None:
        """Delete the parts, once what they are for is written."""
        shutil.rmtree(self._parts, ignore_errors=True)

    def _part(self, number: int) -> Path:
        return self._parts / f"{number:05d}.h5"

    def _write_provenance(self) -> None:
        record = {
            "fingerprint": self.fingerprint,
            "subject": self.subject,
            "settings": self.settings,
            "inputs": self.inputs,
            "versions": {name: version(name) for name in _PACKAGES},
            "seconds": round(time.monotonic() - self._began, 1),
        }
        write_atomically(self.path.with_suffix(".json"), json.dumps(record, indent=2, default=str) + "\n")

    def _differences(self) -> str:
        try:
            old = json.loads(self.path.with_suffix(".json").read_text())
        except (OSError, ValueError):
            return "its provenance file is missing"
        now = json.loads(json.dumps({"settings": self.settings, "inputs": self.inputs}, default=str))
        return _describe_differences({"settings": old["settings"], "inputs": old["inputs"]}, now)


def _describe_differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str:
    found = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found.append(_describe_differences(a, b, f"{prefix}{key}."))
        elif a != b:
            found.append(f"{prefix}{key} was {a}, is {b}")
    return "; ".join(filter(None, found))


def _fingerprint_in(path: Path, subject: str | None = None) -> str:
    with open_arrays(path, "the stage before", subject) as file:
        return str(file.attrs.get("fingerprint", "none"))
