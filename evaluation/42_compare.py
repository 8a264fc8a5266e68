"""MindDiffuser beside its ablations, rival systems and controls, on the same images, and beside the paper's numbers.

    python evaluation/42_compare.py [--config configs/miniature.yaml] [--subject subj01]
    python evaluation/42_compare.py --run

Reads `summary.csv`, `paired.csv` and `scores.json` in `runs/<name>/evaluation/`, as `evaluation/41_score.py` wrote
them, and `baselines/published.csv`. Prints, for the mean over subjects and for each of them, the scores of every system
in the four main metrics, what MindDiffuser (stage 2) has more than it, and the table of the paper (arXiv 2303.14139,
Table 2) as quoted; then what is absent, with the command that makes it, and what changed since it was scored. Writes
beside what it reads:

    comparison.csv  subject, system, metric, mean, ci_low, ci_high, n, difference, difference_low, difference_high,
                    n_difference, p, p_holm, published: one row a subject, system and metric; the difference is stage 2
                    less the system
    comparison.md   the same tables as markdown, for a README

With --subject, of that subject alone. With --run it first runs all scripts from `reconstruction/31_stage1.py` to
`evaluation/41_score.py`, with the same arguments, each of which finds what is done; it stops at the first that fails.
"""

import argparse
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from evaluation import comparison, results
from evaluation.catalogue import ALL_SUBJECTS, TABULATED, system
from minddiffuser.cli import Run, execute, parse
from minddiffuser.config import REPOSITORY
from minddiffuser.store import DataError, Shard, write_atomically

SCORE = "evaluation/41_score.py"


def main(argv: list[str] | None = None) -> None:
    """Collect, print, write."""
    run = parse(__doc__, argv, add_arguments)
    arguments = shared_arguments(run.own)
    if run.own.run:
        if run.shard != Shard():
            raise DataError("--run does the whole job; give --shard to the scripts themselves")
        made_by = [script for pattern in comparison.MADE_BY.values() for script in comparison.scripts(pattern)]
        for script in [*made_by, SCORE]:
            print(f"\n== {script}", flush=True)
            line = [sys.executable, str(REPOSITORY / script), *arguments]
            if run.overwrite:
                line.append("--overwrite")
            if code := subprocess.run(line, check=False).returncode:
                raise DataError(
                    f"{script} ended with exit code {code}; what is done is kept, and found by the next --run"
                )

    output = run.config.folder() / "evaluation"
    summary, paired = results.read_table(output, "summary"), results.read_table(output, "paired")
    record, quoted = results.read_record(output), comparison.read_quoted()
    shown = [*([ALL_SUBJECTS] if len(run.subjects) > 1 else []), *run.subjects]
    summary, paired = summary[summary["subject"].isin(shown)], paired[paired["subject"].isin(shown)]
    compared = comparison.compare(summary, paired, quoted)
    sections = comparison.sections(compared, quoted)
    remarks = remarks_on(run, record, {s: set(table["system"]) for s, table in compared.groupby("subject")}, arguments)

    parts = [f"{title}\n\n{comparison.as_markdown(table)}\n" for title, table in sections]
    write_atomically(output / "comparison.md", "\n".join([*parts, *(f"- {remark}\n" for remark in remarks)]))
    write_atomically(output / "comparison.csv", compared.to_csv(index=False, float_format="%.6f"))
    for title, table in sections:
        print(f"\n{textwrap.fill(title, 120)}\n\n{comparison.as_text(table)}")
    print("".join(f"\n{remark}" for remark in remarks))
    print(f"\nwritten: {output}/comparison.csv, comparison.md")


def remarks_on(run: Run, record: dict[str, Any], present: dict[str, set[str]], arguments: list[str]) -> list[str]:
    """Say what the tables do not: samples, what is absent, and what has changed since it was scored."""
    found = {
        f"{comparison.label(name)}: an image's score is the mean over {n} samples": []
        for name, n in results.samples_of(record).items()
    }
    for subject in run.subjects:
        states = results.states_of(run.config.folder(subject))
        missing = comparison.absent_systems({*present.get(subject, set()), *states}, run.config.experiment)
        for scripts, names in missing.items():
            commands = " && ".join(shlex.join(["python", script, *arguments]) for script in scripts)
            found.setdefault(f"absent: {', '.join(names)}; made by: {commands}", []).append(subject)
        for name, reason in results.stale(record, subject, states).items():
            if system(name).kind in TABULATED:
                command = shlex.join(["python", SCORE, *arguments])
                found.setdefault(f"WARNING: {name} {reason}; score it with: {command}", []).append(subject)
    return [f"{', '.join(subjects)}: {remark}" if subjects else remark for remark, subjects in found.items()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what makes all that is compared."""
    parser.add_argument("--run", action="store_true", help="first run every script that this needs, 31 to 41")


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
