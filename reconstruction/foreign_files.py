"""Somebody else's pictures in one file, a zip or an array, unpacked into a folder as `reconstruction/foreign.py` takes.

Taken are zips of pictures (`.zip`), arrays of NumPy (`.npy`, `.npz` with one array) and tensors of torch (`.pt`,
`.pth`). No code in a file is run: neither pickles of NumPy nor of torch are opened, and nothing of a zip is written
elsewhere than into the folder.
"""

from __future__ import annotations

import pickle
import re
import stat
import tempfile
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from minddiffuser.pictures import SUFFIXES
from minddiffuser.store import DataError, reading
from reconstruction import foreign
from reconstruction.folder import write_png
from reconstruction.foreign import is_litter, some

ARRAYS = (".npy", ".npz", ".pt", ".pth")
_WITH_CHANNELS = "(n, height, width, channels) or (n, channels, height, width)"
_LEAST_BRIGHT = 16  # of 255: no set of pictures is darker, so that lower values are of another range
_SLACK = 0.01  # that values may lie beyond 0 and 1, as decoders leave them
_MOST_BYTES = 64 * 2**30  # of all pictures in a file: a thousand of 2,000 pixels in float32 have 48 GB
_MOST_IN_PICTURE = 2**28  # bytes of one picture in a zip


def adopt(
    source: Path,
    ids: Path | None,
    path: Path,
    subject: str,
    test_ids: Sequence[int] | np.ndarray,
    shared_ids: Sequence[int] | np.ndarray = (),
    allow_missing: bool = False,
    flags: Sequence[str] = (),
) -> str:
    """Make a folder of reconstructions of somebody else's pictures, in whatever they are.

    Parameters
    ----------
    source : Path
        A folder as `foreign.adopt` takes, a zip of such a folder, or an array of pictures: of shape (n, height, width,
        channels), (n, channels, height, width), or (n, height, width) of grey pictures; uint8, uint16, or any numbers
        in [0, 1] or [0, 255].
    ids : Path, optional
        Of an array: which image each of its rows is of. A text with an id a line, or a list as `.npy` or `.pt`. None:
        the rows are the test images, or all shared images, in the order of NSD's list.
    path, subject, test_ids, shared_ids, allow_missing, flags
        As of `foreign.adopt`.

    Returns
    -------
    str
        What was taken, how values were read, and what was left out, in a line.

    Raises
    ------
    DataError
        As of `foreign.adopt`; or the file cannot be opened without running code of its own, is of another kind, points
        outside of itself, or is too large; or it is not said which images its rows are of.
    """
    options: dict[str, Any] = {"allow_missing": allow_missing, "flags": flags, "shared_ids": shared_ids}
    is_array = source.suffix.lower() in ARRAYS and not source.is_dir()
    if ids is not None and not is_array:
        raise DataError(f"--ids {ids} is of the rows of an array; the pictures of {source} are named by their ids")
    if source.is_dir() or (not is_array and source.suffix.lower() != ".zip"):
        if source.is_file():
            raise DataError(
                f"{source} is not taken: --images is a folder of pictures, a zip of one, or an array "
                f"({', '.join(ARRAYS)})"
            )
        return foreign.adopt(source, path, subject, test_ids, **options)
    if not source.is_file():
        raise DataError(f"{source} is missing; name the file with --images")
    with tempfile.TemporaryDirectory(prefix="minddiffuser-") as temporary:
        folder = Path(temporary)
        if is_array:
            remark = _write_rows(source, folder, _ids_of_rows(source, ids, test_ids, shared_ids))
        else:
            remark = _unzip(source, folder)
        return foreign.adopt(folder, path, subject, test_ids, **options, name=source) + remark


def _unzip(source: Path, folder: Path) -> str:
    """Write the pictures of a zip into a folder; say what was left out."""
    with reading(source, "a zip", "make it again"):
        opened = zipfile.ZipFile(source)
    with opened as file:
        places, left_out = _sort(source, file)
        for name, member in places.items():
            with reading(source, "a zip", "make it again"):
                content = file.read(member)
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
    return f"; left out: {some(left_out)}" if left_out else ""


