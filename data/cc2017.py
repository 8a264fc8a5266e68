"""Read CC2017 from its own files; the only module that knows their format.

Three subjects watched films of natural scenes in a 3 T scanner: 18 training films twice and 5 test films ten times,
each of 8 minutes. A volume takes 2 s, and so long is a clip, of which each film has 240. Numbers of films, clips and
repetitions are read from the files, never assumed, so that the miniature is read by the same code.

    Stimuli/video_fmri_dataset/stimuli/seg1.mp4 ... test1.mp4 ...
    Subject01/video_fmri_dataset/subject1/fmri/seg1/cifti/seg1_1_Atlas.dtseries.nii ...   run 1 of film seg1
    captions/Train_captions_new.h5, Test_captions_new.h5    of Mind-Animator's authors

A session is 12 s of the film's first frame, the film, and 12 s of its last frame. The recording of training films and
of test1 begins 2 s into the film and has 245 volumes; that of other tests begins with it and has 246. So
`volume_window` pairs a clip with the volume that begins 4 s after it: Wen et al. put the peak of the haemodynamic
response at 4 s.

Reference: Wen et al. 2018, doi 10.1093/cercor/bhx268; data in PURR 2809. Windows are those of
step4_fMRI_preparation_FLSR.py of Mind-Animator's authors (github.com/ReedOnePeck/MindAnimator).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import h5py
import nibabel as nib
import numpy as np
from nibabel.cifti2 import BrainModelAxis, SeriesAxis

from data.cortex import Cortex, cortex_of
from minddiffuser.store import DataError, reading

SECONDS = 2.0  # of a clip; and from volume to volume
WHERE = "download it from https://purr.purdue.edu/publications/2809"
_WHERE_CAPTIONS = "they are in github.com/ReedOnePeck/MindAnimator"
# Seconds that a film may be shorter or longer than its clips. Containers count frames loosely, and 14,400 frames that
# are played at 29.97 a second in place of 30 last 480.48 s. What is after the last clip is not read.
_SHORTER, _LONGER = 0.1, 0.5
_AFTER = 4  # volumes of a recording that come after the window of `volume_window`
_FILM, _RECORDING = "a film", "a recording (CIFTI-2 dense time series)"


class Film(NamedTuple):
    """A film.

    Attributes
    ----------
    name : str
        Such as seg1, of training, or test1.
    path : Path
    n_frames : int
    fps : float
        Frames a second.
    n_clips : int
        Of 2 s.
    """

    name: str
    path: Path
    n_frames: int
    fps: float
    n_clips: int

    @property
    def is_test(self) -> bool:
        """Whether it is a test film."""
        return self.name.startswith("test")


# Films.


def films(root: Path) -> dict[str, Film]:
    """Find the films, of which only the headers are read: training films, then test films, each by number.

    Raises
    ------
    DataError
        There are none of either kind, or one between is missing; one is broken, or does not last a whole number of
        clips.
    """
    return {path.stem: film_of(path) for path in film_paths(root)}


def film_paths(root: Path) -> list[Path]:
    """List the films, training films first, each by number: one of each kind at least, and those between that lack."""
    folder = root / "Stimuli" / "video_fmri_dataset" / "stimuli"
    names, found = [path.stem for path in folder.glob("*.mp4")], []
    for kind in ("seg", "test"):
        numbers = [int(match[1]) for name in names if (match := re.fullmatch(rf"{kind}([1-9]\d*)", name))]
        found += [folder / f"{kind}{number}.mp4" for number in range(1, max(numbers, default=1) + 1)]
    return found


def film_of(path: Path) -> Film:
    """Read the header of a film.

    Raises
    ------
    DataError
        The file is missing or broken, or does not last a whole number of clips: it may be .1 s shorter or .5 s longer.
    """
    with _open_film(path) as capture:
        n_frames, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), float(capture.get(cv2.CAP_PROP_FPS))
        if n_frames < 1 or fps <= 0:
            raise DataError(f"{path} has {n_frames} frames, {fps:g} a second", WHERE, path)
    seconds = n_frames / fps
    n_clips = round(seconds / SECONDS)
    if not n_clips or not -_SHORTER <= seconds - n_clips * SECONDS <= _LONGER:
        raise DataError(
            f"{path} has {n_frames} frames, {fps:g} a second: it lasts {seconds:.2f} s, which is not a whole number of "
            f"clips of {SECONDS:g} s",
            WHERE,
            path,
        )
    return Film(path.stem, path, n_frames, fps, n_clips)


def read_clips(film: Film, n_frames: int, frame_step: int, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Read a film clip by clip. Peak memory: one clip.

    Parameters
    ----------
    film : Film
    n_frames : int
        Of each clip that are taken.
    frame_step : int
        Frames of the film from one taken frame to the next; the first is the clip's own first.
    size : int
        Height and width that frames are given, in pixels, whatever the film's aspect.

    Yields
    ------
    clip : int
        Number in the film, from 1.
    frames : array of shape (n_frames, size, size, 3), uint8
        Red, green, blue.

    Raises
    ------
    DataError
        A clip has too few frames for `n_frames` and `frame_step`; or the film is broken, or ends before its time.
    """
    last, of_a_clip = (n_frames - 1) * frame_step, round(SECONDS * film.fps)
    if last >= of_a_clip:
        raise DataError(
            f"{film.path} has {of_a_clip} frames in a clip of {SECONDS:g} s: experiment.mind_animator.clips.n_frames "
            f"{n_frames} and frame_step {frame_step} need {last + 1}"
        )
    with _open_film(film.path) as capture:
        place = 0  # of the next frame
        for clip in range(film.n_clips):
            start, frames = round(clip * SECONDS * film.fps), []
            for wanted in range(start, start + last + 1, frame_step):
                while place <= wanted and capture.grab():
                    place += 1
                picture = capture.retrieve()[1] if place > wanted else None
                if picture is None:
                    text = f"{film.path} ends, or is broken, after {place} of {film.n_frames} frames"
                    raise DataError(text, WHERE, film.path)
                frames.append(_resized(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), size))
            yield clip + 1, np.stack(frames)


