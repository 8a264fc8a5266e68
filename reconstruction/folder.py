"""The folder that every method writes its reconstructions to, and that evaluation reads.

    <stimulus_id>.png  the picture, RGB; of a film a strip, its frames from top to bottom
    index.csv         stimulus_id, seed (-1: unknown), loss, iteration, seconds; flagged, where a safety checker was on
    settings.json     what made it, how many pictures it should have, and flags of what to know before comparing it;
                      n_frames, where they are strips
    records/          one row of the index for each picture that is done, and the fingerprint of what made it
    sample_2/ ...     where a system makes several pictures of an image: the second of each, in a folder like this one

A picture counts as done when its record is there, which is written last, and is of the settings of the folder. So a
process that still works with other settings, for which the folder was meant before, adds nothing to it.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from minddiffuser import stopping
from minddiffuser.progress import progress
from minddiffuser.recipe import Recipe
from minddiffuser.store import DataError, Shard, describe, reading, sweep, write_atomically

if TYPE_CHECKING:
    import torch

SETTINGS, INDEX, RECORDS = "settings.json", "index.csv", "records"
TEST_STATISTICS = "test-set statistics"
PICKED = "samples picked"
COLUMNS = ["stimulus_id", "seed", "loss", "iteration", "seconds"]


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """Pictures in [0, 1], (n, 3, height, width), to uint8 (n, height, width, 3); films, (n, n_frames, 3, ...), too.

    Raises
    ------
    FloatingPointError
        Numbers are not finite. As uint8 they would be a picture like any other.
    """
    values = (images.detach().cpu().movedim(-3, -1) * 255).round().numpy()
    if not np.isfinite(values).all():
        raise FloatingPointError(
            "a picture has numbers that are not finite: what was decoded, or the weights, are broken, or float16 does "
            "not suffice (experiment.sampler.precision)"
        )
    return values.astype(np.uint8)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write one picture (height, width, 3), uint8, so that it is seen whole or not at all.

    A crash of the machine may leave it empty, which is told when it is read.
    """
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue(), is_synced=False)


