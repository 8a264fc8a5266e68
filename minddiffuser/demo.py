"""Run scripts in order: what `make demo`, `make compare`, `make god` and the like do.

    python -m minddiffuser.demo --config configs/nsd.yaml [--jobs N] demo
    python -m minddiffuser.demo --config configs/nsd.yaml [--jobs N] SCRIPT [SCRIPT ...]

A word such as "demo" stands for its list in `minddiffuser/stages.csv`.

Where the data are real the doctor (`python -m doctor`) looks first at what the scripts need: nothing is started while
something is wrong that the method needs, and the scripts of a rival that cannot run are left out, which is said here,
and again at the end. Simulated data are made by the first scripts, and their models are in the repository: there is
nothing to look at.

Scripts that go subject by subject run in one process a subject, `--jobs` of them side by side, which divide the threads
among them; by default as many as subjects and cores allow, and on a GPU one. Arguments of a script are quoted with it.

A script that is listed again later, such as the one that scores, runs the first time only on real data, and while there
is no page yet: so that a first score and page are there before the longest stage. The first script that fails ends it,
with its exit code; what is done is found the next time.

The last five lines say what was found, what is absent and why, where the page is, what can be run next, and what was
left out or how long it took. After scripts of films, what was found is of films.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from minddiffuser import terminal
from minddiffuser.cli import read_config
from minddiffuser.config import Config, Experiment
from minddiffuser.lanes import ScriptError, can_fork, lanes_of, run, usual_jobs
from minddiffuser.stages import TARGETS, stages_of

# What `make demo` leaves to others: by the command, what it adds, and what the folder of results has afterwards.
_LATER = {
    "make demo": ("stage 2, controls", "*/reconstruction/minddiffuser/stage2"),
    "make compare": ("rivals, ablations", "*/reconstruction/ablation"),
    "make god": ("another dataset", "evaluation/concepts/summary.csv"),
}
_LATER_FILMS = {"make film-all": ("other forms, all controls, maps", "*/maps/maps.json")}
# What the names of the scripts of films begin with.
_OF_FILMS = ("miniature/04", "data/05", "baselines/mind_animator/", "evaluation/44")


def main(argv: list[str] | None = None) -> None:
    """Look, run, and say what was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--jobs", type=int, help="processes side by side (default: see above)")
    parser.add_argument("scripts", nargs="+", metavar="SCRIPT", help="in order, relative to the repository; or a list")
    args = parser.parse_args(argv)
    args.scripts = [script for name in args.scripts for script in listed(name)]
    if args.jobs is not None and args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: at least 1 is needed")
    config = read_config(parser, args.config)
    is_quick = is_simulated(config.experiment)
    left_out = {} if is_quick else look(args.config, args.scripts)
    began, page = time.monotonic(), config.folder() / "evaluation" / "index.html"
    scripts = []
    for place, script in enumerate(args.scripts):
        is_first_look = script in args.scripts[place + 1 :]
        if is_first_look and (is_quick or page.is_file() or not config.experiment.subjects):
            continue
        if any(script.startswith(beginnings) for beginnings in left_out.values()):
            print(f"== {script}: left out", flush=True)
        else:
            scripts.append(script)
    try:
        for lanes in lanes_of(scripts, config.experiment):
            run(lanes, args.config, args.jobs or usual_jobs(config), can_fork(config))
    except ScriptError as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
    except KeyboardInterrupt:
        sys.exit(130)
    of_films = any(script.startswith(_OF_FILMS) for script in args.scripts)
    print("", *closing(config, args.config, list(left_out), time.monotonic() - began, of_films), sep="\n")


def listed(name: str) -> list[str]:
    """Give the scripts that a word stands for: those of a target, or itself."""
    return [stage.command for stage in stages_of(name)] if name in TARGETS else [name]


