"""Score every system and control against the stimuli, with intervals and paired tests.

    python evaluation/41_score.py [--config configs/miniature.yaml] [--subject subj01]
    python evaluation/41_score.py --subject subj01 --images DIR --system NAME

The second form also scores somebody else's pictures, `DIR/<nsd_id>.png`, beside the systems here: it copies them to
`reconstruction/others/<NAME>`, and changes nothing in DIR. Further samples of each image are taken from
`DIR/sample_2/<nsd_id>.png`, `DIR/sample_3/` and so on. Each picture is taken as a viewer shows it: of any depth, grey,
with a palette or a colour profile. Missing, unreadable, misnamed, transparent, animated and odd-sized pictures, two of
one image, and other colours than sRGB's without a profile are listed, and stop it. Other files are left out, and
listed. A folder of that name is replaced if it was made so; what somebody else put into it stays.

Reads, for each subject, the test rows of `runs/<name>/<subject>/prepared.h5`, their stimuli, the folders
`reconstruction/<kind>/<system>` that are there (`<nsd_id>.png` and an index each), and what was decoded. Of a system
with several samples, folders `sample_2` ... inside its own, an image's score is the mean over them. Writes to
`runs/<name>/evaluation/`:

    scores.csv   subject, system, nsd_id, metric, value: one row an image and metric
    summary.csv  subject, system, metric, mean, ci_low, ci_high, n, incomplete; subject "all": mean over subjects;
                 incomplete: what the system lacks, such as "3 of 6 pictures"
    paired.csv   subject, system, baseline, metric, difference, ci_low, ci_high, p, p_holm, n: on the images that both
                 have
    spread.csv   subject, system, metric, mean, sd, n_seeds: how far noise seeds move the mean of stage 1
    scores.json  the settings, and the states of the folders, that the scores were made with; how many samples a system
                 has, where more than one; absent metrics and why

`evaluation/catalogue.py` says what each system and metric is. Folders that did not change are not scored again.
Peak memory: 10 GB for 982 real images, by count: the test stimuli and one system's pictures, and the features of all
networks (7.3 GB, benchmarks/metrics.py), and CLIP ViT-L/14 on a CPU.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from data import nsd
from data.recipes import prepared
from evaluation import results, scoring, significance, systems, text_tables
from evaluation.catalogue import ALL_SUBJECTS, CEILING, STAGE1, STAGE2, SYSTEMS, TABULATED, in_order, system
from evaluation.systems import SPLITS
from minddiffuser.cli import Run, execute, parse
from minddiffuser.config import Config
from minddiffuser.store import DataError, open_made, reading
from reconstruction import folder, foreign

COLUMNS = ["subject", "system", "nsd_id", "metric", "value"]
RIVALS = ("takagi", "ozcelik")


def main(argv: list[str] | None = None) -> None:
    """Score each subject, then summarise all that have scores."""
    run = parse(__doc__, argv, add_arguments, divides=False)
    config, evaluation = run.config, run.config.experiment.evaluation
    if not run.subjects:
        print("experiment.subjects is empty: nothing to do")
        return
    for subject in run.subjects:
        index = config.folder(subject) / "reconstruction" / STAGE1 / "index.csv"
        if not index.is_file():
            raise DataError(f"{index} is missing; make it with: python reconstruction/31_stage1.py --subject {subject}")
    if run.own.images:
        adopt(run)
    elif run.own.system or run.own.allow_missing or run.own.flag:
        raise DataError(
            "--system, --allow-missing and --flag are of somebody else's pictures: name them with --images DIR"
        )
    absent = scoring.absent_metrics(config)
    settings = results.scoring_settings(config) | {"absent": sorted(absent)}
    output = config.folder() / "evaluation"
    kept, scored = read_scores(output, settings)
    subjects = sorted({*run.subjects, *kept["subject"]})
    states = {(s, name): state for s in subjects for name, state in systems.states_of(config, s).items()}
    fresh = {
        key
        for key, state in scored.items()
        if states.get(key) == state and not (run.overwrite and key[0] in run.subjects)
    }
    parts = [kept[[key in fresh for key in zip(kept["subject"], kept["system"], strict=True)]]]
    for subject in run.subjects:
        todo = [name for of_subject, name in states if of_subject == subject and (subject, name) not in fresh]
        for name in SYSTEMS:
            if (subject, name) not in states:
                print(f"{subject}: {name} is absent")
        if left_out := systems.not_wanted(config, subject):
            print(f"{subject}: left out, for the configuration does not ask for it: {', '.join(left_out)}")
        if not todo:
            print(f"{subject}: all systems are scored already")
        parts += score(run, subject, todo)

    scores = pd.concat(parts)
    place = {name: k for k, name in enumerate(in_order({*SYSTEMS, *scores["system"]}))}
    scores = scores.assign(place=scores["system"].map(place))
    scores = scores.sort_values(["subject", "place"], kind="stable").drop(columns="place")
    # Rounded as they are written, so that one subject after the other gives the same summary as all at once.
    scores["value"] = scores["value"].round(6)
    seed = config.experiment.seed
    present = list(dict.fromkeys(zip(scores["subject"], scores["system"], strict=True)))
    lacking = {
        (subject, name): text
        for subject in subjects
        for name, text in systems.incomplete(
            config, subject, [name for of, name in present if of == subject], len(read_test_ids(config, subject))
        ).items()
    }
    summary = results.mark_incomplete(significance.summarise(scores, evaluation.n_bootstrap, seed), lacking)
    paired = significance.compare(scores, pairs_of(list(place)), evaluation.n_bootstrap, evaluation.n_flips, seed)
    spread = significance.spread_over_seeds(scores)
    # Only what has rows here counts as scored: another subject's folder that changed meanwhile is left for its turn.
    record = {
        "settings": settings,
        "absent": absent,
        "scored": [[*key, state] for key, state in sorted(states.items()) if key in present],
        "samples": [[*key, n] for key in sorted(present) if (n := n_samples(config.folder(key[0]), key[1])) > 1],
        "incomplete": [[*key, text] for key, text in sorted(lacking.items())],
    }
    tables = {"scores": scores, "summary": summary, "paired": paired, "spread": spread}
    results.write_tables(output, tables, record)
    show(summary, paired, spread, absent)
    print(f"\nwritten: {output}/scores.csv, summary.csv, paired.csv, spread.csv")


def score(run: Run, subject: str, todo: list[str]) -> list[pd.DataFrame]:
    """Score some systems of a subject: tables with the columns of scores.csv."""
    config, found = run.config, []
    folder_of_subject, test_ids = config.folder(subject), read_test_ids(config, subject)
    scorer = None
    for name in tqdm(todo, desc=f"{subject} scores"):
        if name.startswith("features/"):
            target, _, split = name.removeprefix("features/").partition("@")
            if split:
                values = scoring.score_split(config, subject, target, split)
            else:
                values = scoring.score_features(config, subject, target)
        else:
            scorer = scorer or scoring.Scorer(config, nsd.Stimuli(config.nsd).read(test_ids), run.device)
            path, field = folder_of_subject / "reconstruction" / name, system(name).kind in TABULATED
            values = scoring.score_folder(scorer, path, test_ids, field)
        table = pd.DataFrame({"subject": subject, "system": name, **values}).sort_values("nsd_id")
        found.append(table.melt(["subject", "system", "nsd_id"], var_name="metric").dropna())
    return found


def n_samples(folder_of_subject: Path, name: str) -> int:
    """Count the samples of a system; features are not pictures, and have none."""
    if system(name).kind == "features":
        return 0
    return len(folder.sample_folders(folder_of_subject / "reconstruction" / name))


def pairs_of(systems: list[str]) -> list[tuple[str, str]]:
    """Pairs that are compared: stage 2 with everything, stage 1 with the controls, rivals as corrected and released."""
    of_kind = {kind: [name for name in systems if system(name).kind == kind] for kind in TABULATED}
    controls = [name for name in of_kind["control"] if name != CEILING]
    return [
        (STAGE2, STAGE1),
        *((STAGE2, name) for name in (*of_kind["ablation"], *of_kind["other"], *controls)),
        *((f"{rival}/corrected", f"{rival}/original") for rival in RIVALS),
        *((STAGE1, name) for name in controls),
        (CEILING, STAGE1),
        (CEILING, STAGE2),
        *((f"features/{target}@{SPLITS[0]}", f"features/{target}@{SPLITS[1]}") for target in ("c", "z")),
    ]


def show(summary: pd.DataFrame, paired: pd.DataFrame, spread: pd.DataFrame, absent: dict[str, str]) -> None:
    """Print the tables."""
    kind = summary["system"].map(lambda name: system(name).kind)
    whole = summary["subject"] == (ALL_SUBJECTS if ALL_SUBJECTS in set(summary["subject"]) else summary["subject"][0])
    print("\nmean [95 % interval over images; subject all: over subjects and images]\n")
    print(text_tables.text_table(summary[kind.isin(TABULATED)], "mean", "main"))
    for group in ("more", "brain_diffuser", "mindeye"):
        print(f"\n{text_tables.text_table(summary[kind.isin(TABULATED) & whole], 'mean', group, absent)}")
    print(f"\n{text_tables.text_table(summary[kind == 'features'], 'mean', 'features')}")
    if (kind == "bottleneck").any():
        print("\nstage 1 from a few numbers of what was decoded; 0: the generator alone")
        print(text_tables.text_table(summary[(kind == "bottleneck") & whole], "mean", "main"))
    print("\ndifference on the same images [95 % interval], p of a sign-flip test, corrected by Holm's method\n")
    for group in ("main", "features"):
        if text_tables.has(paired, group):
            print(text_tables.text_table(paired, "difference", group))
    if len(spread):
        print(f"\n{text_tables.spread_table(spread)}")
    for name, reason in absent.items():
        print(f"absent: {name} ({reason})")


def read_test_ids(config: Config, subject: str) -> np.ndarray:
    """Read the ids of a subject's test images."""
    with open_made(prepared(config, subject)) as rows:
        return rows["nsd_id"][:][rows["is_test"][:]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what scores a foreign folder."""
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="also score these pictures, <nsd_id>.png; DIR stays as it is"
    )
    parser.add_argument("--system", metavar="NAME", help="what to call them")
    parser.add_argument("--allow-missing", action="store_true", help="score them even if some test images have none")
    parser.add_argument(
        "--flag", action="append", default=[], choices=[folder.TEST_STATISTICS, folder.PICKED],
        help="say of them that they were made with statistics of the test set, or picked by looking",
    )  # fmt: skip


def adopt(run: Run) -> None:
    """Take a foreign folder in."""
    name = run.own.system or ""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise DataError(f"--images needs --system NAME, of letters, digits, '.', '_' and '-', not {name!r}")
    if len(run.subjects) != 1:
        raise DataError(f"--images needs --subject: whose are they, of {', '.join(run.subjects)}?")
    subject = run.subjects[0]
    test_ids = read_test_ids(run.config, subject)
    path = run.config.folder(subject) / "reconstruction" / systems.OTHERS / name
    print(f"{path}: {foreign.adopt(run.own.images, path, subject, test_ids, run.own.allow_missing, run.own.flag)}")


def read_scores(output: Path, settings: dict) -> tuple[pd.DataFrame, dict[tuple[str, str], str]]:
    """Read the scores that are there, made with the same settings, and the states of the folders they are of."""
    paths = [output / "scores.json", output / "scores.csv"]
    if not all(path.is_file() for path in paths):
        return pd.DataFrame(columns=COLUMNS), {}
    with reading(paths[0], "the record of what was scored", "delete it, and everything is scored again"):
        record = json.loads(paths[0].read_text())
        if record["settings"] != settings:
            return pd.DataFrame(columns=COLUMNS), {}
        scored = {(subject, system): state for subject, system, state in record["scored"]}
    if not results.is_as_written(paths[1]):  # a kill came before the record was written
        return pd.DataFrame(columns=COLUMNS), {}
    return pd.read_csv(paths[1], dtype={"subject": str})[COLUMNS], scored


if __name__ == "__main__":
    execute(main)
