"""Scripts run in order; those of several subjects side by side, with the threads divided among them."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from minddiffuser import lanes
from minddiffuser.config import load
from minddiffuser.lanes import Lane, ScriptError, can_fork, lanes_of, run, usual_jobs

CONCEPTS = "baselines/semantic_brain_decoding"
LIBRARIES = {  # in the place of those that take seconds to import
    "open_clip.py": "",
    "sklearn/__init__.py": "",
    "sklearn/linear_model.py": "",
    "diffusers.py": "AutoencoderKL = UNet2DConditionModel = None",
    "transformers.py": "CLIPTextModel = None",
}
SCRIPT = """
import json, os, sys, time
place, subject = sys.argv[2], sys.argv[sys.argv.index("--subject") + 1] if "--subject" in sys.argv else "all"
name = os.path.basename(sys.argv[0])
note = {"script": name, "subject": subject, "threads": os.environ.get("OMP_NUM_THREADS"), "began": time.monotonic(),
        "arguments": sys.argv[3:]}
print("a word of", subject, flush=True)
time.sleep(0.5)
if name == "32_b.py" and subject == "subj02":
    sys.exit(7)
note["ended"] = time.monotonic()
with open(os.path.join(os.path.dirname(place), "log"), "a") as file:
    file.write(json.dumps(note) + "\\n")
