"""Your own dataset: rows of voxels in an HDF5 file, and a folder of pictures with captions.

    python -m data.own --check rows.h5 [--images PICTURES]
    python -m data.own --take rows.h5 --images PICTURES --config own.yaml [--subject p01] [--overwrite]

The first form lists all that is wrong with the rows, which have the layout of `prepared.h5`, and with the pictures:
`PICTURES/<stimulus_id>.png` (or .jpg, .jpeg, .webp), square and of one size, and `PICTURES/captions.csv` with the
columns stimulus_id and caption, a row a caption. The second form checks too, and then writes `runs/<name>/<subject>/
prepared.h5`, and the pictures and captions in NSD's layout under `execution.nsd`, so that every script from 11 on runs
as it does on NSD. docs/own_data.md has the layout, a configuration and a worked example.

Peak memory: the rows twice, and one picture.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from data import nsd, recipes
from minddiffuser.cli import Run, execute, parse, with_settings
from minddiffuser.config import Config
from minddiffuser.needs.rows import Subject
from minddiffuser.pictures import SUFFIXES, as_shown
from minddiffuser.store import (
    Artifact,
    DataError,
    open_arrays,
    open_made,
    reading,
    write_arrays_by_row,
    write_atomically,
)

CAPTIONS = "captions.csv"
_MOST_IDS = 10_000_000  # rows of the file of stimuli
_LEAST_PIXELS = 32
_MADE_BY = "data/own.py"
# What may lie in a subject's folder before anything is made of its rows.
_BEFORE = ("prepared.h5", "prepared.json", "noise_ceiling.csv")


def main(argv: list[str] | None = None) -> None:
    """Check, or check and take."""
    run = parse(__doc__, argv, add_arguments, divides=False)
    rows, images, config = run.own.check or run.own.take, run.own.images, run.config
    problems, arrays = check_rows(rows)
    if run.own.take and len(run.subjects) != 1:
        raise DataError(f"--take needs --subject: whose are they, of {', '.join(run.subjects)}?")
    if run.own.take and images is None:
        raise DataError("--take needs --images: the folder of the pictures that were seen")
    n_captions = config.experiment.semantic.n_captions if run.own.take else 1
    if images is not None:
        ids = arrays.get("stimulus_id")
        is_list = ids is not None and ids.ndim == 1 and ids.dtype.kind in "iu"
        problems += check_images(images, ids if is_list else None, n_captions)
    if problems:
        raise DataError(f"{rows}:\n" + "\n".join(f"  - {problem}" for problem in problems))
    n_images, n_voxels = arrays["betas"].shape
    n_test = int(arrays["is_test"].sum())
    print(f"{rows}: {n_images - n_test} training and {n_test} test images, {n_voxels} voxels; nothing is wrong")
    if run.own.take and images is not None:
        write_images(config, images, run.overwrite)
        write_rows(run, run.subjects[0], arrays)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the rows and the pictures."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", type=Path, metavar="FILE", help="list all that is wrong with these rows")
    what.add_argument("--take", type=Path, metavar="FILE", help="check them, and make them the subject's prepared.h5")
    parser.add_argument("--images", type=Path, metavar="PICTURES", help="folder of the pictures, with captions.csv")


def check_rows(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Check the layout of a file of rows.

    Parameters
    ----------
    path : Path
        With `betas` (n_images, n_voxels), `stimulus_id` (n_images,), `is_test` (n_images,), and perhaps `roi`
        (n_voxels,), `n_repetitions` (n_images,), `betas_halves` (n_test, 2, n_voxels), `noise_ceiling` (n_voxels,),
        and `voxel_index` (n_voxels,), `volume_shape` (3,), `affine` (4, 4).

    Returns
    -------
    problems : list of str
        All that is wrong.
    arrays : dict of str to array
        What the file has; if there is no problem in the types of `prepared.h5`, and with what stands for the rest.

    Raises
    ------
    DataError
        The file is absent, or no HDF5 file.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; it should be an HDF5 file of rows (docs/own_data.md)")
    problems, found = [], {}
    with reading(path, "an HDF5 file", "write it again"), h5py.File(path, "r", locking=False) as file:
        for name in (*_NEEDED, *_OPTIONAL):
            if name in file and isinstance(file[name], h5py.Dataset):
                found[name] = _whole(file[name][()]) if name in _WHOLE else file[name][()]
            elif name in _NEEDED:
                problems.append(f"{name} is missing")
        others = sorted(set(file) - {*_NEEDED, *_OPTIONAL, "coco_id"})
        if others:
            near = f"known are {', '.join((*_NEEDED, *_OPTIONAL))}"
            problems.append(f"{', '.join(others)}: not part of the layout; {near}")
    betas = np.asarray(found.get("betas", np.empty((0, 0))))
    if "betas" in found and (betas.ndim != 2 or betas.dtype.kind not in "iuf" or not betas.size):
        problems.append(f"betas is {betas.dtype} of shape {betas.shape}, not numbers of (n_images, n_voxels)")
        del found["betas"]
    elif "betas" in found:
        problems += _check_betas(betas)
    n_images, n_voxels = betas.shape if "betas" in found else (None, None)
    ids = np.asarray(found.get("stimulus_id", []))
    if "stimulus_id" in found:
        problems += _check_ids(ids)
    is_test = np.asarray(found.get("is_test", []))
    n_test = None
    if "is_test" in found:
        is_flag = is_test.ndim == 1 and is_test.dtype.kind in "biu" and set(np.unique(is_test).tolist()) <= {0, 1}
        if not is_flag:
            problems.append(f"is_test is {is_test.dtype} of shape {is_test.shape}, not true or false for each image")
        else:
            n_test = int(is_test.sum())
            problems += _check_split(is_test.astype(bool))
    sizes = {"n_images": n_images, "n_voxels": n_voxels, "n_test": n_test}
    for name, symbols in (_NEEDED | _OPTIONAL).items():
        shape = tuple(sizes.get(symbol, symbol) for symbol in symbols)
        there = np.shape(found[name]) if name in found else None
        fits = there is None or (
            len(there) == len(shape) and all(n is None or n == m for n, m in zip(shape, there, strict=True))
        )
        if not fits and name != "betas":
            wanted = ", ".join(
                f"{symbol} = {n}" if n != symbol else f"{n}" for symbol, n in zip(symbols, shape, strict=True)
            )
            problems.append(f"{name} has shape {there}, not ({wanted})")
    problems += _check_rest(found)
    return problems, found if problems else _complete(found)


_NEEDED = {"betas": ("n_images", "n_voxels"), "stimulus_id": ("n_images",), "is_test": ("n_images",)}
_MAPS = {"voxel_index": ("n_voxels",), "volume_shape": (3,), "affine": (4, 4)}
_OPTIONAL = {
    "roi": ("n_voxels",),
    "n_repetitions": ("n_images",),
    "betas_halves": ("n_test", 2, "n_voxels"),
    "noise_ceiling": ("n_voxels",),
    **_MAPS,
}


# Whole numbers, and true or false, which MATLAB stores as floats.
_WHOLE = ("stimulus_id", "is_test", "n_repetitions", "voxel_index", "volume_shape")


def _whole(values: np.ndarray) -> np.ndarray:
    is_whole = values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.round(values)).all()
    return values.astype(np.int64) if is_whole else values


def _check_betas(betas: np.ndarray) -> list[str]:
    problems = []
    bad = ~np.isfinite(betas)
    if bad.any():
        rows, columns = np.flatnonzero(bad.any(axis=1)), np.flatnonzero(bad.any(axis=0))
        problems.append(
            f"betas has {bad.sum()} values that are not finite, in {len(rows)} rows (the first is {rows[0]}) and "
            f"{len(columns)} columns (the first is {columns[0]}), counted from 0"
        )
    constant = np.flatnonzero(betas.max(axis=0) == betas.min(axis=0))
    if len(constant):
        problems.append(f"betas is the same in all images in the columns {_some(constant)}; leave these voxels out")
    return problems


def _check_ids(ids: np.ndarray) -> list[str]:
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        return [f"stimulus_id is {ids.dtype} of shape {ids.shape}, not a whole number for each image"]
    problems = []
    if outside := sorted({int(i) for i in ids if not 0 <= i < _MOST_IDS}):
        problems.append(f"stimulus_id must be from 0 to {_MOST_IDS - 1}: {_some(outside)}")
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        problems.append(
            f"stimulus_id has the same image in several rows: {_some(values[counts > 1])}; average its repetitions, "
            "and count them in n_repetitions"
        )
    return problems


def _check_split(is_test: np.ndarray) -> list[str]:
    problems = []
    if is_test.all() or not is_test.any():
        problems.append(f"is_test is {'true' if is_test.all() else 'false'} of all images: both kinds are needed")
    elif (np.diff(is_test.astype(int)) > 0).any():
        row = int(np.flatnonzero(np.diff(is_test.astype(int)) > 0)[0]) + 1
        problems.append(f"is_test: test images come first, but row {row} (from 0) is one after a training image")
    return problems


def _check_rest(found: dict[str, np.ndarray]) -> list[str]:
    """Check the optional parts, whose shapes are checked already."""
    problems = []
    if "roi" in found and (np.asarray(found["roi"]).dtype.kind not in "SUO" or not np.size(found["roi"])):
        problems.append(f"roi is {np.asarray(found['roi']).dtype}, not the name of the region of each voxel")
    elif "roi" in found and (odd := sorted({name for name in _texts(found["roi"]) if not name or not name.isascii()})):
        problems.append(f"roi has names that are empty or not ASCII: {_some(map(ascii, odd))}")
    if "n_repetitions" in found:
        n = np.asarray(found["n_repetitions"])
        if n.dtype.kind not in "iu" or (n < 1).any():
            problems.append("n_repetitions must be whole numbers from 1 on: trials that a row is the mean of")
    problems += [
        f"{name} is {np.asarray(found[name]).dtype}, not numbers"
        for name in ("betas_halves", "noise_ceiling", "affine")
        if name in found and np.asarray(found[name]).dtype.kind not in "iuf"
    ]
    if (there := [name for name in _MAPS if name in found]) and len(there) < len(_MAPS):
        problems.append(f"{', '.join(there)}: maps need all of {', '.join(_MAPS)}")
    elif there:
        index, shape = np.asarray(found["voxel_index"]), np.asarray(found["volume_shape"])
        if index.dtype.kind not in "iu" or shape.dtype.kind not in "iu" or shape.size != 3:
            problems.append("voxel_index and volume_shape must be whole numbers")
        elif index.size and not (index.min() >= 0 and index.max() < int(np.prod(shape.astype(np.int64)))):
            problems.append(f"voxel_index goes from {index.min()} to {index.max()}, outside of a volume of {shape}")
        elif len(np.unique(index)) != index.size:
            problems.append("voxel_index has the same voxel more than once")
    return problems


def _texts(names: np.ndarray) -> list[str]:
    return [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in np.ravel(names)]


def _complete(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give all that `prepared.h5` has, in its types."""
    n_images, n_voxels = found["betas"].shape
    n_test, ids = int(found["is_test"].sum()), found["stimulus_id"].astype(np.int64)
    roi = _texts(found.get("roi", np.array(["all"] * n_voxels)))
    nothing = np.full((n_test, 2, n_voxels), np.nan)
    return {
        "betas": found["betas"].astype(np.float32),
        "betas_halves": np.asarray(found.get("betas_halves", nothing), np.float32),
        "noise_ceiling": np.asarray(found.get("noise_ceiling", np.full(n_voxels, np.nan)), np.float64),
        "stimulus_id": ids,
        "coco_id": ids + 1,  # those of the captions as `write_images` writes them
        "is_test": found["is_test"].astype(bool),
        "n_repetitions": np.asarray(found.get("n_repetitions", np.ones(n_images)), np.int64),
        "roi": np.array(roi).astype("S"),
        "voxel_index": np.asarray(found.get("voxel_index", np.arange(n_voxels)), np.int64),
        "volume_shape": np.asarray(found.get("volume_shape", [n_voxels, 1, 1]), np.int64),
        "affine": np.asarray(found.get("affine", np.eye(4)), np.float64),
    }


