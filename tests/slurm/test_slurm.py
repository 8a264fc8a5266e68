"""Real jobs on a SLURM: shards, joins, kills and ends of time leave the bytes of a run that was not divided."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from smallest import ENVIRONMENT, REPOSITORY, write_config
from test_pipeline import contents

from minddiffuser.config import load
from reconstruction.recipes import stage2
from reconstruction.refining import place_of_state

STAGE2 = "reconstruction/32_stage2.py"
BEFORE = [
    "miniature/01_make_miniature.py",
    "data/02_prepare_subject.py",
    *(f"feature_extraction/{name}.py" for name in ("11_semantic", "12_detail", "13_structural")),
    *(f"feature_decoding/{name}.py" for name in ("21_select_units", "22_semantic", "23_detail", "24_structural")),
    "reconstruction/31_stage1.py",
]
RESOURCES = "stage,gpus,cpus,gb,hours\ndefault,0,1,2,0.5\nreconstruction/32,1,,,\n"


def config_in(folder: Path) -> Path:
    """Configuration of one subject, of whom stage 2 makes eight pictures, one at a time."""
    path = write_config(folder)
    config = yaml.safe_load(path.read_text())
    config["execution"]["batch_size"] = 1
    experiment = config["experiment"]
    experiment["subjects"] = ["subj01"]
    experiment["miniature"]["n_shared"] = 10
    experiment["guidance"] |= {"n_images": 8, "n_iterations": 6}
    experiment["restored"]["guidance"]["n_images"] = 2
    experiment["restored"]["stage2"] = False
    experiment["decoding"]["restore_folds"] = 4
    del experiment["semantic_brain_decoding"], experiment["miniature_god"]
    path.write_text(yaml.safe_dump(config))
    (folder / "resources.csv").write_text(RESOURCES)
    return path


@pytest.fixture(scope="module")
def undivided(tmp_path_factory) -> Path:
    """Folder in which the scripts up to stage 2 have run, undivided."""
    folder = tmp_path_factory.mktemp("undivided") / "run"
    run_undivided(config_in(folder), *BEFORE, STAGE2)
    return folder


def run_undivided(config: Path, *scripts: str) -> None:
    """Run scripts one after the other in one process, which imports once what they need."""
    line = [sys.executable, str(REPOSITORY / "tests/stages/chain.py"), str(config), *scripts]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def folder(undivided, tmp_path) -> Path:
    """The same without what stage 2 made."""
    shutil.copytree(undivided, tmp_path / "run")
    config_in(tmp_path / "run")
    for made in results(tmp_path / "run").glob("reconstruction/minddiffuser/*[2k]"):
        shutil.rmtree(made)
    return tmp_path / "run"


def results(folder: Path) -> Path:
    return folder / "runs/smallest/subj01"


def jobs_of(folder: Path, script: str, subject: str = "subj01") -> Path:
    return folder / "runs/smallest/jobs" / Path(script).stem / subject


def same_bytes(a: Path, b: Path) -> None:
    """Compare all that two runs made, but for the records and logs of jobs."""
    a, b = ({name: c for name, c in contents(x).items() if "/jobs/" not in name} for x in (a, b))
    assert sorted(a) == sorted(b)
    assert [name for name in a if a[name] != b[name]] == []


def submit(folder: Path, *what: str, options: tuple[str, ...] = (), n: int = 4) -> None:
    line = [
        str(REPOSITORY / "cluster/submit.sh"),
        "--python",
        sys.executable,
        "--config",
        str(folder / "smallest.yaml"),
    ]
    line += ["--resources", str(folder / "resources.csv"), "--shards", str(n), *what, "--", *options]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def queue() -> str:
    """Give the jobs of these tests that are in the queue."""
    line = ["squeue", "--me", "--noheader", "--format=%i %T %j %r"]
    said = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    return "\n".join(line for line in said.splitlines() if " smallest/" in line)


def wait_until(what, seconds: float = 580.0):
    """Wait for something to be true, and give it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"after {seconds} s in the queue:\n{queue()}"
        time.sleep(0.1)
    return found