def _sort(source: Path, file: zipfile.ZipFile) -> tuple[dict[PurePosixPath, zipfile.ZipInfo], list[str]]:
    """Find the pictures in a zip by the names that they are to have, and what is left out."""
    members = [member for member in file.infolist() if not member.is_dir()]
    if outside := [ascii(member.filename) for member in members if _points_outside(member)]:
        raise DataError(f"{source} has what points outside of it: {some(outside)}; unpack it with care, if at all")
    if any(member.flag_bits & 1 for member in members):
        raise DataError(f"{source} has a password; unpack it, and name the folder")
    members = [m for m in members if not any(map(is_litter, PurePosixPath(m.filename).parts))]
    names = _within([PurePosixPath(member.filename) for member in members])
    left_out, places = [], defaultdict(list)
    for member, name in zip(members, names, strict=True):
        depth = len(name.parts) - 1
        if name.suffix.lower() in SUFFIXES and (not depth or (depth == 1 and _is_sample(name.parts[0]))):
            places[name].append(member)
        else:
            left_out.append(name.as_posix() if name.as_posix().isprintable() else ascii(name.as_posix()))
    if not places:
        there = f"; it has {some(left_out)}" if left_out else ""
        raise DataError(f"{source} has no picture: they are expected as <nsd_id>.png{there}")
    if twice := [ascii(name.as_posix()) for name, found in places.items() if len(found) > 1]:
        raise DataError(f"{source} has more than one picture of a name: {some(twice)}; leave the one that is meant")
    if large := [ascii(name.as_posix()) for name, (m, *_) in places.items() if m.file_size > _MOST_IN_PICTURE]:
        raise DataError(f"{source} has pictures of more than {_MOST_IN_PICTURE / 1e6:.1f} MB: {some(large)}")
    _check_size(source, sum(member.file_size for (member,) in places.values()))
    return {name: member for name, (member,) in places.items()}, left_out


def _points_outside(member: zipfile.ZipInfo) -> bool:
    """Tell whether a member of a zip is no file inside of it: `../x`, `/x`, `C:x`, or a link."""
    name = member.orig_filename.replace("\\", "/")
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    return is_link or name.startswith("/") or ".." in name.split("/") or bool(re.match("[A-Za-z]:", name))


def _within(names: list[PurePosixPath]) -> list[PurePosixPath]:
    """Leave out the one folder that all are in, as those who zip a folder have it."""
    while names and all(len(name.parts) > 1 for name in names) and len({name.parts[0] for name in names}) == 1:
        if _is_sample(names[0].parts[0]):
            break
        names = [name.relative_to(name.parts[0]) for name in names]
    return names


def _is_sample(name: str) -> bool:
    return bool(re.fullmatch(r"(?i)sample[ _-]*\d+", name))


def _check_size(source: Path, n_bytes: int) -> None:
    if n_bytes > _MOST_BYTES:
        raise DataError(
            f"{source} has {n_bytes / 1e9:,.0f} GB when it is unpacked, more than pictures take; make them smaller"
        )


def _ids_of_rows(
    source: Path, ids: Path | None, test_ids: Sequence[int] | np.ndarray, shared_ids: Sequence[int] | np.ndarray
) -> Callable[[int], list[int]]:
    """Give a function from the number of rows of an array to their ids."""

    def known(n_rows: int) -> list[int]:
        if ids is not None:
            found = _read_ids(ids)
            if len(found) != n_rows:
                raise DataError(f"{ids} has {len(found)} ids, but {source} has {n_rows} rows; one each is needed")
            rows_of = defaultdict(list)
            for row, stimulus_id in enumerate(found):
                rows_of[stimulus_id].append(row)
            twice = [f"rows {r[0]} and {r[1]} are of {i}" for i, r in rows_of.items() if len(r) > 1]
            if twice:
                raise DataError(f"{ids}: more than one picture of an image: {some(twice)} (rows and ids count from 0)")
            return found
        for listed in (test_ids, shared_ids):
            if len(listed) == n_rows:
                return [int(i) for i in listed]
        shared = f" and {len(shared_ids)} shared ones" if len(shared_ids) > len(test_ids) else ""
        raise DataError(
            f"{source} has {n_rows} rows, but there are {len(test_ids)} test images{shared}; say which image each row "
            "is of with --ids FILE"
        )

    return known


def _read_ids(path: Path) -> list[int]:
    """Read a list of ids: a text with one a line, which may have a heading, or an array."""
    with reading(path, "a list of ids", "it needs a whole number a line, counted from 0"):
        if path.suffix.lower() in ARRAYS:
            values = np.asarray(_load(path)).ravel()
        else:
            lines = [line.strip().rstrip(",") for line in path.read_text(encoding="utf-8-sig").splitlines()]
            lines = [line for line in lines if line]
            values = np.array([float(line) for line in lines[1 if lines and _is_heading(lines[0]) else 0 :]])
        if values.dtype.kind not in "iuf" or not (np.isfinite(values) & (values >= 0) & (values % 1 == 0)).all():
            raise ValueError("not all are whole numbers from 0 on")
        return [int(value) for value in values]


def _is_heading(line: str) -> bool:
    return not re.match(r"[-+.]?\d", line)


