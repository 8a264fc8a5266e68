"""MindDiffuser beside its ablations, other systems and controls, and beside the numbers that its paper prints."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from evaluation import scores, tables
from evaluation.catalogue import ALL_SUBJECTS, TABULATED
from evaluation.pictures import systems
from evaluation.pictures.catalogue import BEST_OF_K, CATALOGUE, RESTORED, RESTORED_STAGE2, STAGE1, STAGE2, SYSTEMS
from minddiffuser import terminal
from minddiffuser.config import Config, Experiment

COLUMNS = [
    "subject", "system", "metric", "mean", "ci_low", "ci_high", "n", "incomplete",
    "difference", "difference_low", "difference_high", "n_difference", "p", "p_holm", "published",
]  # fmt: skip
PAPER = "MindDiffuser (arXiv 2303.14139), table 2"
# Which row of the paper's table a system answers to.
QUOTED_AS = {
    STAGE2: "MindDiffuser",
    STAGE1: "MindDiffuser, stage 1 only",
    "ablation/without_z": "MindDiffuser, without z",
    "takagi/minddiffuser": "Takagi & Nishimoto, re-run by MindDiffuser's authors",
    "ozcelik/minddiffuser": "Ozcelik IC-GAN, re-run by MindDiffuser's authors",
}
# What makes a system, or all in a folder, in the order in which it runs.
MADE_BY = {
    STAGE1: "reconstruction/31_*.py",
    RESTORED: "reconstruction/31_*.py",
    STAGE2: "reconstruction/32_*.py",
    BEST_OF_K: "reconstruction/32_*.py",
    RESTORED_STAGE2: "reconstruction/32_*.py",
    "control": "reconstruction/33_*.py",
    "ablation": "reconstruction/34_*.py",
    "takagi": "baselines/takagi/[0-9]*.py",
    "ozcelik": "baselines/ozcelik/[0-9]*.py",
}


def scripts() -> list[str]:
    """Scripts that make and score all that is compared, in order."""
    return [*(script for pattern in MADE_BY.values() for script in scores.scripts(pattern)), CATALOGUE.script]


def read(config: Config) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Read the tables that are compared, and their record."""
    return scores.read_tables(CATALOGUE, ("summary", "paired"), config)


def compare(
    config: Config,
    subjects: Sequence[str],
    scored: Mapping[str, pd.DataFrame],
    record: dict[str, Any],
    arguments: list[str],
) -> tables.Comparison:
    """Lay the comparison of some subjects out, of what `read` gives; scripts that it names have the `arguments`."""
    shown, quoted = tables.choices_of(subjects, scored["summary"]), tables.read_quoted(PAPER)
    summary, paired = (scored[name][scored[name]["subject"].isin(shown)] for name in ("summary", "paired"))
    table = joined(summary, paired, quoted)
    present = {subject: set(rows["system"]) for subject, rows in table.groupby("subject")}
    samples, states = scores.samples_of(record), {subject: systems.states_of(config, subject) for subject in subjects}

    def missing_of(subject: str) -> dict[tuple[str, ...], list[str]]:
        return absent_systems({*present.get(subject, set()), *states[subject]}, config.experiment)

    remarks = [f"{label(name)}: an image's score is the mean over {n} samples" for name, n in samples.items()]
    remarks += scores.remarks_on(CATALOGUE, record, states, missing_of, arguments)
    files = {"comparison.csv": table.to_csv(index=False, float_format="%.6f")}
    *found, last = sections(table, quoted)
    return tables.Comparison([*found, *sections_of_ours(summary, paired), last], remarks, files)