def wait_for_the_end(seconds: float = 580.0) -> None:
    wait_until(lambda: not queue(), seconds)


def record(folder: Path, task: str, script: str = STAGE2) -> dict:
    return json.loads((jobs_of(folder, script) / f"{task}.json").read_text())


def wait_for_the_middle(folder: Path, task: str) -> dict:
    """Wait until a shard of stage 2 has begun its second picture; give its record."""
    first = stimulus_ids(folder)[int(task.partition("-")[0]) - 1]
    wait_until((results(folder) / f"reconstruction/minddiffuser/stage2/records/{first:05d}.json").exists)
    return record(folder, task)


def stimulus_ids(folder: Path) -> np.ndarray:
    """Test images in the order in which shards take turns."""
    with h5py.File(results(folder) / "decoded/detail.h5") as file:
        return file["stimulus_id"][:]


def status(folder: Path) -> str:
    line = [sys.executable, "-m", "minddiffuser.status", "--config", str(folder / "smallest.yaml")]
    return subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout


def test_a_task_that_is_cancelled_in_the_middle_and_submitted_again_ends_in_the_same_bytes(folder, undivided):
    submit(folder, STAGE2, n=2)
    job = wait_for_the_middle(folder, "2-of-2")["job"]
    subprocess.run(["scancel", job], check=True)
    wait_for_the_end()
    assert not (jobs_of(folder, STAGE2) / "joined.json").exists()
    submit(folder, STAGE2, n=2)
    wait_for_the_end()
    assert record(folder, "joined")["exit"] == 0
    same_bytes(undivided, folder)


def test_a_shard_that_is_failing_keeps_what_waits_for_it_and_status_names_its_log(folder):
    recipe = stage2(load(folder / "smallest.yaml"), "subj01")
    state = place_of_state(recipe, stimulus_ids(folder)[1:2])
    state.parent.mkdir(parents=True)
    state.write_bytes(b"broken")
    submit(folder, STAGE2, "evaluation/41_score.py", n=2)
    wait_for_the_end()
    assert [record(folder, f"{k}-of-2")["exit"] for k in (1, 2)] == [0, 1]
    assert not (jobs_of(folder, STAGE2) / "joined.json").exists()
    assert not jobs_of(folder, "evaluation/41_score.py", "").joinpath("whole.json").exists()
    (line,) = [line for line in status(folder).splitlines() if "exit code 1" in line]
    assert f"{jobs_of(folder, STAGE2)}/2-of-2.log" in line


def test_two_shards_that_end_together_join_once(folder, undivided):
    script = "feature_decoding/22_semantic.py"
    for path in results(folder).glob("deco*/**/semantic.*"):
        path.unlink()
    submit(folder, script, n=2)
    held = [hold_at_the_end(folder, k) for k in (1, 2)]
    for process in held:
        os.kill(process, signal.SIGCONT)
    wait_for_the_end()
    ends = [record(folder, f"{k}-of-2", script)["ended"] for k in (1, 2)]
    print(f"{abs(ends[0] - ends[1]):.2f} s between their ends")
    assert abs(ends[0] - ends[1]) < 1
    logs = {path.stem: path.read_text() for path in jobs_of(folder, script).glob("*.log")}
    assert [name for name, text in logs.items() if "decoded/semantic.h5: " in text] == ["joined"]
    assert all("a run without --shard joins them" in logs[f"{k}-of-2"] for k in (1, 2))
    same_bytes(results(undivided) / "decoders", results(folder) / "decoders")
    same_bytes(results(undivided) / "decoded", results(folder) / "decoded")


def hold_at_the_end(folder: Path, k: int) -> int:
    """Stop a shard of two when its last part, the second of its folds, is written; give its process."""
    pattern = f"decoders/spread/.semantic.h5.*.parts/{k + 1:05d}.h5"
    wait_until(lambda: list(results(folder).glob(pattern)))
    (process,) = processes(folder, f"--shard {k}-of-2")
    os.kill(process, signal.SIGSTOP)
    return process


