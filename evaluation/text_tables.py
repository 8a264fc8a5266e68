"""Tables of scores for a terminal."""

from collections.abc import Collection

import pandas as pd

from evaluation.catalogue import CONCEPT_GROUPS, GROUPS, metric, metrics_of


def text_table(table: pd.DataFrame, value: str, group: str, absent: Collection[str] = ()) -> str:
    """Lay out means or differences: one row a system, one column a metric of the group.

    Parameters
    ----------
    table : DataFrame
        Columns `subject, system, metric, n, ci_low, ci_high`, and `value`; perhaps `baseline` and `p_holm`.
    value : str
        Name of the column that the interval is of.
    group : str
        One of `catalogue.GROUPS` or `CONCEPT_GROUPS`.
    absent : collection of str
        Metrics that could not be computed, which are shown as that.

    Returns
    -------
    str
        With the group's title; cells hold the number, its 95 % interval, Holm's p if there is one, and n where it is
        not that of the row.
    """
    names = metrics_of(group, set(table["metric"]))
    table = table[table["metric"].isin(names)]
    index = ["subject", "system", *(["baseline"] if "baseline" in table else [])]
    n = table.groupby(index, sort=False)["n"].transform("max")
    cells = []
    for row, most in zip(table.itertuples(index=False), n, strict=True):
        cell = f"{getattr(row, value):.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]"
        cell += f" p {row.p_holm:.2g}" if "p_holm" in table else ""
        cells.append(cell if row.n == most else f"{cell} (n {row.n})")
    if "incomplete" in table:  # says so in the row's n
        n = [f"{most} ({text})" if text else str(most) for most, text in zip(n, table["incomplete"], strict=True)]
    table = table.assign(cell=cells, n=n)
    wide = table.pivot_table(index=[*index, "n"], columns="metric", values="cell", aggfunc="first", sort=False)
    wide = wide.reindex(columns=[name for name in names if name in wide or name in absent])
    wide = wide.assign(**{name: "absent" for name in wide if name in absent}).fillna("")
    wide = wide.rename(columns={name: metric(name).label for name in names})
    title = {**GROUPS, **CONCEPT_GROUPS}[group]
    return f"{title}\n{wide.rename_axis(columns=None).reset_index().to_string(index=False)}"


def has(table: pd.DataFrame, group: str) -> bool:
    """Tell whether a table has numbers of a group."""
    return bool(set(table["metric"]) & set(metrics_of(group, set(table["metric"]))))


def spread_table(spread: pd.DataFrame) -> str:
    """Lay out the spread over noise seeds, main metrics."""
    names = metrics_of("main", set(spread["metric"]))
    spread = spread[spread["metric"].isin(names)]
    cells = [f"{mean:.3f} ± {sd:.4f}" for mean, sd in zip(spread["mean"], spread["sd"], strict=True)]
    wide = spread.assign(cell=cells).pivot_table(
        index=["subject", "system", "n_seeds"], columns="metric", values="cell", aggfunc="first", sort=False
    )
    wide = wide[[name for name in names if name in wide]].rename(columns={name: metric(name).label for name in names})
    title = "mean ± standard deviation over noise seeds"
    return f"{title}\n{wide.rename_axis(columns=None).reset_index().to_string(index=False)}"
