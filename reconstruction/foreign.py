"""Somebody else's pictures, taken into a folder of reconstructions as a viewer shows them, and never touched.

Taken are PNGs, JPEGs and WebPs named by NSD id (`4.png`, `00004.PNG`) and, beside them, folders `sample_2`, `sample_3`,
... with further pictures of the same images. What operating systems leave behind is passed over in silence, other files
and folders are left out with a word; whatever leaves open which picture is meant, or how it looks, is refused by name.
`reconstruction/foreign_files.py` makes such a folder of a zip or an array.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minddiffuser.pictures import SUFFIXES, as_shown
from minddiffuser.recipe import Recipe
from minddiffuser.store import DataError, describe, write_atomically
from reconstruction.folder import INDEX, RECORDS, SETTINGS, ReconstructionFolder

OTHER_SUFFIXES = (".apng", ".avif", ".bmp", ".gif", ".heic", ".jfif", ".jpe", ".jxl", ".npy", ".tif", ".tiff")
LITTER = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin")  # in lower case


def adopt(
    source: Path,
    path: Path,
    subject: str,
    test_ids: Sequence[int] | np.ndarray,
    allow_missing: bool = False,
    flags: Sequence[str] = (),
    shared_ids: Sequence[int] | np.ndarray = (),
    name: Path | None = None,
) -> str:
    """Make a folder of reconstructions of somebody else's pictures, which are named by NSD id.

    Everything is checked before anything is written. A folder that was adopted before is replaced; what somebody else
    put into it stays. The pictures are read twice, one at a time, so that memory does not grow with their number.

    Parameters
    ----------
    source : Path
        With `<nsd_id>.png` (or .jpg, .jpeg, .webp), named by the 0-based row of NSD's 73,000 stimuli; leading zeros do
        not matter. Where there are several pictures of each image, `sample_2/<nsd_id>.png` and so on are the second of
        each.
    path : Path
        The folder to make: absent, empty, or adopted before.
    subject : str
    test_ids : sequence of int
        Ids of the subject's test images.
    allow_missing : bool
        Go on when some test images have no picture.
    flags : sequence of str
        What to know before comparing their scores.
    shared_ids : sequence of int
        Images that all subjects were to see. Pictures of those that are no test images of this subject, who did not see
        them in the sessions that are used, are left out with a word.
    name : Path, optional
        What the pictures are from, where `source` has been made of it.

    Returns
    -------
    str
        What was taken, and what was left out, in a line.

    Raises
    ------
    DataError
        `source` is no folder, or lies in `path`, or `path` in it; `path` has what adopting did not make; or pictures
        have other names, are not of test images, are missing, are two of one image, cannot be read, look different
        from one viewer to the next, or differ in size, in which case the message lists all of them.
    """
    name = name or source
    check_apart(source, path)
    first = _sort(source, source)
    if not first.pictures and not first.problems:
        raise DataError(f"{name} has no picture: {_expected(first)}")
    folders = [first, *(_sort(source, folder) for folder in first.samples)]
    for sample in first.samples:
        check_apart(sample, path)

    problems = [problem for folder in folders for problem in folder.problems]
    tested = {int(i) for i in test_ids}
    not_tested = sorted(first.pictures.keys() & {int(i) for i in shared_ids} - tested)
    for folder in folders:
        for stimulus_id in not_tested:
            folder.pictures.pop(stimulus_id, None)
    problems += _check_ids(folders, subject, tested, {int(i) for i in shared_ids}, allow_missing)
    seen, refused = _look(source, path, folders)
    problems += refused
    if problems:
        raise DataError(f"{name}:\n" + "\n".join(f"  - {problem}" for problem in problems))

    places = [path, *(path / f"sample_{number}" for number in range(2, len(folders) + 1))]
    ids = sorted(first.pictures)
    check_free(path, places)
    recipes = []
    for folder, place in zip(folders, places, strict=True):
        digests = "".join(f"{stimulus_id} {seen[folder.name, stimulus_id].digest}\n" for stimulus_id in ids)
        made_of = {"adopted": str(name), "stimulus_id": ids, "pictures": hashlib.sha256(digests.encode()).hexdigest()}
        place_in = place.relative_to(path.parent).as_posix()
        recipes.append(Recipe(path.parent, place_in, subject, "evaluation/41_score.py", made_of))
    clear(path, recipes)
    outputs = [ReconstructionFolder(recipe, len(test_ids), flags=list(flags)) for recipe in recipes]
    # Without its own index, which is the last file to come, a system does not count as there.
    for folder, output in reversed(list(zip(folders, outputs, strict=True))):
        for stimulus_id in ids:
            picture = seen[folder.name, stimulus_id]
            image = as_shown(picture.file)
            if digest_of(image) != picture.digest:
                raise DataError(
                    f"{picture.file} was changed while it was taken; wait until it is finished, and start again"
                )
            output.save([stimulus_id], image[None], seed=-1)
        output.write_index()

    left_out = [file for folder in folders for file in folder.left_out]
    return (
        f"{len(seen)} pictures taken from {name} ({len(ids)} of {len(test_ids)} test images"
        + (f", {len(folders)} samples of each)" if len(folders) > 1 else ")")
        + (f"; left out: {some(left_out)}" if left_out else "")
        + (f"; not seen by {subject} in the sessions used, and left out: {some(not_tested)}" if not_tested else "")
    )


class _Folder(NamedTuple):
    """What is in a folder of somebody else's."""

    name: str  # "" for the first sample's
    pictures: dict[int, list[Path]]  # by id; one each, or it is listed as a problem
    others: dict[int, list[str]]  # pictures of other kinds
    samples: list[Path]
    left_out: list[str]
    problems: list[str]


