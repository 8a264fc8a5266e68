"""MindDiffuser beside its ablations, other systems and controls, and beside the numbers that its paper prints.

On another dataset, Generic Object Decoding: one rival beside its controls, and beside what its paper prints.
"""

from collections.abc import Collection, Sequence

import pandas as pd

from evaluation.catalogue import (
    ALL_SUBJECTS,
    CONCEPT_SYSTEMS,
    CONSTANT,
    CORRECTED,
    STAGE1,
    STAGE2,
    SYSTEMS,
    TABULATED,
    in_order,
    metric,
    metrics_of,
    system,
)
from minddiffuser.config import REPOSITORY, Experiment

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
    STAGE2: "reconstruction/32_*.py",
    "control": "reconstruction/33_*.py",
    "ablation": "reconstruction/34_*.py",
    "takagi": "baselines/takagi/[0-9]*.py",
    "ozcelik": "baselines/ozcelik/[0-9]*.py",
}
# The same of the systems of Generic Object Decoding.
CONCEPTS_MADE_BY = "baselines/semantic_brain_decoding/[0-9]*.py"
CONCEPT_PAPER = "Semantic Brain Decoding (arXiv 2212.06726)"
# What is shown of pictures made from labels; the last is the automatic form of what the paper's observers did.
PICTURE_METRICS = ("pixcorr", "ssim", "clip_similarity", "clip_two_way", "clip_two_way_of_reconstruction")
CONCEPT_CAUTION = (
    "Caution: their .57 is also what one constant label reaches on these 50 images, without a brain: .564 where it is "
    "chosen on the training categories, .576 where it is the best there is (benchmarks/constant_label.py); a random "
    "class of ImageNet has .453."
)
PERMUTATION = (
    "Generic Object Decoding: scores of the decoded labels, and of the same labels dealt out to the images at random: "
    "mean (mean of the deals; 97.5 % of them are below), p of a one-sided permutation test, corrected by Holm's method."
)


def scripts(pattern: str) -> list[str]:
    """Numbered scripts that match a pattern of `MADE_BY`, in order, relative to the repository."""
    return sorted(path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob(pattern))


def read_quoted(source: str = PAPER) -> pd.DataFrame:
    """Read what a paper prints: columns `system, metric, dialect, subjects, value`."""
    table = pd.read_csv(REPOSITORY / "baselines" / "published.csv", dtype={"subjects": str})
    columns = ["system", "metric", "dialect", "subjects", "value"]
    return table.loc[table["source"].str.startswith(source), columns].reset_index(drop=True)


def compare(summary: pd.DataFrame, paired: pd.DataFrame, quoted: pd.DataFrame) -> pd.DataFrame:
    """Put what is known of each system in the main metrics into one row a subject, system and metric.

    Parameters
    ----------
    summary, paired : DataFrame
        Of `evaluation/41_score.py`.
    quoted : DataFrame
        Of `read_quoted`.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`. The difference is stage 2 less the system, on the `n_difference` images that both have;
        p_holm is corrected for all comparisons in `paired`; `published` is what the paper prints. NaN where there is
        none. Subject "all" comes first; systems are in the order of `catalogue.in_order`.
    """
    metrics = metrics_of("main", set(summary["metric"]))
    kind = summary["system"].map(lambda name: system(name).kind)
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
        "system": in_order(set(table["system"])),
        "metric": metrics,
    }
    ordered = {by: pd.Categorical(table[by], order, ordered=True) for by, order in orders.items()}
    table = table.assign(**ordered).sort_values(list(orders)).astype(dict.fromkeys(orders, str))
    return table[COLUMNS].reset_index(drop=True)


def absent_systems(present: Collection[str], experiment: Experiment) -> dict[tuple[str, ...], list[str]]:
    """List the systems that the experiment should have and that are not present, by the scripts that make them."""
    found: dict[tuple[str, ...], list[str]] = {}
    rivals = {"takagi": experiment.takagi, "ozcelik": experiment.ozcelik}
    for name in SYSTEMS:
        kind, _, form = name.partition("/")
        settings = rivals.get(kind)
        left_out = kind in rivals and (settings is None or form not in settings.forms)
        if name not in present and not left_out:
            pattern = MADE_BY.get(name) or MADE_BY[kind]
            found.setdefault(tuple(scripts(pattern)), []).append(name)
    return found


