"""On Generic Object Decoding: one rival beside its controls, and beside what its paper prints."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from evaluation import scores, tables
from evaluation.catalogue import ALL_SUBJECTS
from evaluation.concepts import decoded
from evaluation.concepts.catalogue import CATALOGUE, CONSTANT, CORRECTED, FORMS, LABEL_METRICS, LABELS, SYSTEMS
from evaluation.significance import is_firm
from minddiffuser import terminal
from minddiffuser.config import Config, Experiment

MADE_BY = "baselines/semantic_brain_decoding/[0-9]*.py"
PAPER = "Semantic Brain Decoding (arXiv 2212.06726)"
# What is shown of pictures made from labels; the last is the automatic form of what the paper's observers did.
PICTURE_METRICS = ("pixcorr", "ssim", "clip_similarity", "clip_two_way", "clip_two_way_of_reconstruction")
CAUTION = (
    "Caution: their .57 is also what one constant label reaches on these 50 images, without a brain: .564 where it is "
    "chosen on the training categories, .576 where it is the best there is (benchmarks/constant_label.py); a random "
    "class of ImageNet has .453."
)
PERMUTATION = (
    "Generic Object Decoding: scores of the decoded labels, and of the same labels dealt out to the images at random: "
    "mean (mean of the deals; 97.5 % of them are below), p of a one-sided permutation test, corrected by Holm's method."
)


def scripts() -> list[str]:
    """Scripts that make and score all that is compared, in order."""
    return [*scores.scripts(MADE_BY), CATALOGUE.script]


def read(config: Config) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Read the tables that are compared, and their record."""
    return scores.read_tables(CATALOGUE, ("summary", "paired", "permutation", "labels"), config)


def compare(
    config: Config,
    subjects: Sequence[str],
    scored: Mapping[str, pd.DataFrame],
    record: dict[str, Any],
    arguments: list[str],
) -> tables.Comparison:
    """Lay the comparison of some subjects out, of what `read` gives; scripts that it names have the `arguments`."""
    shown = tables.choices_of(subjects, scored["summary"])
    samples, states = scores.samples_of(record), {subject: decoded.states_of(config, subject) for subject in subjects}

    def missing_of(subject: str) -> dict[tuple[str, ...], list[str]]:
        pictured = [name for name in states[subject] if decoded.has_pictures(config, subject, name)]
        missing = absent_systems(pictured, config.experiment)
        return {tuple(scripts()): missing} if missing else {}

    remarks = [line for of in shown for line in against_controls(scored["paired"], scored["permutation"], of)]
    for name, n in samples.items():
        remarks.append(f"{CATALOGUE.system(name).label}: an image's pictures are scored by their mean over {n} labels")
    remarks += scores.remarks_on(CATALOGUE, record, states, missing_of, arguments)
    missing = {name: reason for name, reason in record["absent"].items() if name in LABEL_METRICS}
    remarks += [f"{CATALOGUE.metric(name).label} is absent: {reason}" for name, reason in missing.items()]
    found = sections(scored["summary"], scored["paired"], scored["permutation"], shown)
    return tables.Comparison(found, remarks, {})


def absent_systems(present: Collection[str], experiment: Experiment) -> list[str]:
    """List what should be there of Generic Object Decoding and is not; permuted labels come with the corrected form."""
    settings = experiment.semantic_brain_decoding
    wanted = [CONSTANT, *(f"semantic_brain_decoding/{form}" for form in settings.forms)] if settings else []
    return [name for name in SYSTEMS if name in wanted and name not in present]


def against_controls(paired: pd.DataFrame, permutation: pd.DataFrame, subject: str) -> list[str]:
    """Say whether the corrected form beats the constant label, and its own labels dealt out at random, in sentences."""
    own = f"{'mean over subjects' if subject == ALL_SUBJECTS else subject}: {CATALOGUE.system(CORRECTED).label},"
    of_subject = paired[(paired["subject"] == subject) & (paired["system"] == CORRECTED)]
    rows = of_subject[of_subject["baseline"] == CONSTANT]
    rows = rows[rows["metric"].isin([*LABEL_METRICS, *PICTURE_METRICS])]
    other = CATALOGUE.system(CONSTANT).label
    if rows.empty:
        found = [f"{own} is not compared with {other}: the one or the other is absent."]
    else:
        first = rows.iloc[0]
        beats = "beats" if is_firm(first) and first["difference"] > 0 else "is NOT shown to beat"
        measure = CATALOGUE.metric(first["metric"]).label
        numbers, all_metrics = tables.difference_cell(first), tables.verdict(rows, CATALOGUE)
        found = [f"{own} {beats} {other} in {measure}: {numbers}. All metrics: {all_metrics}."]
    tested = permutation[(permutation["subject"] == subject) & (permutation["system"] == CORRECTED)]
    parts = {True: [], False: []}
    for _, row in tested.iterrows():
        parts[row["p_holm"] <= 0.05].append(
            f"{CATALOGUE.metric(row['metric']).label} (p {tables.number(row['p_holm'], '.2g')})"
        )
    for is_firm_, words in ((True, "beats"), (False, "is NOT shown to beat")):
        if parts[is_firm_]:
            found.append(f"{own} {words} its labels dealt out at random in {', '.join(parts[is_firm_])}.")
    return found


