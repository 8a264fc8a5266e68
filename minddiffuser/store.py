"""Results on disk: files that appear whole or not at all, and that say what made them.

An artifact is one HDF5 file, made whole or in parts; `Files` are small ones that belong together, such as a table and
its figure. Each carries the lineage of its recipe (`minddiffuser/recipe.py`): the same means that there is nothing to
do, another one that something else is in the way. `open_made` opens what an earlier stage made, and is content with
nothing but what the present configuration would make.

Nothing here needs locks. Files are written under names of their own and renamed; several processes, on several
machines, may make parts of one artifact at the same time, and who comes second finds the finished file. Shards make
parts only: a run that is not divided joins them, so that it does not matter which shard ends last, nor whether it sees
at once what others wrote on another machine.
"""

import errno
import functools
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from minddiffuser import stopping
from minddiffuser.recipe import Recipe

_PACKAGES = ("numpy", "scipy", "torch", "diffusers", "transformers", "open_clip_torch")
PARTS = "parts.json"  # says how many parts a file will have
_ABANDONED = 24 * 3600.0  # seconds after which nobody is still writing a partial file


class DataError(Exception):
    """A file is missing, broken, stale or does not fit another; the message says which and what to do.

    Parameters
    ----------
    text : str
        What is wrong, and where.
    remedy : str
        What mends it; empty where the text has it.
    path : Path, optional
        The file or folder of a dataset or a model that is missing or broken. `minddiffuser/cli.py` knows another remedy
        where it is one of the miniature's.
    """

    def __init__(self, text: str, remedy: str = "", path: Path | None = None) -> None:
        super().__init__(f"{text}; {remedy}" if remedy else text)
        self.text, self.remedy, self.path = text, remedy, path


@contextmanager
def reading(
    path: Path, what: str, remedy: str = "fetch it again", error_type: type[DataError] = DataError
) -> Iterator[None]:
    """Turn whatever a library raises over a broken file into one line that names the file and the way out.

    Libraries raise errors of all kinds over files that are truncated, or not what their names say; none of them is to
    reach the user as a traceback.

    Parameters
    ----------
    path : Path
    what : str
        What it should be, such as "NSD's experimental design".
    remedy : str
        What to do about it.
    error_type : type
        What is raised: DataError, or a kind of it.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        text = f"{path} cannot be read as {what}: it {_symptom(path)} ({reason[0]})"
        raise error_type(text, remedy, path) from error


def _symptom(path: Path) -> str:
    """Say what a file that cannot be read looks like."""
    try:
        with path.open("rb") as file:
            start = file.read(200).lstrip()
    except OSError:
        return "cannot be opened"
    if not start.strip(b"\0"):
        return "has nothing but zeros" if start else "is empty"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself (`git lfs pull` fetches it)"
    if start[:1] == b"<":
        return "is a web page, as a download without the right to it gives"
    if start[:1] in b"{[" and path.suffix != ".json":
        return "is JSON, perhaps an answer that refuses a download"
    return "is truncated or broken"


class Shard(NamedTuple):
    """Part `k` of `n`, counted from 1: the parts k-1, k-1+n, ... of any numbered list."""

    k: int = 1
    n: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read `k-of-n`, for example `3-of-8`."""
        k, separator, n = text.partition("-of-")
        if not (separator and k.isdigit() and n.isdigit() and 1 <= int(k) <= int(n)):
            raise ValueError(f"expected K-OF-N, part K of N with K from 1 to N, such as 2-of-8, not {text!r}")
        return cls(int(k), int(n))

    def holds(self, index: int) -> bool:
        """Tell whether the item with this 0-based index belongs to this shard."""
        return index % self.n == self.k - 1


