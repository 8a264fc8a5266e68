"""Tables of scores, laid out for a terminal, for Markdown, and for the page.

A table of text is a list of rows, the first of them the heads: what a row is of, n, and a column a metric. On the page
a cell is numbers, which its templates format and its script sorts by.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from evaluation.catalogue import ALL_SUBJECTS, STAND_IN, TABULATED, Catalogue
from evaluation.scores import lacking_of, samples_of
from evaluation.significance import is_firm
from minddiffuser.config import REPOSITORY

Rows = list[list[str]]


class Comparison(NamedTuple):
    """What the comparison says of a dataset: tables with their titles, remarks, and files to write, by name."""

    sections: list[tuple[str, Rows]]
    remarks: list[str]
    files: dict[str, str]


class Notes(NamedTuple):
    """What a reader must know beside the numbers."""

    absent: dict[str, str]  # metrics, and why
    flags: dict[str, list[str]]  # what the folder of a system says of it, and what it lacks
    samples: dict[str, str]  # how many pictures of each image a system was scored on, where more than one


def choices_of(subjects: Sequence[str], summary: pd.DataFrame) -> list[str]:
    """Of some subjects those that have scores, and before them "all", where they are several."""
    wanted = [*([ALL_SUBJECTS] if len(subjects) > 1 else []), *subjects]
    return [subject for subject in wanted if subject in set(summary["subject"])]


def read_quoted(source: str) -> pd.DataFrame:
    """Read what a paper prints: columns `system, metric, dialect, subjects, value`."""
    table = pd.read_csv(REPOSITORY / "baselines" / "published.csv", dtype={"subjects": str})
    columns = ["system", "metric", "dialect", "subjects", "value"]
    return table.loc[table["source"].str.startswith(source), columns].reset_index(drop=True)


def verdict(rows: pd.DataFrame, catalogue: Catalogue) -> str:
    """Say in a line in which metrics a pair differs, once corrected for the number of comparisons."""
    found: dict[str, list[str]] = {"better in": [], "worse in": [], "no firm difference in": []}
    for _, row in rows.iterrows():
        described = catalogue.metric(row["metric"])
        side = "better in" if (row["difference"] > 0) == described.higher_is_better else "worse in"
        found[side if is_firm(row) else "no firm difference in"].append(described.label.replace(" ↓", ""))
    return "; ".join(f"{words} {', '.join(labels)}" for words, labels in found.items() if labels)


# Rows of text ---------------------------------------------------------------------------------------------------------


def number(value: float, form: str = ".3f") -> str:
    """Format a number without the zero before its point, as README has them: .701, -.042, 1.000."""
    text = format(value, form)
    sign = text[0] if text[0] in "+-" else ""
    return sign + text.removeprefix(sign).removeprefix("0") if "." in text else text


def mean_cell(row: pd.Series, usual: int) -> str:
    """Mean and 95 % interval, and n where it is not the usual one."""
    return _cell(number(row["mean"]), row, usual)


def difference_cell(row: pd.Series, usual: int | None = None) -> str:
    """Difference, 95 % interval, n where it is not the usual one, and p, corrected."""
    return f"{_cell(number(row['difference'], '+.3f'), row, usual)}, p {number(row['p_holm'], '.2g')}"


def _cell(text: str, row: pd.Series, usual: int | None) -> str:
    text = f"{text} [{number(row['ci_low'])}, {number(row['ci_high'])}]"
    return text if usual in (None, int(row["n"])) else f"{text} (n {row['n']:.0f})"


def lay_out(
    head: str,
    parts: Iterable[tuple[str, pd.DataFrame]],
    metrics: Sequence[str],
    catalogue: Catalogue,
    cell: Callable[[pd.Series, int], str] = mean_cell,
    absent: Collection[str] = (),
) -> Rows:
    """Lay out a table of scores: a row a part, with its title and n, and a column a metric.

    Parameters
    ----------
    head : str
        What the titles are.
    parts : iterable of (title, DataFrame)
        Columns `metric`, `n`, what the cell shows, and perhaps `incomplete`; a metric is there once.
    metrics : sequence of str
    catalogue : Catalogue
    cell : callable
        Makes text of a metric's row; its second argument is the n of the whole part, which is the largest.
    absent : collection of str
        Metrics that could not be computed, which are shown as that.

    Returns
    -------
    list of rows of text
    """
    table = [[head, "n", *(catalogue.metric(name).label for name in metrics)]]
    for title, rows in parts:
        known, n = rows.set_index("metric"), int(rows["n"].max()) if len(rows) else 0
        lacking = rows["incomplete"].iloc[0] if "incomplete" in rows else ""
        cells = [title, f"{n} (incomplete: {lacking})" if lacking else str(n)]
        for name in metrics:
            none = "absent" if name in absent else "–"
            cells.append(cell(known.loc[name], n) if name in known.index else none)
        table.append(cells)
    return table


def text_table(table: pd.DataFrame, group: str, catalogue: Catalogue, absent: Collection[str] = ()) -> str:
    """Lay a summary or paired differences out for a terminal, under the title of a group of metrics.

    A row is a subject and system; `absent` has metrics that could not be computed. It is "" where there are no numbers.
    """
    names = catalogue.metrics_of(group, set(table["metric"]))
    table = table[table["metric"].isin(names)]
    if table.empty:
        return ""
    names = [name for name in names if name in set(table["metric"]) or name in absent]
    is_paired = "baseline" in table
    index = ["subject", "system", *(["baseline"] if is_paired else [])]
    head = "subject, system" + (" minus another" if is_paired else "")
    parts = [
        (f"{subject}, {' minus '.join(systems)}", rows)
        for (subject, *systems), rows in table.groupby(index, sort=False)
    ]
    cell = difference_cell if is_paired else mean_cell
    return f"{catalogue.groups[group]}\n{as_text(lay_out(head, parts, names, catalogue, cell, absent))}\n\n"


def print_groups(
    table: pd.DataFrame, groups: Iterable[str], catalogue: Catalogue, absent: Collection[str] = ()
) -> None:
    """Print the tables of some groups of metrics, as `text_table` lays them out."""
    print("".join(text_table(table, group, catalogue, absent) for group in groups), end="")


def plain(head: str, numbers: pd.DataFrame) -> Rows:
    """Lay out numbers that stand alone: the head is that of the index, and what is NaN a dash."""
    rows = [[str(title), *("–" if pd.isna(v) else number(v) for v in row)] for title, *row in numbers.itertuples()]
    return [[head, *map(str, numbers)], *rows]


def as_text(table: Rows) -> str:
    """Align the columns of a table for a terminal: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_markdown(table: Rows) -> str:
    """Write a table as GitHub's markdown."""
    heads, *rows = (f"| {' | '.join(cells)} |" for cells in table)
    return "\n".join([heads, "|---" * len(table[0]) + "|", *rows])


