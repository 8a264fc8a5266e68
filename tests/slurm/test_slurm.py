"""Real jobs on a SLURM: shards, joins, kills and ends of time leave the bytes of a run that was not divided."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from smallest import ENVIRONMENT, REPOSITORY, write_config
from test_pipeline import contents

STAGE2 = "reconstruction/32_stage2.py"
BEFORE = [
    "miniature/01_make_miniature.py",
    "data/02_prepare_subject.py",
    *(f"feature_extraction/{name}.py" for name in ("11_semantic", "12_detail", "13_structural")),
    *(f"feature_decoding/{name}.py" for name in ("21_select_units", "22_semantic", "23_detail", "24_structural")),
    "reconstruction/31_stage1.py",
]
RESOURCES = "stage,gpus,cpus,gb,hours\ndefault,0,1,2,0.5\nreconstruction/32,1,,,\n"


def config_in(folder: Path, n_iterations: int = 6) -> Path:
    """Configuration of one subject, of whom stage 2 makes eight pictures, one at a time."""
    path = write_config(folder)
    config = yaml.safe_load(path.read_text())
    config["execution"]["batch_size"] = 1
    experiment = config["experiment"]
    experiment["subjects"] = ["subj01"]
    experiment["miniature"]["n_shared"] = 10
    experiment["guidance"] |= {"n_images": 8, "n_iterations": n_iterations}
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
    line = ["squeue", "--noheader", "--format=%i %T %j %r"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def wait_until(what, seconds: float = 240.0):
    """Wait for something to be true, and give it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"after {seconds} s in the queue:\n{queue()}"
        time.sleep(0.1)
    return found


def wait_for_the_end(seconds: float = 240.0) -> None:
    wait_until(lambda: not queue().strip(), seconds)


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
    submit(folder, STAGE2)
    job = wait_for_the_middle(folder, "2-of-4")["job"]
    subprocess.run(["scancel", job], check=True)
    wait_for_the_end()
    assert not (jobs_of(folder, STAGE2) / "joined.json").exists()
    submit(folder, STAGE2)
    wait_for_the_end()
    assert record(folder, "joined")["exit"] == 0
    same_bytes(undivided, folder)


def test_a_shard_that_is_failing_keeps_what_waits_for_it_and_status_names_its_log(folder):
    third = stimulus_ids(folder)[2:3]
    state = results(folder) / "reconstruction/minddiffuser/stage2/state"
    state.mkdir(parents=True)
    (state / f"{hashlib.sha256(third.tobytes()).hexdigest()[:16]}.safetensors").write_bytes(b"broken")
    submit(folder, STAGE2, "evaluation/41_score.py")
    wait_for_the_end()
    assert [record(folder, f"{k}-of-4")["exit"] for k in (1, 2, 3, 4)] == [0, 0, 1, 0]
    assert not (jobs_of(folder, STAGE2) / "joined.json").exists()
    assert not jobs_of(folder, "evaluation/41_score.py", "").joinpath("whole.json").exists()
    (line,) = [line for line in status(folder).splitlines() if "exit code 1" in line]
    assert f"{jobs_of(folder, STAGE2)}/3-of-4.log" in line


def test_two_shards_that_end_together_join_once(folder, undivided):
    script = "feature_decoding/22_semantic.py"
    for attempt in range(3):
        for path in results(folder).glob("deco*/**/semantic.*"):
            path.unlink()
        shutil.rmtree(jobs_of(folder, script), ignore_errors=True)
        submit(folder, script, n=2)
        wait_for_the_end()
        shards = [record(folder, f"{k}-of-2", script) for k in (1, 2)]
        gap = abs(shards[0]["ended"] - shards[1]["ended"])
        print(f"attempt {attempt}: {gap:.2f} s between their ends")
        logs = {path.stem: path.read_text() for path in jobs_of(folder, script).glob("*.log")}
        joins = [name for name, text in logs.items() if "decoded/semantic.h5: " in text]
        assert joins == ["joined"]
        assert all("a run without --shard joins them" in logs[f"{k}-of-2"] for k in (1, 2))
        same = contents(results(undivided) / "decoders"), contents(results(folder) / "decoders")
        assert same[0] == same[1]
        if gap < 1:
            return
    pytest.fail("of three pairs none ended in one second")
