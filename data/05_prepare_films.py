"""From CC2017's files to rows of vertices, one a clip of 2 s: what Mind-Animator decodes from.

    python data/05_prepare_films.py [--config configs/miniature.yaml] [--subject Subject01]

Reads films (their headers) and recordings under `execution.cc2017`. Each run is cut to the volumes of its clips, which
begin 4 s after them, detrended and z-scored over them; repetitions are averaged; the vertices whose responses to
training films repeat best are taken, and columns are scaled to mean 0 and deviation 1 over training clips. Test clips
are scaled as `voxels.test_scaling` says; where a form scales them by themselves, z-scores of these rows are what it
wants. For each subject it writes `runs/<name>/<subject>/prepared.h5`:

    betas          (n_clips, n_vertices) float32. With `voxels.n_volumes` above 1 the vertices' first volumes come
                   first, then their second ones, and so on
    stimulus_id    (n_clips,)  3017 for clip 17 of seg3, 102005 for clip 5 of test2; test clips first, film after film
    film, clip     (n_clips,)  name, and number in it, from 1
    is_test        (n_clips,)  bool
    is_validation  (n_clips,)  bool: the last training clips, which are held out of training
    n_repetitions  (n_clips,)
    betas_halves   (n_test, 2, n_vertices) float32  means of the first and of the second half of the repetitions, as
                               many in both; NaN where there is one
    roi            (n_vertices,)  area of HCP-MMP 1.0 where it is one that the paper names, else "other"
    hemisphere, vertex, volume (n_vertices,)  "L" or "R"; number in the mesh fs_LR 32k; which volume of a clip, from 0
    fisher_z       (n_films, n_vertices)  of repetitions of each training film
    noise_ceiling  (n_vertices,)  percent of variance with three trials
    form, is_selected  (n_forms,) and (n_forms, n_vertices)  which vertices each of `mind_animator.forms` decodes from;
                               those that none does are not there
    cortex_roi, cortex_reliability  (n_cortex,)  of all vertices of the cortex: area, and mean r of repetitions
    run, lag, agreement, is_left_out, n_empty  (n_runs,)  name; volumes by which it was recorded later in the film than
                               the mean of the others; r with that mean; whether `voxels.exclude` names it; vertices
                               without data

and `reliability.csv`, a table by area. Films are kept as parts, so that a killed run goes on with the next film, and
shards can share them. A run that was recorded late or early stops the run unless it is left out; one that agrees with
the others so little that it may be of another subject is named.

Reference: step4_fMRI_preparation_FLSR.py of Mind-Animator's authors. Peak memory: 1 GB for a real subject.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

from functools import partial

import numpy as np

from data import cc2017, cortex, film_recipes
from data.film_averaging import average_film, find_strangers, make_rows, reliability_by_area, runs_of
from minddiffuser import terminal
from minddiffuser.cli import Run, execute, film_subjects, parse
from minddiffuser.config import REPOSITORY
from minddiffuser.config.mind_animator import MindAnimator
from minddiffuser.progress import progress
from minddiffuser.store import Artifact, DataError, open_made, write_atomically


def main(argv: list[str] | None = None) -> None:
    """Prepare each subject."""
    run = parse(__doc__, argv, subjects_of=film_subjects)
    settings = run.config.experiment.mind_animator
    if settings is None:
        print("experiment.mind_animator is null: nothing to do")
        return
    for subject in run.subjects:
        artifact = Artifact(film_recipes.prepared(run.config, subject))
        if artifact.is_done(run.overwrite):
            print(f"{artifact.path} is there already")
        elif not prepare(run, subject, settings, artifact):
            continue
        write_reliability(run, subject)


def prepare(run: Run, subject: str, settings: MindAnimator, artifact: Artifact) -> bool:
    """Average the films of this shard, and make the file once all are there; tell whether it is."""
    root, dlabel = run.config.cc2017, run.config.execution.dlabel
    films = sorted(cc2017.films(root).values(), key=lambda film: not film.is_test)
    if unknown := cc2017.recorded_films(root, subject) - {film.name for film in films}:
        raise DataError(f"{root} has recordings of {', '.join(sorted(unknown))} of {subject}, but no such film (.mp4)")
    runs, used = runs_of(root, subject, films[0], settings.voxels)
    vertices = cc2017.read_cortex(cc2017.recording_path(root, subject, films[0].name, runs[used[0]]))
    areas = cortex.areas(vertices, dlabel and REPOSITORY / dlabel)
    visual = areas != cortex.OTHER if (areas != cortex.OTHER).any() else np.full(len(areas), True)
    for number, _ in progress(artifact.parts_to_do(len(films), 1, run.shard), desc=f"{subject} films"):
        part = average_film(root, subject, films[number], vertices, visual, settings.voxels)
        artifact.write_part(number, part)
    return artifact.reduce(len(films), partial(make_rows, films, vertices, areas, settings))


def write_reliability(run: Run, subject: str) -> None:
    """Write and print how well responses repeat, by area, and print which runs are not as the others."""
    with open_made(film_recipes.prepared(run.config, subject)) as prepared:
        table = reliability_by_area(prepared)
        n_test, n_validation = (int(prepared[key][:].sum()) for key in ("is_test", "is_validation"))
        n_clips, n_vertices = len(prepared["stimulus_id"]), len(prepared["vertex"])
        names, lags, agreements = prepared["run"][:].astype(str), prepared["lag"][:], prepared["agreement"][:]
        is_left_out, n_empty = prepared["is_left_out"][:], prepared["n_empty"][:]
    write_atomically(run.config.folder(subject) / "reliability.csv", table.to_csv(index=False))
    print(f"\n{subject}: {n_clips - n_test} training clips, of which {n_validation} validate, and {n_test} test clips")
    print(f"{n_vertices} columns; reliability (r of repetitions) and vertices that each form takes, by area:")
    print(table.to_string(index=False, line_width=terminal.width()))
    is_in_time = (lags == 0) & ~is_left_out
    print(f"{is_in_time.sum()} of {len(names)} runs were recorded at the same time of their film (lag 0)")
    for name, lag, is_out in zip(names[~is_in_time], lags[~is_in_time], is_left_out[~is_in_time], strict=True):
        found = "its lag cannot be told" if np.isnan(lag) else f"lag {lag:+.0f} volumes"
        print(f"{name}: {found}{', left out' if is_out else ''}")
    for name, (r, usual) in find_strangers(names.tolist(), np.where(is_left_out, np.nan, agreements)).items():
        print(
            f"WARNING: {name} agrees with the other runs of its film by r {r:.3f}, where {usual:.3f} is usual: is it "
            f"of {subject}?"
        )
    for name, n in zip(names[n_empty > 0], n_empty[n_empty > 0], strict=True):
        print(f"{name}: {n} vertices without data are 0, their mean")


if __name__ == "__main__":
    execute(main)
