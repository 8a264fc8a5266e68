"""Run scripts in order, those that go subject by subject in one process a subject, side by side."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from minddiffuser import terminal
from minddiffuser.cli import concept_subjects, film_subjects
from minddiffuser.config import REPOSITORY, Config, Experiment
from minddiffuser.stages import read_stages

# The scripts that take all subjects in one go: they simulate, or gather what all subjects have.
_TOGETHER = ("data/00", *(stage.place for stage in read_stages() if stage.takes_all))
# Datasets whose subjects have names of their own, and what the names of their scripts begin with.
_OTHERS = {
    ("baselines/semantic_brain_decoding/",): concept_subjects,
    ("data/05_", "baselines/mind_animator/"): film_subjects,
}
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ScriptError(Exception):
    """A script failed; what it said of it was printed.

    Attributes
    ----------
    code : int
        Its exit code, as a shell says it: 128 and the number of the signal that ended it.
    """

    def __init__(self, subject: str | None, code: int) -> None:
        whose = f" by a script of {subject}" if subject else ""
        super().__init__(f"stopped{whose}, with exit code {code}; what is done is kept")
        self.code = code


class Lane(NamedTuple):
    """Scripts that run one after the other, for one subject or (None) for all."""

    subject: str | None
    scripts: list[str]


def usual_jobs(config: Config) -> int:
    """How many processes run side by side: as many as there are subjects, but one where they share a GPU.

    At most half as many again as cores: three on two are faster than two and then one.
    """
    of_others = [len(names_of(config.experiment)) for names_of in _OTHERS.values()]
    n_subjects = max(len(config.experiment.subjects), *of_others)
    return min(n_subjects, n_cores() + n_cores() // 2) if config.execution.device == "cpu" else 1


def can_fork(config: Config) -> bool:
    """Tell whether scripts may be forks of a process that has imported what they need: see minddiffuser/lane.py."""
    return config.execution.device == "cpu" and sys.platform == "linux"


def n_cores() -> int:
    """How many threads may run: OMP_NUM_THREADS, or the cores that this process has."""
    found = os.environ.get("OMP_NUM_THREADS", "")
    if found.isdecimal() and int(found):
        return int(found)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none


def lanes_of(scripts: Sequence[str], experiment: Experiment) -> list[list[Lane]]:
    """Divide scripts among lanes.

    Parameters
    ----------
    scripts : sequence of str
        In order, each relative to the repository, and its arguments.
    experiment : Experiment

    Returns
    -------
    list of list of Lane
        The lanes of each list run side by side, when all of the list before are at their end.
    """
    found = []
    for is_together, group in groupby(scripts, lambda script: script.startswith(_TOGETHER)):
        of_group = list(group)
        if is_together:
            found += [[Lane(None, [script])] for script in of_group]
            continue
        of_subjects: dict[str, list[str]] = {}
        for script in of_group:
            for subject in subjects_of(script, experiment):
                of_subjects.setdefault(subject, []).append(script)
        found.append([Lane(subject, own) for subject, own in of_subjects.items()])
    return [lanes for lanes in found if lanes]


def subjects_of(script: str, experiment: Experiment) -> tuple[str, ...]:
    """Subjects of the dataset that a script is of."""
    for beginnings, names_of in _OTHERS.items():
        if script.startswith(beginnings):
            return names_of(experiment)
    return experiment.subjects


def run(lanes: Sequence[Lane], config: Path, jobs: int, forks: bool) -> None:
    """Run lanes side by side, `jobs` at a time, and divide the threads among them.

    A lane alone writes to the terminal; of several each line says whose it is. `forks`: see `can_fork`.

    Raises
    ------
    ScriptError
        A script failed. What runs beside it is ended: what is done is kept, and found the next time.
    """
    n_at_once = min(jobs, len(lanes))
    # Threads that wait for each other spin: a count bounds the harm where others want the cores.
    environment = {"GOMP_SPINCOUNT": "10000", **os.environ, "PYTHONUNBUFFERED": "1"}
    if n_at_once > 1:
        environment |= dict.fromkeys(_THREADS, str(max(n_cores() // n_at_once, 1)))
    processes: list[subprocess.Popen] = []
    failed, lock = threading.Event(), threading.Lock()

    def follow(lane: Lane) -> None:
        whose = f"{lane.subject} | " if n_at_once > 1 else ""
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} if n_at_once > 1 else {}
        narrower = {"COLUMNS": str(terminal.width() - len(whose))}  # what a script lays out for the terminal's width
        of_subject = ["--subject", lane.subject] if lane.subject else []
        line = [sys.executable, "-m", "minddiffuser.lane", *(["--forks"] if forks else []), str(REPOSITORY)]
        line += [*lane.scripts, "--", "--config", str(config), *of_subject]
        with lock:
            if failed.is_set():
                return
            processes.append(process := subprocess.Popen(line, env=environment | narrower, **piped))
        with process:
            for text in process.stdout or ():
                if text.strip():
                    say(f"{whose}{text.rstrip()}")
        if code := process.wait():
            with lock:
                if failed.is_set():
                    return
                failed.set()
            for other in processes:
                other.terminate()
            raise ScriptError(lane.subject, code if code > 0 else 128 - code)

    with ThreadPoolExecutor(n_at_once) as pool:
        for done in [pool.submit(follow, lane) for lane in lanes]:
            done.result()


def say(text: str) -> None:
    """Print a line whole, whatever others print at the same time."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