class ReconstructionFolder:
    """Reconstructions of one system for one subject.

    Parameters
    ----------
    recipe : Recipe
        Its path is the folder.
    n_images : int
        How many pictures the folder has when it is whole.
    overwrite : bool
        Replace pictures made with other settings. Those of the same settings stay, and so does what this project did
        not make.
    flags : sequence of str, optional
        What to know before comparing its scores; None: what the recipe tells.
    n_frames : int, optional
        Frames of each film; None: they are pictures.

    Raises
    ------
    DataError
        Pictures made with other settings, or by somebody else, are in the way.
    """

    def __init__(
        self,
        recipe: Recipe,
        n_images: int,
        overwrite: bool = False,
        flags: Sequence[str] | None = None,
        n_frames: int | None = None,
    ) -> None:
        self.path, self._n_images, self._n_frames = recipe.path, n_images, n_frames
        self._fingerprint = recipe.fingerprint
        _sweep(self.path)
        found: dict[str, Any] = {}
        if (self.path / SETTINGS).is_file():
            try:
                require(recipe)
                found = read_settings(self.path)
            except DataError:
                if not overwrite:
                    raise
                _empty(self.path)
        elif strange := sorted(self.path.glob("*.png")):
            raise DataError(
                f"{self.path} has pictures that this project did not make, such as {strange[0].name}; move them away"
            )
        known = flags_of(recipe) if flags is None else list(flags)
        content = describe(recipe) | {"flags": known, "n_images": n_images}
        if n_frames is not None:
            content["n_frames"] = n_frames
        versions = found.get("versions", content["versions"])
        if versions != content["versions"] and self._there():
            content["versions"] = versions  # which made what is there
        if content != found:
            write_atomically(self.path / SETTINGS, json.dumps(content, indent=2) + "\n")
        self._began = time.monotonic()

    def batches_to_do(self, stimulus_ids: np.ndarray, size: int, shard: Shard) -> list[np.ndarray]:
        """List the rows of the batches of this shard in which a picture is missing.

        Batches are cut before it is known what is done, so that a run that was killed computes the same batches,
        and the same bytes, as one that was not.
        """
        starts = enumerate(range(0, len(stimulus_ids), size))
        batches = [
            np.arange(start, min(start + size, len(stimulus_ids))) for number, start in starts if shard.holds(number)
        ]
        there = self._there()
        todo = [rows for rows in batches if not there.issuperset(stimulus_ids[rows].tolist())]
        if todo:
            stopping.defer()
        return todo

    def is_whole(self, stimulus_ids: np.ndarray) -> bool:
        """Tell whether all of these pictures are done."""
        return self._there().issuperset(stimulus_ids.tolist())

    def each(self, batches: Sequence[np.ndarray], what: str) -> Iterator[np.ndarray]:
        """Yield batches with a progress bar, and time each by itself: from here until it is saved."""
        for rows in progress(batches, desc=what):
            self._began = time.monotonic()
            yield rows

    def save(
        self,
        stimulus_ids: Sequence[int] | np.ndarray,
        images: np.ndarray,
        seed: int,
        losses: Sequence[float] | None = None,
        iterations: Sequence[int] | None = None,
        flagged: Sequence[bool] | None = None,
    ) -> None:
        """Save a batch of pictures, uint8 (n, height, width, 3), and their rows of the index.

        Films are (n, n_frames, height, width, 3). `flagged` are those that a safety checker made black; None where
        there was none.

        Raises
        ------
        DataError
            See `check`.
        ValueError
            They are pictures in a folder of films, films in one of pictures, or films of another number of frames.
        """
        if (images.shape[1] if images.ndim == 5 else None) != self._n_frames:
            wanted = "pictures" if self._n_frames is None else f"films of {self._n_frames} frames"
            raise ValueError(f"{self.path} is a folder of {wanted}, not of arrays of shape {images.shape[1:]}")
        if self._n_frames is not None:
            images = images.reshape(len(images), -1, *images.shape[3:])  # (n, n_frames * height, width, 3)
        self.check()
        seconds = None if seed < 0 else round((time.monotonic() - self._began) / len(stimulus_ids), 2)  # not of others
        for k, stimulus_id in enumerate(stimulus_ids):
            write_png(self.path / f"{stimulus_id:05d}.png", images[k])
            record: dict[str, Any] = {"stimulus_id": int(stimulus_id), "seed": seed, "loss": None, "iteration": 0}
            record |= {"seconds": seconds, "fingerprint": self._fingerprint}
            if losses is not None and iterations is not None:
                record.update(loss=float(losses[k]), iteration=int(iterations[k]))
            if flagged is not None:
                record["flagged"] = bool(flagged[k])
            place = self.path / RECORDS / f"{stimulus_id:05d}.json"
            write_atomically(place, json.dumps(record) + "\n", is_synced=False)  # as its picture
        stopping.saved()

    def check(self) -> None:
        """Raise DataError where another process has given the folder to other settings, or somebody deleted it."""
        if not (self.path / SETTINGS).is_file() or read_settings(self.path)["fingerprint"] != self._fingerprint:
            raise DataError(
                f"{self.path} was deleted, or given to other settings, while this ran; what was in hand is not written"
            )

    def write_index(self) -> int:
        """Gather the records of all pictures that are done, of all shards, into index.csv; give their number.

        Of several shards that write it at the same time one may know less than another, and write last: so each looks
        once more after it has written, until it finds nothing new.
        """
        known = None
        while (paths := sorted((self.path / RECORDS).glob("[0-9]*.json"))) != known:
            known, records = paths, _read_records(paths, self._fingerprint)
            columns = [*COLUMNS, *(["flagged"] if any("flagged" in record for record in records) else [])]
            write_atomically(self.path / INDEX, pd.DataFrame(records, columns=columns).to_csv(index=False))
        return len(records)

    def finish(self) -> None:
        """Write the index, and say how much of the folder is there."""
        stopping.release()
        n = self.write_index()
        rest = "" if n >= self._n_images else f"; {self._n_images - n} are left to other shards, or to the next run"
        what = "pictures" if self._n_frames is None else "films"
        print(f"{self.path}: {n} of {self._n_images} {what}{rest}")

    def n_flagged(self) -> int:
        """Count the pictures that a safety checker made black."""
        index = read_index(self.path)
        return int(index["flagged"].sum()) if "flagged" in index else 0

    def _there(self) -> set[int]:
        """List the pictures that are done: of folders that are read, a network file system shows what is new."""
        pictures = {path.stem for path in self.path.glob("[0-9]*.png")}
        paths = [path for path in (self.path / RECORDS).glob("[0-9]*.json") if path.stem in pictures]
        return {record["stimulus_id"] for record in _read_records(paths, self._fingerprint)}


