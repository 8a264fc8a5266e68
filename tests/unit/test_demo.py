"""`make demo` looks before it runs, leaves out what is absent and says so; `make clean` asks before it deletes."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from minddiffuser import clean, demo, lanes
from minddiffuser.config import REPOSITORY, Config, Experiment, load

NEEDED = {"text": "subj01 design: nsd_expdesign.mat is missing", "leave_out": {}}
NO_ICGAN = {"text": "IC-GAN: IC-GAN was not found", "leave_out": {"Ozcelik et al.": ["baselines/ozcelik/"]}}
NO_WORDNET = {"text": "WordNet: WordNet is missing", "leave_out": {"scores of labels by WordNet": []}}


def write_config(folder, **experiment):
    path = folder / "config.yaml"
    config = {"name": "mine", "experiment": experiment, "execution": {"runs": str(folder / "runs")}}
    path.write_text(yaml.safe_dump(config))
    return path


# The main job


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Scripts that note that they ran, and what the doctor is to find."""
    log, found = tmp_path / "log", []
    monkeypatch.setattr(lanes, "REPOSITORY", tmp_path)
    monkeypatch.setattr(demo, "look", lambda _, scripts: demo.choose(found) if scripts else None)
    monkeypatch.setattr(demo, "can_fork", lambda _: False)  # a fork imports what these scripts do not need

    def run(scripts, config=None, codes=None):
        log.write_text("")
        for name in {script.split()[0] for script in scripts}:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            code = (codes or {}).get(name, 0)
            path.write_text(f"import sys\nopen({str(log)!r}, 'a').write('{name}\\n')\nsys.exit({code})\n")
        try:
            demo.main(["--config", str(config or write_config(tmp_path)), *scripts])
        finally:
            run.ran = log.read_text().split()

    run.found = found
    return run


def test_scripts_run_in_order(job):
    job(["data/02_a.py", "evaluation/41_b.py"])
    assert job.ran == ["data/02_a.py", "evaluation/41_b.py"]


def test_nothing_runs_while_something_is_wrong_that_is_needed(job):
    job.found += [NO_ICGAN, NEEDED]
    with pytest.raises(SystemExit, match="nothing was started"):
        job(["data/02_a.py"])
    assert job.ran == []


def test_a_rival_that_cannot_run_is_left_out_and_that_is_said_at_the_end(job, capsys):
    job.found.append(NO_ICGAN)
    job.found.append(NO_WORDNET)
    scripts = [
        "baselines/takagi/35_a.py",
        "baselines/ozcelik/37_b.py",
        "baselines/ozcelik/38_c.py",
        "evaluation/41_d.py",
    ]
    job(scripts)
    assert job.ran == [scripts[0], scripts[3]]
    *before, _, _, page, _, last = capsys.readouterr().out.strip().splitlines()
    assert "left out: Ozcelik et al., for want of: IC-GAN: IC-GAN was not found" in before
    assert "left out: scores of labels by WordNet, for want of: WordNet: WordNet is missing" in before
    assert last.startswith("left out: Ozcelik et al., for want of: IC-GAN: IC-GAN was not found; scores of labels")
    assert page.endswith("runs/mine/evaluation/index.html")


# The last five lines


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """The lines that a run ends in, on a terminal of some width; and its folder of results."""
    config = load(write_config(tmp_path, semantic_brain_decoding={}))
    config.folder().joinpath("evaluation").mkdir(parents=True)

    def lines(width=80, left_out=(), seconds=400.0):
        monkeypatch.setenv("COLUMNS", str(width))
        return demo.closing(config, Path("mine.yaml"), list(left_out), seconds)

    lines.folder = config.folder()
    return lines


def write_verdict(folder, verdict, absent, **by_dataset):
    record = {"verdict": verdict, "by_dataset": by_dataset, "absent": absent}
    (folder / "evaluation" / "verdict.json").write_text(json.dumps(record))


def test_a_run_ends_in_verdict_absence_page_next_and_time(ended):
    assert ended()[:2] == ["there is no verdict yet", "what is absent is not known yet"]
    write_verdict(
        ended.folder,
        ["Does it work?: 94 % are picked", "second line"],
        ["LPIPS (AlexNet is absent)", "categories (none)"],
    )
    verdict, absent, page, later, last = ended(width=200)
    assert verdict == "94 % are picked"
    assert absent == "absent: LPIPS (AlexNet is absent); categories (none)"
    assert page == f"the page, not written yet: {ended.folder}/evaluation/index.html"
    (ended.folder / "evaluation/index.html").write_text("")
    assert ended()[2] == f"the page: {ended.folder}/evaluation/index.html"
    assert later == "next (CONFIG=mine.yaml): make demo (stage 2, controls), or make all"
    assert last == "took 7 min"
    assert ended(seconds=30)[4] == "took 30 s"
    write_verdict(ended.folder, ["94 % are picked"], [])
    assert ended()[1] == "nothing is absent"


