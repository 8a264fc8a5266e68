"""What the scores of films say side by side: the paper's claim in differences, and the tables for a terminal."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from evaluation import scores as files
from evaluation import significance, tables
from evaluation.catalogue import ALL_SUBJECTS
from evaluation.videos.catalogue import CATALOGUE, FORMS, GROUPS, MOVED, MOVER, OTHER_CLIP
from evaluation.videos.decoded import NETWORK
from evaluation.videos.scoring import settings_of
from minddiffuser import terminal
from minddiffuser.config import Config, Experiment
from minddiffuser.store import DataError

TABLES = (
    *("scores", "summary", "paired", "motion", "claim", "shuffle", "decoded", "velocity", "retrieval"),
    *("as_published", "published"),
)
_SHOWN = ("pixels", "networks")


def read(config: Config) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Read the tables of films, `TABLES`, and their record.

    Raises
    ------
    DataError
        As of `scores.read_tables`; or films were scored with other settings than the configuration has.
    """
    found, record = files.read_tables(CATALOGUE, TABLES, config)
    pairs = {key: (record["settings"].get(key, "absent"), value) for key, value in settings_of(config).items()}
    if differing := [f"{key} was {was}, is {now}" for key, (was, now) in pairs.items() if was != now]:
        path = CATALOGUE.output(config) / "scores.json"
        text = f"{path} has scores made with other settings: {'; '.join(differing)}"
        raise DataError(text, f"make it with: python {CATALOGUE.script}")
    return found, record


def without_direction(experiment: Experiment) -> set[str]:
    """Name the subjects whose brain tells no directions apart, which is known of simulated ones alone."""
    films, settings = experiment.miniature_cc2017, experiment.mind_animator
    if films is None or settings is None:
        return set()
    return {name for name, tells in zip(settings.subjects, films.direction, strict=False) if not tells}


