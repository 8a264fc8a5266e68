"""Say how far a run is, from its folders alone, while jobs are at work or after.

    python -m minddiffuser.status --config configs/nsd.yaml [--silent MINUTES]

For each script and subject: how much is done of each result that it makes in parts or pictures, how fast they came
lately, and when the rest will be there at that speed. Then, of jobs that cluster/submit.sh or workflow/Snakefile began:
which tasks run, which of them have been silent for long, and which failed, with the paths of their logs. What has not
begun is not listed, and a script that was run by hand has results, but no tasks.
"""

import argparse
import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minddiffuser.cli import read_config
from minddiffuser.jobs import JOBS
from minddiffuser.stopping import AGAIN
from minddiffuser.store import PARTS

_LATELY = 20  # of so many pieces the speed is taken


@dataclass(frozen=True)
class Progress:
    """How much of one result is there.

    Attributes
    ----------
    made_by, subject, name : str
        The script; whose result; where it is in the folder of results.
    n, total : int
        Pieces that are there, parts or pictures, and that there will be.
    times : tuple of float
        When they came, the last ones, in order.
    is_in_parts : bool
        Whether they are parts, which are still to be joined.
    """

    made_by: str
    subject: str
    name: str
    n: int
    total: int
    times: tuple[float, ...]
    is_in_parts: bool = False

    @property
    def seconds_each(self) -> float | None:
        """Seconds from one piece to the next, over all shards; None where that is not known."""
        if len(self.times) < 2 or self.times[-1] == self.times[0]:
            return None
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)


@dataclass(frozen=True)
class Task:
    """What the record of a task says.

    Attributes
    ----------
    path : Path
        Of the record.
    job : str
        SLURM's number; empty where it was not SLURM's.
    began : float
    code : int or None
        Exit code; None while it runs, or if it was killed.
    restarts : int
    """

    path: Path
    job: str
    began: float
    code: int | None
    restarts: int

    @property
    def log(self) -> Path:
        """Its log."""
        return self.path.with_suffix(".log")


