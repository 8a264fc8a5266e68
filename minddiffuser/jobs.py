"""Plan a run as jobs of a cluster: what cluster/submit.sh submits, and workflow/Snakefile makes rules of.

    python -m minddiffuser.jobs --config configs/nsd.yaml --shards 8 [--json] [TARGET ...] [-- OPTION ...]

Prints the commands of SLURM, one after the other, as a person would type them; with --json the jobs themselves. A stage
that divides its work is an array of shards for each subject, and then one run of the same script that joins what they
made; any other is a job for each subject, or one for all. TARGET is a list of `minddiffuser/stages.csv`, or a script of
it; several lists are taken as one. Options after the two dashes go to sbatch.

What a job asks for is, in this order, what the file of resources says of its stage; what the doctor estimated, if
`python -m doctor --estimates` wrote `jobs/estimates.csv` into the folder of results; and the file's row "default". Time
is half as much again as the estimate, and half an hour; memory a quarter more.
"""

import argparse
import csv
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minddiffuser.cli import read_config
from minddiffuser.config import REPOSITORY, Config
from minddiffuser.demo import is_simulated
from minddiffuser.lanes import subjects_of
from minddiffuser.stages import LIST, TARGETS, Stage, read_stages

JOBS = "jobs"  # in the folder of results: records and logs of tasks
ESTIMATES = f"{JOBS}/estimates.csv"  # of the doctor
_RESOURCES = REPOSITORY / "cluster" / "resources.csv"
_WARNING = 300  # seconds before the end of its time at which a script is asked to stop
_LEAST_GB = 4  # of a job that was estimated
_IN_FOLDS = ("feature_decoding/22", "feature_decoding/23", "feature_decoding/24")
_COLUMNS = ("gpus", "cpus", "gb", "hours")


@dataclass(frozen=True)
class Job:
    """One job, or an array of shards.

    Attributes
    ----------
    name : str
        Such as "nsd/31_stage1/subj01".
    folder : str
        Where records and logs of its tasks are.
    task : str
        "whole" where the work is not divided; of an array "@-of-4", with the number of the shard in place of @; and
        "joined" of the run that joins.
    n : int
        Tasks of the array.
    command : list of str
    after : list of int
        Numbers of the jobs that must have succeeded, in the plan.
    gpus, cpus, gb : int
    minutes : int
    gpu_gb : float
        What the doctor estimates that it takes of the GPU; 0 where that is not known.
    """

    name: str
    folder: str
    task: str
    n: int
    command: list[str]
    after: list[int]
    gpus: int
    cpus: int
    gb: int
    minutes: int
    gpu_gb: float


def main(argv: list[str] | None = None) -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=4, help="tasks of an array (default: 4)")
    parser.add_argument("--resources", type=Path, default=_RESOURCES, help="default: cluster/resources.csv")
    parser.add_argument(
        "--python", default=shlex.quote(sys.executable), help="what runs a script, such as a container's python"
    )
    parser.add_argument("--json", action="store_true", help="print the jobs themselves")
    parser.add_argument("target", nargs="*", default=["demo"], help="a list, or scripts in order (default: demo)")
    argv = sys.argv[1:] if argv is None else argv
    end = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:end])
    if args.shards < 1:
        parser.error(f"--shards {args.shards}: at least 1 is needed")
    config = read_config(parser, args.config)
    try:
        asked = read_resources(args.resources)
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {args.resources}: {error}\n")
    try:
        stages = planned(config, args.target)
    except ValueError as error:
        parser.error(str(error))
    jobs = plan(config, args.config.absolute(), stages, args.shards, shlex.split(args.python), asked)
    if args.json:
        print(json.dumps([asdict(job) for job in jobs], indent=1))
    else:
        print("\n".join(commands(jobs, argv[end + 1 :])))