def absent_concepts(present: Collection[str], experiment: Experiment) -> list[str]:
    """List what should be there of Generic Object Decoding and is not; permuted labels come with the corrected form."""
    settings = experiment.semantic_brain_decoding
    wanted = [CONSTANT, *(f"semantic_brain_decoding/{form}" for form in settings.forms)] if settings else []
    return [name for name in CONCEPT_SYSTEMS if name in wanted and name not in present]


def is_firm(row: pd.Series) -> bool:
    """Tell whether a paired difference is clear of zero, and its p at most .05 once corrected."""
    return bool(row["p_holm"] <= 0.05) and not row["ci_low"] <= 0 <= row["ci_high"]


def verdict(rows: pd.DataFrame) -> str:
    """Say in a line in which metrics a pair differs, once corrected for the number of comparisons."""
    found: dict[str, list[str]] = {"better in": [], "worse in": [], "no firm difference in": []}
    for _, row in rows.iterrows():
        described = metric(row["metric"])
        side = "better in" if (row["difference"] > 0) == described.higher_is_better else "worse in"
        found[side if is_firm(row) else "no firm difference in"].append(described.label.replace(" ↓", ""))
    return "; ".join(f"{words} {', '.join(labels)}" for words, labels in found.items() if labels)


def against_controls(paired: pd.DataFrame, permutation: pd.DataFrame, subject: str) -> list[str]:
    """Say whether the corrected form beats the constant label, and its own labels dealt out at random, in sentences."""
    own = f"{'mean over subjects' if subject == ALL_SUBJECTS else subject}: {system(CORRECTED).label},"
    of_subject = paired[(paired["subject"] == subject) & (paired["system"] == CORRECTED)]
    rows = of_subject[of_subject["baseline"] == CONSTANT]
    rows = rows[rows["metric"].isin([*metrics_of("concepts", set()), *PICTURE_METRICS])]
    other = system(CONSTANT).label
    if rows.empty:
        found = [f"{own} is not compared with {other}: the one or the other is absent."]
    else:
        first = rows.iloc[0]
        beats = "beats" if is_firm(first) and first["difference"] > 0 else "is NOT shown to beat"
        found = [
            f"{own} {beats} {other} in {metric(first['metric']).label}: {_difference(first)}. All metrics: "
            f"{verdict(rows)}."
        ]
    tested = permutation[(permutation["subject"] == subject) & (permutation["system"] == CORRECTED)]
    parts = {True: [], False: []}
    for _, row in tested.iterrows():
        parts[row["p_holm"] <= 0.05].append(f"{metric(row['metric']).label} (p {number(row['p_holm'], '.2g')})")
    for is_firm_, words in ((True, "beats"), (False, "is NOT shown to beat")):
        if parts[is_firm_]:
            found.append(f"{own} {words} its labels dealt out at random in {', '.join(parts[is_firm_])}.")
    return found


# Layout: a table is a list of rows of text, the first of them the heads.


def sections(comparison: pd.DataFrame, quoted: pd.DataFrame) -> list[tuple[str, list[list[str]]]]:
    """Lay out all tables: for each subject the scores and the differences, and at the end the paper's table.

    Parameters
    ----------
    comparison : DataFrame
        Of `compare`.
    quoted : DataFrame
        Of `read_quoted`.

    Returns
    -------
    list of (title, table)
    """
    found = []
    for subject, rows in comparison.groupby("subject", sort=False):
        name = "Mean over subjects" if subject == ALL_SUBJECTS else str(subject)
        title = f"{name}: mean [95 % interval]; (paper): as its Table 2 has it, not comparable."
        found.append((title, _scores(rows, list(dict.fromkeys(rows["metric"])))))
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
    return [*found, (title, _quoted(quoted))]