def _resized(picture: np.ndarray, size: int) -> np.ndarray:
    if picture.shape[:2] == (size, size):
        return picture
    is_smaller = size < max(picture.shape[:2])
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR)


@contextmanager
def _open_film(path: Path) -> Iterator[cv2.VideoCapture]:
    if not path.is_file():
        raise DataError(f"a film is missing: expected {path}", WHERE, path)
    if not cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        text = f"OpenCV {cv2.__version__} was built without FFmpeg, and cannot read {path}"
        raise DataError(text, "install it as this project does: pip install opencv-python-headless")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        with reading(path, _FILM, WHERE):
            if not capture.isOpened():
                raise ValueError(f"OpenCV {cv2.__version__} cannot open it with FFmpeg")
            if (end := end_of_boxes(path)) > path.stat().st_size:
                raise ValueError(f"it has {path.stat().st_size} of {end} bytes")
            yield capture
    finally:
        capture.release()


def end_of_boxes(path: Path) -> int:
    """Bytes that an MP4 file must have, by the sizes of its outermost boxes (ISO 14496-12): what decoders overlook."""
    size, end = path.stat().st_size, 0
    with path.open("rb") as file:
        while end < size:
            file.seek(end)
            start = file.read(16)
            n_bytes = int.from_bytes(start[:4], "big")
            if n_bytes == 1:
                n_bytes = int.from_bytes(start[8:], "big")
            if n_bytes < 8:  # 0: this one goes to the end, whatever it is
                return size
            end += n_bytes
    return end


def clip_key(film: str, clip: int) -> int:
    """Make an integer of a film's name and the number of a clip in it, from 1: seg3_17 is 3017, test2_5 is 102005.

    Raises
    ------
    DataError
        The film is called otherwise, or a number is too large.
    """
    match = re.fullmatch(r"(seg|test)([1-9]\d?)", film)
    if match is None or not 1 <= clip <= 999:
        raise DataError(f"{film}, clip {clip}: films are called seg1 to seg99 and test1 to test99, and have 999 clips")
    return 100_000 * (match[1] == "test") + 1000 * int(match[2]) + clip