def check_images(folder: Path, stimulus_id: np.ndarray | None, n_captions: int) -> list[str]:
    """List all that is wrong with a folder of pictures and captions.

    Parameters
    ----------
    folder : Path
    stimulus_id : array of int, optional
        Images that there must be; None: those that there are.
    n_captions : int
        That each of them needs.
    """
    pictures, problems = find_pictures(folder)
    needed = pictures.keys() if stimulus_id is None else {int(i) for i in stimulus_id}
    if missing := sorted(needed - pictures.keys()):
        problems.append(f"{folder} has no picture of {_some(missing)}; they are expected as <stimulus_id>.png")
    sizes: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for file in pictures.values():
        try:
            sizes[as_shown(file).shape[:2]].append(file.name)
        except DataError as error:
            problems.append(str(error))
    for (height, width), names in sizes.items():
        if height != width or height < _LEAST_PIXELS:
            problems.append(
                f"{folder}: {_some(names)}: {width} x {height} pixels; crop them to a square of {_LEAST_PIXELS} or more"
            )
    if len(sizes) > 1:
        listed = "; ".join(f"{w} x {h}: {_some(names)}" for (h, w), names in sizes.items())
        problems.append(f"{folder} has pictures of different sizes ({listed}); bring them to one")
    try:
        captions = read_captions(folder)
    except DataError as error:
        return [*problems, str(error)]
    if few := sorted(i for i in needed if len(captions.get(i, [])) < n_captions):
        problems.append(
            f"{folder / CAPTIONS} has fewer than {n_captions} captions of {_some(few)}; write more, or lower "
            "experiment.semantic.n_captions"
        )
    return problems