def planned(config: Config, targets: Sequence[str]) -> list[Stage]:
    """Give the stages of targets, none of which does what another one does.

    Those of lists come in the order of `stages.csv`, then scripts that are named and in none of these lists, in their
    order. Where a whole script is asked for, its parts (`--only`) are left out. A first look is left out where the data
    are simulated, or where a page is there.

    Raises
    ------
    ValueError
        A target is neither the name of a list nor a script.
    """
    of_script = {stage.command: stage for stage in read_stages()}
    if unknown := [name for name in targets if name not in TARGETS and name not in of_script]:
        raise ValueError(f"{unknown[0]}: expected a script of {LIST}, or {', '.join(TARGETS)}")
    stages = [stage for stage in read_stages() if not set(stage.targets).isdisjoint(targets)]
    named = [of_script[name] for name in dict.fromkeys(targets) if name not in TARGETS]
    stages += [stage for stage in named if stage not in stages]
    whole = {stage.command for stage in stages}
    stages = [stage for stage in stages if stage.command == stage.script or stage.script not in whole]
    if not is_simulated(config.experiment) and not (config.folder() / "evaluation" / "index.html").is_file():
        return stages
    return [stage for k, stage in enumerate(stages) if not is_first_look(stages, k)]


def is_first_look(stages: Sequence[Stage], k: int) -> bool:
    """Tell whether a stage is listed again further below."""
    return any(stage.command == stages[k].command for stage in stages[k + 1 :])


def plan(
    config: Config,
    path: Path,
    stages: Sequence[Stage],
    n: int,
    python: Sequence[str],
    asked: Mapping[str, Mapping[str, float]],
) -> list[Job]:
    """Make the jobs of stages.

    Parameters
    ----------
    path : Path
        Of the configuration.
    n : int
        Shards of each stage that divides its work.
    python : sequence of str
        What runs a script.
    asked : mapping
        See `read_resources`.

    Returns
    -------
    list of Job
        Each after those that it waits for: of the same subject, or of all where it or they take all.
    """
    jobs: list[Job] = []
    last: dict[str, dict[str | None, int]] = {}  # of each stage, the job that ends it, by subject
    estimates = read_estimates(config.folder() / ESTIMATES)
    for k, stage in enumerate(stages):
        names = (None,) if stage.takes_all else subjects_of(stage.script, config.experiment)
        label = Path(stage.script).stem + ("_first" if is_first_look(stages, k) else "")
        ends: dict[str | None, int] = {}
        for subject in names:
            after = sorted({j for key in stage.after for j in _awaited(last.get(key, {}), subject)})
            place = [label, *([subject] if subject else [])]
            of_subject = ["--subject", subject] if subject else []
            command = [*python, *shlex.split(stage.command), "--config", str(path), *of_subject]
            tasks = [(f"@-of-{n}", n), ("joined", 1)] if stage.divides and n > 1 else [("whole", 1)]
            for task, n_tasks in tasks:
                has_gpu = stage.uses_gpu and config.execution.device != "cpu"
                needs = resources(asked, estimates, stage.key, subject, _divisor(config, stage, n), has_gpu)
                folder = config.folder().joinpath(JOBS, *place)
                jobs.append(Job("/".join([config.name, *place]), str(folder), task, n_tasks, command, after, **needs))
                after = [len(jobs) - 1]
            ends[subject] = len(jobs) - 1
        last[stage.key] = ends
    return jobs


def _divisor(config: Config, stage: Stage, n: int) -> int:
    """Give the number of shards that share the time of a stage; a fold, where variance is restored, is one's."""
    decoding = config.experiment.decoding
    if stage.key in _IN_FOLDS and decoding.restore_variance == "train":
        n = min(n, decoding.restore_folds)
    return n if stage.divides else 1


def _awaited(ends: Mapping[str | None, int], subject: str | None) -> list[int]:
    """Give the jobs of a stage that one of a subject, or of all (None), waits for."""
    return [j for of, j in ends.items() if None in (of, subject) or of == subject]