def concept_sections(
    summary: pd.DataFrame, paired: pd.DataFrame, permutation: pd.DataFrame, shown: Sequence[str]
) -> list[tuple[str, list[list[str]]]]:
    """Lay out the tables of Generic Object Decoding; controls stand beneath the systems.

    Parameters
    ----------
    summary, paired, permutation : DataFrame
        Of `evaluation/40_score_concepts.py`.
    shown : sequence of str
        Subjects; of the first also scores of the pictures.

    Returns
    -------
    list of (title, table)
    """
    found, labels = [], metrics_of("concepts", set())
    for subject in shown:
        of_subject, differences = summary[summary["subject"] == subject], paired[paired["subject"] == subject]
        name = "mean over subjects" if subject == ALL_SUBJECTS else subject
        kinds = [("decoded labels", labels), ("pictures of the labels", PICTURE_METRICS)]
        for what, wanted in kinds if subject == shown[0] else kinds[:1]:
            metrics = [name for name in wanted if name in set(of_subject["metric"])]
            rows = of_subject[of_subject["metric"].isin(metrics)]
            if rows.empty:
                continue
            title = f"Generic Object Decoding, {name}: {what}, mean [95 % interval]."
            found.append((title, _scores(rows.assign(published=float("nan")), metrics)))
            title = (
                f"Generic Object Decoding, {name}: differences of {what} on the same images [95 % interval], p of a "
                "sign-flip test, corrected by Holm's method. Positive: the first is better."
            )
            if differences["metric"].isin(metrics).any():
                found.append((title, _pairs(differences, metrics)))
    tested = [permutation[permutation["subject"] == subject] for subject in shown]
    if any(len(rows) for rows in tested):
        found.append((PERMUTATION, permutation_rows(pd.concat(tested))))
    title = (
        "Generic Object Decoding: the paper's numbers, quoted, of its five subjects and 50 test images. "
        f"{CONCEPT_CAUTION}"
    )
    return [*found, (title, quoted_concepts())]


def permutation_rows(permutation: pd.DataFrame) -> list[list[str]]:
    """Lay out the permutation tests, a row a subject and system."""
    metrics = [name for name in metrics_of("concepts", set()) if name in set(permutation["metric"])]
    table = [["subject, system", "n", *(metric(name).label for name in metrics)]]
    for (subject, name), rows in permutation.groupby(["subject", "system"], sort=False):
        known, n = rows.set_index("metric"), int(rows["n"].max())
        cells = []
        for measure in metrics:
            if measure not in known.index:
                cells.append("–")
                continue
            row = known.loc[measure]
            dealt = f"({number(row['permuted_mean'])}; {number(row['permuted_high'])})"
            other_n = "" if row["n"] == n else f" (n {row['n']:.0f})"
            cells.append(f"{number(row['observed'])} {dealt} p {number(row['p_holm'], '.2g')}{other_n}")
        table.append([f"{subject}, {label(str(name))}", str(n), *cells])
    return table


def quoted_concepts() -> list[list[str]]:
    """Lay out what the paper on Generic Object Decoding prints: a row a number, a column a subject."""
    quoted = read_quoted(CONCEPT_PAPER)
    subjects = list(dict.fromkeys(quoted["subjects"]))
    heads = ["mean" if " " in subject else f"Subject{subject}" for subject in subjects]
    table = [["as the paper has it", *heads]]
    for dialect, rows in quoted.groupby("dialect", sort=False):
        value_of = rows.set_index("subjects")["value"]
        table.append([str(dialect), *(number(value_of[s]) if s in value_of.index else "–" for s in subjects)])
    return table


def as_text(table: Sequence[Sequence[str]]) -> str:
    """Align the columns of a table for a terminal: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_markdown(table: Sequence[Sequence[str]]) -> str:
    """Write a table as GitHub's markdown."""
    heads, *rows = (f"| {' | '.join(cells)} |" for cells in table)
    return "\n".join([heads, "|---" * len(table[0]) + "|", *rows])


def label(name: str) -> str:
    """Label of a system among those of others."""
    described = system(name)
    return f"MindDiffuser, {described.label}" if described.kind in ("method", "ablation") else described.label