def _sort(source: Path, folder: Path) -> _Folder:
    """Sort what is in `source`, or in a sample's folder in it."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not is_litter(entry.name))
        is_folder = {entry: entry.is_dir() for entry in entries}
    except OSError as error:
        raise DataError(
            f"{folder} is not a folder that can be read ({error.strerror}); one with <nsd_id>.png is expected"
        ) from error
    pictures, others = defaultdict(list), defaultdict(list)
    samples, left_out, unnamed, problems = [], [], [], []
    for entry in entries:
        has_id = re.fullmatch("[0-9]+", entry.stem)
        if entry.suffix.lower() in SUFFIXES:
            if has_id:
                pictures[int(entry.stem)].append(entry)
            else:
                unnamed.append(name_in(source, entry))
        elif is_folder[entry] and folder == source and re.fullmatch(r"(?i)sample[ _-]*\d+", entry.name):
            samples.append(entry)
        else:
            if has_id and entry.suffix.lower() in OTHER_SUFFIXES:
                others[int(entry.stem)].append(name_in(source, entry))
            left_out.append(name_in(source, entry) + ("/" if is_folder[entry] else ""))
    if unnamed:
        problems.append(f"not named by NSD id: {some(unnamed)}")
    several = [files for files in pictures.values() if len(files) > 1]
    if twice := [" and ".join(name_in(source, file) for file in files) for files in several]:
        problems.append(f"more than one picture of an image: {some(twice)}; leave the one that is meant")
    samples.sort(key=lambda entry: (int(re.sub(r"\D", "", entry.name)), entry.name))
    if [entry.name for entry in samples] != [f"sample_{number}" for number in range(2, len(samples) + 2)]:
        problems.append(
            "further samples are sample_2, sample_3, ... without a gap, beside the pictures of the first, not: "
            + some([name_in(source, entry) for entry in samples])
        )
    name = "" if folder == source else f"{folder.name}/"
    return _Folder(name, dict(sorted(pictures.items())), others, samples, left_out, problems)


def _check_ids(
    folders: list[_Folder], subject: str, test_ids: set[int], shared_ids: set[int], allow_missing: bool
) -> list[str]:
    """List what is wrong with the ids of pictures."""
    problems = []
    if strangers := [f"{folder.name}{i}" for folder in folders for i in sorted(folder.pictures.keys() - test_ids)]:
        all_ids = {i - 1 for folder in folders for i in folder.pictures}
        from_one = "; these are all the number after one, so count from 0" if all_ids <= test_ids | shared_ids else ""
        problems.append(f"not test images of {subject}: {some(strangers)} (ids are counted from 0{from_one})")
    others = [
        name
        for folder in folders
        for stimulus_id, names in folder.others.items()
        if stimulus_id in test_ids and stimulus_id not in folder.pictures
        for name in names
    ]
    if others:
        problems.append(f"neither PNG, JPEG nor WebP: {some(others)}; save them as PNG")
    first = folders[0].pictures.keys()
    if (missing := sorted(test_ids - first)) and not allow_missing:
        problems.append(f"test images without a picture: {some(missing)}; with --allow-missing they are left out")
    return problems + [
        f"its samples are of different images: only one of the first and {folder.name} has {some(differing)}"
        for folder in folders[1:]
        if (differing := sorted(first ^ folder.pictures.keys()))
    ]


class _Seen(NamedTuple):
    """A picture that can be taken."""

    file: Path
    size: tuple[int, int]  # height and width
    digest: str


def _look(source: Path, path: Path, folders: list[_Folder]) -> tuple[dict[tuple[str, int], _Seen], list[str]]:
    """Look at all pictures: those that can be taken by folder and id, and what is wrong with the others."""
    there, seen, refused = path.resolve(), {}, []
    for folder in folders:
        for stimulus_id, file in (
            (stimulus_id, file) for stimulus_id, files in folder.pictures.items() for file in files
        ):
            try:
                image = as_shown(file)
                if there in file.resolve().parents:
                    raise DataError(
                        f"{file} is a link into {path}, which pictures are copied to; put a copy in its place"
                    )
            except DataError as error:
                reason = str(error).removeprefix(f"{file} ")
                broken = reason.removeprefix("cannot be read as a picture: ")
                name = name_in(source, file)
                refused.append(f"{name} {reason}" if broken == reason else f"cannot be read: {name}: {broken}")
            else:
                seen[folder.name, stimulus_id] = _Seen(file, image.shape[:2], digest_of(image))
    problems = [*refused[:10], *([f"and {len(refused) - 10} more such pictures"] if len(refused) > 10 else [])]
    sizes = Counter(picture.size for picture in seen.values())
    if len(sizes) > 1:
        usual = sizes.most_common(1)[0][0]
        others = [name_in(source, picture.file) for picture in seen.values() if picture.size != usual]
        problems.append(f"of another size than {usual[1]} x {usual[0]}: {some(others)}")
    return seen, problems


def _expected(folder: _Folder) -> str:
    """Say what is expected of a folder without a picture."""
    text = "pictures are expected as <nsd_id>.png"
    if folder.others:
        text += f"; save as PNG: {some([name for names in folder.others.values() for name in names])}"
    if there := [*(f"{sample.name}/" for sample in folder.samples), *folder.left_out]:
        text += f"; it has {some(there)}"
    return text


def is_litter(name: str) -> bool:
    """Tell whether a name is of what operating systems leave behind, such as AppleDouble's `._4.png`."""
    return name.startswith(".") or name.lower() in LITTER


