"""The plan of jobs, what they ask for, and what is said of a run from outside."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import baselines.mind_animator.needs
import data.nsd_needs
import evaluation.pictures.needs
import feature_extraction.needs
from doctor.estimates import as_csv
from minddiffuser import jobs, status, stopping
from minddiffuser.config import REPOSITORY, load
from minddiffuser.needs.rows import Row
from minddiffuser.recipe import Recipe
from minddiffuser.stages import TARGETS, read_stages, stages_of
from minddiffuser.store import Artifact, Files, Shard

RESOURCES = {"default": {"gpus": 1.0, "cpus": 4.0, "gb": 32.0, "hours": 24.0}}


@pytest.fixture
def config(tmp_path):
    """A configuration of two subjects, on a GPU."""
    path = tmp_path / "mine.yaml"
    execution = {"runs": str(tmp_path / "runs"), "device": "cuda"}
    path.write_text(yaml.safe_dump({"name": "mine", "experiment": {"subjects": ["s1", "s2"]}, "execution": execution}))
    return path


def planned(path, *names, n=4, asked=RESOURCES):
    config = load(path)
    return jobs.plan(config, path, jobs.planned(config, names), n, ["python"], asked)


# The list


def test_each_stage_waits_for_scripts_that_stand_above_it_in_each_list():
    keys = {stage.key for stage in read_stages()}
    for target in TARGETS:
        seen: set[str] = set()
        for stage in stages_of(target):
            in_list = {key for key in stage.after if key in {other.key for other in stages_of(target)}}
            later = {key for key in in_list - seen if key != "evaluation/43"}
            assert later == set(), f"{target}: {stage.command}"
            assert set(stage.after) <= keys
            seen.add(stage.key)


def test_what_divides_its_work_takes_shards_and_names_of_folders_are_unique():
    for stage in read_stages():
        refuses = "divides=False" in (REPOSITORY / stage.script).read_text()
        assert not (stage.divides and refuses), stage.command
    scripts = {stage.script for stage in read_stages()}
    assert len({Path(script).stem for script in scripts}) == len(scripts)


# The plan


def test_a_divided_stage_is_an_array_for_each_subject_and_a_run_that_joins(config):
    found = planned(config, "feature_extraction/11_semantic.py", "feature_decoding/22_semantic.py")
    assert [(job.name, job.task, job.n, job.after) for job in found] == [
        ("mine/11_semantic/s1", "@-of-4", 4, []),
        ("mine/11_semantic/s1", "joined", 1, [0]),
        ("mine/11_semantic/s2", "@-of-4", 4, []),
        ("mine/11_semantic/s2", "joined", 1, [2]),
        ("mine/22_semantic/s1", "@-of-4", 4, [1]),
        ("mine/22_semantic/s1", "joined", 1, [4]),
        ("mine/22_semantic/s2", "@-of-4", 4, [3]),
        ("mine/22_semantic/s2", "joined", 1, [6]),
    ]
    assert found[0].command[-4:] == ["--config", str(config), "--subject", "s1"]


def test_what_takes_all_subjects_waits_for_all(config):
    found = planned(config, "reconstruction/31_stage1.py", "evaluation/41_score.py", n=1)
    assert [(job.name, job.task, job.after) for job in found] == [
        ("mine/31_stage1/s1", "whole", []),
        ("mine/31_stage1/s2", "whole", []),
        ("mine/41_score", "whole", [0, 1]),
    ]


def test_stage_2_waits_for_a_first_page_where_the_data_are_real(config):
    found = planned(config, "demo")
    by_name = {(job.name, job.task): job for job in found}
    first = found.index(by_name["mine/43_report_first", "whole"])
    assert first in by_name["mine/32_stage2/s1", "@-of-4"].after
    folder = load(config).folder() / "evaluation"
    folder.mkdir(parents=True)
    (folder / "index.html").touch()
    assert "mine/43_report_first" not in {job.name for job in planned(config, "demo")}


@pytest.mark.parametrize(
    "names", [("demo", "compare"), ("compare", "demo"), ("compare", "reconstruction/31_stage1.py")]
)
def test_lists_that_have_stages_in_common_are_planned_as_one(config, names):
    found = [(job.name, job.task, job.command, job.after) for job in planned(config, *names)]
    assert found == [(job.name, job.task, job.command, job.after) for job in planned(config, "compare")]
    assert len({(name, task) for name, task, *_ in found}) == len(found)


def test_no_job_asks_for_less_time_than_a_fold_takes(config):
    content = yaml.safe_load(config.read_text())
    content["experiment"]["decoding"] = {"restore_variance": "train", "restore_folds": 5}
    config.write_text(yaml.safe_dump(content))
    path = load(config).folder() / jobs.ESTIMATES
    path.parent.mkdir(parents=True)
    seconds = 6 * 3600  # of all images, and of five folds
    path.write_text(f"stage,subject,seconds,gb,gpu_gb\nfeature_decoding/22,s1,{seconds},8,2\n")
    minutes = [planned(config, "feature_decoding/22_semantic.py", n=n)[0].minutes for n in (2, 5, 50)]
    assert minutes == [1.5 * 180 + 30, 1.5 * 72 + 30, 1.5 * 72 + 30]


def test_what_jobs_ask_for_is_of_the_file_then_of_the_doctor_then_of_the_default(config):
    row = {"stage": "reconstruction/31", "subject": "s1", "seconds": 7200, "gb": 20.0, "gpu_gb": 14.3}
    path = load(config).folder() / jobs.ESTIMATES
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
        writer.writerow(row | {"subject": "s2", "seconds": "nan", "gb": 2.0})
    one, other = (planned(config, "reconstruction/31_stage1.py")[k] for k in (0, 2))
    assert (one.gpus, one.cpus, one.gb, one.minutes, one.gpu_gb) == (1, 4, 25, 75, 14.3)
    assert (other.gb, other.minutes) == (4, 24 * 60)
    (asked, *_) = planned(config, "reconstruction/31_stage1.py", asked=RESOURCES | {"reconstruction/31": {"gb": 99.0}})
    assert (asked.gb, asked.minutes) == (99, 75)
    assert planned(config, "feature_decoding/21_select_units.py")[0].gpus == 0
    on_cpu = yaml.safe_load(config.read_text())
    on_cpu["execution"]["device"] = "cpu"
    config.write_text(yaml.safe_dump(on_cpu))
    assert planned(config, "reconstruction/31_stage1.py")[0].gpus == 0


def test_the_file_of_resources_must_have_a_default(tmp_path):
    assert set(jobs.read_resources(REPOSITORY / "cluster/resources.csv")["default"]) == {"gpus", "cpus", "gb", "hours"}
    for text in ("stage,gpus,cpus,gb,hours\ndefault,1,4,,2\n", "stage,gpus,cpus,gb,hours\ndefault,1,4,many,2\n"):
        (tmp_path / "r.csv").write_text(text)
        with pytest.raises(ValueError, match=r"default|many"):
            jobs.read_resources(tmp_path / "r.csv")


def test_keys_of_resources_are_of_stages():
    named = set(jobs.read_resources(REPOSITORY / "cluster/resources.csv")) - {"default"}
    assert named <= {stage.key for stage in read_stages()}


@pytest.mark.parametrize(
    ("room", "scripts", "keys"),
    [
        (
            feature_extraction.needs.ROOM,
            "11-13",
            ["feature_extraction/11", "feature_extraction/12", "feature_extraction/13"],
        ),
        (baselines.mind_animator.needs.ROOM, "11", ["mind_animator/11"]),
        (baselines.mind_animator.needs.ROOM, "31", ["mind_animator/31"]),
        (evaluation.pictures.needs.ROOM, "42", ["evaluation/42"]),
        (data.nsd_needs.ROOM, "02", ["data/02"]),
    ],
)
def test_estimates_of_the_doctor_are_for_the_scripts_of_their_room(room, scripts, keys):
    row = Row("s1", scripts, "x", 60.0, 2e9, 3e9, 0, "")
    lines = as_csv([(room, row)], on_gpu=True).splitlines()
    assert lines == ["stage,subject,seconds,gb,gpu_gb", *(f"{key},s1,60,2.60,3.00" for key in keys)]


# The commands


def submit(*arguments, path=""):
    line = [str(REPOSITORY / "cluster/submit.sh"), "--python", sys.executable, *map(str, arguments)]
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def pretended(tmp_path) -> Path:
    """A folder for PATH with an sbatch that notes what it is given and answers with a number, and an empty queue."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (
        ("sbatch", f'printf "%s\\n" "$*" >>{tmp_path}/given; wc -l <{tmp_path}/given'),
        ("squeue", f"cat {tmp_path}/queue 2>/dev/null || true"),
    ):
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


