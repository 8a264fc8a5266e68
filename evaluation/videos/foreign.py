"""Somebody else's films, taken into a folder of reconstructions as strips, frame by frame, and never touched.

Taken are GIFs, MP4s, strips (a PNG with square frames below one another) and folders of frames, each named by its clip:
`test2_5`, or its stimulus_id, 102005; or as Mind-Animator's authors released theirs, `test1` to `test1200`, the place
among all test clips. Frames that a GIF merged are repeated by their durations. Whatever leaves open which film is
meant, or how it looks, is refused by name; other files are left out with a word.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.cc2017 import clip_key, clip_name
from evaluation.videos.files import read_stored, repeats
from minddiffuser.recipe import Recipe
from minddiffuser.store import DataError
from reconstruction.folder import ReconstructionFolder
from reconstruction.foreign import check_apart, check_free, clear, digest_of, is_litter, name_in, some

SCRIPT = "evaluation/44_score_films.py"
SUFFIXES = (".gif", ".mp4", ".png")
_LEAST = 16  # pixels of a frame: SSIM's window has 11
_MOST_LISTED = 10


def adopt(
    source: Path,
    path: Path,
    subject: str,
    test_ids: Sequence[int] | np.ndarray,
    n_frames: int,
    allow_missing: bool = False,
    flags: Sequence[str] = (),
) -> str:
    """Make a folder of reconstructions of somebody else's films.

    Everything is checked before anything is written. A folder that was adopted before is replaced; what somebody else
    put into it stays. The films are read twice, one at a time, so that memory does not grow with their number.

    Parameters
    ----------
    source : Path
        With a film of each clip: `test2_5.gif`, `102005.mp4`, `test2_5.png`, or a folder `test2_5` of its frames.
    path : Path
        The folder to make: absent, empty, or adopted before.
    subject : str
    test_ids : sequence of int
        stimulus_id of the test clips.
    n_frames : int
        Frames that a film must have.
    allow_missing : bool
        Go on when some test clips have no film.
    flags : sequence of str
        What to know before comparing their scores.

    Returns
    -------
    str
        What was taken, and what was left out, in a line.

    Raises
    ------
    DataError
        `source` is no folder, or lies in `path`, or `path` in it; `path` has what adopting did not make; or films have
        other names, are not of test clips, are missing, are two of one clip, cannot be read, have another number of
        frames, are not square, or differ in size, in which case the message lists all of them.
    """
    check_apart(source, path)
    ids = sorted(int(i) for i in test_ids)
    films, others, left_out, problems = _sort(source, [key for key in ids if clip_name(key).startswith("test")])
    if not films and not problems:
        text = f"{source} has no films: they are expected as GIF, MP4, strip or folder of frames, such as test2_5.gif"
        raise DataError(f"{text}; it has {some(left_out)}" if left_out else text)
    if strangers := [name_in(source, files[0]) for key, files in films.items() if key not in ids]:
        problems.append(f"not of test clips: {some(strangers)}; those are {clip_name(ids[0])} to {clip_name(ids[-1])}")
    if unread := [name for key, name in others.items() if key in ids and key not in films]:
        problems.append(f"neither GIF nor MP4 nor PNG: {some(unread)}; save them as one of these")
    if (missing := [clip_name(key) for key in ids if key not in films]) and not allow_missing:
        problems.append(f"test clips without a film: {some(missing)}; with --allow-missing they are left out")
    seen, refused = _look(source, path, films, n_frames)
    problems += refused
    if problems:
        raise DataError(f"{source}:\n" + "\n".join(f"  - {problem}" for problem in problems))

    check_free(path, [path])
    digests = "".join(f"{key} {seen[key].digest} {seen[key].repeats}\n" for key in sorted(seen))
    made_of = {
        "adopted": str(source),
        "stimulus_id": sorted(seen),
        "films": hashlib.sha256(digests.encode()).hexdigest(),
        "n_frames": n_frames,
    }
    recipe = Recipe(path.parent, path.name, subject, SCRIPT, made_of)
    clear(path, [recipe])
    output = ReconstructionFolder(recipe, len(ids), flags=list(flags), n_frames=n_frames)
    for key in sorted(seen):
        film, stored = seen[key], read_stored(seen[key].file, n_frames)
        if digest_of(stored.frames) != film.digest:
            raise DataError(f"{film.file} was changed while it was taken; wait until it is finished, and start again")
        output.save([key], np.repeat(stored.frames, film.repeats, axis=0)[None], seed=-1)
    output.write_index()
    n_merged = sum(max(film.repeats) > 1 for film in seen.values())
    return (
        f"{len(seen)} films taken from {source} ({len(seen)} of {len(ids)} test clips)"
        + (f"; merged frames of {n_merged} were repeated" if n_merged else "")
        + (f"; left out: {some(left_out)}" if left_out else "")
    )


def _sort(source: Path, places: list[int]) -> tuple[dict[int, list[Path]], dict[int, str], list[str], list[str]]:
    """Sort what is in a folder: films by clip, other files by clip, all that is left out, and what is wrong."""
    try:
        entries = sorted(entry for entry in source.iterdir() if not is_litter(entry.name))
    except OSError as error:
        raise DataError(f"{source} is not a folder that can be read ({error.strerror}); films are expected") from error
    films, others, left_out, unnamed = defaultdict(list), {}, [], []
    for entry in entries:
        is_folder = entry.is_dir()
        key = clip_of(entry.name if is_folder else entry.stem, places, is_folder)
        if not is_folder and entry.suffix.lower() not in SUFFIXES:
            left_out.append(name_in(source, entry))
            others |= {} if key is None else {key: left_out[-1]}
        elif key is not None:
            films[key].append(entry)
        elif is_folder or re.fullmatch(r"test_and_gt\d+", entry.stem):  # the authors' grids of both films
            left_out.append(name_in(source, entry) + ("/" if is_folder else ""))
        else:
            unnamed.append(name_in(source, entry))
    problems = []
    if unnamed:
        problems.append(f"not named by a clip, such as test2_5 or 102005: {some(unnamed)}")
    several = [files for files in films.values() if len(files) > 1]
    if twice := [" and ".join(name_in(source, file) for file in files) for files in several]:
        problems.append(f"more than one film of a clip: {some(twice)}; leave the one that is meant")
    return dict(films), others, left_out, problems


def clip_of(name: str, places: Sequence[int], is_folder: bool = False) -> int | None:
    """Tell which clip a name is of: its stimulus_id, or None where it names none.

    Parameters
    ----------
    name : str
        seg3_17, test2_5, 102005, or, of files, test17: the 17th of all test clips, film after film.
    places : sequence of int
        Sorted stimulus_id of all clips of test films.
    is_folder : bool
        A folder test1 may be of a film, and not of a clip.
    """
    if found := re.fullmatch(r"((?:seg|test)[1-9]\d?)_0*([1-9]\d*)", name):
        try:
            return clip_key(found[1], int(found[2]))
        except DataError:
            return None
    if re.fullmatch(r"\d+", name):
        return int(name)
    found = re.fullmatch(r"test0*([1-9]\d*)", name)
    return places[int(found[1]) - 1] if found and not is_folder and int(found[1]) <= len(places) else None


class _Seen(NamedTuple):
    """A film that can be taken."""

    file: Path
    width: int
    digest: str  # of its frames as they are stored
    repeats: list[int]  # of each of them


def _look(source: Path, path: Path, films: dict[int, list[Path]], n_frames: int) -> tuple[dict[int, _Seen], list[str]]:
    """Look at all films: those that can be taken by clip, and what is wrong with the others."""
    there, found, refused = path.resolve(), [], []
    for key, file in ((key, file) for key, files in films.items() for file in files):
        name = name_in(source, file)
        try:
            if there in file.resolve().parents:
                raise DataError(f"{file} is a link into {path}, which films are copied to; put a copy in its place")
            stored = read_stored(file, n_frames)
        except DataError as error:
            reason = str(error).removeprefix(f"{file} ")
            refused.append(f"{name} {reason}" if str(error).startswith(f"{file} ") else f"{name}: {reason}")
            continue
        height, width = stored.frames.shape[1:3]
        if height != width or width < _LEAST:
            why = "square frames are expected" if height != width else f"at least {_LEAST} are expected"
            refused.append(f"{name} has frames {width} pixels wide and {height} high: {why}")
        else:
            found.append((key, file, width, digest_of(stored.frames), len(stored.frames), stored.durations))
    whole = [float(np.median(durations)) for *_, n, durations in found if n == n_frames and durations is not None]
    period = float(np.median(whole)) if whole else None
    seen = {}
    for key, file, width, digest, n, durations in found:
        again = [1] * n if n == n_frames else None
        if durations is not None:
            again = repeats(durations, n_frames, period)
        if again is None:
            shown = "" if durations is None else f", shown for {durations.sum():g} ms in all"
            stored = f"{n} frame{'s' if n > 1 else ''}"
            refused.append(f"{name_in(source, file)} has {stored}{shown}: {n_frames} are expected")
        else:
            seen[key] = _Seen(file, width, digest, again)
    more = len(refused) - _MOST_LISTED
    problems = [*refused[:_MOST_LISTED], *([f"and {more} more such films"] if more > 0 else [])]
    sizes = Counter(film.width for film in seen.values())
    if len(sizes) > 1:
        usual = sizes.most_common(1)[0][0]
        others = [name_in(source, film.file) for film in seen.values() if film.width != usual]
        problems.append(f"of another size than {usual} x {usual}: {some(others)}")
    return seen, problems
