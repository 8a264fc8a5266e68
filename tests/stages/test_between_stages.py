"""Between the stages nothing is silent: what is stale, incomplete, broken or in nobody's charge is said."""

import json
import shutil
import subprocess
import sys
import textwrap

import h5py
import pandas as pd
import pytest
from smallest import CONCEPTS, ENVIRONMENT, GROUPS, OF_FILMS, REPOSITORY, run, run_here, write_config

SCRIPTS = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for path in REPOSITORY.rglob("[0-9][0-9]_*.py")
    if not {".venv", "runs", "models"} & set(path.relative_to(REPOSITORY).parts)
)
NSD, GOD = "experiment.data.sessions=3", "experiment.semantic_brain_decoding.bank_per_class=2"
# A setting upstream of each script that was changed since; of those that have nothing upstream, one of their own.
CHANGED = {
    "miniature/01_make_miniature.py": "experiment.miniature.n_own=23",
    "miniature/03_make_god.py": "experiment.miniature_god.n_training=3",
    f"{CONCEPTS}/14_bank.py": GOD,
    f"{CONCEPTS}/29_decode_labels.py": GOD,
    f"{CONCEPTS}/39_generate.py": GOD,
    "evaluation/40_score_concepts.py": GOD,
}
# Two download, and read nothing that another script made; the others have their own run (test_films_run.py).
WITHOUT_RESULTS = {"data/00_get_models.py", "data/00_get_nsd.py", *OF_FILMS}


@pytest.fixture(scope="module")
def copied(whole_run, tmp_path_factory):
    """A copy of the finished run, for scripts that are to stop before they change anything."""
    folder = tmp_path_factory.mktemp("copied")
    shutil.copytree(whole_run, folder, dirs_exist_ok=True)
    write_config(folder)
    return folder


def dates(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_every_numbered_script_is_run_on_the_smallest_miniature():
    assert {script for group in GROUPS for script in group} == set(SCRIPTS) - WITHOUT_RESULTS


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script not in WITHOUT_RESULTS])
def test_a_stage_stops_after_a_setting_upstream_was_changed_and_names_it(copied, script):
    config, change = copied / "smallest.yaml", CHANGED.get(script, NSD)
    before = dates(copied)
    done = run_here(script, config, "--set", change)
    assert done.returncode == 1, done.stdout
    key, _, value = change.partition("=")
    assert f"{key} was " in done.stderr
    assert f", is {value}" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert dates(copied) == before


DEEPER = [
    ("reconstruction/31_stage1.py", "experiment.decoding.alpha=7.0"),
    ("reconstruction/31_stage1.py", "experiment.decoding.test_scaling=test"),
    ("reconstruction/32_stage2.py", "experiment.units.keep=0.2"),
    ("reconstruction/33_controls.py", "experiment.semantic.n_captions=3"),
    ("reconstruction/34_ablations.py", "experiment.decoding.n_voxels_semantic=19"),
    ("feature_decoding/28_controls.py", "experiment.detail.posterior=sample"),
    ("baselines/takagi/36_reconstruct_takagi.py", "experiment.takagi.alphas=[1.0]"),
    ("baselines/ozcelik/38_reconstruct_ozcelik.py", "experiment.ozcelik.inversion_steps=3"),
    (f"{CONCEPTS}/39_generate.py", "experiment.semantic_brain_decoding.alpha=7.0"),
    ("evaluation/41_score.py", "experiment.sampler.guidance_scale=3.0"),
    ("evaluation/42_compare.py", "experiment.guidance.learning_rate=0.5"),
    ("evaluation/42_compare.py", "experiment.evaluation.image_size=32"),
    ("evaluation/43_report.py", "experiment.decoding.alpha=7.0"),
    ("evaluation/43_report.py", "experiment.semantic_brain_decoding.prompt=a {label}"),
]


@pytest.mark.parametrize(("script", "change"), DEEPER)
def test_the_setting_is_named_however_far_upstream_it_is(copied, script, change):
    done = run_here(script, copied / "smallest.yaml", "--set", change)
    assert done.returncode == 1, done.stdout
    assert f"{change.partition('=')[0]} was " in done.stderr


def test_decoders_of_before_are_not_joined_with_images_of_now(whole_run, tmp_path):
    """02, 11 and 12 were made again for more sessions, the decoders forgotten: other images are test images now."""
    shutil.copytree(whole_run, tmp_path, dirs_exist_ok=True)
    config, more = write_config(tmp_path), ("--subject", "subj01", "--set", "experiment.data.sessions=5")
    for script in (
        "data/02_prepare_subject.py",
        "feature_extraction/11_semantic.py",
        "feature_extraction/12_detail.py",
    ):
        assert run_here(script, config, *more, "--overwrite").returncode == 0
    for script in ("reconstruction/33_controls.py", "reconstruction/31_stage1.py"):
        done = run_here(script, config, *more)
        assert done.returncode == 1
        assert "experiment.data.sessions was 4, is 5" in done.stderr