def read_resources(path: Path) -> dict[str, dict[str, float]]:
    """Read what jobs ask for, by stage, such as {"reconstruction/32": {"hours": 48.0}}; empty cells are left out.

    Raises
    ------
    ValueError
        There is no row "default" without empty cells, or a cell is no number.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {row["stage"]: {name: float(row[name]) for name in _COLUMNS if row.get(name)} for row in rows}
    if set(found.get("default", {})) != set(_COLUMNS):
        raise ValueError(f'a row "default" must have {", ".join(_COLUMNS)}')
    return found


def read_estimates(path: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Read what the doctor estimated, by stage and subject: seconds, and gigabytes in RAM and on the GPU."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (row["stage"], row["subject"]): {name: float(row[name]) for name in ("seconds", "gb", "gpu_gb")}
            for row in csv.DictReader(file)
        }


def resources(
    asked: Mapping[str, Mapping[str, float]],
    estimates: Mapping[tuple[str, str], Mapping[str, float]],
    key: str,
    subject: str | None,
    n: int,
    has_gpu: bool,
) -> dict[str, Any]:
    """Choose what a job of a stage asks for: `gpus`, `cpus`, `gb`, `minutes`, and `gpu_gb` that it takes of a GPU."""
    default, own = asked["default"], asked.get(key, {})
    of_stage = [row for (stage, of), row in estimates.items() if stage == key and (subject is None or of == subject)]
    found: dict[str, float] = {"gpus": default["gpus"] if has_gpu else 0, **{k: default[k] for k in _COLUMNS[1:]}}
    if of_stage:
        found["gb"] = max(1.25 * max(row["gb"] for row in of_stage), _LEAST_GB)
        seconds = sum(row["seconds"] for row in of_stage)
        if not math.isnan(seconds):
            found["hours"] = 1.5 * seconds / n / 3600 + 0.5
    found |= own
    whole = {name: math.ceil(found[name]) for name in ("gpus", "cpus", "gb")}
    gpu_gb = max((row["gpu_gb"] for row in of_stage), default=0.0)
    return {**whole, "minutes": math.ceil(found["hours"] * 60), "gpu_gb": round(gpu_gb, 1)}


def commands(jobs: Sequence[Job], options: Sequence[str] = ()) -> list[str]:
    """Give the lines that submit jobs: each keeps the number that SLURM gives, for those that wait for it.

    What is said of earlier tasks of these jobs is forgotten first: there may have been more of them.

    Parameters
    ----------
    options : sequence of str
        For sbatch, which win over those here.
    """
    lines: list[str] = []
    for number, job in enumerate(jobs):
        takes = f", which takes {job.gpu_gb} GB of the GPU" if job.gpu_gb else ""
        lines.append(f"# {job.name}: {job.task.replace('@', f'1..{job.n}')}{takes}")
        log = f"{job.folder}/{job.task.replace('@', '%a')}.log"
        sbatch = ["sbatch", "--parsable", "--requeue", f"--job-name={job.name}", f"--chdir={REPOSITORY}"]
        sbatch += [f"--array=1-{job.n}"] if job.task.startswith("@") else []
        sbatch += [f"--gpus={job.gpus}"] if job.gpus else []
        sbatch += [f"--cpus-per-task={job.cpus}", f"--mem={job.gb}G", f"--time={job.minutes}"]
        sbatch += [f"--signal=B:TERM@{_WARNING}", "--open-mode=append", f"--output={log}", *options]
        task = ["cluster/task.sh", job.folder, job.task, *job.command]
        waits = f" --dependency=afterok:{':'.join(f'$j{j}' for j in job.after)} --kill-on-invalid-dep=yes"
        clear = f"mkdir -p {shlex.quote(job.folder)} && rm -f {shlex.quote(job.folder)}/*.json"
        if clear not in lines:  # the run that joins has the folder of its array, which may be at work by then
            lines.append(clear)
        lines.append(f"j{number}=$({shlex.join(sbatch)}{waits if job.after else ''} {shlex.join(task)})")
    return lines


if __name__ == "__main__":
    main()
