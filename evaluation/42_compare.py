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

Peak memory: 0.2 GB.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
import subprocess
import sys
from pathlib import Path

import evaluation.concepts.comparison
import evaluation.pictures.comparison
from evaluation.scores import MADE_BY, absent, is_scored
from evaluation.tables import as_markdown, as_text
from minddiffuser import terminal
from minddiffuser.cli import Run, execute, parse
from minddiffuser.config import REPOSITORY
from minddiffuser.store import DataError, write_atomically

SCRIPT = "evaluation/42_compare.py"
WINGS = (evaluation.pictures.comparison, evaluation.concepts.comparison)  # in the order in which they are shown


def main(argv: list[str] | None = None) -> None:
    """Collect, print, write."""
    run = parse(
        __doc__,
        argv,
        add_arguments,
        lambda experiment: tuple(name for wing in WINGS for name in wing.CATALOGUE.subjects_of(experiment)),
        divides=False,
    )
    config, arguments = run.config, shared_arguments(run.own)
    subjects_of = {}
    for wing in WINGS:
        known = wing.CATALOGUE.subjects_of(config.experiment)
        if subjects := [subject for subject in run.subjects if subject in known]:
            subjects_of[wing] = subjects
    if run.own.run:
        run_scripts(run, [script for wing in subjects_of for script in wing.scripts()], arguments)

    output = config.folder() / "evaluation"
    sections, remarks, files = [], [], {}
    has_scores = any(is_scored(wing.CATALOGUE, config) for wing in subjects_of)
    for wing, subjects in subjects_of.items():
        if has_scores and not is_scored(wing.CATALOGUE, config):
            remarks.append(absent([wing.CATALOGUE.title], wing.scripts(), arguments))
            continue
        tables, record = wing.read(config)
        found = wing.compare(config, subjects, tables, record, arguments)
        sections, remarks, files = sections + found.sections, remarks + found.remarks, {**files, **found.files}

    parts = [f"{title}\n\n{as_markdown(table)}\n" for title, table in sections]
    files["comparison.md"] = "\n".join([*parts, *(f"- {remark}\n" for remark in remarks)])
    for name, text in files.items():
        write_atomically(output / name, text)
    for title, table in sections:
        print(f"\n{terminal.wrapped(title)}\n\n{as_text(table)}")
    # Command lines, which would be broken here, are in the file alone.
    said = [remark.partition(MADE_BY)[0] for remark in remarks]
    print("".join(f"\n{terminal.wrapped(text)}" for text in said))
    if said != remarks:
        print(terminal.wrapped(f"python {SCRIPT} --run makes what is absent; comparison.md has the command of each"))
    print(f"\n{terminal.wrapped(f'written: {output}/' + ', '.join(files))}")


def run_scripts(run: Run, scripts: list[str], arguments: list[str]) -> None:
    """Run all scripts that make what is compared; the first that fails ends it."""
    for script in scripts:
        print(f"\n== {script}", flush=True)
        line = [sys.executable, str(REPOSITORY / script), *arguments]
        if run.overwrite:
            line.append("--overwrite")
        if code := subprocess.run(line, check=False).returncode:
            raise DataError(f"{script} ended with exit code {code}; what is done is kept, and found by the next --run")


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