@contextmanager
def _replacing(path: Path, is_synced: bool = True) -> Iterator[Path]:
    """Give a name to write to that no other process has, and put it in the place of `path` at the end.

    If `is_synced`, what is written is on the disk before: else a crash of the machine may leave an empty file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        yield partial
        if is_synced:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | str, is_synced: bool = True) -> None:
    """Write a small file so that it is seen whole or not at all; an OSError names it.

    Where files are thousands, waiting for the disk (`is_synced`) takes longer than making them: some milliseconds each.
    """
    try:
        with _replacing(path, is_synced) as partial:
            partial.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _writing_hdf5(path: Path, n_bytes: int) -> Iterator[h5py.File]:
    """Give an HDF5 file to write to, which takes the place of `path` at the end; OSError where the disk is full.

    The library tells of a full disk late and badly: by a RuntimeError, and a crash when the file is closed. So the room
    is looked at before.
    """
    with _replacing(path) as partial:
        if (free := shutil.disk_usage(path.parent).free) < n_bytes:
            text = f"{os.strerror(errno.ENOSPC)}: {n_bytes / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free"
            if left := sum(file.stat().st_size for file in _partials(path.parent) if file.exists()):
                text += f"; {left / 1e6:,.0f} MB are in .*.partial, which processes that were killed may have left"
            raise OSError(errno.ENOSPC, text, str(path))
        try:
            with h5py.File(partial, "w", locking=False) as file:
                yield file
        except RuntimeError as error:
            number = re.search(r"errno = (\d+)", str(error))
            if not number:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """Write arrays to one HDF5 file that is seen whole or not at all."""
    with _writing_hdf5(path, sum(np.asarray(array).nbytes for array in arrays.values())) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        file.attrs.update(attributes)


def write_arrays_by_row(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    rows: Iterator[tuple[int, np.ndarray]],
    n_rows: int,
    attributes: Mapping[str, Any],
) -> None:
    """Write one array of uint8 row by row to an HDF5 file that is seen whole or not at all.

    Of the rows, `n_rows` come, with their numbers; the others are 0 and take no room.
    """
    with _writing_hdf5(path, n_rows * int(np.prod(shape[1:]))) as file:
        dataset = file.create_dataset(name, shape, np.uint8, chunks=(1, *shape[1:]))
        for number, row in rows:
            dataset[number] = row
        file.attrs.update(attributes)


def sweep(folder: Path) -> None:
    """Delete the partial files that killed processes left in a folder a day ago or earlier."""
    for partial in _partials(folder):
        try:
            if time.time() - partial.stat().st_mtime > _ABANDONED:
                partial.unlink()
        except FileNotFoundError:
            pass  # another process was faster


def _partials(folder: Path) -> list[Path]:
    return list(folder.glob(f".*.{'[0-9a-f]' * 16}.partial"))


def open_arrays(path: Path, made_by: str, subject: str | None = None) -> h5py.File:
    """Open an HDF5 file for reading, whatever it was made of.

    Raises
    ------
    DataError
        It is absent (the message names `made_by`, the command that makes it), broken, or of another subject.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; make it with: python {made_by}")
    with reading(path, "an HDF5 file", "delete it and make it again"):
        file = h5py.File(path, "r", locking=False)
    found = file.attrs.get("subject")
    if subject is not None and found != subject:
        file.close()
        raise DataError(f"{path} belongs to {found}, not to {subject}; voxels and features of two people never mix")
    return file


def open_made(recipe: Recipe) -> h5py.File:
    """Open what an earlier stage made, if it is what the present configuration would make.

    Raises
    ------
    DataError
        The file is absent, broken, of another subject, or of other images than `prepared.h5`; or it was made with
        other settings, here or further upstream, which the message names.
    """
    file = open_arrays(recipe.path, f"{recipe.made_by} --subject {recipe.subject}", recipe.subject)
    try:
        with reading(recipe.path, "a result of this project", "delete it and make it again"):
            if differences := recipe.differences(lineage_in(file)):
                raise DataError(
                    f"{recipe.path} was made with other settings: {differences}; set them back, or make it again with: "
                    f"python {recipe.made_by} --subject {recipe.subject} --overwrite"
                )
            _check_images(recipe, file)
    except BaseException:
        file.close()
        raise
    return file