@pytest.mark.parametrize("width", [60, 80, 300])
def test_the_last_lines_fit_the_terminal(ended, width):
    write_verdict(ended.folder, ["a long verdict " * 30], ["much is absent " * 30])
    for line in [*ended(width, left_out=["a rival for want of a model " * 30])[:2], *ended(width)[3:]]:
        assert len(line) <= min(width, 120)
        assert "\n" not in line
    assert ended(width)[0].endswith(" ...")


def test_what_was_run_is_not_next(ended):
    (ended.folder / "subj01/reconstruction/minddiffuser/stage2").mkdir(parents=True)
    after_demo = "next (CONFIG=mine.yaml): make compare (rivals, ablations), make god (another dataset), or make all"
    assert ended(width=200)[3] == after_demo
    (ended.folder / "subj01/reconstruction/ablation").mkdir(parents=True)
    assert "make compare" not in ended(width=200)[3]
    assert "make god" in ended(width=200)[3]
    (ended.folder / "evaluation/concepts").mkdir()
    (ended.folder / "evaluation/concepts/summary.csv").write_text("")
    assert ended()[3] == "next: nothing is left to run"


def test_next_on_the_miniature_fits_80_columns(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(Config, "folder", lambda *_: tmp_path)
    (tmp_path / "subj01/reconstruction/minddiffuser/stage2").mkdir(parents=True)
    path = Path("configs/miniature.yaml")
    line = demo.closing(load(REPOSITORY / path), path, [], 1.0)[3]
    assert line == "next: make compare (rivals, ablations), make god (another dataset), or make all"


def test_a_run_of_films_ends_in_what_was_found_of_films(job, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    config = write_config(tmp_path, subjects=[], mind_animator={"subjects": ["Subject01", "Subject02"]})
    folder = tmp_path / "runs" / "mine"
    (folder / "evaluation").mkdir(parents=True)
    write_verdict(folder, ["94 % of pictures are picked"], [])
    scripts = ["data/05_a.py", "baselines/mind_animator/24_b.py", "evaluation/43_c.py"]
    job(scripts, config)
    verdict, _, page, later, last = capsys.readouterr().out.strip().splitlines()[-5:]
    assert verdict == "there is no verdict yet"
    assert page == f"the page, not written yet: {folder}/evaluation/index.html"
    assert "make film-all" in later
    assert last.startswith("took")
    (folder / "Subject01" / "maps").mkdir(parents=True)
    (folder / "Subject01" / "maps" / "maps.json").write_text("{}")
    job(scripts, config)
    assert capsys.readouterr().out.strip().splitlines()[-2] == "next: nothing is left to run"
    write_verdict(folder, ["94 % of pictures are picked"], [], videos=["Is motion decoded?: It is.", "And more?: No."])
    job(scripts, config)
    assert capsys.readouterr().out.strip().splitlines()[-5] == "It is."
    job(["evaluation/43_c.py"], config)
    assert capsys.readouterr().out.strip().splitlines()[-5] == "94 % of pictures are picked"


def test_the_first_look_is_taken_until_there_is_a_page(job, tmp_path):
    scripts = ["a/31.py", "e/41.py", "e/43.py", "a/32.py", "e/41.py", "e/43.py"]
    job(scripts)
    assert job.ran == scripts
    page = tmp_path / "runs/mine/evaluation/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    job(scripts)
    assert job.ran == ["a/31.py", "a/32.py", "e/41.py", "e/43.py"]


def test_without_subjects_of_nsd_there_is_no_first_look(job, tmp_path):
    config = write_config(tmp_path, subjects=[], takagi=None, ozcelik=None, semantic_brain_decoding={})
    of_concepts = "baselines/semantic_brain_decoding/39.py"
    job(["evaluation/41.py", of_concepts, "evaluation/41.py"], config)
    assert job.ran[-2:] == [of_concepts, "evaluation/41.py"]
    assert job.ran.count("evaluation/41.py") == 1


def test_the_first_script_that_fails_ends_it_with_its_code(job, capfd):
    with pytest.raises(SystemExit) as stopped:
        job(["a/1.py", "a/2.py", "a/3.py"], codes={"a/2.py": 7})
    assert stopped.value.code == 7
    assert job.ran == ["a/1.py", "a/2.py"]
    lines = capfd.readouterr().err.splitlines()
    assert "a/2.py ended with exit code 7" in lines
    assert any(line.startswith("stopped") and "exit code 7" in line for line in lines)


def test_no_jobs_at_all_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        demo.main(["--config", str(write_config(tmp_path)), "--jobs", "-1", "data/02_a.py"])
    assert stopped.value.code == 2
    assert "--jobs -1: at least 1 is needed" in capsys.readouterr().err


def test_simulated_data_are_not_looked_at(job, tmp_path):
    job.found.append(NEEDED)
    config = write_config(tmp_path, miniature={})
    job(["data/01_a.py"], config)
    assert job.ran == ["data/01_a.py"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"miniature": {}}, True),
        ({"miniature": {}, "semantic_brain_decoding": {}}, False),
        ({"miniature": {}, "semantic_brain_decoding": {}, "miniature_god": {}}, True),
        ({"subjects": [], "semantic_brain_decoding": {}, "miniature_god": {}}, True),
        ({"semantic_brain_decoding": {}, "miniature_god": {}}, False),
    ],
)
def test_what_is_simulated_is_known(settings, expected):
    assert demo.is_simulated(Experiment(**settings)) is expected