def check_apart(source: Path, path: Path) -> None:
    """Raise DataError if one of two folders lies in the other, by whatever links and names."""
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path} is a link to nothing; remove it, or choose another --system NAME")
    try:
        here, there = source.resolve(strict=True), path.resolve()
    except (OSError, RuntimeError):
        return  # it is absent, or a loop of links; opening it says so
    if there.exists() and there.samefile(here):
        how = "is"
    elif any(folder.exists() and folder.samefile(here) for folder in there.parents):
        how = "contains"
    elif there.exists() and any(folder.samefile(there) for folder in here.parents):
        how = "lies in"
    else:
        return
    raise DataError(
        f"{source} {how} {path}, which pictures are copied to; choose another --system NAME, or move the pictures to a "
        "folder of their own elsewhere"
    )


def check_free(path: Path, places: list[Path]) -> None:
    """Raise DataError if somebody else's files are where those of `places`, which are `path` and samples in it, go."""
    remedy = "move it away, or choose another --system NAME"
    if path.exists() and not path.is_dir():
        raise DataError(f"{path} is a file; {remedy}")
    for place in places:
        if not place.is_dir():
            if place.exists() or place.is_symlink():
                raise DataError(f"{place} is not a folder; {remedy}")
            continue
        is_ours = bool(_adopted(place))
        if not is_ours and any(not is_litter(entry.name) for entry in place.iterdir()):
            raise DataError(f"{place} is there already, and was not taken in from somebody else; {remedy}")
        ours = set(_files_of(place))
        if strange := sorted(set(place.glob("*.png")) - ours):
            raise DataError(f"{strange[0]} is in the way, and was not taken in from somebody else; {remedy}")
    for sample in _samples_in(path):
        if sample not in places and (sample / INDEX).exists() and not _adopted(sample):
            raise DataError(
                f"{sample} would count as a sample of {path}, and was not taken in from somebody else; {remedy}"
            )