def _read_records(paths: Iterable[Path], fingerprint: str) -> list[dict[str, Any]]:
    """Read the records of pictures that are of these settings; those of an earlier version do not say, and count."""
    records = []
    for path in paths:
        with reading(path, "the record of a picture", "delete it, and make that picture again"):
            records.append(json.loads(path.read_text()))
    return [record for record in records if record.get("fingerprint", fingerprint) == fingerprint]


def _sweep(path: Path) -> None:
    """Delete what killed processes left half written in a folder of pictures."""
    for folder in (path, path / RECORDS, path / "state", path / "trajectory", *path.glob("trajectory/*")):
        sweep(folder)


def _empty(path: Path) -> None:
    """Delete the pictures that this project made in a folder, its samples and the way of stage 2, and nothing else.

    Without its index, which goes first, the folder does not count as there; its settings stay.
    """
    ids = [int(record.stem) for record in (path / RECORDS).glob("[0-9]*.json")]
    ids += _listed(path)
    (path / INDEX).unlink(missing_ok=True)
    for sample in _numbered(path):
        _delete(sample)
    for stimulus_id in ids:
        (path / f"{stimulus_id:05d}.png").unlink(missing_ok=True)
    for pattern in (f"{RECORDS}/[0-9]*.json", "trajectory/[0-9]*/[0-9]*.png", "trajectory/[0-9]*.csv", "state/*"):
        for file in path.glob(pattern):
            file.unlink(missing_ok=True)
    for folder in [*path.glob("trajectory/*"), path / RECORDS, path / "trajectory", path / "state"]:
        with contextlib.suppress(OSError):  # it is not there, or somebody put something into it
            folder.rmdir()


def _delete(sample: Path) -> None:
    """Delete a folder that this project made, but for what somebody else put into it."""
    if (sample / SETTINGS).is_file():
        _empty(sample)
        (sample / SETTINGS).unlink()
        with contextlib.suppress(OSError):
            sample.rmdir()


def remove_samples(path: Path, n_samples: int) -> None:
    """Delete the samples of a time when more were asked for: an image's score is the mean over all that are there."""
    for sample in _numbered(path):
        if int(sample.name.removeprefix("sample_")) > n_samples:
            _delete(sample)


def _numbered(path: Path) -> list[Path]:
    """List the folders `sample_2`, `sample_3` ... in a folder, in order."""
    found = [folder for folder in path.glob("sample_*") if re.fullmatch(r"sample_[1-9]\d*", folder.name, re.ASCII)]
    return sorted(found, key=lambda folder: int(folder.name.removeprefix("sample_")))


def flags_of(recipe: Recipe) -> list[str]:
    """Say what a reconstruction uses, anywhere in what it is made of, that a fair comparison would not."""
    decisive = ("test_scaling", "restore_variance")
    settings = [item for of_one in recipe.lineage.values() for item in of_one.items()]
    return [TEST_STATISTICS] if any(k.endswith(decisive) and value == "test" for k, value in settings) else []