def find_pictures(folder: Path) -> tuple[dict[int, Path], list[str]]:
    """Find the pictures of a folder, by stimulus_id in increasing order, and what is wrong with their names."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; --images is one of <stimulus_id>.png and {CAPTIONS}")
    found: dict[int, list[Path]] = defaultdict(list)
    unnamed = []
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith("."):
            if re.fullmatch("[0-9]+", file.stem) and int(file.stem) < _MOST_IDS:
                found[int(file.stem)].append(file)
            else:
                unnamed.append(file.name)
    problems = [f"{folder}: not named by stimulus_id: {_some(unnamed)}"] if unnamed else []
    if twice := [" and ".join(file.name for file in files) for files in found.values() if len(files) > 1]:
        problems.append(f"{folder}: more than one picture of an image: {_some(twice)}")
    return {key: found[key][0] for key in sorted(found)}, problems


def read_captions(folder: Path) -> dict[int, list[str]]:
    """Read `captions.csv`: captions by stimulus_id, in the order of the file."""
    path = folder / CAPTIONS
    if not path.is_file():
        raise DataError(f"{path} is missing; it needs the columns stimulus_id and caption, a row a caption")
    with reading(path, "captions", "it needs the columns stimulus_id and caption, a row a caption"):
        table = pd.read_csv(path, usecols=["stimulus_id", "caption"], dtype={"caption": str}, keep_default_na=False)
        if table["stimulus_id"].dtype.kind not in "iu":
            raise ValueError("stimulus_id are not whole numbers")
        table["caption"] = table["caption"].str.strip()
        if (empty := table["caption"] == "").any():
            raise ValueError(f"the caption of {table['stimulus_id'][empty].iloc[0]} is empty")
        return table.groupby("stimulus_id")["caption"].agg(list).to_dict()


def write_images(config: Config, folder: Path, overwrite: bool) -> None:
    """Write pictures and captions in NSD's layout under `execution.nsd`, which is another folder than NSD's own.

    COCO ids are stimulus_id + 1, for those of COCO begin at 1.

    Raises
    ------
    DataError
        There is a dataset that this has not written, or one of other pictures and `overwrite` is false.
    """
    root, (pictures, _), captions = config.nsd, find_pictures(folder), read_captions(folder)
    digest = hashlib.sha256(json.dumps(captions, sort_keys=True).encode())
    for stimulus_id, file in pictures.items():
        digest.update(f"{stimulus_id} ".encode() + hashlib.sha256(file.read_bytes()).digest())
    mark = digest.hexdigest()
    for path in (root / nsd.STIMULI, *(root / name for name in nsd.CAPTIONS)):
        if path.is_file() and (found := _mark_of(path)) != mark:
            if found is None:
                raise DataError(f"{path} is of another dataset; set execution.nsd to a folder of its own")
            if not overwrite:
                raise DataError(f"{path} has other pictures or captions; use --overwrite, or another execution.nsd")
    if (root / nsd.STIMULI).is_file() and _mark_of(root / nsd.STIMULI) == mark:
        print(f"{root}: {len(pictures)} pictures are there already")
        return
    (root / nsd.STIMULI).unlink(missing_ok=True)
    listed = [{"image_id": key + 1, "caption": text} for key, texts in captions.items() for text in texts]
    for path, annotations in zip(nsd.CAPTIONS, (listed, []), strict=True):
        content = {"info": {"made_by": _MADE_BY, "of": mark}, "annotations": annotations}
        write_atomically(root / path, json.dumps(content))

    def each() -> Iterator[tuple[int, np.ndarray]]:
        for stimulus_id, file in pictures.items():
            yield stimulus_id, as_shown(file)

    size = as_shown(next(iter(pictures.values()))).shape
    shape = (max(pictures) + 1, *size)
    attributes = {"made_by": _MADE_BY, "of": mark}
    write_arrays_by_row(root / nsd.STIMULI, "imgBrick", shape, each(), len(pictures), attributes)
    print(f"{root}: {len(pictures)} pictures of {size[1]} x {size[0]} pixels, {len(listed)} captions")


def _mark_of(path: Path) -> str | None:
    """Read of which pictures and captions a file of `write_images` is; None where it is another's."""
    try:
        if path.suffix == ".json":
            info = json.loads(path.read_bytes())["info"]
            return info["of"] if info["made_by"] == _MADE_BY else None
        with h5py.File(path, "r", locking=False) as file:
            return str(file.attrs["of"]) if file.attrs["made_by"] == _MADE_BY else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def is_own(config: Config) -> bool:
    """Tell whether the dataset of a configuration is one that `write_images` wrote."""
    return _mark_of(config.nsd / nsd.STIMULI) is not None