# For the page's templates ---------------------------------------------------------------------------------------------


def notes_on(record: Mapping[str, Any], settings: Iterable[Mapping[str, Mapping[str, Any]]]) -> Notes:
    """Gather what is to be said of scores, from their record and the settings of the folders of each subject."""
    flags = {name: [f"incomplete ({text})" for text in texts] for name, texts in lacking_of(record).items()}
    for of_subject in settings:
        for name, content in of_subject.items():
            for flag in content.get("flags", []):
                if flag not in flags.setdefault(name, []):
                    flags[name].append(flag)
    return Notes(record["absent"], {name: found for name, found in flags.items() if found}, samples_of(record))


def nested(summary: pd.DataFrame) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Mean, interval and n by subject, system and metric."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in summary.itertuples(index=False):
        values = [round(float(value), 5) for value in (row.mean, row.ci_low, row.ci_high)]
        of_system = found.setdefault(str(row.subject), {}).setdefault(str(row.system), {})
        of_system[str(row.metric)] = [*values, int(row.n)]
    return found


def page_table(
    name: str,
    title: str,
    metrics: Sequence[str],
    summary: pd.DataFrame,
    choices: Sequence[str],
    notes: Notes,
    catalogue: Catalogue,
    kinds: Mapping[str, str] = TABULATED,
) -> dict[str, Any]:
    """Give a table for the page: its columns, and for each choice of subject its rows, by kind of system."""
    summary = summary[summary["metric"].isin(metrics)]
    present = set(summary["metric"])
    columns = [
        {
            "name": measure,
            **vars(catalogue.metric(measure)),
            "stand_in": measure.endswith(STAND_IN),
            "absent": None if measure in present else notes.absent.get(measure, "not computed"),
        }
        for measure in metrics
    ]
    tables = {}
    for choice in choices:
        of_choice = nested(summary[summary["subject"] == choice]).get(choice, {})
        rows = [
            {
                "system": system,
                **vars(catalogue.system(system)),
                "flags": notes.flags.get(system, []),
                "n": _range([int(values[3]) for values in of_choice[system].values()]),
                "cells": [of_choice[system].get(measure) for measure in metrics],
            }
            for system in catalogue.in_order(of_choice)
        ]
        parts = [(title, [row for row in rows if row["kind"] == kind]) for kind, title in kinds.items()]
        tables[choice] = [part for part in parts if part[1]]
    shown = {row["system"] for parts in tables.values() for _, rows in parts for row in rows}
    return {
        "name": name,
        "title": title,
        "columns": columns,
        "tables": tables,
        "flags": {catalogue.system(system).label: flags for system, flags in notes.flags.items() if system in shown},
        "samples": sampled(notes, shown, catalogue),
    }


