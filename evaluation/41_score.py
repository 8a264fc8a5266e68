"""Score every system and control against the stimuli, with intervals and paired tests.

    python evaluation/41_score.py [--config configs/miniature.yaml] [--subject subj01]
    python evaluation/41_score.py --subject subj01 --images PICTURES --system NAME [--ids FILE]

The second form also scores somebody else's pictures beside the systems here: it copies them to
`reconstruction/others/<NAME>`, and changes nothing in PICTURES. That is a folder DIR of `DIR/<nsd_id>.png` (or .jpg,
.jpeg, .webp), a zip of one, or an array or tensor of all (.npy, .npz, .pt) with the images of its rows in `--ids FILE`.
Further samples of each image are taken from `DIR/sample_2/<nsd_id>.png`, `DIR/sample_3/` and so on. Each picture is
taken as a viewer shows it: of any depth, grey, with a palette or a colour profile. Missing, unreadable, misnamed,
transparent, animated and odd-sized pictures, two of one image, and other colours than sRGB's without a profile are
listed, and stop it. Other files are left out, and listed. A folder of that name is replaced if it was made so; what
somebody else put into it stays. Nothing but `prepared.h5` needs to be made before.

Reads, for each subject, the test rows of `runs/<name>/<subject>/prepared.h5`, their stimuli, the folders
`reconstruction/<kind>/<system>` that are there (`<stimulus_id>.png` and an index each), and what was decoded. Of a
system with several samples, folders `sample_2` ... inside its own, an image's score is the mean over them. Writes to
`runs/<name>/evaluation/`:

    scores.csv   subject, system, stimulus_id, metric, value: one row an image and metric
    summary.csv  subject, system, metric, mean, ci_low, ci_high, n, incomplete; subject "all": mean over subjects;
                 incomplete: what the system lacks, such as "3 of 6 pictures"
    paired.csv   subject, system, baseline, metric, difference, ci_low, ci_high, p, p_holm, n: on the images that both
                 have
    spread.csv   subject, system, metric, mean, sd, n_seeds: how far noise seeds move the mean of stage 1
    scores.json  the settings, and the states of the folders, that the scores were made with; how many samples a system
                 has, where more than one; absent metrics and why
    brain/       brain_correlation.csv: subject, system, roi, r, ci_low, ci_high, floor, n: the correlation of measured
                 betas and those that an encoding model predicts from the pictures (evaluation/pictures/brain.py);
                 scores.csv: its values by image. The model is kept in `runs/<name>/<subject>/encoding/`

`evaluation/pictures/catalogue.py` says what each system and metric is. Folders that did not change are not scored
again.

Among the metrics are the losses of stage 2: that of stage 1's picture, of the result, and of the stimulus, and whether
the stimulus has the lower one. They are there as soon as 31_stage1.py and 24_structural.py are done, and say before
stage 2 is run whether descending its loss can help.
Peak memory: 11 GB for 982 real images: the test stimuli and one system's pictures, and the features of all
networks (7.3 GB, benchmarks/metrics.py), and CLIP ViT-L/14 on a CPU.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
import re
from pathlib import Path

import pandas as pd

from data import nsd
from evaluation import significance
from evaluation.metrics.scorer import absent_metrics
from evaluation.pictures import brain, systems
from evaluation.pictures.catalogue import CATALOGUE, STAGE1, SYSTEMS, pairs_of
from evaluation.pictures.comparison import print_scores
from evaluation.pictures.scoring import read_test_ids, score, spread_over_seeds
from evaluation.scores import COLUMNS, make_record, mark_incomplete, place_of, read_kept, scoring_settings, write_tables
from minddiffuser import terminal
from minddiffuser.cli import Run, execute, parse
from minddiffuser.store import DataError
from reconstruction import foreign_files

FLAGS = ("test-set statistics", "samples picked")  # as reconstruction/folder.py writes them


def main(argv: list[str] | None = None) -> None:
    """Score each subject, then summarise all that have scores."""
    run = parse(__doc__, argv, add_arguments, divides=False)
    config, evaluation, seed = run.config, run.config.experiment.evaluation, run.config.experiment.seed
    if not run.subjects:
        print("experiment.subjects is empty: nothing to do")
        return
    if run.own.images:
        adopt(run)
    elif run.own.system or run.own.allow_missing or run.own.flag or run.own.ids:
        raise DataError(
            "--system, --ids, --allow-missing and --flag are of somebody else's pictures: name them with --images DIR"
        )
    for subject in run.subjects:
        index = place_of(config, subject, STAGE1) / "index.csv"
        if not index.is_file() and not run.own.images:
            raise DataError(f"{index} is missing; make it with: python reconstruction/31_stage1.py --subject {subject}")

    absent, output = absent_metrics(config), CATALOGUE.output(config)
    settings = scoring_settings(config) | {"absent": sorted(absent)}
    kept = read_kept(run, output, settings, systems.states_of)
    parts, embedded = [kept.scores[COLUMNS]], {}
    for subject in run.subjects:
        for name in systems.wanted(config, subject):
            if name in SYSTEMS and (subject, name) not in kept.states:
                print(f"{subject}: {name} is absent")
        if left_out := systems.not_wanted(config, subject):
            text = f"{subject}: left out, for the configuration does not ask for it: {', '.join(left_out)}"
            print(terminal.wrapped(text))
        todo = [name for of, name in kept.states if of == subject and (subject, name) not in kept.fresh]
        if not todo:
            print(f"{subject}: all systems are scored already")
        parts += score(run, subject, todo, embedded)

    scores = pd.concat([part for part in parts if len(part)])
    names = CATALOGUE.in_order({*SYSTEMS, *scores["system"]})
    place = {name: k for k, name in enumerate(names)}
    scores = scores.assign(place=scores["system"].map(place))
    scores = scores.sort_values(["subject", "place"], kind="stable").drop(columns="place")
    # Rounded as they are written, so that one subject after the other gives the same summary as all at once.
    scores["value"] = scores["value"].round(6)

    # Only what has rows here counts as scored: another subject's folder that changed meanwhile is left for its turn.
    present = list(dict.fromkeys(zip(scores["subject"], scores["system"], strict=True)))
    lacking = {
        (subject, name): text
        for subject in kept.subjects
        for name, text in systems.incomplete(
            config, subject, [name for of, name in present if of == subject], len(read_test_ids(config, subject))
        ).items()
    }
    summary = significance.summarise(scores, evaluation.n_bootstrap, seed)
    tables = {
        "scores": scores,
        "summary": mark_incomplete(summary, lacking),
        "paired": significance.compare(
            scores, pairs_of(names), CATALOGUE, evaluation.n_bootstrap, evaluation.n_flips, seed
        ),
        "spread": spread_over_seeds(scores),
    }
    states = {key: state for key, state in kept.states.items() if key in present}
    pictured = [key for key in present if CATALOGUE.system(key[1]).kind != "features"]
    write_tables(output, tables, make_record(config, settings, absent, states, pictured, lacking))
    print_scores(tables, absent)
    print(f"\n{terminal.wrapped(f'written: {output}/scores.csv, summary.csv, paired.csv, spread.csv')}")
    brain.update(run, embedded)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what scores a foreign folder."""
    parser.add_argument(
        "--images", type=Path, metavar="PICTURES",
        help="also score these: a folder or zip of <nsd_id>.png, .jpg or .webp, or an array (.npy, .npz, .pt)",
    )  # fmt: skip
    parser.add_argument(
        "--ids", type=Path, metavar="FILE",
        help="the NSD id of each row of an array, from 0, one a line (default: the test or shared images in order)",
    )  # fmt: skip
    parser.add_argument("--system", metavar="NAME", help="what to call them")
    parser.add_argument("--allow-missing", action="store_true", help="score them even if some test images have none")
    parser.add_argument(
        "--flag", action="append", default=[], choices=FLAGS,
        help="say of them that they were made with statistics of the test set, or picked by looking",
    )  # fmt: skip


def adopt(run: Run) -> None:
    """Take somebody else's pictures in."""
    name = run.own.system or ""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise DataError(f"--images needs --system NAME, of letters, digits, '.', '_' and '-', not {name!r}")
    if len(run.subjects) != 1:
        raise DataError(f"--images needs --subject: whose are they, of {', '.join(run.subjects)}?")
    subject = run.subjects[0]
    test_ids, own = read_test_ids(run.config, subject), run.own
    shared_ids = nsd.read_shared(run.config.nsd, subject)
    path = place_of(run.config, subject, f"{systems.OTHERS}/{name}")
    said = foreign_files.adopt(own.images, own.ids, path, subject, test_ids, shared_ids, own.allow_missing, own.flag)
    print(f"{path}: {said}")


if __name__ == "__main__":
    execute(main)
