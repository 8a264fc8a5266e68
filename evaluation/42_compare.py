"""MindDiffuser beside its ablations, rival systems and controls, on the same images, and beside the paper's numbers.

    python evaluation/42_compare.py [--config configs/miniature.yaml] [--subject subj01]
    python evaluation/42_compare.py --run

Reads `summary.csv`, `paired.csv` and `scores.json` in `runs/<name>/evaluation/`, as `evaluation/41_score.py` wrote
them, and `baselines/published.csv`. Prints, for the mean over subjects and for each of them, the scores of every system
in the four main metrics, what MindDiffuser (stage 2) has more than it, and the table of the paper (arXiv 2303.14139,
Table 2) as quoted; then what is absent, with the command that makes it, and what changed since it was scored. Where the
configuration has Generic Object Decoding, on which one rival is run, the tables of `concepts/`, as
`evaluation/40_score_concepts.py` wrote them, follow: that rival, its controls, its differences to them, and what its
paper says. Writes beside what it reads:

    comparison.csv  subject, system, metric, mean, ci_low, ci_high, n, incomplete, difference, difference_low,
                    difference_high, n_difference, p, p_holm, published: one row a subject, system and metric; the
                    difference is stage 2 less the system
    comparison.md   the same tables as markdown, for a README, and those of Generic Object Decoding

With --subject, of that subject alone, of the one dataset or the other. With --run it first runs all scripts that this
needs, with the same arguments, each of which finds what is done: from `reconstruction/31_stage1.py` to
`evaluation/41_score.py`, and 14, 29, 39 and 40 for Generic Object Decoding; it stops at the first that fails.

Peak memory: 0.3 GB.
"""

import argparse
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from evaluation import comparison, concepts, results, systems
from evaluation.catalogue import ALL_SUBJECTS, CONCEPT_METRICS, TABULATED, metric, system
from minddiffuser.cli import Run, concept_subjects, execute, parse
from minddiffuser.config import REPOSITORY
from minddiffuser.store import DataError, write_atomically
from reconstruction import folder

SCORE = "evaluation/41_score.py"
Sections = list[tuple[str, list[list[str]]]]


def main(argv: list[str] | None = None) -> None:
    """Collect, print, write."""
    run = parse(
        __doc__,
        argv,
        add_arguments,
        lambda experiment: (*experiment.subjects, *concept_subjects(experiment)),
        divides=False,
    )
    arguments = shared_arguments(run.own)
    subjects = [subject for subject in run.subjects if subject in run.config.experiment.subjects]
    of_concepts = [subject for subject in run.subjects if subject not in subjects]
    if run.own.run:
        run_scripts(run, bool(subjects), bool(of_concepts), arguments)

    output = run.config.folder() / "evaluation"
    sections: Sections = []
    remarks: list[str] = []
    written = ["comparison.md"]
    if subjects:
        sections, remarks = compare(run, subjects, output, arguments)
        written.insert(0, "comparison.csv")
    if of_concepts:
        try:
            tables = concepts.read_tables(output / "concepts", run.config)
        except DataError:
            if not subjects:
                raise
            remarks.append(f"absent: Generic Object Decoding; made by: {commands(concept_scripts(), arguments)}")
        else:
            shown = [*([ALL_SUBJECTS] if len(of_concepts) > 1 else []), *of_concepts]
            shown = [subject for subject in shown if subject in set(tables.summary["subject"])]
            sections += comparison.concept_sections(tables.summary, tables.paired, tables.permutation, shown)
            remarks += concept_remarks(run, of_concepts, tables, shown, arguments)

    parts = [f"{title}\n\n{comparison.as_markdown(table)}\n" for title, table in sections]
    write_atomically(output / "comparison.md", "\n".join([*parts, *(f"- {remark}\n" for remark in remarks)]))
    for title, table in sections:
        print(f"\n{textwrap.fill(title, 120)}\n\n{comparison.as_text(table)}")
    print("".join(f"\n{remark}" for remark in remarks))
    print(f"\nwritten: {output}/{', '.join(written)}")


def compare(run: Run, subjects: list[str], output: Path, arguments: list[str]) -> tuple[Sections, list[str]]:
    """Give the tables of NSD and what is to be said of them, and write comparison.csv."""
    summary, paired = results.read_table(output, "summary"), results.read_table(output, "paired")
    record, quoted = results.read_record(output, run.config), comparison.read_quoted()
    shown = [*([ALL_SUBJECTS] if len(subjects) > 1 else []), *subjects]
    summary, paired = summary[summary["subject"].isin(shown)], paired[paired["subject"].isin(shown)]
    compared = comparison.compare(summary, paired, quoted)
    present = {subject: set(table["system"]) for subject, table in compared.groupby("subject")}
    remarks = remarks_on(run, subjects, record, present, arguments)  # or an error, before anything is written
    write_atomically(output / "comparison.csv", compared.to_csv(index=False, float_format="%.6f"))
    return comparison.sections(compared, quoted), remarks