def test_decoding_with_test_statistics_is_flagged_by_what_it_made(whole_run, tmp_path):
    shutil.copytree(whole_run, tmp_path, dirs_exist_ok=True)
    config, subject = write_config(tmp_path), ("--subject", "subj01")
    transductive = ("--set", "experiment.decoding.test_scaling=test")
    for script in ("feature_decoding/22_semantic.py", "feature_decoding/23_detail.py"):
        assert run_here(script, config, *subject, *transductive, "--overwrite").returncode == 0
    done = run_here("reconstruction/31_stage1.py", config, *subject, "--overwrite")
    assert done.returncode == 1
    assert "experiment.decoding.test_scaling was test, is train" in done.stderr
    assert run_here("reconstruction/31_stage1.py", config, *subject, *transductive, "--overwrite").returncode == 0
    folder = tmp_path / "runs/smallest/subj01/reconstruction/minddiffuser/stage1"
    assert json.loads((folder / "settings.json").read_text())["flags"] == ["test-set statistics"]


def test_a_sampled_posterior_depends_on_the_seed(whole_run, tmp_path):
    config = write_config(tmp_path, nsd=str(whole_run / "nsd"))
    shutil.copytree(whole_run / "runs", tmp_path / "runs")
    sampled = ("--subject", "subj01", "--set", "experiment.detail.posterior=sample")
    assert run_here("feature_extraction/12_detail.py", config, *sampled, "--overwrite").returncode == 0
    done = run_here("feature_extraction/12_detail.py", config, *sampled, "--set", "experiment.seed=2")
    assert done.returncode == 1
    assert "experiment.seed was 42, is 2" in done.stderr


def test_a_table_that_a_kill_cost_comes_back(whole_run, tmp_path):
    config = write_config(tmp_path, nsd=str(whole_run / "nsd"))
    shutil.copytree(whole_run / "runs", tmp_path / "runs")
    table = tmp_path / "runs/smallest/subj01/noise_ceiling.csv"
    before = table.read_bytes()
    table.unlink()
    assert run_here("data/02_prepare_subject.py", config).returncode == 0
    assert table.read_bytes() == before


def test_what_is_done_is_not_done_again(copied):
    before = dates(copied)
    for script in ("25_accuracy", "26_search", "27_weight_maps"):
        assert run_here(f"feature_decoding/{script}.py", copied / "smallest.yaml").returncode == 0
    assert dates(copied) == before


def test_a_system_with_fewer_pictures_than_it_should_have_is_marked_everywhere(whole_run, tmp_path):
    shutil.copytree(whole_run, tmp_path, dirs_exist_ok=True)
    config, place = write_config(tmp_path), tmp_path / "runs/smallest/subj01/reconstruction/minddiffuser/stage1"
    shutil.rmtree(place)
    done = run_here("reconstruction/31_stage1.py", config, "--subject", "subj01", "--shard", "1-of-2")
    assert done.returncode == 0
    n, n_test = len(pd.read_csv(place / "index.csv")), json.loads((place / "settings.json").read_text())["n_images"]
    assert 0 < n < n_test
    assert f"{n} of {n_test} pictures; {n_test - n} are left to other shards" in done.stdout
    lacking, maps = f"{n} of {n_test} pictures", tmp_path / "runs/smallest/subj01/maps/maps.json"
    maps.write_text(maps.read_text().replace('decoding.alpha": ', 'decoding.alpha": 7'))
    for script in ("evaluation/41_score.py", "evaluation/42_compare.py", "evaluation/43_report.py"):
        done = run_here(script, config)
        assert done.returncode == 0, done.stderr
        assert lacking in done.stdout or "43" in script
    folder = tmp_path / "runs/smallest/evaluation"
    summary = pd.read_csv(folder / "summary.csv").fillna({"incomplete": ""})
    of_stage1 = summary[summary["system"] == "minddiffuser/stage1"].groupby("subject")["incomplete"].first()
    assert of_stage1.to_dict() == {"subj01": lacking, "subj02": "", "all": f"subj01: {lacking}"}
    assert set(summary.loc[summary["system"] == "control/ceiling", "incomplete"]) == {""}
    for name in ("comparison.md", "index.html"):
        assert f"incomplete (subj01: {lacking})" in (folder / name).read_text() or name != "index.html"
        assert lacking in (folder / name).read_text()
    absent = json.loads((folder / "verdict.json").read_text())["absent"]
    assert [text for text in absent if text.startswith("maps of the cortex (made with other settings: ")]