def closing(config: Config, path: Path, left_out: list[str], seconds: float, of_films: bool = False) -> list[str]:
    """Give the five lines that a run ends in: what was found, what is absent, the page, what next, what was left out.

    Parameters
    ----------
    config : Config
    path : Path
        Its file.
    left_out : list of str
        What was left out, and why.
    seconds : float
        That it took.
    of_films : bool
        Whether what was run is of films.
    """
    folder = config.folder() / "evaluation"
    page, record = folder / "index.html", folder / "verdict.json"  # both are by evaluation/43_report.py
    verdict, absent = "there is no verdict yet", "what is absent is not known yet"
    if record.is_file():
        found = json.loads(record.read_text())
        if lines := found.get("by_dataset", {}).get("videos", []) if of_films else found["verdict"]:
            question, _, answer = lines[0].partition("?: ")
            verdict = answer or question
        absent = f"absent: {'; '.join(found['absent'])}" if found["absent"] else "nothing is absent"
    took = f"took {seconds / 60:.0f} min" if seconds >= 120 else f"took {seconds:.0f} s"
    lines = [
        verdict,
        absent,
        "",
        next_of(config, path, of_films),
        f"left out: {'; '.join(left_out)}" if left_out else took,
    ]
    lines = [terminal.shortened(line) for line in lines]
    there = "the page" if page.is_file() else "the page, not written yet"
    lines[2] = f"{there}: {_shortest(page)}"  # is never cut: a part of a path is of no use
    return lines


def _shortest(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def next_of(config: Config, path: Path, of_films: bool = False) -> str:
    """Say what can be run next: what was not run yet, of what the configuration has."""
    experiment, default = config.experiment, Path("configs/miniature.yaml")
    is_asked = {command: bool(experiment.subjects) for command in ("make demo", "make compare")}
    is_asked |= {"make god": experiment.semantic_brain_decoding is not None}
    left = [
        f"{command} ({adds})"
        for command, (adds, trace) in (_LATER_FILMS if of_films else _LATER).items()
        if is_asked.get(command, True) and not any(config.folder().glob(trace))
    ]
    if not left:
        return "next: nothing is left to run"
    of = "" if path == default else f" (CONFIG={path})"
    shown = left[:1] if left[0].startswith("make demo") else left  # what comes after it can wait
    return f"next{of}: {', '.join(shown)}{', or make all' if len(left) > 1 else ''}"


def is_simulated(experiment: Experiment) -> bool:
    """Tell whether the numbered scripts make all the data of an experiment."""
    of_nsd = experiment.miniature is not None or not experiment.subjects
    of_god = experiment.miniature_god is not None or experiment.semantic_brain_decoding is None
    return of_nsd and of_god and (experiment.miniature_cc2017 is not None or experiment.mind_animator is None)


def look(config: Path, scripts: list[str]) -> dict[str, tuple[str, ...]]:
    """Let the doctor look at what scripts need, in a process of its own, which takes the models with it when it ends.

    Returns
    -------
    dict of str to tuple of str
        What is left out and why, and what the names of its scripts begin with.
    """
    with TemporaryDirectory() as folder:
        found = Path(folder) / "problems.json"
        line = [sys.executable, "-m", "doctor", "--config", str(config), "--json", str(found), "--scripts", *scripts]
        code = subprocess.run(line, check=False).returncode
        if not found.is_file():
            reason = f"ended with exit code {code}"
            if code < 0:
                reason = "was ended from outside, perhaps for want of memory"
            sys.exit(f"error: the doctor {reason}; nothing was started")
        return choose(json.loads(found.read_text()))


def choose(problems: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Stop if something is wrong that the method needs; else give what to leave out, see `look`.

    Parameters
    ----------
    problems : list of dict
        As `doctor/checklist.py` gives them, which has listed them.
    """
    if any(not problem["leave_out"] for problem in problems):
        sys.exit("\nnothing was started: mend what is wrong first")
    left_out = {}
    parts = {part: scripts for problem in problems for part, scripts in problem["leave_out"].items()}
    for part, scripts in parts.items():
        reasons = [problem["text"] for problem in problems if part in problem["leave_out"]]
        text = f"{part}, for want of: {'; '.join(reasons)}"
        print(f"\nleft out: {text}", flush=True)
        left_out[text] = tuple(scripts)
    return left_out


if __name__ == "__main__":
    main()