@pytest.mark.slow
def test_a_task_that_is_killed_and_submitted_again_ends_in_the_same_bytes(folder, undivided):
    submit(folder, STAGE2)
    wait_for_the_middle(folder, "2-of-4")
    (process,) = processes(folder, "--shard 2-of-4")
    os.kill(process, signal.SIGKILL)
    wait_for_the_end()
    assert record(folder, "2-of-4")["exit"] == 128 + signal.SIGKILL
    assert "exit code 137" in status(folder)
    assert not (jobs_of(folder, STAGE2) / "joined.json").exists()
    submit(folder, STAGE2)
    wait_for_the_end()
    same_bytes(undivided, folder)


def processes(folder: Path, argument: str) -> list[int]:
    """Find the scripts that run on a folder's configuration with an argument."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(folder) in line and argument in line and line.startswith(sys.executable):
                found.append(int(place.name))
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_time_that_is_too_short_is_made_up_for_by_starting_again(folder, undivided):
    submit(folder, STAGE2, options=("--time=3", "--signal=B:TERM@60"), n=2)
    wait_for_the_middle(folder, "1-of-2")
    (process,) = processes(folder, "--shard 1-of-2")
    os.kill(process, signal.SIGSTOP)  # so that its time is over before its work is
    wait_until(lambda: is_asked_to_end(process))
    os.kill(process, signal.SIGCONT)
    wait_for_the_end(1500)
    assert record(folder, "joined")["exit"] == 0
    assert record(folder, "1-of-2")["restarts"] > 0
    log = (jobs_of(folder, STAGE2) / "1-of-2.log").read_text()
    assert "stopped by SIGTERM: what is done is kept" in log
    same_bytes(undivided, folder)


def is_asked_to_end(process: int) -> bool:
    """Tell whether SIGTERM waits for a process that is stopped."""
    (pending,) = re.findall(r"ShdPnd:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
    return bool(int(pending, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_up_to_stage_2_in_four_shards_ends_in_the_bytes_of_an_undivided_run(undivided, tmp_path):
    config_in(tmp_path / "run")
    submit(tmp_path / "run", *BEFORE, STAGE2)
    wait_for_the_end(1500)
    said = status(tmp_path / "run")
    assert "FAILED" not in said
    assert "0 at work" in said
    same_bytes(undivided, tmp_path / "run")


@pytest.fixture(scope="session")
def snakemake(tmp_path_factory) -> Path:
    """Snakemake and its executor, in an environment of their own, as they are to be."""
    if found := shutil.which("snakemake"):
        return Path(found)
    folder = tmp_path_factory.mktemp("snakemake")
    venv.create(folder, with_pip=True)
    packages = ["snakemake>=9", "snakemake-executor-plugin-slurm"]
    done = subprocess.run([folder / "bin/pip", "install", "-q", *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"Snakemake cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return folder / "bin/snakemake"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_snakefile_in_four_shards_ends_in_the_bytes_of_an_undivided_run(undivided, tmp_path, snakemake):
    config = config_in(tmp_path / "run")
    settings = [f"configs={config}", "shards=4", f"target={' '.join([*BEFORE, STAGE2])}", f"python={sys.executable}"]
    line = [str(snakemake), "--snakefile", "workflow/Snakefile", "--directory", str(tmp_path), "--config", *settings]
    line += [f"resources={config.with_name('resources.csv')}", "--executor", "slurm", "--jobs", "20"]
    line += ["--slurm-no-account", "--slurm-status-command", "squeue", "--latency-wait", "20"]
    line += ["--default-resources", "slurm_partition=debug"]
    done = subprocess.run(line, cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (jobs_of(tmp_path / "run", STAGE2) / "joined.done").is_file()
    same_bytes(undivided, tmp_path / "run")
