"""Run the main job, script after script: what `make demo` does, which lists the scripts.

    python -m minddiffuser.demo --config configs/nsd_subj01.yaml SCRIPT [SCRIPT ...]

Where the data are real the doctor (`minddiffuser/doctor.py`) looks first: nothing is started while something is wrong
that the method needs, and the scripts of a rival that cannot run are left out, which is said here, and again at the
end. Simulated data are made by the first scripts, and their models are in the repository: there is nothing to look at.

A script that is listed again later, such as the one that scores, runs the first time only on real data, and while there
is no page yet: so that a first score and page are there before the longest stage. The first script that fails ends it,
with its exit code; what is done is found the next time.
"""

import argparse
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from minddiffuser.config import REPOSITORY, ConfigError, Experiment, load

if TYPE_CHECKING:
    from minddiffuser.doctor import Problem


def main(argv: list[str] | None = None) -> None:
    """Look, run, and say what was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("scripts", nargs="+", metavar="SCRIPT", help="in order, relative to the repository")
    args = parser.parse_args(argv)
    try:
        config = load(args.config)
    except ConfigError as error:
        parser.exit(2, f"error: {error}\n")
    is_quick = is_simulated(config.experiment)
    left_out = {} if is_quick else look(args.config)
    page = config.folder() / "evaluation" / "index.html"
    try:
        for place, script in enumerate(args.scripts):
            is_first_look = script in args.scripts[place + 1 :]
            if is_first_look and (is_quick or page.is_file() or not config.experiment.subjects):
                continue
            print(f"\n== {script}", flush=True)
            if any(script.startswith(beginnings) for beginnings in left_out.values()):
                print("   left out", flush=True)
                continue
            began = time.monotonic()
            line = [sys.executable, str(REPOSITORY / script), "--config", str(args.config)]
            if code := subprocess.run(line, check=False).returncode:
                print(f"{script} ended with exit code {code}; what is done is kept", file=sys.stderr)
                sys.exit(code if code > 0 else 128 - code)  # by a signal, as a shell says it
            print(f"   {time.monotonic() - began:.0f} s", flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    for text in left_out:
        print(f"\nleft out: {text}")
    print(f"\nThe page with the pictures: {page}")


def is_simulated(experiment: Experiment) -> bool:
    """Tell whether the numbered scripts make all the data of an experiment."""
    of_nsd = experiment.miniature is not None or not experiment.subjects
    return of_nsd and (experiment.miniature_god is not None or experiment.semantic_brain_decoding is None)


def look(config: Path) -> dict[str, tuple[str, ...]]:
    """Let the doctor look, in a process of its own, which takes the models with it when it ends.

    Returns
    -------
    dict of str to tuple of str
        What is left out and why, and what the names of its scripts begin with.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            problems = pool.submit(_examine, config).result()
    except BrokenProcessPool:
        sys.exit("error: the doctor was ended from outside, perhaps for want of memory; nothing was started")
    return choose(problems)


def _examine(config: Path) -> list["Problem"]:
    from minddiffuser.cli import parse
    from minddiffuser.doctor import examine

    return examine(parse(None, ["--config", str(config)]))


def choose(problems: list["Problem"]) -> dict[str, tuple[str, ...]]:
    """Stop if something is wrong that the method needs; else give what to leave out, see `look`."""
    from minddiffuser.doctor import RIVALS, listed

    if any(not problem.part for problem in problems):
        sys.exit(f"{listed(problems)}\nnothing was started: mend what is wrong first")
    left_out = {}
    for part in dict.fromkeys(problem.part for problem in problems):
        name, scripts = RIVALS[part]
        text = f"{name}, for want of: " + "; ".join(problem.text for problem in problems if problem.part == part)
        print(f"\nleft out: {text}", flush=True)
        left_out[text] = scripts
    return left_out


if __name__ == "__main__":
    main()