def _samples_in(path: Path) -> list[Path]:
    return [folder for folder in path.glob("sample_*") if re.fullmatch("sample_[0-9]+", folder.name)]


def _adopted(folder: Path) -> dict | None:
    """Read what a folder was adopted from; None where it was not."""
    try:
        record = json.loads((folder / SETTINGS).read_text())
        found = [record.get("settings"), *record.get("lineage", {}).values()]  # the first in earlier versions
    except (OSError, ValueError, AttributeError):
        return None  # absent, or somebody else's file of that name
    return next((settings for settings in found if isinstance(settings, dict) and "adopted" in settings), None)


def _files_of(folder: Path) -> list[Path]:
    """List what adopting made in a folder, settings.json last."""
    settings = _adopted(folder)
    if settings is None:
        return []
    # All that were to be made: of one in flight when the process was killed there is no record.
    records = (folder / RECORDS).glob("[0-9]*.json")
    ids = {*settings.get("stimulus_id", []), *(int(record.stem) for record in records if record.stem.isdecimal())}
    parts = [part for i in sorted(ids) for part in (f"{i:05d}.png", f"{RECORDS}/{i:05d}.json")]
    return [folder / part for part in (INDEX, *parts, SETTINGS)]


def clear(path: Path, recipes: list[Recipe]) -> None:
    """Delete what adopting made in a folder and in its samples, and put new settings into those that have a recipe.

    The index goes first, so that what a kill leaves does not look whole. The settings are never absent as long as there
    is anything else: the folder would not be known as adopted.
    """
    if not _adopted(path):
        return
    recipe_of = {recipe.path: recipe for recipe in recipes}
    (path / INDEX).unlink(missing_ok=True)
    for folder in (*filter(_adopted, _samples_in(path)), path):
        *files, settings = _files_of(folder)
        for file in files:
            file.unlink(missing_ok=True)
        _remove_empty(folder / RECORDS)
        if folder in recipe_of:
            write_atomically(settings, json.dumps(describe(recipe_of[folder])))
        else:
            settings.unlink()
            _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    """Delete a folder in which nobody has left anything."""
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def digest_of(image: np.ndarray) -> str:
    """Give the SHA-256 of an array's shape and values."""
    return hashlib.sha256(f"{image.shape} ".encode() + image.tobytes()).hexdigest()


def name_in(source: Path, file: Path) -> str:
    """Name a file in `source` so that it can be printed."""
    name = file.relative_to(source).as_posix()
    return name if name.isprintable() else ascii(name)


def some(items: list) -> str:
    """List the first ten."""
    rest = f" and {len(items) - 10} more" if len(items) > 10 else ""
    return f"{', '.join(map(str, items[:10]))}{rest}"