def lineage_in(file: h5py.File) -> dict[str, dict[str, Any]]:
    """Read what a file says that it was made of."""
    if "lineage" not in file.attrs or "nsd_id" in file:  # as rows were called before films
        raise DataError(
            f"{file.filename} does not say what it was made of: an earlier version of this project made it, or "
            "something else; make it again with --overwrite"
        )
    return json.loads(str(file.attrs["lineage"]))


def _check_images(recipe: Recipe, file: h5py.File) -> None:
    """Raise DataError unless the rows of a file are of the images that they should be of."""
    prepared = next((a for a in recipe.ancestors() if a.name == "prepared.h5"), None)
    if recipe.images is None or prepared is None:
        return
    with open_arrays(prepared.path, prepared.made_by, recipe.subject) as source:
        ids = source["stimulus_id"][:]
        if recipe.images != "all":
            ids = ids[source["is_test"][:] == (recipe.images == "test")]
    check_same_images(ids, file["stimulus_id"][:], prepared.path, recipe.path)


def check_same_images(a: np.ndarray, b: np.ndarray, path_a: Path | str, path_b: Path | str) -> None:
    """Raise DataError unless two files have the same stimulus_id in the same order."""
    if not np.array_equal(a, b):
        n = sum(x != y for x, y in zip(a, b, strict=False))
        raise DataError(
            f"rows of {path_a} ({len(a)}) and {path_b} ({len(b)}) are different images: "
            f"{n} of the stimulus_id differ; delete the second, and make it again from the first"
        )


