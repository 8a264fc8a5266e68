"""Score films of every form, control and anybody else against those that were seen: above all, whether they move alike.

    python evaluation/44_score_films.py [--config configs/miniature.yaml] [--subject Subject01]
    python evaluation/44_score_films.py --subject Subject01 --films DIR --system NAME [--allow-missing]

The second form also scores somebody else's films beside the systems here: GIFs, MP4s, strips or folders of frames,
called as their clips (test2_5.gif, 102005.mp4). It copies them to `reconstruction/others/<NAME>`, and changes nothing
in DIR; what leaves open which film is meant, or how it looks, is listed, and stops it. A folder of that name is
replaced if it was made so.

Reads, for each subject, `prepared.h5`, `films/features/clips.h5`, `decoded/<form>/*.h5`, the folders
`reconstruction/<kind>/<system>` that are there, and the test films in `execution.cc2017`. Clips of a shot are alike, so
that intervals and tests are over shots. Writes to `runs/<name>/evaluation/videos/`:

    motion.csv        subject, system, n, n_shots, flow_cosine, ci_low, ci_high, others, p, p_holm, smallest_p, and so
                      on: whether films move as the own clip does, and not as others, or shown backwards
    claim.csv         subject, system, other_subject, baseline, difference, ci_low, ci_high, p, p_holm, n, n_shots: of
                      flow cosines, with another clip's fMRI, and with a subject without direction selectivity
    shuffle.csv       subject, system, n, epe, shuffled, p, p_other_clip, n_orders, and as published: the paper's
                      shuffle test, exact, on the sampled clips, and on the same line that of the other clip's fMRI
    decoded.csv       subject, form, target, system, r_by_clip, ci_low, ci_high, difference (network less system),
                      difference_low, difference_high, p, p_holm, n, n_shots
    velocity.csv      subject, form, component, r, ci_low, ci_high, p, smallest_p, n, n_shots: over clips
    retrieval.csv     as that of 24_retrieval.py, with intervals
    scores.csv        subject, system, stimulus_id, metric, value: one row a clip and metric
    summary.csv       subject, system, metric, mean, ci_low, ci_high, n, incomplete; "all": mean over subjects
    paired.csv        subject, system, baseline, metric, difference, ci_low, ci_high, p, p_holm, n
    as_published.csv  subject, system, metric, mean, ci_low, ci_high, n: of sampled clips, as the authors compute them
    published.csv     dataset, system, metric, subjects, value, spread, source, read_from: what papers print
    scores.json       the settings, and the states of the folders; absent metrics and why
    measured/         of each subject and system, what the tables are made of

`evaluation/videos/catalogue.py` says what each system and metric is. Folders that did not change are not scored again,
and those of several subjects that have the same films are scored once. The shuffle test and the scores as published
take longest, and are of `mind_animator.metrics.n_sampled` clips; other scores that are not of motion are of `n_scored`.
Reference: Lu et al. 2025 (arXiv 2405.03280). Peak memory: 6 GB at the real size, by count: the networks, what they say
of 1,200 clips, and eight clips of 512 pixels.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
import functools
import re
from pathlib import Path

import pandas as pd

from baselines.mind_animator import recipes
from evaluation import significance
from evaluation.scores import make_record, mark_incomplete, place_of, scoring_settings, write_tables
from evaluation.videos import decoded, foreign, scoring
from evaluation.videos.catalogue import CATALOGUE, OTHERS
from evaluation.videos.comparison import claim_table, print_scores
from evaluation.videos.networks import open_networks
from evaluation.videos.published import read_published
from minddiffuser import terminal
from minddiffuser.cli import Run, execute, film_subjects, parse
from minddiffuser.progress import progress
from minddiffuser.store import DataError


def main(argv: list[str] | None = None) -> None:
    """Score each subject, then make tables of all that have scores."""
    run = parse(__doc__, argv, add_arguments, film_subjects, divides=False)
    config, evaluation, seed = run.config, run.config.experiment.evaluation, run.config.experiment.seed
    if config.experiment.mind_animator is None:
        print("experiment.mind_animator is null: nothing to do")
        return
    if run.own.films:
        adopt(run)
    elif run.own.system or run.own.allow_missing:
        raise DataError("--system and --allow-missing are of somebody else's films: name them with --films DIR")

    settings, output = scoring.settings_of(config), CATALOGUE.output(config)
    test, states = scoring.read_all(config, run.subjects)
    open_once = functools.cache(lambda: open_networks(config, run.device))
    # Stand-ins are fitted to training films, and are never absent: they are opened where there is something to score.
    is_published = config.experiment.mind_animator.metrics.networks == "published"
    absent = open_once().absent if is_published else {}
    settings["absent"] = sorted(absent)
    seen = functools.cache(lambda: scoring.Seen(config, test.ids))
    fresh = {key for key, state in states.items() if scoring.is_measured(config, key, state, settings)}
    todo = [key for key in states if key[0] in run.subjects and (run.overwrite or key not in fresh)]
    if not todo:
        print("all films are scored already")
    for key in progress(todo, desc="films scored"):
        scoring.measure(config, key, states[key], settings, seen(), open_once())
    keys = [key for key in states if key in fresh or key in todo]  # what changed of other subjects waits for its turn
    subjects = list(dict.fromkeys(subject for subject, _ in keys))

    scores, as_published = scoring.score_table(config, keys, test), scoring.published_table(config, keys)
    lacking = scoring.incomplete(config, keys, len(test.ids))
    summary = significance.summarise(scores, evaluation.n_bootstrap, seed, test.shots)
    tables = {
        "motion": scoring.motion_table(config, keys, test, summary),
        "claim": claim_table(config, scores, test.shots),
        "shuffle": scoring.shuffle_table(config, keys, test),
        **{
            name: pd.concat([table(config, subject, test.shots) for subject in subjects])
            for name, table in (
                ("decoded", decoded.decoded_table),
                ("velocity", decoded.velocity_table),
                ("retrieval", decoded.retrieval_table),
            )
        },
        "scores": scores,
        "summary": mark_incomplete(summary, lacking),
        "paired": scoring.compared(scores, test, config),
        "as_published": significance.summarise(as_published, evaluation.n_bootstrap, seed, test.shots),
        "published": read_published(),
    }
    record_of = scoring_settings(config) | settings
    write_tables(
        output, tables, make_record(config, record_of, absent, {key: states[key] for key in keys}, keys, lacking)
    )
    print_scores(tables, absent)
    print(f"\n{terminal.wrapped(f'written: {output}/' + ', '.join(f'{name}.csv' for name in tables))}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what scores a foreign folder."""
    parser.add_argument("--films", type=Path, metavar="DIR", help="also score these films; DIR stays as it is")
    parser.add_argument("--system", metavar="NAME", help="what to call them")
    parser.add_argument("--allow-missing", action="store_true", help="score them even if some test clips have none")


def adopt(run: Run) -> None:
    """Take a foreign folder in."""
    name = run.own.system or ""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise DataError(f"--films needs --system NAME, of letters, digits, '.', '_' and '-', not {name!r}")
    if len(run.subjects) != 1:
        raise DataError(f"--films needs --subject: whose are they, of {', '.join(run.subjects)}?")
    (subject,) = run.subjects
    path = place_of(run.config, subject, f"{OTHERS}/{name}")
    test, n_frames = scoring.read_test(run.config, subject), recipes.settings_of(run.config).clips.n_frames
    print(f"{path}: {foreign.adopt(run.own.films, path, subject, test.ids, n_frames, run.own.allow_missing)}")


if __name__ == "__main__":
    execute(main)