def read_settings(path: Path) -> dict[str, Any]:
    """Read what a folder of reconstructions was made of: the keys of `store.describe`, "flags" and "n_images"."""
    with reading(path / SETTINGS, "the settings of a folder of reconstructions", "make the folder again"):
        record = json.loads((path / SETTINGS).read_text())
        if "lineage" not in record:
            raise DataError(f"{path} was made by an earlier version of this project; make it again with --overwrite")
        return record


def require(recipe: Recipe) -> None:
    """Raise DataError unless a folder was made by a recipe."""
    record = read_settings(recipe.path)
    if record["subject"] != recipe.subject:
        raise DataError(f"{recipe.path} belongs to {record['subject']}, not to {recipe.subject}")
    if differences := recipe.differences(record["lineage"]):
        raise DataError(
            f"{recipe.path} has pictures made with other settings: {differences}; set them back, or make them again "
            f"with: python {recipe.made_by} --subject {recipe.subject} --overwrite"
        )


def sample_folders(path: Path) -> list[Path]:
    """List the folders of a system's samples in order: `path`, and those in it that have pictures in their index.

    Raises
    ------
    DataError
        The samples are of different images.
    """
    folders = _sample_folders(path)
    first = _listed(path)
    for sample in folders[1:]:
        if differing := sorted(first ^ _listed(sample)):
            raise DataError(
                f"{path} and its {sample.name} have different images: only one of the two has {_some(differing)}; "
                "finish the sample, or delete its folder"
            )
    return folders


def _sample_folders(path: Path) -> list[Path]:
    return [path, *(folder for folder in _numbered(path) if _listed(folder))]


def read_index(path: Path) -> pd.DataFrame:
    """Read the index of a folder: a row a picture."""
    with reading(path / INDEX, "an index of pictures", "delete it, and run again the script that makes the folder"):
        index = pd.read_csv(path / INDEX)
        if "stimulus_id" not in index:
            raise ValueError("it has no column stimulus_id")
        return index


def _listed(path: Path) -> set[int]:
    """Ids in the index of one folder."""
    return set(read_index(path)["stimulus_id"]) if (path / INDEX).is_file() else set()


def state(path: Path) -> str | None:
    """Say what a folder holds: for each sample the fingerprint of its settings and the number of its pictures.

    Returns
    -------
    str or None
        None where there is no picture.
    """
    if not _listed(path):
        return None  # or another shard has all that there is so far
    return " + ".join(
        f"{read_settings(sample)['fingerprint']}, {len(_listed(sample))} pictures" for sample in _sample_folders(path)
    )


def check_samples(recipes: Sequence[Recipe]) -> None:
    """Raise DataError unless all that is there of a system was made by these recipes, one for each of its samples."""
    path = recipes[0].path
    known = {recipe.path: recipe for recipe in recipes}
    for sample in _sample_folders(path):
        if sample not in known:
            raise DataError(
                f"{sample} is one sample more than the {len(recipes)} that the configuration asks for; "
                f"python {recipes[0].made_by} --subject {recipes[0].subject} removes it"
            )
        require(known[sample])