def check_taken(config: Config, subject: str) -> tuple[Subject, str]:
    """Check a subject's rows, and that each of their pictures has captions, for the doctor; give their counts."""
    recipe = recipes.prepared(config, subject)
    if not recipe.path.is_file():
        raise DataError(
            f"{recipe.path} is missing",
            f"make it with: python -m data.own --take FILE --images PICTURES --subject {subject}",
        )
    with open_made(recipe) as rows:
        ids, coco_ids, is_test, roi = (rows[name][:] for name in ("stimulus_id", "coco_id", "is_test", "roi"))
        n_trials = int(rows["n_repetitions"][:].sum())
    if absent := sorted(set(config.experiment.data.rois) - set(_texts(roi))):
        raise DataError(
            f"{recipe.path} has no voxel of {', '.join(absent)}",
            f"set experiment.data.rois to {sorted(set(_texts(roi)))}",
        )
    if (beyond := ids.max()) >= (n := nsd.Stimuli(config.nsd).n):
        raise DataError(f"{config.nsd / nsd.STIMULI} has {n} pictures, but {recipe.path} has stimulus_id {beyond}")
    nsd.read_captions(config.nsd, coco_ids, config.experiment.semantic.n_captions)
    n_test, largest = int(is_test.sum()), int(np.unique(roi, return_counts=True)[1].max())
    counts = Subject(subject, len(ids) - n_test, n_test, n_trials, len(roi), largest, 0)
    return counts, f"{counts.n_train} training and {n_test} test images, {len(roi)} voxels"