def clip_name(key: int) -> str:
    """Give the name that `clip_key` made a number of, such as seg3_17."""
    is_test, rest = divmod(key, 100_000)
    return f"{'test' if is_test else 'seg'}{rest // 1000}_{rest % 1000}"


def read_captions(root: Path, split: Literal["training", "test"], n_clips: int) -> list[str]:
    """Read the captions of all training films, or of all test films: one a clip, film after film.

    Raises
    ------
    DataError
        The file is missing, broken or of the other films; captions are more or fewer than clips, empty, or not UTF-8.
    """
    name = {"training": "Train", "test": "Test"}[split]
    path, key = root / "captions" / f"{name}_captions_new.h5", f"{name}_captions"
    if not path.is_file():
        raise DataError(f"captions are missing: expected {path}", _WHERE_CAPTIONS, path)
    with reading(path, "captions", _WHERE_CAPTIONS), h5py.File(path, "r", locking=False) as file:
        if key not in file:
            raise DataError(f"{path} has {', '.join(file) or 'nothing'}, not {key}", _WHERE_CAPTIONS, path)
        dataset: Any = file[key]
        if dataset.shape != (n_clips,) or h5py.check_string_dtype(dataset.dtype) is None:
            text = f"{path}: {key} has {dataset.dtype} of shape {dataset.shape}, but {split} films have {n_clips} clips"
            raise DataError(f"{text}, which need a caption each", _WHERE_CAPTIONS, path)
        stored = [bytes(text) for text in dataset[:]]
    captions = []
    for number, text in enumerate(stored, start=1):
        try:
            captions.append(text.decode())
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: caption {number} is not UTF-8 ({error})", _WHERE_CAPTIONS, path) from error
        if not captions[-1].strip():
            raise DataError(f"{path}: caption {number} is empty", _WHERE_CAPTIONS, path)
    return captions


# Recordings.


def recording_path(root: Path, subject: str, film: str, repetition: int) -> Path:
    """Path of a run; the folder of Subject01 has a folder subject1."""
    return _recordings(root, subject) / film / "cifti" / f"{film}_{repetition}_Atlas.dtseries.nii"


def recorded_films(root: Path, subject: str) -> set[str]:
    """Name the films of which a subject has recordings."""
    folder = _recordings(root, subject)
    return {path.name for path in folder.glob("*") if re.fullmatch(r"(seg|test)\d+", path.name)}


def repetitions(root: Path, subject: str, film: str) -> list[int]:
    """Numbers of the runs in which a subject watched a film; none where there is no recording."""
    first = recording_path(root, subject, film, 1)
    names = [path.name for path in first.parent.glob("*.dtseries.nii")]
    return sorted(
        int(match[1]) for name in names if (match := re.fullmatch(rf"{film}_(\d+)_Atlas\.dtseries\.nii", name))
    )


def read_cortex(path: Path) -> Cortex:
    """Find the vertices of the cortex in a recording, by its brain models.

    Raises
    ------
    DataError
        The file is missing, truncated or of another kind; volumes are not 2 s apart; there is no brain model of a
        hemisphere of the cortex, or it is of another mesh than fs_LR 32k.
    """
    return _open_recording(path)[2]


def read_run(path: Path, cortex: Cortex, n_clips: int, extra_lag: int = 0, n_volumes: int = 1) -> np.ndarray:
    """Read the volumes of a run that belong to the film's clips, in the columns of the cortex.

    Peak memory: twice the result.

    Parameters
    ----------
    path : Path
    cortex : Cortex
        That all runs of the subject are to have.
    n_clips : int
        Of the film.
    extra_lag, n_volumes : int
        See `volume_window`.

    Returns
    -------
    array of shape (n_clips + n_volumes - 1, n_vertices), float32
        As it is in the file.

    Raises
    ------
    DataError
        See `read_cortex` and `volume_window`; or the recording has other vertices than `cortex`.
    """
    image, n_recorded, found = _open_recording(path)
    if not (np.array_equal(found.vertex, cortex.vertex) and np.array_equal(found.hemisphere, cortex.hemisphere)):
        raise DataError(
            f"{path} has other vertices of the cortex ({len(found.vertex)}) than the subject's first run "
            f"({len(cortex.vertex)})",
            WHERE,
            path,
        )
    try:
        window = volume_window(n_recorded, n_clips, extra_lag, n_volumes)
    except DataError as error:
        raise DataError(f"{path}: {error.text}", error.remedy, path) from error
    start, stop = int(found.column.min()), int(found.column.max()) + 1
    with reading(path, _RECORDING, WHERE):
        volumes = np.asarray(image.dataobj[window, start:stop], np.float32)
    return volumes if stop - start == len(found.column) else volumes[:, found.column - start]