@pytest.mark.slow
def test_the_real_doctor_looks_in_a_process_of_its_own(tmp_path):
    """Nothing is there: it stops, with all that is missing, before the first script."""
    config = yaml.safe_load((REPOSITORY / "configs" / "miniature.yaml").read_text())
    config["experiment"]["miniature"] = config["experiment"]["semantic_brain_decoding"] = None
    config["execution"] = {"nsd": str(tmp_path / "nsd"), "runs": str(tmp_path / "runs")}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    line = [sys.executable, "-m", "minddiffuser.demo", "--config", str(path), "data/02_prepare_subject.py"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nothing was started" in done.stderr
    assert "subj02 ROIs" in done.stderr
    assert "Traceback" not in done.stderr
    assert "== data" not in done.stdout


# Results


@pytest.fixture
def results(tmp_path):
    """Results of a configuration of real data, with some things that this project did not make."""
    folder = tmp_path / "runs" / "mine"
    for name in ("subj01/prepared.h5", "evaluation/index.html", "nsd/nsddata/betas.hdf5", "notes.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * 100)
    return folder


def make_clean(config, *arguments, **options):
    line = ["make", "clean", f"CONFIG={config}", f"VENV={sys.prefix}", *arguments]
    options = {"stdin": subprocess.DEVNULL, **options}
    return subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=False, **options)


def test_clean_without_terminal_and_name_deletes_nothing(tmp_path, results):
    before = sorted(results.rglob("*"))
    done = make_clean(write_config(tmp_path))
    assert done.returncode
    assert "evaluation, subj01: 2 files" in done.stdout
    assert "CONFIRM=mine" in done.stdout
    assert sorted(results.rglob("*")) == before


def test_clean_with_another_name_deletes_nothing(tmp_path, results):
    done = make_clean(write_config(tmp_path), "CONFIRM=yours")
    assert done.returncode
    assert "called mine, not yours" in done.stdout
    assert (results / "subj01/prepared.h5").is_file()


def test_clean_with_the_name_deletes_what_was_made_here_and_lists_the_rest(tmp_path, results):
    pictures = results / "subj01/reconstruction/others/theirs/00001.png"
    pictures.parent.mkdir(parents=True)
    pictures.write_text("picture")
    own = results / "subj01/reconstruction/minddiffuser/stage1/00001.png"
    own.parent.mkdir(parents=True)
    own.write_text("picture")
    done = make_clean(write_config(tmp_path), "CONFIRM=mine")
    assert done.returncode == 0, done.stderr
    kept = sorted(path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file())
    assert kept == ["notes.txt", "nsd/nsddata/betas.hdf5", "subj01/reconstruction/others/theirs/00001.png"]
    assert "notes.txt, nsd, subj01/reconstruction/others" in done.stdout


@pytest.mark.parametrize(("typed", "is_deleted"), [("mine\n", True), ("yes\n", False), ("\n", False), ("\x04", False)])
def test_clean_asks_on_a_terminal(tmp_path, results, typed, is_deleted):
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode())
    done = make_clean(write_config(tmp_path), stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert (done.returncode == 0) is is_deleted
    assert (results / "subj01").exists() is not is_deleted


def test_clean_of_simulated_data_asks_nothing_and_leaves_no_folder(tmp_path):
    config, folder = write_config(tmp_path, miniature={}), tmp_path / "runs" / "mine"
    for name in ("subj01/prepared.h5", "nsd/miniature.json", "imagenet/miniature_god.json", "bank/a.h5"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("{}")
    assert make_clean(config).returncode == 0
    assert not folder.exists()
    assert make_clean(config).returncode == 0, "nothing to delete is no error"


@pytest.mark.parametrize("config", ["", "runs", "configs/nowhere.yaml"])
def test_clean_without_a_configuration_deletes_nothing(tmp_path, config):
    done = make_clean(config)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_clean_leaves_links_alone(tmp_path, results):
    elsewhere = tmp_path / "scratch"
    results.rename(elsewhere)
    results.symlink_to(elsewhere)
    config = write_config(tmp_path)
    with pytest.raises(SystemExit, match="is a link to"):
        clean.main(["--config", str(config), "--confirm", "mine"])
    results.unlink()
    results.mkdir()
    (results / "subj01").symlink_to(elsewhere / "subj01")
    clean.main(["--config", str(config), "--confirm", "mine"])
    assert (elsewhere / "subj01/prepared.h5").is_file()
    assert (results / "subj01").is_symlink()


def test_make_wordnet_leaves_what_somebody_put_there(tmp_path):
    mine = tmp_path / "models" / "wordnet" / "dict" / "data.noun"
    mine.parent.mkdir(parents=True)
    mine.write_text("nouns")
    line = ["make", "-f", str(REPOSITORY / "Makefile"), "wordnet"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "models/wordnet is there" in done.stderr
    assert mine.read_text() == "nouns"
    assert list(Path(tmp_path / "models").iterdir()) == [tmp_path / "models" / "wordnet"]