def write_rows(run: Run, subject: str, arrays: dict[str, np.ndarray]) -> None:
    """Write `prepared.h5` of a subject.

    Raises
    ------
    DataError
        There are other rows, and `--overwrite` is not given, or something has been made of them.
    """
    artifact = Artifact(recipes.prepared(run.config, subject))
    if artifact.is_done(overwrite=False):
        with open_arrays(artifact.path, artifact.recipe.made_by, subject) as file:
            is_same = file.keys() == arrays.keys() and all(_is_same(file[name][()], arrays[name]) for name in arrays)
        if is_same:
            print(f"{artifact.path} is there already")
            return
        made = [entry.name for entry in sorted(artifact.path.parent.iterdir()) if entry.name not in _BEFORE]
        if made:
            raise DataError(
                f"{artifact.path} has other rows, and {_some(made)} are made of them; delete {artifact.path.parent}, "
                "or give the configuration another name"
            )
        if not run.overwrite:
            raise DataError(f"{artifact.path} has other rows; use --overwrite to replace them")
    artifact.write(arrays)
    print(with_settings(f"{artifact.path} is written; go on with: python feature_extraction/11_semantic.py"))


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _some(items: object) -> str:
    """List the first ten."""
    listed = list(items)  # pyright: ignore[reportArgumentType]
    return ", ".join(map(str, listed[:10])) + (f" and {len(listed) - 10} more" if len(listed) > 10 else "")


if __name__ == "__main__":
    execute(main)