def number(value: float, form: str = ".3f") -> str:
    """Format a number without the zero before its point, as README has them: .701, -.042, 1.000."""
    text = format(value, form)
    sign = text[0] if text[0] in "+-" else ""
    return sign + text.removeprefix(sign).removeprefix("0") if "." in text else text


def _scores(rows: pd.DataFrame, metrics: Sequence[str]) -> list[list[str]]:
    is_quoted = {name: bool(rows.loc[rows["metric"] == name, "published"].notna().any()) for name in metrics}
    heads = ["system", "n"]
    for name in metrics:
        heads += [metric(name).label, *(["(paper)"] if is_quoted[name] else [])]
    table = [heads]
    for name, of_system in rows.groupby("system", sort=False):
        n = int(of_system["n"].max())
        lacking = of_system["incomplete"].iloc[0]
        cells = [label(str(name)), f"{n} (incomplete: {lacking})" if lacking else str(n)]
        known = of_system.set_index("metric")
        for measure in metrics:
            if measure in known.index:
                row = known.loc[measure]
                cells.append(_cell(row["mean"], row["ci_low"], row["ci_high"], row["n"], n))
            else:
                cells.append("–")
            if is_quoted[measure]:
                value = known["published"].get(measure)
                cells.append(f"({number(value)})" if pd.notna(value) else "")
        table.append(cells)
    return table


def _differences(rows: pd.DataFrame) -> list[list[str]]:
    metrics = list(dict.fromkeys(rows["metric"]))
    others = rows[rows["system"] != STAGE2].drop(columns=["n", "ci_low", "ci_high"])
    others = others.rename(columns={"difference_low": "ci_low", "difference_high": "ci_high", "n_difference": "n"})
    parts = [(label(str(name)), of_system) for name, of_system in others.groupby("system", sort=False)]
    return _difference_table("stage 2 minus", parts, metrics)


def _pairs(paired: pd.DataFrame, metrics: Sequence[str]) -> list[list[str]]:
    groups = paired[paired["metric"].isin(metrics)].groupby(["system", "baseline"], sort=False)
    parts = [(" minus ".join(_form(str(name)) for name in names), rows) for names, rows in groups]
    return _difference_table("", parts, metrics)


def _form(name: str) -> str:
    """Give the last part of a system's name: corrected, constant label."""
    return name.rpartition("/")[2].replace("_", " ")


def _difference_table(head: str, parts: list[tuple[str, pd.DataFrame]], metrics: Sequence[str]) -> list[list[str]]:
    """Lay out differences: a row a pair, with its title, and a column a metric."""
    table = [[head, "n", *(metric(name).label for name in metrics)]]
    for title, rows in parts:
        known = rows[rows["difference"].notna()].set_index("metric")
        n = int(known["n"].max()) if len(known) else 0
        cells = [_difference(known.loc[name], n) if name in known.index else "–" for name in metrics]
        table.append([title, str(n), *cells])
    return table


def _difference(row: pd.Series, usual: int | None = None) -> str:
    n = int(row["n"])
    cell = _cell(row["difference"], row["ci_low"], row["ci_high"], n, n if usual is None else usual, signed=True)
    return f"{cell}, p {number(row['p_holm'], '.2g')}"


def _quoted(quoted: pd.DataFrame) -> list[list[str]]:
    metrics = metrics_of("main", set())
    metrics = [name for name in metrics if name in set(quoted["metric"])]
    table = [["system, as the paper has it", *(metric(name).label for name in metrics)]]
    for name, group in quoted.groupby("system", sort=False):
        value_of = group.set_index("metric")["value"]
        table.append([str(name), *(number(value_of[m]) if m in value_of.index else "–" for m in metrics)])
    return table


def _cell(value: float, low: float, high: float, n: int, usual: int, signed: bool = False) -> str:
    text = f"{number(value, '+.3f' if signed else '.3f')} [{number(low)}, {number(high)}]"
    return text if n == usual else f"{text} (n {n})"