def joined(summary: pd.DataFrame, paired: pd.DataFrame, quoted: pd.DataFrame) -> pd.DataFrame:
    """Put what is known of each system in the main metrics into one row a subject, system and metric.

    Parameters
    ----------
    summary, paired : DataFrame
        Of `evaluation/41_score.py`.
    quoted : DataFrame
        What the paper prints, of `tables.read_quoted`.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`. The difference is stage 2 less the system, on the `n_difference` images that both have;
        p_holm is corrected for all comparisons in `paired`; `published` is what the paper prints. NaN where there is
        none. Subject "all" comes first; systems are in the order of `Catalogue.in_order`.
    """
    metrics = CATALOGUE.metrics_of("main", set(summary["metric"]))
    kind = summary["system"].map(lambda name: CATALOGUE.system(name).kind)
    table = summary[kind.isin(list(TABULATED)) & summary["metric"].isin(metrics)]

    less = paired[paired["system"] == STAGE2].assign(system=lambda found: found["baseline"])
    more = paired[paired["baseline"] == STAGE2]  # such as the ceiling, less stage 2: turn it round
    turned = {"difference": 0 - more["difference"], "ci_low": 0 - more["ci_high"], "ci_high": 0 - more["ci_low"]}
    differences = pd.concat([less, more.assign(**turned)]).drop(columns="baseline")
    differences = differences.rename(
        columns={"ci_low": "difference_low", "ci_high": "difference_high", "n": "n_difference"}
    )
    name_of = {theirs: ours for ours, theirs in QUOTED_AS.items()}
    published = quoted.assign(system=quoted["system"].map(name_of)).rename(columns={"value": "published"})
    published = published[["system", "metric", "published"]]

    table = table.merge(differences, "left", on=["subject", "system", "metric"])
    table = table.merge(published, "left", on=["system", "metric"])
    table["n_difference"] = table["n_difference"].astype("Int64")
    orders = {
        "subject": sorted(set(table["subject"]), key=lambda name: (name != ALL_SUBJECTS, name)),
        "system": CATALOGUE.in_order(set(table["system"])),
        "metric": metrics,
    }
    ordered = {by: pd.Categorical(table[by], order, ordered=True) for by, order in orders.items()}
    table = table.assign(**ordered).sort_values(list(orders)).astype(dict.fromkeys(orders, str))
    return table[COLUMNS].reset_index(drop=True)


def absent_systems(present: Collection[str], experiment: Experiment) -> dict[tuple[str, ...], list[str]]:
    """List the systems that the experiment should have and that are not present, by the scripts that make them."""
    found: dict[tuple[str, ...], list[str]] = {}
    rivals = {"takagi": experiment.takagi, "ozcelik": experiment.ozcelik}
    restores = experiment.decoding.restore_variance == "train"
    not_made = [] if restores else [RESTORED, BEST_OF_K]
    if not (restores and experiment.restored.stage2):
        not_made += [RESTORED_STAGE2, "ablation/restored_other_targets"]
    for name in SYSTEMS:
        kind, _, form = name.partition("/")
        settings = rivals.get(kind)
        left_out = name in not_made or (kind in rivals and (settings is None or form not in settings.forms))
        if name not in present and not left_out:
            pattern = MADE_BY.get(name) or MADE_BY[kind]
            found.setdefault(tuple(scores.scripts(pattern)), []).append(name)
    return found


def label(name: str) -> str:
    """Label of a system among those of others."""
    described = CATALOGUE.system(name)
    return f"MindDiffuser, {described.label}" if described.kind in ("method", "ablation") else described.label


def sections(comparison: pd.DataFrame, quoted: pd.DataFrame) -> list[tuple[str, tables.Rows]]:
    """Lay out all tables, with titles: for each subject scores and differences, and at the end the paper's table."""
    found = []
    for subject, rows in comparison.groupby("subject", sort=False):
        name = "Mean over subjects" if subject == ALL_SUBJECTS else str(subject)
        title = f"{name}: mean [95 % interval]; (paper): as its Table 2 has it, not comparable."
        found.append((title, _scores(rows)))
        if rows["difference"].notna().any():
            title = (
                f"{name}: MindDiffuser (stage 2) minus each system on the same images [95 % interval], p of a "
                "sign-flip test, corrected by Holm's method for all comparisons of 41_score.py. Positive: stage 2 is "
                "better."
            )
            found.append((title, _differences(rows)))
    title = (
        "The paper's Table 2, quoted. Not comparable with the numbers above: n and subjects are not stated, nor which "
        "CLIP and which SSIM."
    )
    names = [name for name in CATALOGUE.metrics_of("main") if name in set(quoted["metric"])]
    wide = quoted.pivot_table(index="system", columns="metric", values="value", aggfunc="first")
    wide = wide.loc[quoted["system"].unique(), names].rename(columns=lambda name: CATALOGUE.metric(name).label)
    return [*found, (title, tables.plain("system, as the paper has it", wide))]