def remarks_on(
    run: Run, subjects: list[str], record: dict[str, Any], present: dict[str, set[str]], arguments: list[str]
) -> list[str]:
    """Say what the tables do not: samples, what is absent, and what has changed since it was scored."""
    found: dict[str, list[str]] = {
        f"{comparison.label(name)}: an image's score is the mean over {n} samples": []
        for name, n in results.samples_of(record).items()
    }
    for subject in subjects:
        states = systems.states_of(run.config, subject)
        missing = comparison.absent_systems({*present.get(subject, set()), *states}, run.config.experiment)
        for scripts, names in missing.items():
            found.setdefault(f"absent: {', '.join(names)}; made by: {commands(scripts, arguments)}", []).append(subject)
        for name, reason in results.stale(record, subject, states).items():
            if system(name).kind in TABULATED:
                command = commands([SCORE], arguments)
                found.setdefault(f"WARNING: {name} {reason}; score it with: {command}", []).append(subject)
    return [f"{', '.join(subjects)}: {remark}" if subjects else remark for remark, subjects in found.items()]


def concept_remarks(
    run: Run, subjects: list[str], tables: concepts.Tables, shown: list[str], arguments: list[str]
) -> list[str]:
    """Say whether the rival beats its controls, and of its tables what `remarks_on` says of the others."""
    found: dict[str, list[str]] = {
        f"{comparison.label(name)}: an image's pictures are scored by their mean over {n} labels": []
        for name, n in results.samples_of(tables.record).items()
    }
    for subject in subjects:
        states = concepts.states_of(run.config, subject)
        pictured = [name for name in states if folder.state(run.config.folder(subject) / "reconstruction" / name)]
        if missing := comparison.absent_concepts(pictured, run.config.experiment):
            remark = f"absent: {', '.join(missing)}; made by: {commands(concept_scripts(), arguments)}"
            found.setdefault(remark, []).append(subject)
        for name, reason in results.stale(tables.record, subject, states).items():
            command = commands([concepts.SCORE], arguments)
            found.setdefault(f"WARNING: {name} {reason}; score it with: {command}", []).append(subject)
    for name, reason in tables.record["absent"].items():
        if name in CONCEPT_METRICS:
            found[f"{metric(name).label} is absent: {reason}"] = []
    remarks = [f"{', '.join(of)}: {remark}" if of else remark for remark, of in found.items()]
    said = [comparison.against_controls(tables.paired, tables.permutation, subject) for subject in shown]
    return [line for lines in said for line in lines] + remarks


def run_scripts(run: Run, is_nsd: bool, is_god: bool, arguments: list[str]) -> None:
    """Run all scripts that make what is compared; the first that fails ends it."""
    made_by = [script for pattern in comparison.MADE_BY.values() for script in comparison.scripts(pattern)]
    both = [*([*made_by, SCORE] if is_nsd else []), *(concept_scripts() if is_god else [])]
    for script in both:
        print(f"\n== {script}", flush=True)
        line = [sys.executable, str(REPOSITORY / script), *arguments]
        if run.overwrite:
            line.append("--overwrite")
        if code := subprocess.run(line, check=False).returncode:
            raise DataError(f"{script} ended with exit code {code}; what is done is kept, and found by the next --run")


def concept_scripts() -> list[str]:
    """Scripts that make and score what is compared on Generic Object Decoding."""
    return [*comparison.scripts(comparison.CONCEPTS_MADE_BY), concepts.SCORE]


def commands(scripts: list[str] | tuple[str, ...], arguments: list[str]) -> str:
    """Command line that runs scripts one after the other."""
    return " && ".join(shlex.join(["python", script, *arguments]) for script in scripts)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what makes all that is compared."""
    parser.add_argument("--run", action="store_true", help="first run every script that this needs")


def shared_arguments(own: argparse.Namespace) -> list[str]:
    """Give the arguments that other scripts are to be run with, but for --overwrite."""
    config = own.config.relative_to(Path.cwd()) if own.config.is_relative_to(Path.cwd()) else own.config
    found = ["--config", str(config)]
    for name in ("subject", "device"):
        if getattr(own, name):
            found += [f"--{name}", getattr(own, name)]
    return found + [word for setting in own.set or [] for word in ("--set", setting)]


if __name__ == "__main__":
    execute(main)
