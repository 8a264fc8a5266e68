"""Scripts run in order; those of several subjects side by side, with the threads divided among them."""

import pytest
import yaml

from minddiffuser import lanes
from minddiffuser.config import load
from minddiffuser.lanes import Lane, ScriptError, lanes_of, run, usual_jobs

CONCEPTS = "baselines/semantic_brain_decoding"
SCRIPT = """
import json, os, sys, time
place, subject = sys.argv[2], sys.argv[sys.argv.index("--subject") + 1] if "--subject" in sys.argv else "all"
name = os.path.basename(sys.argv[0])
note = {"script": name, "subject": subject, "threads": os.environ.get("OMP_NUM_THREADS"), "began": time.monotonic(),
        "arguments": sys.argv[3:]}
print("a word of", subject)
time.sleep(0.5)
if name == "32_b.py" and subject == "subj02":
    sys.exit(7)
note["ended"] = time.monotonic()
with open(os.path.join(os.path.dirname(place), "log"), "a") as file:
    file.write(json.dumps(note) + "\\n")
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Scripts that note what they were given, and a configuration of two subjects."""
    monkeypatch.setattr(lanes, "REPOSITORY", tmp_path)
    monkeypatch.setattr(lanes, "n_cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name in ("data/02_a.py", "reconstruction/31_a.py", "reconstruction/32_b.py", "evaluation/41_a.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(SCRIPT)
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
        "e/41_a.py",
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
        [Lane(None, ["e/41_a.py"])],
    ]


def test_scripts_of_a_dataset_that_is_not_there_are_left_out(house):
    assert lanes_of([f"{CONCEPTS}/29_a.py"], load(house).experiment) == []


def test_lanes_run_side_by_side_with_the_threads_divided_and_each_in_order(house, capfd):
    run([Lane(s, ["data/02_a.py", "reconstruction/31_a.py --only x"]) for s in ("subj01", "subj02")], house, jobs=2)
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


def test_a_lane_alone_keeps_the_terminal_and_all_threads(house, capfd):
    run([Lane(None, ["evaluation/41_a.py"])], house, jobs=2)
    assert noted(house)[0]["threads"] is None
    assert "a word of all" in capfd.readouterr().out.splitlines()


def test_a_script_that_fails_ends_what_runs_beside_it(house):
    longer = Lane("subj01", ["data/02_a.py"] * 20)
    with pytest.raises(ScriptError, match=r"32_b.py ended with exit code 7") as failed:
        run([longer, Lane("subj02", ["reconstruction/32_b.py", "evaluation/41_a.py"])], house, jobs=2)
    assert failed.value.code == 7
    assert len(noted(house)) < 4


def test_a_gpu_is_not_shared(house):
    assert usual_jobs(load(house)) == 2
    assert usual_jobs(load(house, ["execution.device=cuda"])) == 1
    assert usual_jobs(load(house, ["experiment.subjects=[subj01]"])) == 1