def claim_table(config: Config, scores: pd.DataFrame, shots: pd.Series) -> pd.DataFrame:
    """Compare flow cosines as the paper's claim asks for: motion is decoded from the clip's own fMRI, and from motion.

    Each form, with and without Stable Diffusion, and the mover is compared with what the motion generator makes of
    another clip's fMRI, within each subject; and between subjects, those with direction selectivity less those without,
    on the clips that both have. Control and mover are without Stable Diffusion.

    Returns
    -------
    DataFrame
        Columns `subject, system, other_subject, baseline, difference, ci_low, ci_high, p, p_holm, n, n_shots`.
        Intervals and p, of signs flipped, are over shots, with these networks; seeds of training add to it.
    """
    evaluation, seed = config.experiment.evaluation, config.experiment.seed
    cosines = scores[scores["metric"] == "flow_cosine"].set_index(["subject", "system", "stimulus_id"])["value"]
    values = {key: of.droplevel([0, 1]) for key, of in cosines.groupby(level=[0, 1], sort=False)}
    subjects, blind = list(dict.fromkeys(scores["subject"])), without_direction(config.experiment)
    forms = [name for form in FORMS for name in (form, form.replace("mind_animator", "no_generator"))]
    systems = [*forms, MOVER, MOVED]
    pairs = [((subject, name), (subject, OTHER_CLIP)) for subject in subjects for name in systems]
    pairs += [
        ((subject, name), (other, name))
        for name in systems
        for subject in subjects
        for other in subjects
        if subject not in blind and other in blind
    ]
    rows = []
    for key, other in pairs:
        if key not in values or other not in values:
            continue
        difference = (values[key] - values[other]).dropna()
        if difference.empty:
            continue
        column, groups = difference.to_numpy()[:, None], shots[difference.index].to_numpy()
        low, high = significance.bootstrap_intervals(column, evaluation.n_bootstrap, seed, groups)
        p = significance.sign_flip_test(column, evaluation.n_flips, seed, groups)
        rows.append((*key, *other, column.mean(), low[0], high[0], p[0], len(column), len(set(groups))))
    columns = ["subject", "system", "other_subject", "baseline", "difference", "ci_low", "ci_high", "p", "n", "n_shots"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(columns.index("n"), "p_holm", significance.holm(table["p"].to_numpy()) if rows else np.array([]))
    return table


def print_scores(scored: Mapping[str, pd.DataFrame], absent: Mapping[str, str]) -> None:
    """Print the tables of `evaluation/44_score_films.py`; `absent` has metrics that could not be computed, and why."""
    summary = scored["summary"]
    whole = ALL_SUBJECTS if ALL_SUBJECTS in set(summary["subject"]) else summary["subject"].iloc[0]
    print("\ndecoded of test clips: r by clip [95 % interval over shots]; network minus another, p corrected\n")
    print(tables.as_text(decoded_rows(scored["decoded"])))
    print(f"\n{terminal.wrapped(GROUPS['motion'])} [95 % interval over shots]\n")
    print(tables.as_text(motion_rows(scored["motion"])))
    print("\nflow cosine: differences [95 % interval over shots], p of a sign-flip test, corrected\n")
    print(tables.as_text(claim_rows(scored["claim"])))
    if len(scored["shuffle"]):
        print("\nthe paper's shuffle test: p that the true order of frames is no better than any, and that of the same")
        print("system fed another clip's fMRI; it says that neighbouring frames are alike\n")
        print(tables.as_text(shuffle_rows(scored["shuffle"])))
    print(f"\nmeans of {whole}; intervals are in summary.csv\n")
    print(tables.as_text(mean_rows(summary[summary["subject"] == whole])))
    for name, reason in absent.items():
        print(terminal.wrapped(f"absent: {name} ({reason})"))


def mean_rows(summary: pd.DataFrame) -> tables.Rows:
    """Lay out the means of all metrics that are not of motion, of one subject: a row a system."""
    there = set(summary["metric"])
    names = [name for group in _SHOWN for name in CATALOGUE.metrics_of(group, there) if name in there]
    wide = summary.pivot_table(index="system", columns="metric", values="mean", sort=False)[names]
    wide.index = [CATALOGUE.system(str(name)).label for name in wide.index]
    return tables.plain("system", wide.rename(columns=lambda name: CATALOGUE.metric(name).label))


def decoded_rows(decoded: pd.DataFrame) -> tables.Rows:
    """Lay out what the networks decode, and how much more than ridge regression: a row a subject and form."""
    targets = list(dict.fromkeys(decoded["target"]))
    found: tables.Rows = [["subject, form", *(cell for target in targets for cell in (target, "(minus ridge)"))]]
    for (subject, form), rows in decoded.groupby(["subject", "form"], sort=False):
        known, cells = rows.set_index(["target", "system"]), []
        for target in targets:
            own, ridge = (
                known.loc[key] if (key := (target, name)) in known.index else None for name in (NETWORK, "ridge")
            )
            cells.append("–" if own is None else _interval(own, "r_by_clip"))
            cells.append("–" if ridge is None else _difference(ridge))
        found.append([f"{subject}, {form}", *cells])
    return found


def motion_rows(motion: pd.DataFrame) -> tables.Rows:
    """Lay out how films move: a row a subject and system."""
    heads = ["flow cosine", "others", "(p)", "reversed", "direction", "speed", "EPE ↓", "(none)"]
    columns = ["flow_cosine_reversed", "direction_cosine", "speed_ratio", "epe", "epe_still"]
    return [
        ["subject, system", *heads],
        *(
            [
                f"{row['subject']}, {CATALOGUE.system(row['system']).label}",
                _interval(row, "flow_cosine"),
                _plain(row["others"]),
                _plain(row["p"], ".2g"),
                *(_plain(row[column]) for column in columns),
            ]
            for row in motion.to_dict("records")
        ),
    ]


def claim_rows(claim: pd.DataFrame) -> tables.Rows:
    """Lay out the differences of the claim: a row each."""
    rows = []
    for row in claim.to_dict("records"):
        system, baseline = (CATALOGUE.system(row[key]).label for key in ("system", "baseline"))
        other = baseline if row["subject"] == row["other_subject"] else row["other_subject"]
        rows.append([f"{row['subject']}, {system}, minus {other}", _difference(row)])
    return [["subject, system", "flow cosine"], *rows]


def shuffle_rows(shuffle: pd.DataFrame) -> tables.Rows:
    """Lay out the shuffle test: a row a subject and system."""
    columns = {"epe": "EPE ↓", "shuffled": "all orders", "p": "p", "p_other_clip": "(other clip's fMRI)"}
    columns |= {"p_sampled": "p, sampled", "p_bootstrap_wilcoxon": "bootstrap, Wilcoxon", "p_sign_flip": "(valid)"}
    return [
        ["subject, system", *columns.values()],
        *(
            [
                f"{row['subject']}, {CATALOGUE.system(row['system']).label}",
                *(_plain(row[name], ".2g" if name.startswith("p") else ".3f") for name in columns),
            ]
            for row in shuffle.to_dict("records")
        ),
    ]


def _interval(row: Mapping[str, Any] | pd.Series, column: str) -> str:
    return f"{_plain(row[column])} [{_plain(row['ci_low'])}, {_plain(row['ci_high'])}]"


def _difference(row: Mapping[str, Any] | pd.Series) -> str:
    """Difference, p corrected, and the interval where it is there under the names of paired tables."""
    low, high = (row.get(f"difference_{end}", row.get(f"ci_{end}")) for end in ("low", "high"))
    return f"{_plain(row['difference'], '+.3f')} [{_plain(low)}, {_plain(high)}], p {_plain(row['p_holm'], '.2g')}"


def _plain(value: Any, form: str = ".3f") -> str:
    return "–" if pd.isna(value) else tables.number(float(value), form)