def sampled(notes: Notes, shown: Collection[str], catalogue: Catalogue) -> list[str]:
    """Name the systems with several samples, with their number."""
    names = [name for name in catalogue.in_order(notes.samples) if name in shown]
    return [f"{catalogue.system(name).label} ({notes.samples[name]})" for name in names]


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


def page_differences(
    paired: pd.DataFrame,
    choices: Sequence[str],
    main: str,
    catalogue: Catalogue,
    words: Mapping[tuple[str, str], tuple[str, str]] | None = None,
) -> list[dict[str, Any]]:
    """Paired differences by subject and pair, for the page; metrics of the group `main` apart from the rest.

    `words` has what is said of a pair in place of "A is better in" and "A is worse in".
    """
    place, found = {name: k for k, name in enumerate(catalogue.metrics)}, []
    for (subject, *pair), group in paired[paired["subject"].isin(choices)].groupby(
        ["subject", "system", "baseline"], sort=False
    ):
        system, baseline = (catalogue.system(str(name)).label for name in pair)
        better_worse = (words or {}).get((pair[0], pair[1]), (f"{system} is better in", f"{system} is worse in"))
        rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        places = group["metric"].map(lambda measure: place[measure.removesuffix(STAND_IN)])
        for _, row in group.assign(place=places).sort_values("place", kind="stable").iterrows():
            reading = _reading(row, better_worse, catalogue)
            rows[catalogue.metric(row["metric"]).group == main].append({"reading": reading, **row.to_dict()})
        found.append(
            {
                "subject": subject,
                "system": system,
                "baseline": baseline,
                "is_first": subject not in {pair["subject"] for pair in found},
                "verdict": verdict(pd.DataFrame(rows[True] or rows[False]), catalogue),
                "main": rows[True],
                "others": rows[False],
            }
        )
    return found


def _reading(row: pd.Series, words: tuple[str, str], catalogue: Catalogue) -> str:
    """Say in words what a paired difference shows."""
    described = catalogue.metric(row["metric"])
    dialect = {"brain_diffuser": " as Brain-Diffuser", "mindeye": " as MindEye"}.get(described.group, "")
    label = described.label.replace(" ↓", "") + dialect
    if row["ci_low"] <= 0 <= row["ci_high"]:
        return f"no difference shown in {label}"
    is_better = (row["difference"] > 0) == described.higher_is_better
    reading = f"{words[0] if is_better else words[1]} {label}"
    return reading + (", but not once corrected for the number of comparisons" if row["p_holm"] > 0.05 else "")