class Artifact:
    """An HDF5 file that a recipe makes, and the parts of it that are done.

    Parameters
    ----------
    recipe : Recipe
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.path = recipe, recipe.path
        self._shard = Shard()  # whose parts were asked for
        self._began = time.monotonic()

    @property
    def _parts(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{self.recipe.fingerprint}.parts")

    def is_done(self, overwrite: bool = False) -> bool:
        """Tell whether the file is there, made by this recipe.

        Raises
        ------
        DataError
            A file made with other settings, or of another subject, or a broken one, is in the way, and `overwrite` is
            false: else it is deleted.
        """
        sweep(self.path.parent)
        if not self.path.exists():
            return False
        try:
            self._check()
        except DataError:
            if not overwrite:
                raise
            self.path.with_suffix(".json").unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
            return False
        self._delete_parts()
        return True

    def _check(self) -> None:
        """Raise DataError unless the file was made by this recipe."""
        with open_arrays(self.path, self.recipe.made_by, self.recipe.subject) as file:
            differences = self.recipe.differences(lineage_in(file))
        if differences:
            raise DataError(
                f"{self.path} was made with other settings: {differences}. Use --overwrite to replace it, or another "
                "name in the configuration to keep both."
            )

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the whole file at once."""
        self._write_provenance()
        write_arrays(self.path, arrays, self._attributes())
        self._delete_parts()

    def parts_to_do(self, n_rows: int, rows_per_part: int, shard: Shard = Shard()) -> list[tuple[int, slice]]:
        """List the number and the rows of each part that this shard still has to make."""
        self._shard = shard
        if self.path.exists():
            return []  # another process has joined them, and deleted them
        starts, there = range(0, n_rows, rows_per_part), self._parts_there()
        todo = [
            (number, slice(start, min(start + rows_per_part, n_rows)))
            for number, start in enumerate(starts)
            if shard.holds(number) and number not in there
        ]
        if todo:
            self._announce(len(starts))
            stopping.defer()
        return todo

    def write_part(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one part; it survives a kill."""
        while not self.path.exists():  # where the file is there, another process has made this part, and joined all
            try:
                write_arrays(self._part(number), arrays, {})
                break
            except FileNotFoundError:
                continue  # another process deleted the folder of parts in this moment
        stopping.saved()

    def join(
        self,
        n_rows: int,
        rows_per_part: int,
        constants: Callable[[Callable[[], Iterator[h5py.File]]], Mapping[str, np.ndarray]] | None = None,
    ) -> bool:
        """Put the parts together, row after row, once all are there; a shard leaves that to a run without shards.

        Parameters
        ----------
        n_rows, rows_per_part : int
        constants : callable, optional
            From a function that opens the parts one after the other, to arrays that have no rows.

        Returns
        -------
        bool
            Whether the file is there, made by this process or another.
        """

        def write(read_parts: Callable[[], Iterator[h5py.File]]) -> None:
            size = sum(part.stat().st_size for part in self._parts.glob("*.h5"))
            with _writing_hdf5(self.path, size) as file:
                row = 0
                for part in read_parts():
                    n_here = 0
                    for name, array in part.items():
                        n_here = len(array)
                        if name not in file:
                            file.create_dataset(name, (n_rows, *array.shape[1:]), array.dtype)
                        file[name][row : row + n_here] = array[:]
                    row += n_here
                if row != n_rows:
                    raise DataError(f"{self.path}: its parts have {row} rows, not {n_rows}; delete {self._parts}")
                for name, array in (constants(read_parts) if constants else {}).items():
                    file.create_dataset(name, data=array)
                file.attrs.update(self._attributes())

        return self._finish(-(-n_rows // rows_per_part), write)

    def reduce(
        self, n_parts: int, make: Callable[[Callable[[], Iterator[h5py.File]]], Mapping[str, np.ndarray]]
    ) -> bool:
        """Make the file of its parts, once all are there; a shard leaves that to a run without shards.

        Parameters
        ----------
        n_parts : int
        make : callable
            From a function that opens the parts one after the other, to the arrays of the file.

        Returns
        -------
        bool
            Whether the file is there, made by this process or another.
        """
        return self._finish(n_parts, lambda read_parts: write_arrays(self.path, make(read_parts), self._attributes()))

    def _finish(self, n_parts: int, write: Callable[[Callable[[], Iterator[h5py.File]]], None]) -> bool:
        """Write the file, unless parts are missing, or another process does it in the meantime and deletes them."""
        stopping.release()
        there = self._parts_there()
        if self._shard.n > 1 and not self.is_done():
            n_there = len(there.intersection(range(n_parts)))
            print(f"{self.path.name}: {n_there} of {n_parts} parts are there; a run without --shard joins them")
            return False
        gone = None
        if missing := [number for number in range(n_parts) if number not in there]:
            gone = self._part(missing[0])
        else:
            self._write_provenance()

            def read_parts() -> Iterator[h5py.File]:
                for number in range(n_parts):
                    with _open_part(self._part(number)) as part:
                        yield part

            try:
                write(read_parts)
            except _PartGoneError as error:
                gone = error.path
        if gone is None or self.is_done():
            self._delete_parts()
            return True
        if not missing:
            raise DataError(f"{gone} was deleted while {self.path} was made of it; run this again")
        print(f"{self.path.name}: {len(missing)} of {n_parts} parts are missing")
        return False

    def _delete_parts(self) -> None:
        """Delete the parts, and those that were to become a file of other settings, whose place this one has."""
        for parts in self.path.parent.glob(f".{self.path.name}.*.parts"):
            shutil.rmtree(parts, ignore_errors=True)

    def _parts_there(self) -> set[int]:
        """List the parts that are there: of a folder that is read, a network file system shows what is new."""
        return {int(part.stem) for part in self._parts.glob("[0-9]*.h5")}

    def _announce(self, n_parts: int) -> None:
        """Say beside the parts how many there will be, for who looks from outside (`minddiffuser/status.py`)."""
        about = self._parts / PARTS
        if not about.exists():
            record = {"made_by": self.recipe.made_by, "subject": self.recipe.subject, "n_parts": n_parts}
            write_atomically(about, json.dumps(record) + "\n")
            if self.path.exists():  # joined in this moment by another process
                self._delete_parts()

    def _part(self, number: int) -> Path:
        return self._parts / f"{number:05d}.h5"

    def _attributes(self) -> dict[str, str]:
        recipe = self.recipe
        return {"subject": recipe.subject, "fingerprint": recipe.fingerprint, "lineage": json.dumps(recipe.lineage)}

    def _write_provenance(self) -> None:
        """Say what made the file, for people: the file itself says the same to the stages after."""
        record = describe(self.recipe) | {"seconds": round(time.monotonic() - self._began, 1)}
        write_atomically(self.path.with_suffix(".json"), json.dumps(record, indent=2) + "\n")


class _PartGoneError(DataError):
    """A part is not there any more."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


def _open_part(path: Path) -> h5py.File:
    with reading(path, "a part of a file", "delete it and run this again"):
        try:
            return h5py.File(path, "r", locking=False)
        except OSError as error:  # HDF5 says "not found", or something else where it goes while it is opened
            if path.exists():
                raise
            raise _PartGoneError(path) from error


def describe(recipe: Recipe) -> dict[str, Any]:
    """Give the record of what made a result: of what, by which script, with which versions."""
    return {
        "subject": recipe.subject,
        "fingerprint": recipe.fingerprint,
        "made_by": recipe.made_by,
        "lineage": recipe.lineage,
        "versions": _versions(),
    }


@functools.cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


class Files:
    """Small files that a script writes together, such as a table and its figure.

    Parameters
    ----------
    recipe : Recipe
        Its path is the record, a JSON file that is written last and lists the others, which lie beside it.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def is_done(self, overwrite: bool = False) -> bool:
        """Tell whether all files are there, made by this recipe.

        Raises
        ------
        DataError
            Files made with other settings, or of another subject, are in the way, or their record is broken, and
            `overwrite` is false.
        """
        path = self.recipe.path
        sweep(path.parent)
        if not path.is_file():
            return False
        try:
            are_there, differences = self._look()
            if differences:
                raise DataError(
                    f"{path} was made with other settings: {differences}; set them back, or make it again with: "
                    f"{self._command} --overwrite"
                )
        except DataError:
            if not overwrite:
                raise
            return False
        return are_there

    def why_absent(self) -> str:
        """Say why there are no files made by this recipe, and how they are made; empty where there are."""
        are_there, differences = self._look() if self.recipe.path.is_file() else (False, "")
        if differences:
            return f"made with other settings: {differences}; made again by: {self._command} --overwrite"
        return "" if are_there else f"not made yet; made by: {self._command}"

    @property
    def _command(self) -> str:
        return f"python {self.recipe.made_by} --subject {self.recipe.subject}"

    def _look(self) -> tuple[bool, str]:
        """Tell whether all files of the record are there, and in which settings it differs from the recipe."""
        path = self.recipe.path
        with reading(path, "the record of what made the files beside it", "delete it and make them again"):
            record = json.loads(path.read_text())
            subject, found, names = record["subject"], record["lineage"], list(record["files"])
            differences = self.recipe.differences(found)
        if subject != self.recipe.subject:
            raise DataError(f"{path} belongs to {subject}, not to {self.recipe.subject}")
        return all(path.with_name(name).is_file() for name in names), differences

    def write(self, contents: Mapping[str, bytes | str]) -> None:
        """Write the files, by name, and then their record; until it is there, none of them counts."""
        self.recipe.path.unlink(missing_ok=True)
        for name, content in contents.items():
            write_atomically(self.recipe.path.with_name(name), content)
        record = describe(self.recipe) | {"files": list(contents)}
        write_atomically(self.recipe.path, json.dumps(record, indent=2) + "\n")