"""

TIDY = """
import pathlib, sys, time
try:
    print("at work", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    pathlib.Path(sys.argv[2]).with_name("tidied").touch()
    raise
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Scripts that note what they were given, libraries that note their import, and a configuration of two subjects."""
    monkeypatch.setattr(lanes, "REPOSITORY", tmp_path)
    monkeypatch.setattr(lanes, "n_cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name in ("data/02_a.py", "reconstruction/31_a.py", "reconstruction/32_b.py", "evaluation/41_a.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(SCRIPT)
    for name, content in LIBRARIES.items():
        path = tmp_path / "libraries" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write('{name} ')\n{content}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "libraries"))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"name": "mine", "experiment": {"subjects": ["subj01", "subj02"]}}))
    return config


def noted(house):
    log = house.with_name("log")
    return [yaml.safe_load(line) for line in log.read_text().splitlines()] if log.is_file() else []


def test_scripts_are_divided_by_subject_and_gathered_where_all_are_needed(house):
    scripts = [
        "data/02_a.py",
        f"{CONCEPTS}/14_bank.py",
        "feature_extraction/11_a.py",
        f"{CONCEPTS}/29_a.py",
        "evaluation/41_a.py",
    ]
    settings = {"subjects": ("subj01", "subj02"), "semantic_brain_decoding": {"subjects": ("Subject1",)}}
    experiment = load(house).experiment.model_validate(settings)
    assert lanes_of(scripts, experiment) == [
        [Lane("subj01", ["data/02_a.py"]), Lane("subj02", ["data/02_a.py"])],
        [Lane(None, [f"{CONCEPTS}/14_bank.py"])],
        [
            Lane("subj01", ["feature_extraction/11_a.py"]),
            Lane("subj02", ["feature_extraction/11_a.py"]),
            Lane("Subject1", [f"{CONCEPTS}/29_a.py"]),
        ],
        [Lane(None, ["evaluation/41_a.py"])],
    ]


def test_scripts_of_a_dataset_that_is_not_there_are_left_out(house):
    assert lanes_of([f"{CONCEPTS}/29_a.py"], load(house).experiment) == []


@pytest.mark.parametrize("forks", [False, True])
def test_lanes_run_side_by_side_with_the_threads_divided_and_each_in_order(house, forks, capfd):
    scripts = ["data/02_a.py", "reconstruction/31_a.py --only x"]
    run([Lane(subject, scripts) for subject in ("subj01", "subj02")], house, jobs=2, forks=forks)
    found = noted(house)
    assert [[n["script"] for n in found if n["subject"] == s] for s in ("subj01", "subj02")] == [
        ["02_a.py", "31_a.py"]
    ] * 2
    assert {note["threads"] for note in found} == {"2"}
    first, second = (next(n for n in found if n["subject"] == s) for s in ("subj01", "subj02"))
    assert first["began"] < second["ended"]
    assert second["began"] < first["ended"]
    assert found[-1]["arguments"][-2:] == ["--only", "x"]
    lines = capfd.readouterr().out.splitlines()
    assert "subj01 | a word of subj01" in lines
    assert "subj02 | a word of subj02" in lines
    imported = house.with_name("imported")
    assert (imported.read_text().split() if imported.is_file() else []).count("open_clip.py") == (2 if forks else 0)


def test_a_lane_alone_keeps_the_terminal_and_all_threads(house, capfd):
    run([Lane(None, ["evaluation/41_a.py"])], house, jobs=2, forks=True)
    assert noted(house)[0]["threads"] is None
    assert "a word of all" in capfd.readouterr().out.splitlines()


@pytest.mark.parametrize("forks", [False, True])
def test_a_script_that_fails_ends_what_runs_beside_it(house, forks, capfd):
    longer = Lane("subj01", ["data/02_a.py"] * 20)
    shorter = Lane("subj02", ["reconstruction/32_b.py", "evaluation/41_a.py"])
    with pytest.raises(ScriptError, match="exit code 7") as failed:
        run([longer, shorter], house, jobs=2, forks=forks)
    assert failed.value.code == 7
    assert len(noted(house)) < 4
    assert "subj02 | reconstruction/32_b.py ended with exit code 7" in capfd.readouterr().out.splitlines()


@pytest.mark.parametrize("forks", [False, True])
def test_a_lane_that_is_ended_takes_its_script_with_it(house, forks):
    line = [sys.executable, "-um", "minddiffuser.lane", *(["--forks"] if forks else []), str(house.parent)]
    lane = subprocess.Popen([*line, "data/02_a.py", "--", "--config", str(house)], stdout=subprocess.PIPE, text=True)
    assert lane.stdout
    assert any("a word" in line for line in lane.stdout)
    lane.terminate()
    assert lane.wait() == 128 + signal.SIGTERM
    lane.stdout.close()
    time.sleep(1)
    assert noted(house) == []


@pytest.fixture
def interruptible():
    """Processes that are started heed Ctrl-C, also where the tests themselves run in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("forks", [False, True])
def test_ctrl_c_waits_for_what_the_script_has_to_finish(house, forks):
    house.with_name("tidy.py").write_text(TIDY)
    line = [sys.executable, "-um", "minddiffuser.lane", *(["--forks"] if forks else []), str(house.parent)]
    lane = subprocess.Popen(
        [*line, "tidy.py", "data/02_a.py", "--", "--config", str(house)],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert lane.stdout
    assert any("at work" in line for line in lane.stdout)
    os.killpg(lane.pid, signal.SIGINT)  # as a terminal does
    assert lane.wait() == 128 + signal.SIGINT
    lane.stdout.close()
    assert house.with_name("tidied").is_file()
    assert noted(house) == []


def test_a_fork_says_what_was_wrong_and_ends_as_the_script_would(house, capfd):
    house.with_name("wrong.py").write_text("import sys\nsys.exit('error: no such thing')")
    house.with_name("killed.py").write_text("import os\nos.kill(os.getpid(), 9)")
    for name, code in (("wrong.py", 1), ("killed.py", 128 + 9)):
        with pytest.raises(ScriptError) as failed:
            run([Lane(None, [name])], house, jobs=1, forks=True)
        assert failed.value.code == code
    assert "error: no such thing" in capfd.readouterr().err.splitlines()


def test_a_gpu_is_neither_shared_nor_forked(house):
    assert usual_jobs(load(house)) == 2
    assert usual_jobs(load(house, ["execution.device=cuda"])) == 1
    assert not can_fork(load(house, ["execution.device=cuda"]))
    assert usual_jobs(load(house, ["experiment.subjects=[subj01]"])) == 1