def main(argv: list[str] | None = None) -> None:
    """Print the progress of results, and the state of tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--silent", type=float, default=10.0, metavar="MINUTES", help="how long is long (default: 10)")
    args = parser.parse_args(argv)
    folder = read_config(parser, args.config).folder()
    results, tasks = sorted(read_results(folder), key=order), read_tasks(folder / JOBS)
    if not results and not tasks:
        print(f"{folder}: nothing has begun")
    now = time.time()
    for line in [*table(results, now), *report(tasks, folder / JOBS, queued(), now, args.silent * 60)]:
        print(line)


def read_results(folder: Path) -> Iterator[Progress]:
    """Look at all results in a folder: finished files, files in parts, and folders of pictures."""
    for path in folder.glob("**/*.json"):
        relative = path.relative_to(folder)
        if relative.parts[0] == JOBS or path.parent.name == "records":
            continue
        record = _read(path)
        if "made_by" not in record:
            continue
        subject, script = str(record.get("subject", "")), str(record["made_by"]).split()[0]
        if path.name == PARTS:
            parts, name = list(path.parent.glob("[0-9]*.h5")), path.parent.name.split(".")[1]
            place = f"{relative.parents[1]}/{name}"
            yield Progress(script, subject, place, len(parts), record["n_parts"], _times(parts), is_in_parts=True)
        elif "n_images" in record:
            records = list((path.parent / "records").glob("[0-9]*.json"))
            name = relative.parent.as_posix()
            yield Progress(script, subject, name, len(records), record["n_images"], _times(records))
        elif "files" in record or path.with_suffix(".h5").is_file():  # it is written before the latter
            yield Progress(script, subject, relative.with_suffix("").as_posix(), 1, 1, ())


def _times(paths: Iterable[Path]) -> tuple[float, ...]:
    """When files were written, the last ones; one that is gone by now counts no more."""
    found = []
    for path in paths:
        try:
            found.append(path.stat().st_mtime)
        except FileNotFoundError:
            continue
    return tuple(sorted(found)[-_LATELY:])


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON file, which may be gone by now, or be somebody else's."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def order(result: Progress) -> tuple[str, str, str, str]:
    """Give the order of the table: by the number of the script, then by subject."""
    return Path(result.made_by).name[:2], result.made_by, result.subject, result.name


def table(results: Sequence[Progress], now: float) -> list[str]:
    """Give a line for each script and subject that is done, and for each result of those that are not."""
    lines = []
    groups: dict[tuple[str, str], list[Progress]] = {}
    for result in results:
        groups.setdefault((result.made_by, result.subject), []).append(result)
    for (script, subject), of_script in groups.items():
        title = f"{script:<52} {subject:<9}"
        open_ones = [result for result in of_script if result.n < result.total or result.is_in_parts]
        if not open_ones:
            lines.append(f"{title} done")
        lines += [f"{title} {result.name}: {said(result, now)}" for result in open_ones]
    return lines


def said(result: Progress, now: float) -> str:
    """Say how much is done of a result, how fast, and when it will end."""
    if result.n == result.total:
        return f"all {result.n} parts are there, and are not joined yet: a run without --shard does that"
    text = f"{result.n} of {result.total}"
    each = result.seconds_each
    if each is None:
        return text
    end = time.strftime("%d %b %H:%M", time.localtime(now + each * (result.total - result.n)))
    return f"{text}, one in {duration(each)}, the last {duration(now - result.times[-1])} ago; at that speed {end}"


def read_tasks(folder: Path) -> list[Task]:
    """Read the records of tasks."""
    tasks = []
    for path in sorted(folder.glob("**/[!.]*.json")):
        if record := _read(path):
            code = record["exit"]
            tasks.append(Task(path, str(record["job"]), float(record["began"]), code, int(record["restarts"])))
    return tasks


def queued() -> dict[str, str] | None:
    """Ask SLURM for its jobs and their states; None where it does not answer."""
    if shutil.which("squeue") is None:
        return None
    line = ["squeue", "--me", "--noheader", "--array", "--format=%i %T"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=True)
    except (subprocess.SubprocessError, OSError):
        return None
    return dict(text.split() for text in done.stdout.splitlines())


def report(
    tasks: Sequence[Task], folder: Path, states: Mapping[str, str] | None, now: float, silent: float
) -> list[str]:
    """Say which tasks run, are silent, or failed.

    Parameters
    ----------
    folder : Path
        Of records and logs.
    states : mapping of str to str, optional
        Of SLURM's jobs that are in its queue.
    silent : float
        Seconds without a word in the log and without a new piece after which a task is named.
    """
    lines, n_running, n_done = [], 0, 0
    for task in tasks:
        name = task.path.relative_to(folder).with_suffix("").as_posix()
        state = states.get(task.job) if states is not None and task.job else None
        is_gone = states is not None and task.job != "" and state is None
        if task.code == 0:
            n_done += 1
        elif state == "PENDING" or (task.code == AGAIN and not is_gone):
            lines.append(f"again    {name} was stopped, and waits to go on ({task.restarts + 1} times now)")
        elif task.code is not None:
            lines.append(f"FAILED   {name} ended with exit code {task.code}; log: {task.log}")
        elif is_gone:
            lines.append(f"KILLED   {name} is not in the queue any more, and left no exit code; log: {task.log}")
        else:
            n_running += 1
            quiet = now - max(task.began, *_times([task.log]))
            if quiet > silent:
                lines.append(f"silent   {name} for {duration(quiet)}; log: {task.log}")
    if tasks:
        n_waiting = f", {sum(state == 'PENDING' for state in states.values())} wait in the queue" if states else ""
        lines.insert(0, f"\n{len(tasks)} tasks have begun: {n_done} done, {n_running} at work{n_waiting}")
    return lines


def duration(seconds: float) -> str:
    """Say how long something takes, in seconds, minutes, hours or days."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


if __name__ == "__main__":
    main()
