"""MindDiffuser beside its ablations, other systems and controls, and beside the numbers that its paper prints."""

from collections.abc import Collection, Sequence

import pandas as pd

from evaluation.catalogue import ALL_SUBJECTS, STAGE1, STAGE2, SYSTEMS, TABULATED, in_order, metric, metrics_of, system
from minddiffuser.config import REPOSITORY, Experiment

COLUMNS = [
    "subject", "system", "metric", "mean", "ci_low", "ci_high", "n",
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


def scripts(pattern: str) -> list[str]:
    """Numbered scripts that match a pattern of `MADE_BY`, in order, relative to the repository."""
    return sorted(path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob(pattern))


def read_quoted() -> pd.DataFrame:
    """Read the paper's table of results: columns `system, metric, value`."""
    table = pd.read_csv(REPOSITORY / "baselines" / "published.csv")
    return table.loc[table["source"] == PAPER, ["system", "metric", "value"]].reset_index(drop=True)


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
    return [*found, (title, _quoted(quoted))]


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


def _scores(rows: pd.DataFrame) -> list[list[str]]:
    metrics = list(dict.fromkeys(rows["metric"]))
    is_quoted = {name: bool(rows.loc[rows["metric"] == name, "published"].notna().any()) for name in metrics}
    heads = ["system", "n"]
    for name in metrics:
        heads += [metric(name).label, *(["(paper)"] if is_quoted[name] else [])]
    table = [heads]
    for name, of_system in rows.groupby("system", sort=False):
        n = int(of_system["n"].max())
        cells = [label(str(name)), str(n)]
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
    table = [["stage 2 minus", "n", *(metric(name).label for name in metrics)]]
    for name, of_system in rows[rows["system"] != STAGE2].groupby("system", sort=False):
        known = of_system[of_system["difference"].notna()].set_index("metric")
        n = int(known["n_difference"].max()) if len(known) else 0
        cells = [label(str(name)), str(n)]
        for measure in metrics:
            if measure not in known.index:
                cells.append("–")
                continue
            row = known.loc[measure]
            interval = row["difference_low"], row["difference_high"]
            cell = _cell(row["difference"], *interval, row["n_difference"], n, signed=True)
            cells.append(f"{cell}, p {number(row['p_holm'], '.2g')}")
        table.append(cells)
    return table


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
