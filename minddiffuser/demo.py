"""Run the main job, script after script: what `make demo` does, which lists the scripts.

    python -m minddiffuser.demo --config configs/nsd_subj01.yaml SCRIPT [SCRIPT ...]

Where the data are real the doctor (`python -m doctor`) looks first: nothing is started while something is wrong
that the method needs, and the scripts of a rival that cannot run are left out, which is said here, and again at the
end. Simulated data are made by the first scripts, and their models are in the repository: there is nothing to look at.

A script that is listed again later, such as the one that scores, runs the first time only on real data, and while there
is no page yet: so that a first score and page are there before the longest stage. The first script that fails ends it,
with its exit code; what is done is found the next time.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from minddiffuser.config import REPOSITORY, ConfigError, Experiment, load


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
    with TemporaryDirectory() as folder:
        found = Path(folder) / "problems.json"
        line = [sys.executable, "-m", "doctor", "--config", str(config), "--json", str(found)]
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