def shortfall(path: Path, n_images: int, n_samples: int = 1) -> str:
    """Say what a folder of pictures lacks, such as "3 of 6 pictures"; empty where it is whole.

    Parameters
    ----------
    path : Path
    n_images : int
        How many images there should be pictures of.
    n_samples : int
        How many pictures of each.
    """
    samples = _sample_folders(path)
    fewest = min(len(_listed(sample)) for sample in samples)
    if len(samples) < n_samples:
        return f"{len(samples)} of {n_samples} samples"
    return f"{fewest} of {n_images} pictures" if fewest < n_images else ""


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a folder of reconstructions, one sample of them.

    Returns
    -------
    stimulus_ids : array of shape (n,)
    images : array of shape (n, height, width, 3), uint8

    Raises
    ------
    DataError
        The index, or a picture that it lists, is missing or unreadable, or pictures differ in size; or they are strips
        of films (`read_videos`).
    """
    stimulus_ids = _ids_of(path)
    if n_frames_of(path):
        raise DataError(f"{path} has films, of {n_frames_of(path)} frames each; what is asked for are pictures")
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda stimulus_id: _read_png(path, stimulus_id), stimulus_ids))
    if len({image.shape for image in images}) > 1:
        raise DataError(f"{path} has pictures of different sizes: {sorted({i.shape for i in images})}")
    return stimulus_ids, np.stack(images)


def read_videos(path: Path, stimulus_ids: Sequence[int] | np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Read the films of a folder one after the other; one is held in memory at a time.

    Parameters
    ----------
    path : Path
    stimulus_ids : sequence of int, optional
        Which, in which order; None: all in the order of the index.

    Returns
    -------
    iterator of (int, array of shape (n_frames, height, width, 3), uint8)
        The id of each, and the film.

    Raises
    ------
    DataError
        At once: there is no index, the folder has pictures, or lacks films that are asked for. On the way: a film is
        missing or unreadable, or differs in size from the first one.
    """
    known, n_frames = _ids_of(path), n_frames_of(path)
    if n_frames is None:
        raise DataError(f"{path} has pictures; what is asked for are films, whose {SETTINGS} says n_frames")
    wanted = known if stimulus_ids is None else np.asarray(stimulus_ids)
    if missing := sorted(set(wanted.tolist()) - set(known.tolist())):
        raise DataError(f"{path} lacks {len(missing)} of {len(wanted)} films: {_some(missing)}; finish it first")

    def read_each() -> Iterator[tuple[int, np.ndarray]]:
        shape = None
        for stimulus_id in wanted.tolist():
            strip = _read_png(path, stimulus_id)
            if strip.shape[0] % n_frames or strip.shape != (shape := shape or strip.shape):
                raise DataError(
                    f"{path / f'{stimulus_id:05d}.png'} has {strip.shape[1]} x {strip.shape[0]} pixels: expected is a "
                    f"strip of {n_frames} frames, one below the other, as large as others; delete it, and run again "
                    "the script that makes it"
                )
            yield stimulus_id, strip.reshape(n_frames, -1, *strip.shape[1:])

    return read_each()


def read_done(path: Path, stimulus_ids: np.ndarray) -> np.ndarray | None:
    """Read films of a folder that another process may still be filling: (n, n_frames, height, width, 3), uint8.

    Returns
    -------
    array or None
        None unless all of the films are done.
    """
    names = [f"{stimulus_id:05d}" for stimulus_id in stimulus_ids]
    records = [path / RECORDS / f"{name}.json" for name in names]
    if (n_frames := n_frames_of(path)) is None:
        return None
    if not all(file.exists() for file in [*records, *(path / f"{name}.png" for name in names)]):
        return None
    if len(_read_records(records, read_settings(path)["fingerprint"])) < len(records):
        return None
    strips = np.stack([_read_png(path, stimulus_id) for stimulus_id in stimulus_ids])
    return strips.reshape(len(strips), n_frames, -1, *strips.shape[2:])


def n_frames_of(path: Path) -> int | None:
    """Read how many frames the films of a folder have; None where it has pictures."""
    return read_settings(path).get("n_frames") if (path / SETTINGS).is_file() else None


def _ids_of(path: Path) -> np.ndarray:
    """Read the ids in an index, which must list something."""
    if not (path / INDEX).is_file():
        raise DataError(f"{path} has no {INDEX}: no reconstructions there")
    stimulus_ids = read_index(path)["stimulus_id"].to_numpy()
    if not len(stimulus_ids):
        raise DataError(f"{path / INDEX} lists no picture: none is done yet")
    return stimulus_ids


def _read_png(path: Path, stimulus_id: int) -> np.ndarray:
    place = path / f"{stimulus_id:05d}.png"
    with reading(place, f"a picture, which {INDEX} lists", "delete it, and run again the script that makes it"):
        return np.asarray(Image.open(place).convert("RGB"))


def _some(items: list) -> str:
    """List the first ten."""
    rest = f" and {len(items) - 10} more" if len(items) > 10 else ""
    return f"{', '.join(map(str, items[:10]))}{rest}"