def test_a_dry_run_prints_what_is_submitted(config, pretended, tmp_path):
    what = ("--config", config, "--shards", 3, "reconstruction/31_stage1.py", "evaluation/41_score.py")
    options = ("--", "--partition=gpu", "--account=lab")
    dry = submit("--dry-run", *what, *options)
    assert dry.returncode == 0, dry.stderr
    assert not (tmp_path / "given").exists()
    lines = [shlex.split(line) for line in dry.stdout.splitlines() if line.startswith("j")]
    done = submit(*what, *options, path=f"{pretended}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    given = (tmp_path / "given").read_text().splitlines()
    assert len(given) == len(lines) == 5
    assert dry.stdout.count("rm -f") == 3  # once, for the array may be at work when its join is submitted
    for needed in ("--array=1-3", "--requeue", "--parsable", "--gpus=1", "--partition=gpu", "--account=lab"):
        assert needed in given[0].split()
    assert "--dependency=afterok:1 --kill-on-invalid-dep=yes" in given[1]
    assert "--dependency=afterok:2:4 --kill-on-invalid-dep=yes" in given[4]
    assert given[0].split()[-9:] == [
        *("cluster/task.sh", str(load(config).folder() / "jobs/31_stage1/s1"), "@-of-3", sys.executable),
        *("reconstruction/31_stage1.py", "--config", str(config), "--subject", "s1"),
    ]


def test_a_clone_and_a_configuration_in_folders_with_spaces(pretended, tmp_path):
    """The environment's python is found, and each word arrives whole."""
    clone = tmp_path / "my clone"
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / "cluster").symlink_to(REPOSITORY / "cluster")
    python = clone / ".venv/bin/python"
    python.write_text(f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    path = clone / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "execution": {"runs": str(clone / "runs"), "device": "cpu"}}))
    (pretended / "sbatch").write_text(f"#!/bin/bash\nprintf '%s\\n' \"$@\" >>'{tmp_path}/given'; echo 1\n")
    line = [str(clone / "cluster/submit.sh"), "--config", str(path), "feature_decoding/21_select_units.py"]
    environment = {**os.environ, "PATH": f"{pretended}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    for more in ([], ["--python", f"env '{python}'"]):
        (tmp_path / "given").unlink(missing_ok=True)
        done = subprocess.run([*line, *more], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        given = (tmp_path / "given").read_text().splitlines()
        ours = ["env", str(python)] if more else [str(python)]
        assert given[given.index("whole") + 1 :][: len(ours) + 3] == [
            *ours, "feature_decoding/21_select_units.py", "--config", str(path)
        ]  # fmt: skip
        said = done.stdout.rpartition(", or ")[2]
        assert shlex.split(said) == [*ours, "-m", "minddiffuser.status", "--config", str(path)]


def test_what_earlier_tasks_said_is_forgotten_when_a_run_is_submitted_again(config, pretended):
    """After a failure with more shards these would be failures for ever."""
    folder = load(config).folder()
    write_record(folder, "31_stage1/s1/7-of-8", 1)
    write_record(folder, "32_stage2/s1/1-of-8", 1)
    done = submit("--config", config, "reconstruction/31_stage1.py", path=f"{pretended}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert [task.path.stem for task in status.read_tasks(folder / "jobs")] == ["1-of-8"]
    assert (folder / "jobs/31_stage1/s1/7-of-8.log").is_file()


def test_without_sbatch_it_ends_at_once(config, tmp_path):
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = submit("--config", config, path=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == (
        "error: there is no sbatch on this machine: run this where SLURM is, or look with --dry-run\n"
    )


def test_a_run_that_is_in_the_queue_is_not_submitted_again(config, pretended, tmp_path):
    (tmp_path / "queue").write_text("17_3 mine/32_stage2/s1\n18 other/x\n")
    done = submit("--config", config, path=f"{pretended}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "scancel 17" in done.stderr
    assert not (tmp_path / "given").exists()


def test_a_name_that_is_no_list_and_no_script_is_refused(config):
    done = submit("--dry-run", "--config", config, "reconstruction/39_none.py")
    assert done.returncode == 2
    assert "39_none.py: expected a script of" in done.stderr


def task(folder, name, *command, **environment):
    line = [str(REPOSITORY / "cluster/task.sh"), str(folder), name, *command]
    return subprocess.Popen(line, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)


def test_a_task_is_told_its_shard_and_leaves_a_record(tmp_path):
    job = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "17", "SLURM_JOB_ID": "20"}
    process = task(tmp_path / "x", "@-of-4", "bash", "-c", 'echo "$@"; exit 7', "-", **job)
    assert process.communicate()[0].splitlines()[-1] == "--shard 3-of-4"
    assert process.returncode == 7
    record = json.loads((tmp_path / "x/3-of-4.json").read_text())
    assert (record["job"], record["exit"], record["restarts"]) == ("17_3", 7, 0)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["3-of-4.json"]


def test_a_task_hands_sigterm_on_and_waits_for_what_is_in_hand(tmp_path):
    code = "import signal, sys, time; signal.signal(15, lambda *_: (time.sleep(.5), sys.exit(75))); "
    process = task(tmp_path, "whole", sys.executable, "-c", f"{code}print('at work', flush=True); time.sleep(60)")
    assert process.stdout
    assert "at work\n" in iter(process.stdout.readline, "")
    process.terminate()
    assert process.wait(20) == 75
    assert json.loads((tmp_path / "whole.json").read_text())["exit"] == 75


# SIGTERM

WORK = """
import sys, time
from pathlib import Path
import numpy as np
from minddiffuser import cli
from minddiffuser.needs.rows import Row
from minddiffuser.recipe import Recipe
from minddiffuser.store import Artifact

def main():
    artifact = Artifact(Recipe(Path(sys.argv[1]), "a.h5", "s1", "x.py", {}))
    for number, rows in artifact.parts_to_do(4, 1):
        print("part", number, flush=True)
        time.sleep(1)
        artifact.write_part(number, {"x": np.ones(1)})
    artifact.join(4, 1)
    print("joined", flush=True)
    time.sleep(60)

cli.execute(main)
"""


def test_sigterm_ends_a_script_after_the_part_in_hand_and_at_once_where_nothing_is(tmp_path):
    def start():
        return subprocess.Popen(
            [sys.executable, "-c", WORK, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    process = start()
    assert process.stdout
    assert any("part 1" in line for line in process.stdout)
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == stopping.AGAIN == 75
    assert err == "stopped by SIGTERM: what is done is kept, and the same command goes on\n"
    (parts,) = tmp_path.glob(".a.h5.*.parts")
    assert sorted(path.name for path in parts.iterdir()) == ["00000.h5", "00001.h5", "parts.json"]
    process = start()
    assert process.stdout
    assert [line.strip() for line in iter(process.stdout.readline, "joined\n")] == ["part 2", "part 3"]
    process.terminate()
    assert process.wait(20) == -signal.SIGTERM
    process.communicate()


# From outside


def lines_of(folder, now, states=None):
    results = sorted(status.read_results(folder), key=status.order)
    tasks = status.read_tasks(folder / "jobs")
    return [*status.table(results, now), *status.report(tasks, folder / "jobs", states, now, 600)]


def test_parts_and_pictures_are_counted_with_speed_and_end(tmp_path):
    artifact = Artifact(Recipe(tmp_path / "s1", "features/detail.h5", "s1", "feature_extraction/12_detail.py", {}))
    for number, _ in artifact.parts_to_do(10, 1, Shard(1, 2)):
        artifact.write_part(number, {"x": np.ones(1)})
        if number == 4:
            break
    now = 1_700_000_000.0
    for k, path in enumerate(sorted(tmp_path.rglob("0*.h5"))):
        os.utime(path, (now - 300 + 60 * k,) * 2)
    records = tmp_path / "s1/reconstruction/minddiffuser/stage1/records"
    records.mkdir(parents=True)
    made = {"made_by": "reconstruction/31_stage1.py", "subject": "s1", "n_images": 2}
    (records.parent / "settings.json").write_text(json.dumps(made))
    for k in range(2):
        (records / f"{k}.json").touch()
    (tmp_path / "s1/broken.json").write_text("{")
    one, other = lines_of(tmp_path, now)
    end = time.strftime("%d %b %H:%M", time.localtime(now + 7 * 60))
    assert " ".join(one.split()) == (
        "feature_extraction/12_detail.py s1 s1/features/detail: 3 of 10, "
        f"one in 60.0 s, the last 3.0 min ago; at that speed {end}"
    )
    assert other.split() == ["reconstruction/31_stage1.py", "s1", "done"]


def test_parts_that_are_not_joined_and_records_without_their_file_are_not_done(tmp_path):
    def recipe(name):
        return Recipe(tmp_path / "s1", name, "s1", "feature_extraction/12_detail.py", {})

    artifact = Artifact(recipe("features/detail.h5"))
    for number, _ in artifact.parts_to_do(2, 1):
        artifact.write_part(number, {"x": np.ones(1)})
    assert [" ".join(line.split()) for line in lines_of(tmp_path, 0.0)] == [
        "feature_extraction/12_detail.py s1 s1/features/detail: all 2 parts are there, and are not joined yet: "
        "a run without --shard does that"
    ]
    artifact.join(2, 1)
    assert lines_of(tmp_path, 0.0)[0].split()[-1] == "done"
    artifact.path.unlink()
    assert lines_of(tmp_path, 0.0) == []
    Files(recipe("maps/maps.json")).write({"a.csv": "a"})
    assert lines_of(tmp_path, 0.0)[0].split()[-1] == "done"


def write_record(folder, name, code, began=0.0, restarts=0, job=""):
    path = folder / "jobs" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"job": job, "host": "a", "began": began, "ended": None, "exit": code, "restarts": restarts}
    path.write_text(json.dumps(record))
    path.with_suffix(".log").write_text("x")
    os.utime(path.with_suffix(".log"), (began, began))


def test_tasks_that_failed_are_silent_or_were_killed_are_named_with_their_logs(tmp_path):
    now, shard = 10_000.0, "32_stage2/s1"
    write_record(tmp_path, f"{shard}/1-of-6", 0, job="7_1")
    write_record(tmp_path, f"{shard}/2-of-6", 1, job="7_2")
    write_record(tmp_path, f"{shard}/3-of-6", None, now - 1800, job="7_3")
    write_record(tmp_path, f"{shard}/4-of-6", None, now - 60, job="7_4")
    write_record(tmp_path, f"{shard}/5-of-6", None, now - 60, job="7_5")
    write_record(tmp_path, f"{shard}/6-of-6", 75, now - 60, job="7_6")
    found = lines_of(tmp_path, now, {"7_3": "RUNNING", "7_4": "RUNNING", "7_6": "PENDING", "8": "PENDING"})
    logs = tmp_path / "jobs" / shard
    assert found == [
        "\n6 tasks have begun: 1 done, 2 at work, 2 wait in the queue",
        f"FAILED   {shard}/2-of-6 ended with exit code 1; log: {logs}/2-of-6.log",
        f"silent   {shard}/3-of-6 for 30.0 min; log: {logs}/3-of-6.log",
        f"KILLED   {shard}/5-of-6 is not in the queue any more, and left no exit code; log: {logs}/5-of-6.log",
        f"again    {shard}/6-of-6 was stopped, and waits to go on (1 times now)",
    ]


def test_without_slurm_nothing_is_said_to_be_killed(tmp_path):
    write_record(tmp_path, "x/whole", None, 9_990.0, job="3")
    assert lines_of(tmp_path, 10_000.0) == ["\n1 tasks have begun: 0 done, 1 at work"]
