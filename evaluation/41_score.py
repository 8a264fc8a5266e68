"""Score the reconstructions of every system against the stimuli, with bootstrap intervals over images.

    python evaluation/41_score.py [--config configs/miniature.yaml] [--subject subj01]
    python evaluation/41_score.py --subject subj01 --images DIR --system NAME

The second form also scores somebody else's pictures, `DIR/<nsd_id>.png`, beside the systems here: it copies them to
`reconstruction/others/<NAME>`. Missing, unreadable and strange pictures are listed, and stop it.

Reads, for each subject, the test rows of `runs/<name>/<subject>/prepared.h5`, their stimuli, and the folders
`reconstruction/<system>` that are there (`<nsd_id>.png` and an index each). Writes to `runs/<name>/evaluation/`:

    scores.csv   subject, system, nsd_id, metric, value: one row an image and metric
    summary.csv  subject, system, metric, mean, ci_low, ci_high, n
    paired.csv   subject, system, baseline, metric, difference, ci_low, ci_high, n: on the images that both have
    scores.json  the settings, and the states of the folders, that the scores were made with

PixCorr and SSIM are computed at `experiment.evaluation.image_size`; the CLIP that scores is not the one that guides
stage 2. Folders that did not change are not scored again. Peak memory: some 2.5 GB for 982 real images.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from data import nsd
from evaluation import metrics, report, significance
from minddiffuser.cli import Run, execute, parse
from minddiffuser.pretrained import open_clip_model
from minddiffuser.store import DataError, open_arrays, write_atomically
from reconstruction import folder

PAIRS = (
    (report.STAGE2, report.STAGE1),
    (report.STAGE1, "control/shuffled"),
    (report.STAGE1, "control/mean_image"),
    (report.CEILING, report.STAGE1),
)


def main(argv: list[str] | None = None) -> None:
    """Score each subject, then summarise all that have scores."""
    run = parse(__doc__, argv, add_arguments)
    config, size, models = run.config, run.config.experiment.evaluation.image_size, run.config.experiment.models
    for subject in run.subjects:
        index = config.folder(subject) / "reconstruction" / report.STAGE1 / "index.csv"
        if not index.is_file():
            raise DataError(f"{index} is missing; make it with: python reconstruction/31_stage1.py --subject {subject}")
    if run.own.images:
        adopt(run)
    settings = {"image_size": size, "clip": models.scoring_clip, "clip_weights": models.scoring_clip_weights}
    output = config.folder() / "evaluation"
    kept, scored = read_scores(output, settings)
    subjects = sorted({*run.subjects, *kept["subject"]})
    states = {
        (subject, system): state
        for subject in subjects
        for system in systems_of(config.folder(subject))
        if (state := folder.state(config.folder(subject) / "reconstruction" / system))
    }
    fresh = {key for key, state in scored.items() if states.get(key) == state and not run.overwrite}
    tables = [kept[[key in fresh for key in zip(kept["subject"], kept["system"], strict=True)]]]

    for subject in run.subjects:
        for system in report.SYSTEMS:
            if (subject, system) not in states:
                print(f"{subject}: {system} is absent")
        todo = [system for name, system in states if name == subject and (subject, system) not in fresh]
        if not todo:
            print(f"{subject}: all systems are scored already")
            continue
        clip = open_clip_model(models.scoring_clip, models.scoring_clip_weights, run.device)
        with open_arrays(config.folder(subject) / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
            test_ids = prepared["nsd_id"][:][prepared["is_test"][:]]
        stimuli = nsd.Stimuli(config.nsd).read(test_ids)
        seen = metrics.clip_embeddings(clip, stimuli, run.device, config.execution.batch_size)
        stimuli = metrics.resize(stimuli, size)
        row_of = {nsd_id: row for row, nsd_id in enumerate(test_ids)}
        for system in todo:
            path = config.folder(subject) / "reconstruction" / system
            ids, images = folder.read(path)
            if strangers := sorted(set(ids) - set(test_ids)):
                raise DataError(f"{path} has images that are not test images of {subject}, such as {strangers[0]}")
            rows = np.array([row_of[nsd_id] for nsd_id in ids])
            embeddings = metrics.clip_embeddings(clip, images, run.device, config.execution.batch_size)
            images = metrics.resize(images, size)
            values = {
                "pixcorr": metrics.pixcorr(stimuli[rows], images),
                "ssim": metrics.ssim(stimuli[rows], images),
                "clip_similarity": metrics.clip_similarity(seen[rows], embeddings),
                "clip_two_way": metrics.two_way_identification(seen, embeddings, rows),
            }
            table = pd.DataFrame({"subject": subject, "system": system, "nsd_id": ids, **values}).sort_values("nsd_id")
            tables.append(table.melt(["subject", "system", "nsd_id"], var_name="metric"))

    scores = pd.concat(tables)
    order = {system: k for k, system in enumerate(report.SYSTEMS)}
    place = scores["system"].map(lambda system: order.get(system, len(order)))
    scores = scores.assign(place=place).sort_values(["subject", "place"], kind="stable").drop(columns="place")
    # Rounded as they are written, so that one subject after the other gives the same summary as all at once.
    scores["value"] = scores["value"].round(6)
    bootstrap = (config.experiment.evaluation.n_bootstrap, config.experiment.seed)
    summary = significance.summarise(scores, *bootstrap)
    paired = significance.compare(scores, PAIRS, *bootstrap)
    for name, table in {"scores": scores, "summary": summary, "paired": paired}.items():
        write_atomically(output / f"{name}.csv", table.to_csv(index=False, float_format="%.6f"))
    # Only what has rows here counts as scored: another subject's folder that changed meanwhile is left for its turn.
    present = set(zip(scores["subject"], scores["system"], strict=True))
    record = {
        "settings": settings,
        "scored": [[*key, state] for key, state in sorted(states.items()) if key in present],
    }
    write_atomically(output / "scores.json", json.dumps(record, indent=2) + "\n")

    print(f"\nmean [95 % interval over images]\n{report.text_table(summary, 'mean')}")
    refined = paired[paired["system"] == report.STAGE2]
    if len(refined):
        print(f"\nstage 2 - stage 1, same images\n{report.text_table(refined, 'difference')}")
    print(f"\nwritten: {output}/scores.csv, summary.csv, paired.csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what scores a foreign folder."""
    parser.add_argument("--images", type=Path, metavar="DIR", help="also score these pictures, <nsd_id>.png")
    parser.add_argument("--system", metavar="NAME", help="what to call them")
    parser.add_argument("--allow-missing", action="store_true", help="score them even if some test images have none")