def sections_of_ours(summary: pd.DataFrame, paired: pd.DataFrame) -> list[tuple[str, tables.Rows]]:
    """Lay out, for each subject, what restored has more than others, and the losses of stage 2 and of the stimuli."""
    found = []
    for subject in sorted(set(summary["subject"]), key=lambda name: (name != ALL_SUBJECTS, name)):
        name = "Mean over subjects" if subject == ALL_SUBJECTS else str(subject)
        rows = paired[(paired["subject"] == subject) & (paired["system"] == RESTORED)]
        if len(rows):
            title = (
                f"{name}: MindDiffuser (restored: stage 1 with the variance of z and c restored) minus each system on "
                "the same images, in the same way. Positive: restored is better."
            )
            parts = [(label(str(other)), of_other) for other, of_other in rows.groupby("baseline", sort=False)]
            metrics = CATALOGUE.metrics_of("main", set(rows["metric"]))
            table = tables.lay_out("restored minus", parts, metrics, CATALOGUE, tables.difference_cell)
            found.append((title, table))
        rows = summary[(summary["subject"] == subject) & summary["metric"].isin(CATALOGUE.metrics_of("losses"))]
        if len(rows):
            parts = [(label(str(system)), of_system) for system, of_system in rows.groupby("system", sort=False)]
            metrics = CATALOGUE.metrics_of("losses", set(rows["metric"]))
            table = tables.lay_out("system", parts, metrics, CATALOGUE)
            found.append((f"{name}: {CATALOGUE.groups['losses']}.", table))
    return found


def _scores(rows: pd.DataFrame) -> tables.Rows:
    """Lay out means; beside a metric that the paper has, what it prints."""
    metrics = list(dict.fromkeys(rows["metric"]))
    parts = [(label(str(name)), of_system) for name, of_system in rows.groupby("system", sort=False)]
    table = tables.lay_out("system", parts, metrics, CATALOGUE)
    for column in reversed(range(len(metrics))):
        of_metric = [part.set_index("metric")["published"].get(metrics[column]) for _, part in parts]
        if any(pd.notna(value) for value in of_metric):
            texts = [f"({tables.number(value)})" if pd.notna(value) else "" for value in of_metric]
            for row, text in zip(table, ["(paper)", *texts], strict=True):
                row.insert(column + 3, text)
    return table


def _differences(rows: pd.DataFrame) -> tables.Rows:
    """Lay out what stage 2 has more than each system."""
    metrics = list(dict.fromkeys(rows["metric"]))
    others = rows[rows["system"] != STAGE2].drop(columns=["n", "ci_low", "ci_high", "incomplete"])
    others = others.rename(columns={"difference_low": "ci_low", "difference_high": "ci_high", "n_difference": "n"})
    parts = [
        (label(str(name)), of_system[of_system["difference"].notna()])
        for name, of_system in others.groupby("system", sort=False)
        if of_system["difference"].notna().any()  # ours are compared with restored, not all with stage 2
    ]
    return tables.lay_out("stage 2 minus", parts, metrics, CATALOGUE, tables.difference_cell)


def print_scores(scored: Mapping[str, pd.DataFrame], absent: Mapping[str, str]) -> None:
    """Print the tables of `evaluation/41_score.py`; `absent` has metrics that could not be computed, and why."""
    summary, spread = scored["summary"], scored["spread"]
    kind = summary["system"].map(lambda name: CATALOGUE.system(name).kind)
    whole = summary["subject"] == (ALL_SUBJECTS if ALL_SUBJECTS in set(summary["subject"]) else summary["subject"][0])
    print("\nmean [95 % interval over images; subject all: over subjects and images]\n")
    tables.print_groups(summary[kind.isin(TABULATED)], ["main"], CATALOGUE)
    tables.print_groups(summary[kind.isin(TABULATED) & whole], ["more", "brain_diffuser", "mindeye"], CATALOGUE, absent)
    tables.print_groups(summary, ["losses", "features"], CATALOGUE)
    if (kind == "bottleneck").any():
        print("stage 1 from a few numbers of what was decoded; 0: the generator alone")
        tables.print_groups(summary[(kind == "bottleneck") & whole], ["main"], CATALOGUE)
    print(f"{terminal.wrapped(tables.DIFFERENCES)}\n")
    tables.print_groups(scored["paired"], ["main", "features"], CATALOGUE)
    if len(spread):
        print(f"mean ± standard deviation over noise seeds\n{tables.as_text(spread_rows(spread))}\n")
    for name, reason in absent.items():
        print(terminal.wrapped(f"absent: {name} ({reason})"))


def spread_rows(spread: pd.DataFrame) -> tables.Rows:
    """Lay out the spread over noise seeds, main metrics."""
    names = [name for name in CATALOGUE.metrics_of("main") if name in set(spread["metric"])]
    table = spread.rename(columns={"n_seeds": "n"})
    parts = [(", ".join(map(str, key)), rows) for key, rows in table.groupby(["subject", "system"], sort=False)]
    return tables.lay_out(
        "subject, system",
        parts,
        names,
        CATALOGUE,
        lambda row, _: f"{tables.number(row['mean'])} ± {tables.number(row['sd'], '.4f')}",
    )