def volume_window(n_recorded: int, n_clips: int, extra_lag: int = 0, n_volumes: int = 1) -> slice:
    """Choose the volumes that are paired with the clips of a film.

    Of 245 volumes for 240 clips these are 1 to 240, and of 246 they are 2 to 241, from 0: each begins 4 s after its
    clip.

    Parameters
    ----------
    n_recorded : int
        Volumes of the recording.
    n_clips : int
        Of the film.
    extra_lag : int
        Volumes by which the pairing is later than that.
    n_volumes : int
        Volumes that each clip is paired with, one after the other: the first `n_clips` of the slice are the first
        ones of the clips, those after the first of the slice the second ones, and so on.

    Raises
    ------
    DataError
        The recording is not 5 or 6 volumes longer than the film, or ends before the last volume.
    """
    first = n_recorded - n_clips - _AFTER
    if first not in (1, 2):
        raise DataError(
            f"{n_recorded} volumes were recorded for {n_clips} clips, not {n_clips + 5} (from 2 s into the film on) or "
            f"{n_clips + 6} (from its beginning on)",
            WHERE,
        )
    window = slice(first + extra_lag, first + extra_lag + n_clips + n_volumes - 1)
    if window.start < 0 or window.stop > n_recorded:
        raise DataError(
            f"volumes {window.start} to {window.stop - 1} are asked for, from 0, and {n_recorded} were recorded",
            "lower experiment.mind_animator.voxels.extra_lag or n_volumes: together they reach 5 at most",
        )
    return window


def _recordings(root: Path, subject: str) -> Path:
    match = re.fullmatch(r"[^\W\d]+0*([1-9]\d*)", subject)
    if match is None:
        raise DataError(f"{subject} is no subject of CC2017, which are called Subject01, Subject02, ...")
    return root / subject / "video_fmri_dataset" / f"subject{match[1]}" / "fmri"


def _open_recording(path: Path) -> tuple[Any, int, Cortex]:
    """Open a recording: its image, its number of volumes, and its cortex."""
    if not path.is_file():
        raise DataError(f"a recording is missing: expected {path}", WHERE, path)
    with reading(path, _RECORDING, WHERE):
        image: Any = nib.load(path)
        axes = [image.header.get_axis(k) for k in (0, 1)] if isinstance(image, nib.Cifti2Image) else []
    if [type(axis) for axis in axes] != [SeriesAxis, BrainModelAxis]:
        found = " by ".join(type(axis).__name__.removesuffix("Axis") for axis in axes) or type(image).__name__
        raise DataError(f"{path} is not a dense time series but {found}", WHERE, path)
    series, models = axes
    if series.unit != "SECOND" or abs(series.step - SECONDS) > 1e-3:
        text = f"{path} has a volume each {series.step:g} {series.unit.lower()}, not each {SECONDS:g} second"
        raise DataError(text, WHERE, path)
    if image.shape != (len(series), len(models)):
        text = f"{path} has data of shape {image.shape}, but a header for {(len(series), len(models))}"
        raise DataError(text, WHERE, path)
    proxy: Any = image.dataobj
    n_bytes = proxy.offset + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
    if (size := path.stat().st_size) < n_bytes:
        raise DataError(f"{path} is truncated: it has {size} of {n_bytes} bytes", WHERE, path)
    return image, len(series), cortex_of(models, path, WHERE)