def adopt(run: Run) -> None:
    """Take a foreign folder in."""
    name = run.own.system or ""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise DataError(f"--images needs --system NAME, of letters, digits, '.', '_' and '-', not {name!r}")
    if len(run.subjects) != 1:
        raise DataError(f"--images needs --subject: whose are they, of {', '.join(run.subjects)}?")
    subject = run.subjects[0]
    folder_of_subject = run.config.folder(subject)
    with open_arrays(folder_of_subject / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
        test_ids = prepared["nsd_id"][:][prepared["is_test"][:]]
    path = folder_of_subject / "reconstruction" / "others" / name
    n = folder.adopt(run.own.images, path, subject, test_ids, run.own.allow_missing)
    print(f"{path}: {n} of {len(test_ids)} test images")


def systems_of(folder_of_subject: Path) -> list[str]:
    """Systems that are or could be there: this project's, and other people's."""
    others = sorted(path.parent.name for path in folder_of_subject.glob("reconstruction/others/*/index.csv"))
    return [*report.SYSTEMS, *(f"others/{name}" for name in others)]


def read_scores(output: Path, settings: dict) -> tuple[pd.DataFrame, dict[tuple[str, str], str]]:
    """Read the scores that are there, made with the same settings, and the states of the folders they are of."""
    try:
        record = json.loads((output / "scores.json").read_text())
        scores = pd.read_csv(output / "scores.csv", dtype={"subject": str})
    except FileNotFoundError:
        record, scores = {}, pd.DataFrame()
    if record.get("settings") != settings:
        return pd.DataFrame(columns=["subject", "system", "nsd_id", "metric", "value"]), {}
    return scores, {(subject, system): state for subject, system, state in record["scored"]}


if __name__ == "__main__":
    execute(main)