def sections(
    summary: pd.DataFrame, paired: pd.DataFrame, permutation: pd.DataFrame, shown: Sequence[str]
) -> list[tuple[str, tables.Rows]]:
    """Lay out the tables of some subjects, with titles; those of scores of the pictures of the first subject alone."""
    found = []
    for subject in shown:
        of_subject, differences = summary[summary["subject"] == subject], paired[paired["subject"] == subject]
        name = "mean over subjects" if subject == ALL_SUBJECTS else subject
        kinds = [("decoded labels", tuple(LABEL_METRICS)), ("pictures of the labels", PICTURE_METRICS)]
        for what, wanted in kinds if subject == shown[0] else kinds[:1]:
            metrics = [name for name in wanted if name in set(of_subject["metric"])]
            rows = of_subject[of_subject["metric"].isin(metrics)]
            if rows.empty:
                continue
            parts = [(CATALOGUE.system(str(key)).label, part) for key, part in rows.groupby("system", sort=False)]
            title = f"Generic Object Decoding, {name}: {what}, mean [95 % interval]."
            found.append((title, tables.lay_out("system", parts, metrics, CATALOGUE)))
            title = (
                f"Generic Object Decoding, {name}: differences of {what} on the same images [95 % interval], p of a "
                "sign-flip test, corrected by Holm's method. Positive: the first is better."
            )
            if differences["metric"].isin(metrics).any():
                found.append((title, _pairs(differences, metrics)))
    tested = [permutation[permutation["subject"] == subject] for subject in shown]
    if any(len(rows) for rows in tested):
        found.append((PERMUTATION, permutation_rows(pd.concat(tested))))
    title = f"Generic Object Decoding: the paper's numbers, quoted, of its five subjects and 50 test images. {CAUTION}"
    return [*found, (title, quoted())]


def _pairs(paired: pd.DataFrame, metrics: Sequence[str]) -> tables.Rows:
    """Lay out differences: a row a pair, named by the last parts of its names, such as corrected, constant label."""
    groups = paired[paired["metric"].isin(metrics)].groupby(["system", "baseline"], sort=False)
    parts = [
        (" minus ".join(str(name).rpartition("/")[2].replace("_", " ") for name in pair), rows) for pair, rows in groups
    ]
    return tables.lay_out("", parts, metrics, CATALOGUE, tables.difference_cell)


def permutation_rows(permutation: pd.DataFrame) -> tables.Rows:
    """Lay out the permutation tests, a row a subject and system."""

    def cell(row: pd.Series, usual: int) -> str:
        dealt = f"({tables.number(row['permuted_mean'])}; {tables.number(row['permuted_high'])})"
        other_n = "" if row["n"] == usual else f" (n {row['n']:.0f})"
        return f"{tables.number(row['observed'])} {dealt} p {tables.number(row['p_holm'], '.2g')}{other_n}"

    parts = [
        (f"{subject}, {CATALOGUE.system(name).label}", rows)
        for (subject, name), rows in permutation.groupby(["subject", "system"], sort=False)
    ]
    metrics = [name for name in LABEL_METRICS if name in set(permutation["metric"])]
    return tables.lay_out("subject, system", parts, metrics, CATALOGUE, cell)


def quoted() -> tables.Rows:
    """Lay out what the paper prints: a row a number, a column a subject."""
    table = tables.read_quoted(PAPER)
    wide = table.pivot_table(index="dialect", columns="subjects", values="value", aggfunc="first")
    wide = wide.loc[table["dialect"].unique(), table["subjects"].unique()]
    heads = {subject: "mean" if " " in subject else f"Subject{subject}" for subject in wide}
    return tables.plain("as the paper has it", wide.rename(columns=heads))


def print_scores(
    config: Config, subjects: Sequence[str], scored: Mapping[str, pd.DataFrame], record: dict[str, Any]
) -> None:
    """Print the tables of `evaluation/40_score_concepts.py`, and what they say of the corrected form."""
    summary, paired, absent = scored["summary"], scored["paired"], record["absent"]
    whole = ALL_SUBJECTS if ALL_SUBJECTS in set(summary["subject"]) else summary["subject"].iloc[0]
    title = "Generic Object Decoding: mean [95 % interval over categories; subject all: over subjects, too]"
    print(f"\n{terminal.wrapped(title)}\n")
    tables.print_groups(summary, [LABELS, "main"], CATALOGUE, absent)
    tables.print_groups(summary[summary["subject"] == whole], ["more", "brain_diffuser", "mindeye"], CATALOGUE, absent)
    for subject, label in record["constants"].items():
        print(f"{subject}: the constant label is {label!r}")
    print(f"\n{terminal.wrapped(tables.DIFFERENCES)}\n")
    tables.print_groups(paired, [LABELS, "main"], CATALOGUE)
    print(terminal.wrapped(PERMUTATION))
    print(f"\n{tables.as_text(permutation_rows(scored['permutation']))}\n")
    for subject in dict.fromkeys([whole, *summary["subject"]]):
        print("\n".join(map(terminal.wrapped, against_controls(paired, scored["permutation"], subject))))
    title = "errors of decoded features (original: other targets), Wu-Palmer of single trials that were not fitted"
    print(f"\n{terminal.wrapped(title)}\n")
    print(scored["errors"].to_string(index=False, float_format="%.4f", na_rep="–", line_width=terminal.width()))
    for subject in subjects:
        there = set(summary.loc[summary["subject"] == subject, "system"])
        for name in absent_systems(there, config.experiment):
            print(f"{subject}: {name} is absent")
        for name in FORMS:
            if name in there and not decoded.has_pictures(config, subject, name):
                print(terminal.wrapped(f"{subject}: {name} has no pictures; {decoded.GENERATE}"))
    for name, reason in absent.items():
        print(terminal.wrapped(f"absent: {name} ({reason})"))
