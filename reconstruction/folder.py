"""The folder that every method writes its reconstructions to, and that evaluation reads.

    <nsd_id>.png      the picture, RGB
    index.csv         nsd_id, seed (-1: unknown), loss, iteration, seconds; flagged, where a safety checker was on
    settings.json     what made it, with a fingerprint, and flags of what to know before comparing it
    records/          one row of the index for each picture that is done
    sample_2/ ...     where a system makes several pictures of an image: the second of each, in a folder like this one

A picture counts as done when its record is there, which is written last.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from minddiffuser.config import Experiment
from minddiffuser.store import DataError, Shard, write_atomically

if TYPE_CHECKING:
    import torch

TEST_STATISTICS = "test-set statistics"
PICKED = "samples picked"
COLUMNS = ["nsd_id", "seed", "loss", "iteration", "seconds"]


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """Pictures in [0, 1], (n, 3, height, width), to uint8 (n, height, width, 3)."""
    return (images.detach().cpu().permute(0, 2, 3, 1) * 255).round().numpy().astype(np.uint8)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write one picture (height, width, 3), uint8, so that it is seen whole or not at all."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


class ReconstructionFolder:
    """Reconstructions of one system for one subject.

    Parameters
    ----------
    path : Path
    subject : str
    settings : dict
        Sections of the configuration that determine the pictures.
    inputs : dict of str
        Fingerprints of the files that they are made from.
    overwrite : bool
        Replace pictures made with other settings.
    flags : sequence of str
        What to know before comparing its scores, see `flags`.

    Raises
    ------
    DataError
        Pictures made with other settings are in the way.
    """

    def __init__(
        self,
        path: Path,
        subject: str,
        settings: dict[str, Any],
        inputs: dict[str, str],
        overwrite: bool = False,
        flags: Sequence[str] = (),
    ) -> None:
        self.path = path
        content = {"subject": subject, "settings": settings, "inputs": inputs}
        text = json.dumps(content, sort_keys=True, default=str)
        content["fingerprint"] = hashlib.sha256(text.encode()).hexdigest()[:16]
        found = path / "settings.json"
        if overwrite:
            shutil.rmtree(path, ignore_errors=True)
        elif found.exists() and json.loads(found.read_text())["fingerprint"] != content["fingerprint"]:
            raise DataError(
                f"{path} has pictures made with other settings or inputs (see {found.name} there); use --overwrite to "
                "replace them, or another name in the configuration to keep both"
            )
        content["flags"] = list(flags)
        write_atomically(found, json.dumps(content, indent=2, default=str) + "\n")
        self._began = time.monotonic()

    def batches_to_do(self, nsd_ids: np.ndarray, size: int, shard: Shard) -> Iterator[np.ndarray]:
        """Yield rows of the batches of this shard in which a picture is missing.

        Batches are cut before it is known what is done, so that a run that was killed computes the same batches,
        and the same bytes, as one that was not.
        """
        for number, start in enumerate(range(0, len(nsd_ids), size)):
            rows = np.arange(start, min(start + size, len(nsd_ids)))
            if shard.holds(number) and not all(self._record(i).exists() for i in nsd_ids[rows]):
                self._began = time.monotonic()
                yield rows

    def save(
        self,
        nsd_ids: Sequence[int] | np.ndarray,
        images: np.ndarray,
        seed: int,
        losses: Sequence[float] | None = None,
        iterations: Sequence[int] | None = None,
        flagged: Sequence[bool] | None = None,
    ) -> None:
        """Save a batch of pictures, uint8 (n, height, width, 3), and their rows of the index.

        `flagged` are those that a safety checker made black; None where there was none.
        """
        seconds = (time.monotonic() - self._began) / len(nsd_ids)
        for k, nsd_id in enumerate(nsd_ids):
            write_png(self.path / f"{nsd_id:05d}.png", images[k])
            record = {"nsd_id": int(nsd_id), "seed": seed, "loss": None, "iteration": 0, "seconds": round(seconds, 2)}
            if losses is not None and iterations is not None:
                record.update(loss=float(losses[k]), iteration=int(iterations[k]))
            if flagged is not None:
                record["flagged"] = bool(flagged[k])
            write_atomically(self._record(nsd_id), json.dumps(record) + "\n")

    def write_index(self) -> None:
        """Gather the records of all pictures that are done, of all shards, into index.csv."""
        records = [json.loads(path.read_text()) for path in sorted((self.path / "records").glob("[0-9]*.json"))]
        columns = [*COLUMNS, *(["flagged"] if any("flagged" in record for record in records) else [])]
        write_atomically(self.path / "index.csv", pd.DataFrame(records, columns=columns).to_csv(index=False))

    def n_flagged(self) -> int:
        """Count the pictures that a safety checker made black."""
        index = pd.read_csv(self.path / "index.csv")
        return int(index["flagged"].sum()) if "flagged" in index else 0

    def _record(self, nsd_id: int) -> Path:
        return self.path / "records" / f"{nsd_id:05d}.json"


def flags(experiment: Experiment) -> list[str]:
    """Say what a reconstruction by these settings uses that a fair comparison would not."""
    return [TEST_STATISTICS] if experiment.decoding.test_scaling == "test" else []


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
    numbered = [folder for folder in path.glob("sample_*") if folder.name.removeprefix("sample_").isdecimal()]
    numbered.sort(key=lambda folder: int(folder.name.removeprefix("sample_")))
    return [path, *(folder for folder in numbered if _listed(folder))]


def _listed(path: Path) -> set[int]:
    """Ids in the index of one folder."""
    index = path / "index.csv"
    return set(pd.read_csv(index)["nsd_id"]) if index.is_file() else set()


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
        f"{json.loads((sample / 'settings.json').read_text())['fingerprint']}, {len(_listed(sample))} pictures"
        for sample in _sample_folders(path)
    )


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a folder of reconstructions, one sample of them.

    Returns
    -------
    nsd_ids : array of shape (n,)
    images : array of shape (n, height, width, 3), uint8

    Raises
    ------
    DataError
        The index, or a picture that it lists, is missing or unreadable, or pictures differ in size.
    """
    if not (path / "index.csv").is_file():
        raise DataError(f"{path} has no index.csv: no reconstructions there")
    nsd_ids = pd.read_csv(path / "index.csv")["nsd_id"].to_numpy()
    if not len(nsd_ids):
        raise DataError(f"{path / 'index.csv'} lists no picture: none is done yet")

    def read_png(nsd_id: int) -> np.ndarray:
        try:
            return np.asarray(Image.open(path / f"{nsd_id:05d}.png").convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors for a broken PNG are of all three kinds
            raise DataError(
                f"{path / f'{nsd_id:05d}.png'} is listed in index.csv but cannot be read: {error}"
            ) from error

    with ThreadPoolExecutor() as pool:
        images = list(pool.map(read_png, nsd_ids))
    if len({image.shape for image in images}) > 1:
        raise DataError(f"{path} has pictures of different sizes: {sorted({i.shape for i in images})}")
    return nsd_ids, np.stack(images)


def adopt(
    source: Path,
    path: Path,
    subject: str,
    test_ids: Sequence[int] | np.ndarray,
    allow_missing: bool = False,
    flags: Sequence[str] = (),
) -> int:
    """Make a folder of reconstructions of somebody else's PNGs, which are named by NSD id.

    Parameters
    ----------
    source : Path
        With `<nsd_id>.png`, where nsd_id is the 0-based row of NSD's 73,000 stimuli; leading zeros do not matter.
    path : Path
        The folder to make, or to replace.
    subject : str
    test_ids : sequence of int
        Ids of the subject's test images.
    allow_missing : bool
        Go on when some test images have no picture.
    flags : sequence of str
        What to know before comparing their scores.

    Returns
    -------
    int
        How many pictures there are.

    Raises
    ------
    DataError
        Pictures have other names, are not of test images, are missing, cannot be read, or differ in size; the message
        lists all of them.
    """
    files = sorted(source.glob("*.png"))
    problems = []
    if not files:
        raise DataError(f"{source} has no PNG, or is not a folder: pictures are expected as <nsd_id>.png")
    if unnamed := [file.name for file in files if not file.stem.isdecimal()]:
        problems.append(f"not named by NSD id: {_some(unnamed)}")
    path_of = {int(file.stem): file for file in files if file.stem.isdecimal()}
    if strangers := sorted(set(path_of) - set(map(int, test_ids))):
        problems.append(f"not test images of {subject}: {_some(strangers)} (ids are counted from 0)")
    if (missing := [int(i) for i in test_ids if int(i) not in path_of]) and not allow_missing:
        problems.append(f"test images without a picture: {_some(missing)}; with --allow-missing they are left out")
    images, unreadable = {}, []
    for nsd_id in (int(i) for i in test_ids if int(i) in path_of):
        try:
            images[nsd_id] = np.asarray(Image.open(path_of[nsd_id]).convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors for a broken PNG are of all three kinds
            unreadable.append(f"{path_of[nsd_id].name} ({error})")
    if unreadable:
        problems.append(f"cannot be read: {_some(unreadable)}")
    sizes = Counter(image.shape[:2] for image in images.values())
    if len(sizes) > 1:
        usual = sizes.most_common(1)[0][0]
        others = [path_of[i].name for i, image in images.items() if image.shape[:2] != usual]
        problems.append(f"of another size than {usual[1]} x {usual[0]}: {_some(others)}")
    if problems:
        raise DataError(f"{source}:\n" + "\n".join(f"  - {problem}" for problem in problems))
    content = hashlib.sha256(b"".join(image.tobytes() for image in images.values())).hexdigest()
    output = ReconstructionFolder(path, subject, {"adopted": str(source)}, {"pictures": content}, True, flags)
    output.save(list(images), np.stack(list(images.values())), seed=-1)
    output.write_index()
    return len(images)


def _some(items: list) -> str:
    """List the first ten."""
    rest = f" and {len(items) - 10} more" if len(items) > 10 else ""
    return f"{', '.join(map(str, items[:10]))}{rest}"
