"""Tables of scores, laid out for a terminal, for Markdown, and for the page.

A table of text is a list of rows, the first of them the heads: what a row is of, n, and a column a metric. On the page
a cell is numbers, which its templates format and its script sorts by.
"""

import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from evaluation.catalogue import ALL_SUBJECTS, STAND_IN, TABULATED, Catalogue, Metric
from evaluation.scores import lacking_of, samples_of
from evaluation.significance import is_firm
from minddiffuser import terminal
from minddiffuser.config import REPOSITORY

Rows = list[list[str]]
DIFFERENCES = "difference on the same images [95 % interval], p of a sign-flip test, corrected by Holm's method"
_LEAST_TITLE = 24  # columns of a terminal for what a row is of, if it needs as many


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
    title = terminal.wrapped(catalogue.groups[group])
    return f"{title}\n{as_text(lay_out(head, parts, names, catalogue, cell, absent))}\n\n"


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
    """Align the columns of a table for a terminal: the first to the left, the others to the right.

    Where the table is wider than the terminal, the first column is broken into lines, and the columns that still do
    not fit beside the others follow below, beside the first column once more.
    """
    n_most, widths = terminal.width(), [max(map(len, column)) for column in zip(*table, strict=True)]
    if sum(widths) + 2 * len(widths) - 2 > n_most:
        room = n_most - 2 - max(widths[1:], default=0)
        widths[0] = min(widths[0], max(_LEAST_TITLE, min(n_most // 3, room)))
    together: list[list[int]] = []  # a column that is headed "(...)" belongs to the one before it
    for column, head in enumerate(table[0][1:], start=1):
        together += [] if together and head.startswith("(") else [[]]
        together[-1].append(column)
    blocks: list[list[int]] = [[]]
    for columns in together:
        if blocks[-1] and sum(2 + widths[k] for k in [*blocks[-1], *columns]) > n_most - widths[0]:
            blocks.append([])
        blocks[-1] += columns
    return "\n\n".join("\n".join(_lines(table, widths, block)) for block in blocks)


def _lines(table: Rows, widths: Sequence[int], columns: Sequence[int]) -> Iterator[str]:
    """Yield the lines of some columns of a table beside its first."""
    for row in table:
        title, *more = textwrap.wrap(row[0], widths[0]) or [""]
        yield "  ".join([title.ljust(widths[0]), *(row[k].rjust(widths[k]) for k in columns)]).rstrip()
        yield from (f"  {text}" for text in more)


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
    levels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Give a table for the page: its columns, and for each choice of subject its rows, by kind of system.

    `levels` names the systems whose scores stand under each heading, such as that of chance, by what they are called.
    """
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
    tables, levels_of = {}, {}
    for choice in choices:
        of_choice = nested(summary[summary["subject"] == choice]).get(choice, {})
        axes = {measure: _axis(of_choice, measure) for measure in metrics}
        levels_of[choice] = [
            [(words, of_choice[system][measure][0]) for words, system in (levels or {}).items()
             if measure in of_choice.get(system, {})]
            for measure in metrics
        ]  # fmt: skip
        rows = [
            {
                "system": system,
                **vars(catalogue.system(system)),
                "flags": notes.flags.get(system, []),
                "n": _range([int(values[3]) for values in of_choice[system].values()]),
                "cells": [of_choice[system].get(measure) for measure in metrics],
                "places": [axes[measure](of_choice[system].get(measure)) for measure in metrics],
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
        "levels": levels_of,
        "flags": {catalogue.system(system).label: flags for system, flags in notes.flags.items() if system in shown},
        "samples": sampled(notes, shown, catalogue),
    }


def _axis(
    of_choice: Mapping[str, Mapping[str, list[float]]], measure: str
) -> Callable[[list[float] | None], list[float]]:
    """Give what places a cell's mean, low and high on its column's axis, in percent of the width."""
    ends = [value for of_system in of_choice.values() if measure in of_system for value in of_system[measure][1:3]]
    low, width = (min(ends), (max(ends) - min(ends)) or 1.0) if ends else (0.0, 1.0)
    return lambda cell: [] if cell is None else [round(100 * (value - low) / width, 1) for value in cell[:3]]


def sampled(notes: Notes, shown: Collection[str], catalogue: Catalogue) -> list[str]:
    """Name the systems with several samples, with their number."""
    names = [name for name in catalogue.in_order(notes.samples) if name in shown]
    return [f"{catalogue.system(name).label} ({notes.samples[name]})" for name in names]


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


def difference_matrix(
    paired: pd.DataFrame, choices: Sequence[str], metrics: Sequence[str], catalogue: Catalogue
) -> dict[str, list[dict[str, Any]]]:
    """Lay paired differences out as a matrix for the page: for each choice of subject a row a pair, a cell a metric.

    A cell is None, or says whether the first system is better, how surely ("firm", "open": the interval is clear of
    zero, but p is not small once corrected, or "none"), and the numbers as text.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    wanted = paired[paired["subject"].isin(choices) & paired["metric"].isin(metrics)]
    for (subject, *pair), group in wanted.groupby(["subject", "system", "baseline"], sort=False):
        rows = group.set_index("metric")
        cells = [_sign_cell(rows.loc[name], catalogue.metric(name)) if name in rows.index else None for name in metrics]
        system, baseline = (catalogue.system(str(name)).label for name in pair)
        found.setdefault(str(subject), []).append({"system": system, "baseline": baseline, "cells": cells})
    return found


def _sign_cell(row: pd.Series, metric: Metric) -> dict[str, str]:
    is_clear = not row["ci_low"] <= 0 <= row["ci_high"]
    surety = "none" if not is_clear else "firm" if is_firm(row) else "open"
    side = "better" if (row["difference"] > 0) == metric.higher_is_better else "worse"
    numbers = f"{difference_cell(row)} (uncorrected {number(row['p'], '.2g')}), n {row['n']:.0f}"
    return {"surety": surety, "side": side, "text": numbers, "metric": metric.label}


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
