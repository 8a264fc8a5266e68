"""Write a simulated CC2017 in its own on-disk layout (Wen et al. 2018, doi 10.1093/cercor/bhx268; PURR 2809).

Films are MPEG-4, recordings are CIFTI-2 on vertices of the fs_LR 32k surfaces that have the areas of HCP-MMP 1.0 which
the paper decodes from, and captions are as the authors of Mind-Animator give them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import cv2
import h5py
import nibabel as nib
import numpy as np
import torch
from nibabel.cifti2 import BrainModelAxis, SeriesAxis
from torch.nn import functional
from transformers import CLIPTokenizer

from data.cc2017 import SECONDS, film_of, read_clips, recording_path
from data.cortex import N_SURFACE, read_atlas
from evaluation.metrics.features import clip_embeddings
from minddiffuser.config.mind_animator import Clips
from minddiffuser.config.miniature import MiniatureCc2017
from minddiffuser.pretrained.clip import Clip
from minddiffuser.progress import progress
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import DataError, write_arrays, write_atomically
from miniature.movies import FRAMES_PER_CLIP, FRAMES_PER_SECOND, Film, caption_clip, draw_captions
from miniature.scenes import IMAGE_SIZE
from miniature.video_brain import AREAS, View, drive, record, sample_brain

SHOTS = "miniature_shots.csv"  # what the real dataset does not tell
_SILENT = ("A1", "4", "3b")
_SUBCORTEX = "THALAMUS_LEFT"
_MASK = np.zeros((91, 109, 91), bool)  # the grid of the real recordings: voxels of 2 mm
_MASK[50:53, 52:55, 39:42] = True
_AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
# Factors of noise ceilings by the subject's place in the list: the second is noisier. Others: 1.
_QUALITY = {1: 0.85}
# A recording that began late, and by how many volumes: the real one was left out by the authors for that.
_LATE = {("Subject03", "test2", 9): 5}


class Grayordinates(NamedTuple):
    """What is recorded: vertices of the left and right surface, in the order of their numbers, and some voxels.

    Attributes
    ----------
    axis : BrainModelAxis
        Of `n_left + n_right + n_voxels` columns.
    areas : array of shape (n_left + n_right + n_voxels,), str
        Names in HCP-MMP 1.0, such as V3A; empty for voxels.
    """

    axis: BrainModelAxis
    areas: np.ndarray


class Recording(NamedTuple):
    """A run: a film watched once, recorded from so many volumes after its beginning."""

    film: str
    repetition: int
    start: int
    n_volumes: int


def films_of(size: MiniatureCc2017) -> dict[str, int]:
    """Names of the films, training films first, and their numbers of clips."""
    training = {f"seg{number}": size.clips for number in range(1, size.n_segments + 1)}
    return training | {f"test{number}": size.test_clips for number in range(1, size.n_tests + 1)}


def film_path(root: Path, name: str) -> Path:
    """Path of a film."""
    return root / "Stimuli" / "video_fmri_dataset" / "stimuli" / f"{name}.mp4"


def recordings_of(subject: str, size: MiniatureCc2017) -> list[Recording]:
    """All runs of a subject.

    A session lasts 12 s longer than the film at either end. Recordings of training films and of test1 begin 2 s into
    the film and those of other tests with it; all end with the session.
    """
    runs = []
    for name, n_clips in films_of(size).items():
        is_training = name.startswith("seg")
        start = 1 if is_training or name == "test1" else 0
        for repetition in range(1, (size.repetitions if is_training else size.test_repetitions) + 1):
            late = _LATE.get((subject, name, repetition), 0)
            runs.append(Recording(name, repetition, start + late, n_clips + 6 - start))
    return runs


def write_film(path: Path, frames: np.ndarray) -> None:
    """Write frames, (n_frames, height, width, 3) uint8, as MPEG-4: the same frames give the same bytes."""
    with TemporaryDirectory() as folder:
        place = Path(folder) / path.name
        code, height_width = cv2.VideoWriter.fourcc(*"mp4v"), frames.shape[1:3]
        writer = cv2.VideoWriter(str(place), code, FRAMES_PER_SECOND, height_width[::-1])
        if not writer.isOpened():
            raise DataError(f"OpenCV {cv2.__version__} cannot write MPEG-4", "pip install opencv-python-headless")
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
        write_atomically(path, place.read_bytes())


def read_film(path: Path) -> np.ndarray:
    """Read all frames of a film, (n_frames, 64, 64, 3) uint8, as those who decode it do."""
    clips = read_clips(film_of(path), FRAMES_PER_CLIP, 1, IMAGE_SIZE)
    return np.concatenate([frames for _, frames in clips])


def caption_film(
    film: Film,
    name: str,
    frames: np.ndarray,
    clip: Clip,
    tokenizer: CLIPTokenizer,
    settings: Clips,
    seed: int,
) -> list[str]:
    """Caption each clip of a film by its first and its last frame, and by how well these fit to its middle.

    Parameters
    ----------
    film : Film
    name : str
    frames : array of shape (n_frames, 64, 64, 3), uint8
        The film as it is on disk.
    clip : Clip
        Guides, and has the words of the tokenizer.
    tokenizer : CLIPTokenizer
    settings : Clips
        Which frame is in the middle, and when captions are joined.
    seed : int
    """
    first, last = draw_captions(film, name, seed)
    middle = frames[settings.middle_frame * settings.frame_step :: FRAMES_PER_CLIP]
    images = clip_embeddings(clip, middle, torch.device("cpu"), 64)
    of_images = functional.normalize(torch.from_numpy(images), dim=1)
    similarities = np.stack(
        [(of_images * _embed(texts, clip, tokenizer)).sum(dim=1).numpy() for texts in (first, last)], axis=1
    )
    return [
        caption_clip(*texts, of_clip, settings.join_above, numpy_generator(seed, "caption coin", name, number))
        for number, (texts, of_clip) in enumerate(zip(zip(first, last, strict=True), similarities, strict=True))
    ]


def _embed(texts: Sequence[str], clip: Clip, tokenizer: CLIPTokenizer) -> torch.Tensor:
    """Embeddings of texts by CLIP, (n, width), of length 1."""
    ids = tokenizer(
        list(texts), padding="max_length", truncation=True, max_length=clip.model.context_length, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        return clip.model.encode_text(ids, normalize=True).double()


def write_captions(root: Path, captions: Mapping[str, Sequence[str]]) -> None:
    """Write the captions of all films, which are in order: those of training films to one file, of tests to another."""
    for split, beginning in (("Train", "seg"), ("Test", "test")):
        texts = [text for name, of_film in captions.items() if name.startswith(beginning) for text in of_film]
        arrays = {f"{split}_captions": np.array(texts, dtype=h5py.string_dtype())}
        write_arrays(root / "captions" / f"{split}_captions_new.h5", arrays, {})


def write_shots(root: Path, films: Mapping[str, Film]) -> None:
    """Write what is known of each clip of a simulated film: its shot, and its motion in pixels a frame.

    The shot, from 0, is that of the middle; motion to the right and down is the mean over the clip.
    """
    lines = ["film,clip,shot,right,down"]
    for name, film in films.items():
        steps = film.steps.reshape(-1, FRAMES_PER_CLIP, 2)[:, :-1].mean(axis=1)
        shots = film.shot[FRAMES_PER_CLIP // 2 :: FRAMES_PER_CLIP]
        lines += [
            f"{name},{number},{shot},{right:.4f},{down:.4f}"
            for number, (shot, (right, down)) in enumerate(zip(shots, steps, strict=True), start=1)
        ]
    write_atomically(root / SHOTS, "\n".join(lines) + "\n")


def choose_grayordinates(size: MiniatureCc2017, seed: int) -> Grayordinates:
    """Draw vertices of each visual area of each hemisphere, and of areas that see nothing; the same for all subjects.

    Raises
    ------
    DataError
        More silent vertices are asked for than there are.
    """
    hemisphere, vertex, area = read_atlas()
    is_chosen = np.zeros(len(area), bool)
    for side in ("L", "R"):
        for name in AREAS:
            rows = np.flatnonzero((hemisphere == side) & (area == name))
            n = max(round(size.vertex_share * len(rows)), 1)
            is_chosen[numpy_generator(seed, "vertices", side, name).choice(rows, n, replace=False)] = True
    silent = np.flatnonzero(np.isin(area, _SILENT))
    if size.n_silent > len(silent):
        raise DataError(f"experiment.miniature_cc2017.n_silent: {', '.join(_SILENT)} have {len(silent)} vertices")
    is_chosen[numpy_generator(seed, "silent vertices").choice(silent, size.n_silent, replace=False)] = True
    left, right = (
        BrainModelAxis.from_surface(
            vertex[is_chosen & (hemisphere == side)], N_SURFACE, f"CIFTI_STRUCTURE_CORTEX_{long}"
        )
        for side, long in (("L", "LEFT"), ("R", "RIGHT"))
    )
    axis = left + right + BrainModelAxis.from_mask(_MASK, _SUBCORTEX, _AFFINE)
    return Grayordinates(axis, np.concatenate([area[is_chosen], np.full(int(_MASK.sum()), "")]))


def write_recordings(
    root: Path,
    subject: str,
    subjects: Sequence[str],
    views: Mapping[str, View],
    grayordinates: Grayordinates,
    size: MiniatureCc2017,
    seed: int,
) -> None:
    """Write the runs of a subject; those that are there already are left.

    Parameters
    ----------
    root : Path
    subject : str
    subjects : sequence of str
        All of them, in the order of `size.direction`.
    views : mapping of str to View
        What there is to see in each film.
    grayordinates : Grayordinates
    size : MiniatureCc2017
    seed : int
    """
    runs = [
        run
        for run in recordings_of(subject, size)
        if not recording_path(root, subject, run.film, run.repetition).exists()
    ]
    if not runs:
        return
    place = list(subjects).index(subject)
    owner = place if size.direction[place] else 0  # whose brain it is; its noise goes with it
    brain = sample_brain(
        grayordinates.areas, _QUALITY.get(owner, 1.0), numpy_generator(seed, "film brain", subjects[owner])
    )
    drives = dict(zip(views, drive(list(views.values()), brain, size.named, size.direction[place]), strict=True))
    for run in progress(runs, desc=f"runs of {subject}"):
        rng = numpy_generator(seed, "film run", subjects[owner], run.film, run.repetition)
        volumes = record(drives[run.film], brain, run.start, run.n_volumes, rng)
        write_atomically(
            recording_path(root, subject, run.film, run.repetition), dense_series(volumes, grayordinates.axis)
        )


def dense_series(volumes: np.ndarray, axis: BrainModelAxis) -> bytes:
    """Give a CIFTI-2 dense time series of volumes, (n_volumes, n_grayordinates) float32, 2 s apart."""
    image: Any = nib.Cifti2Image(volumes, (SeriesAxis(0, SECONDS, len(volumes)), axis))
    image.update_headers()
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES")
    return image.to_bytes()