def test_what_the_configuration_does_not_ask_for_is_left_out_with_a_word(whole_run, tmp_path):
    shutil.copytree(whole_run, tmp_path, dirs_exist_ok=True)
    done = run_here(
        "evaluation/41_score.py", write_config(tmp_path), "--set", "experiment.controls.ranks=[0]",
        "--set", "experiment.takagi=null",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "left out, for the configuration does not ask for it: bottleneck/2, takagi/corrected" in done.stdout
    systems = set(pd.read_csv(tmp_path / "runs/smallest/evaluation/summary.csv")["system"])
    assert "bottleneck/0" in systems
    assert not {name for name in systems if name.startswith("takagi") or name == "bottleneck/2"}


UNDIVIDED = (
    "data/00", "miniature/", "decoding/21", "decoding/25", "decoding/26", "decoding/27", "29_", "40_", "41_",
    "42_", "43_",
)  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_divides_its_work_or_says_that_it_does_not(tmp_path, script):
    config = write_config(tmp_path)
    if any(name in script for name in UNDIVIDED):
        done = run_here(script, config, "--shard", "1-of-2")
        assert done.returncode == 2
        assert "not divided" in done.stderr
    done = run_here(script, config, "--shard", "1-of-2", "--overwrite")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


# Files that scripts read, each broken in its own way.
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
DAMAGE = {"empty": b"", "pointer": POINTER, "page": b"<html><body>403</body></html>", "json": b'{"message": "no"}'}
BETAS = "nsd/nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session02.hdf5"
ROI = "nsd/nsddata/ppdata/subj01/func1pt8mm/roi"
SUBJECT, CONCEPT = "runs/smallest/subj01", "runs/smallest/Subject1"
PREPARE = "data/02_prepare_subject.py"
READ = [
    (PREPARE, BETAS), (PREPARE, f"{ROI}/Kastner2015.nii.gz"), (PREPARE, f"{ROI}/prf-visualrois.nii.gz"),
    (PREPARE, "nsd/nsddata/experiments/nsd/nsd_expdesign.mat"),
    (PREPARE, "nsd/nsddata/experiments/nsd/nsd_stim_info_merged.csv"),
    ("feature_extraction/11_semantic.py", f"{SUBJECT}/prepared.h5"),
    ("feature_extraction/11_semantic.py", "nsd/annotations/captions_train2017.json"),
    ("feature_extraction/12_detail.py", "nsd/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"),
    ("feature_decoding/21_select_units.py", f"{SUBJECT}/features/structural.h5"),
    ("feature_decoding/24_structural.py", f"{SUBJECT}/decoders/units.h5"),
    ("feature_decoding/25_accuracy.py", f"{SUBJECT}/decoded/detail.h5"),
    ("feature_decoding/27_weight_maps.py", f"{SUBJECT}/decoders/linear_04.h5"),
    ("reconstruction/31_stage1.py", f"{SUBJECT}/decoded/semantic.h5"),
    ("reconstruction/32_stage2.py", f"{SUBJECT}/decoded/structural.h5"),
    ("reconstruction/33_controls.py", f"{SUBJECT}/decoded/permuted/detail.h5"),
    ("baselines/takagi/35_decode_takagi.py", f"{ROI}/streams.nii.gz"),
    ("baselines/takagi/36_reconstruct_takagi.py", f"{SUBJECT}/takagi/decoded/corrected.h5"),
    ("baselines/ozcelik/38_reconstruct_ozcelik.py", f"{SUBJECT}/ozcelik/decoded/original.h5"),
    (f"{CONCEPTS}/29_decode_labels.py", "god/Subject1.h5"),
    (f"{CONCEPTS}/29_decode_labels.py", "runs/smallest/bank/scoring_clip.h5"),
    (f"{CONCEPTS}/39_generate.py", f"{CONCEPT}/semantic_brain_decoding/decoded/corrected.h5"),
    ("evaluation/40_score_concepts.py", f"{CONCEPT}/reconstruction/semantic_brain_decoding/corrected/index.csv"),
    ("evaluation/41_score.py", f"{SUBJECT}/reconstruction/minddiffuser/stage2/settings.json"),
    ("evaluation/41_score.py", f"{SUBJECT}/decoded/splits.h5"),
    ("evaluation/42_compare.py", "runs/smallest/evaluation/summary.csv"),
    ("evaluation/42_compare.py", "runs/smallest/evaluation/scores.json"),
    ("evaluation/43_report.py", "runs/smallest/evaluation/concepts/paired.csv"),
    ("evaluation/43_report.py", "nsd/annotations/instances_val2017.json"),
    ("evaluation/43_report.py", f"{SUBJECT}/decoded/accuracy.json"),
]  # fmt: skip
# What a script would make of them is moved away, so that it has to read them.
MADE = {
    PREPARE: f"{SUBJECT}/prepared.h5",
    "feature_extraction/11_semantic.py": f"{SUBJECT}/features/semantic.h5",
    "feature_extraction/12_detail.py": f"{SUBJECT}/features/detail.h5",
    "feature_decoding/21_select_units.py": f"{SUBJECT}/decoders/units.h5",
    "feature_decoding/24_structural.py": f"{SUBJECT}/decoded/structural.h5",
    "feature_decoding/25_accuracy.py": f"{SUBJECT}/decoded/accuracy.json",
    "feature_decoding/27_weight_maps.py": f"{SUBJECT}/maps",
    "reconstruction/31_stage1.py": f"{SUBJECT}/reconstruction/minddiffuser/stage1",
    "baselines/takagi/35_decode_takagi.py": f"{SUBJECT}/takagi/trials.h5",
    f"{CONCEPTS}/29_decode_labels.py": f"{CONCEPT}/semantic_brain_decoding",
}


@pytest.fixture
def moved(copied):
    """Move a file or folder of the copy away, and back again after the test."""
    away = []

    def move(path):
        place = copied / "away" / str(len(away))
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
        away.append((place, path))

    yield move
    for place, path in reversed(away):
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        place.rename(path)


@pytest.mark.parametrize("k", range(len(READ)))
def test_a_broken_file_ends_in_one_line_that_names_it(copied, moved, k):
    script, name = READ[k]
    path = copied / name
    kind = [*DAMAGE, "half"][k % 5]
    content = path.read_bytes()
    damaged = content[: len(content) // 2] if kind == "half" else DAMAGE[kind]
    moved(path)
    path.write_bytes(damaged)
    if script in MADE:
        moved(copied / MADE[script])
    done = run_here(script, copied / "smallest.yaml")
    assert done.returncode == 1, done.stdout
    assert path.name in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1


@pytest.mark.slow
def test_a_file_system_without_locks_is_no_hindrance(tmp_path):
    """As NFS without a lock daemon: every attempt to lock a file fails."""
    if not shutil.which("gcc"):
        pytest.skip("needs gcc, to make locks fail")
    source = tmp_path / "locks.c"
    source.write_text("#include <errno.h>\nint flock(int fd, int how) { errno = ENOLCK; return -1; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "locks.so", source], check=True)
    scripts = [
        "miniature/01_make_miniature.py", PREPARE, "feature_extraction/11_semantic.py",
        "feature_extraction/12_detail.py", "feature_decoding/22_semantic.py", "feature_decoding/23_detail.py",
        "reconstruction/31_stage1.py",
    ]  # fmt: skip
    write_config(tmp_path)
    program = f"""
        import sys, h5py, pytest
        from pathlib import Path
        sys.path.insert(0, {str(REPOSITORY / "tests/stages")!r})
        import smallest
        with pytest.raises(OSError, match="unable to lock file"):
            h5py.File({str(tmp_path / "locked.h5")!r}, "w")
        for script in {scripts!r}:
            done = smallest.run_here(script, Path({str(tmp_path / "smallest.yaml")!r}), "--subject", "subj01")
            assert done.returncode == 0, script + done.stderr
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False, cwd=REPOSITORY,
        env={**ENVIRONMENT, "LD_PRELOAD": str(tmp_path / "locks.so")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/smallest/subj01/reconstruction/minddiffuser/stage1/index.csv").is_file()


def test_a_session_without_data_stops_and_voxels_without_data_are_counted(whole_run, tmp_path):
    config = write_config(tmp_path, runs=str(tmp_path / "elsewhere"))
    shutil.copytree(whole_run / "nsd", tmp_path / "nsd")
    options = ("--subject", "subj01", "--set", "experiment.data.invalid_voxels=zero")
    path = tmp_path / BETAS
    with h5py.File(path, "r+") as file:
        betas = file["betas"][:]
        roi_voxels = list(zip(*betas.any(axis=0).nonzero(), strict=True))
        file["betas"][3] = 0
    done = run(PREPARE, config, *options)
    assert done.returncode == 1
    assert path.name in done.stderr
    assert "trial" in done.stderr
    with h5py.File(path, "r+") as file:
        betas[:, *roi_voxels[0]] = 0
        file["betas"][:] = betas
        for index in roi_voxels[::40]:
            file["betas"][(slice(None), *index)] = 0
    done = run(PREPARE, config, *options)
    assert done.returncode == 0, done.stderr
    assert path.name in done.stdout + done.stderr