def _load(path: Path) -> np.ndarray:
    """Open an array or a tensor without running code of the file's; of what can be mapped, rows are read on demand."""
    if path.suffix.lower() == ".npy":
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            if "Python objects" in str(error):
                raise DataError(f"{path} has Python objects, and opening it could run code; save numbers") from error
            raise
    if path.suffix.lower() == ".npz":
        with zipfile.ZipFile(path) as file:
            _check_size(path, sum(member.file_size for member in file.infolist()))
        with np.load(path, allow_pickle=False) as arrays:
            if len(arrays.files) != 1:
                raise DataError(f"{path} has {len(arrays.files)} arrays: {some(arrays.files)}; save one alone")
            return arrays[arrays.files[0]]
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        with zipfile.ZipFile(path) as file:
            _check_size(path, sum(member.file_size for member in file.infolist()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about files that are refused below
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        if not is_zip and not path.read_bytes()[:1] == b"\x80":  # where pickles begin
            raise ValueError("it is no file of torch.save") from error
        raise DataError(
            f"{path} is not a tensor alone, and opening it could run code; save it with torch.save(tensor, ...)"
        ) from error
    if not isinstance(value, torch.Tensor):
        keys = f" with {some(list(value))}" if isinstance(value, dict) else ""
        raise DataError(f"{path} is a {type(value).__name__}{keys}, not a tensor; save the tensor of pictures alone")
    if value.layout != torch.strided or value.is_complex() or value.is_quantized:
        raise DataError(f"{path} is a tensor of {value.dtype} and {value.layout}, not of pictures")
    value = value.detach()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _write_rows(source: Path, folder: Path, ids_of: Callable[[int], list[int]]) -> str:
    """Write the rows of an array as PNGs named by id; say how its values were read."""
    with reading(source, "an array of pictures", "save it again as .npy"):
        values = _load(source)
        _check_size(source, values.nbytes)
        axis = _channel_axis(source, values)
        ids = ids_of(len(values))
        scale, said = _scale_of(source, values)
    for stimulus_id, row in zip(ids, values, strict=True):
        picture = np.moveaxis(row, axis - 1, -1) if axis else row[..., None]
        pixels = np.clip(np.rint(np.asarray(picture, np.float64) * scale), 0, 255).astype(np.uint8)
        if pixels.shape[-1] == 4 and (pixels[..., 3] < 255).any():
            raise DataError(
                f"{source} has transparent pixels in the picture of {stimulus_id}, and what is behind them is not "
                "known; save it with three channels"
            )
        write_png(folder / f"{stimulus_id}.png", np.repeat(pixels, 3, -1) if pixels.shape[-1] == 1 else pixels[..., :3])
    return f"; {said}"


def _channel_axis(source: Path, values: np.ndarray) -> int:
    """Find the axis of the channels; 0 where there is none."""
    shape = values.shape
    is_first, is_last = (len(shape) == 4 and shape[axis] in (1, 3, 4) for axis in (1, 3))
    if values.dtype.kind not in "biuf" or not values.size or (is_first and is_last):
        raise DataError(f"{source} has {values.dtype} of shape {shape}, not pictures of {_WITH_CHANNELS}")
    if is_first or is_last:
        return 1 if is_first else 3
    if len(shape) == 3 and min(shape[1:]) > 4:
        return 0
    raise DataError(f"{source} has shape {shape}, but pictures are {_WITH_CHANNELS}, of one, three or four channels")


def _scale_of(source: Path, values: np.ndarray) -> tuple[float, str]:
    """Find what makes values 0 to 255, by their type and range; say it."""
    lows, highs = [], []
    for number, row in enumerate(values):
        if values.dtype.kind == "f" and not np.isfinite(row).all():
            raise DataError(f"{source} has values that are not finite in row {number} (counted from 0)")
        lows.append(float(row.min()))
        highs.append(float(row.max()))
    low, high = min(lows), max(highs)
    of = f"from {low:g} to {high:g}"
    if values.dtype == np.uint16 and high > 255:
        return 255 / 65535, f"values {of} were read as 16 bits, 0 to 65535"
    if low >= -_SLACK and high <= 1 + _SLACK and (values.dtype.kind in "bf"):
        beyond = "" if low >= 0 and high <= 1 else ", those beyond as 0 and 1"
        return 255.0, f"values {of} were read as in [0, 1]{beyond}"
    if low >= 0 and _LEAST_BRIGHT < high <= 255:
        return 1.0, f"values {of} were read as in [0, 255]"
    if low == high == 0:
        return 1.0, "all values are 0"
    raise DataError(f"{source} has {values.dtype} values {of}, which are neither in [0, 1] nor in [0, 255]; scale them")
