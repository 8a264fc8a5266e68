"""The real scripts on the smallest miniature: complete, idempotent, resumable and shardable."""

import io
import json
import shutil
import signal
import subprocess
import time

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from smallest import CONCEPTS, ENVIRONMENT, command, run, run_here, write_config

from data.nsd import Stimuli
from evaluation.pictures.catalogue import METRICS, SYSTEMS
from minddiffuser.store import open_arrays
from reconstruction import foreign_files
from reconstruction.folder import read


def contents(folder):
    """Bytes of every file under a folder, but for durations, and for the hidden file that a kill cut short."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.name.endswith(".partial"):
            continue
        if path.name == "index.csv":
            found[name] = pd.read_csv(path).drop(columns="seconds").to_csv().encode()
        elif path.suffix == ".json" and "annotations" not in name:
            record = json.loads(path.read_text())
            record.pop("seconds", None)
            found[name] = json.dumps(record).encode()
        elif path.suffix != ".yaml":
            found[name] = path.read_bytes()
    return found


def same_contents(a, b):
    a, b = contents(a), contents(b)
    assert sorted(a) == sorted(b)
    assert [name for name in a if a[name] != b[name]] == []


def copy_until(whole_run, folder, script):
    """Copy a finished run without what a script made."""
    shutil.copytree(whole_run, folder, dirs_exist_ok=True)
    config = write_config(folder)
    outputs = {
        "miniature/01_make_miniature.py": ["nsd", "runs"],
        "data/02_prepare_subject.py": ["runs"],
        "miniature/03_make_god.py": ["god", "imagenet"],
        f"{CONCEPTS}/14_bank.py": ["runs/smallest/bank"],
        "feature_decoding/23_detail.py": ["deco*/detail.*", "deco*/*/detail.*"],
        "reconstruction/32_stage2.py": ["reconstruction/minddiffuser/*[2k]"],
        "baselines/takagi/35_decode_takagi.py": ["takagi"],
        "baselines/takagi/36_reconstruct_takagi.py": ["reconstruction/takagi"],
        "baselines/ozcelik/37_decode_ozcelik.py": ["ozcelik"],
    }[script]
    for pattern in outputs:
        for path in [*folder.glob(pattern), *folder.glob(f"runs/smallest/subj*/{pattern}")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return config


def test_every_script_leaves_what_its_docstring_says(whole_run):
    for subject in ("subj01", "subj02"):
        folder = whole_run / "runs" / "smallest" / subject
        with open_arrays(folder / "prepared.h5", "", subject) as prepared:
            n_images, n_voxels = prepared["betas"].shape
            n_test = int(prepared["is_test"][:].sum())
            assert 0 < n_test <= 6
            assert len(prepared["voxel_index"]) == len(prepared["roi"]) == n_voxels
            assert prepared["is_test"][:n_test].all()
        with open_arrays(folder / "features" / "semantic.h5", "", subject) as file:
            assert file["c"].shape == (n_images, 15, 128)
            assert file["c"][:, 0].std(axis=0).max() < 1e-5  # begin of text is the same in every caption
        with open_arrays(folder / "features" / "detail.h5", "", subject) as file:
            assert file["z"].shape == (n_images, 4, 8, 8)
        with open_arrays(folder / "features" / "structural.h5", "", subject) as file:
            assert all(file[f"linear_{k:02d}"].shape == (n_images, 65, 96) for k in range(2, 13, 2))
        with open_arrays(folder / "decoders" / "units.h5", "", subject) as file:
            assert all(len(file[f"linear_{k:02d}_units"]) == 624 for k in range(2, 13, 2))
        whole = ("minddiffuser/stage1", "minddiffuser/restored", "control/ceiling")
        refined = ("minddiffuser/stage2", "minddiffuser/best_of_k", "minddiffuser/restored_stage2")
        for system, n in (*((name, n_test) for name in whole), *((name, 4) for name in refined)):
            _, images = read(folder / "reconstruction" / system)
            assert images.shape == (n, 64, 64, 3)
            assert images.std() > 5


def test_decoding_accuracy_stands_beside_its_floor(whole_run):
    for subject in ("subj01", "subj02"):
        decoded = whole_run / "runs" / "smallest" / subject / "decoded"
        table = pd.read_csv(decoded / "accuracy.csv")
        spread = ["deviation", "error", "restored_deviation", "restored_error"]
        assert list(table) == ["target", "roi", "measure", "r", "floor", "n", *spread]
        joined = table[(table["roi"] == "all") & (table["measure"] == "unit")]
        assert len(joined) == 8
        assert joined[spread].notna().all(axis=None)
        targets = table[table["target"] != "voxels"]
        assert targets["floor"].notna().all()
        assert (targets.groupby(["target", "measure"])["roi"].count() == 12).all()  # jointly, and by ROI


def test_search_reports_the_whole_grid_for_every_target(whole_run):
    table = pd.read_csv(whole_run / "runs" / "smallest" / "subj01" / "decoders" / "search.csv")
    assert set(table["target"]) == {"semantic", "detail", *(f"linear_{k:02d}" for k in range(2, 13, 2))}
    assert len(table) == 8 * 3 * 2 * 2  # targets, numbers of voxels, penalties, measures


def test_weight_maps_lie_on_the_rois(whole_run):
    for subject in ("subj01", "subj02"):
        folder = whole_run / "runs" / "smallest" / subject
        with open_arrays(folder / "prepared.h5", "", subject) as prepared:
            index, shape, affine = (prepared[name][:] for name in ("voxel_index", "volume_shape", "affine"))
        for family in ("semantic", "detail", "structural", *(f"linear_{k:02d}" for k in range(2, 13, 2))):
            for measure in ("weights", "patterns"):
                image = nib.load(folder / "maps" / f"{family}_{measure}.nii.gz")
                values = np.asarray(image.dataobj)
                assert values.shape == tuple(shape)
                np.testing.assert_allclose(image.affine, affine, atol=1e-4)
                np.testing.assert_array_equal(np.flatnonzero(np.isfinite(values)), np.sort(index))
                assert np.nanmin(values) >= 0
                assert 0 < np.nanmax(values) <= 1
        assert (folder / "maps" / "maps.png").stat().st_size > 10_000


def test_test_scaling_as_released_is_flagged_loudly(whole_run, tmp_path):
    config = copy_until(whole_run, tmp_path, "feature_decoding/23_detail.py")
    done = run("feature_decoding/23_detail.py", config, "--set", "experiment.decoding.test_scaling=test")
    assert done.returncode == 0, done.stderr
    assert "WARNING" in done.stdout + done.stderr
    assert "depends on which others" in done.stdout + done.stderr


def test_stage_2_starts_from_stage_1(whole_run):
    for subject in ("subj01", "subj02"):
        folder = whole_run / "runs" / "smallest" / subject / "reconstruction" / "minddiffuser"
        for trajectory in (folder / "stage2" / "trajectory").glob("*/0000.png"):
            first = np.asarray(Image.open(trajectory)).astype(int)
            stage1 = np.asarray(Image.open(folder / "stage1" / f"{trajectory.parent.name}.png"))
            assert np.abs(first - stage1).max() <= 1  # one step of rounding: gradients take another code path


def test_tables_have_the_promised_columns(whole_run):
    folder = whole_run / "runs" / "smallest" / "evaluation"
    summary, paired, spread = (pd.read_csv(folder / f"{name}.csv") for name in ("summary", "paired", "spread"))
    assert list(summary) == ["subject", "system", "metric", "mean", "ci_low", "ci_high", "n", "incomplete"]
    assert list(paired) == [
        "subject",
        "system",
        "baseline",
        "metric",
        "difference",
        "ci_low",
        "ci_high",
        "p",
        "p_holm",
        "n",
    ]
    assert list(spread) == ["subject", "system", "metric", "mean", "sd", "n_seeds"]
    pictures = {*SYSTEMS, "bottleneck/0", "bottleneck/2", "seed/1"}
    features = {"features/c", "features/z", "features/z_clip"}
    splits = {f"features/{target}@{split}" for target in "cz" for split in ("naive_split", "held_out_clusters")}
    assert set(summary["system"]) == pictures | features | splits
    assert set(summary["subject"]) == {"subj01", "subj02", "all"}
    assert (summary["ci_low"] <= summary["mean"] + 1e-6).all()
    assert (summary["mean"] <= summary["ci_high"] + 1e-6).all()
    assert paired["p"].between(1 / 101, 1).all()
    assert (paired["p_holm"] >= paired["p"] - 1e-6).all()
    record = json.loads((folder / "scores.json").read_text())
    found = set(summary["metric"]) | set(record["absent"])
    assert {name.removesuffix("_stand_in") for name in found} == set(METRICS)
    assert (folder / "index.html").stat().st_size > 10_000


def test_controls_without_the_brain_are_what_they_are_called(whole_run):
    folder = whole_run / "runs" / "smallest" / "subj01" / "reconstruction"
    (_, grey), (_, mean) = read(folder / "control/grey"), read(folder / "control/mean_image")
    assert (grey == 128).all()
    assert (mean == mean[0]).all()
    assert mean.std() > 1
    ids, drawn = read(folder / "control/random_training")
    _, nearest = read(folder / "control/nearest_training")
    with open_arrays(folder.parent / "prepared.h5", "", "subj01") as prepared:
        train_ids = prepared["stimulus_id"][:][~prepared["is_test"][:]]
    training = {image.tobytes() for image in Stimuli(whole_run / "nsd").read(train_ids)}
    assert len(ids) == len(drawn)
    assert all(image.tobytes() in training for image in (*drawn, *nearest))
    _, alone = read(folder / "bottleneck/0")  # the generator alone: the same targets, other noise
    assert len({image.tobytes() for image in alone}) == len(alone)
    first, other = (read(folder / name)[1] for name in ("minddiffuser/stage1", "seed/1"))
    assert (first != other).any()


def test_halves_of_trials_are_what_repeats(whole_run):
    folder = whole_run / "runs" / "smallest" / "subj01"
    with open_arrays(folder / "prepared.h5", "", "subj01") as prepared:
        betas, halves = prepared["betas"][:], prepared["betas_halves"][:]
        n_repetitions, is_test = prepared["n_repetitions"][:], prepared["is_test"][:]
    assert len(halves) == is_test.sum()
    for image, pair, n in zip(betas[is_test], halves, n_repetitions[is_test], strict=True):
        if n == 1:
            assert np.isnan(pair).all()
        elif n == 2:
            np.testing.assert_allclose(pair.mean(axis=0), image, atol=1e-5)
        else:
            assert np.isfinite(pair).all()


def test_a_second_run_changes_nothing(whole_run, tmp_path):
    shutil.copytree(whole_run, tmp_path, dirs_exist_ok=True)
    config = write_config(tmp_path)
    for script in ("miniature/01_make_miniature.py", "feature_decoding/23_detail.py", "reconstruction/32_stage2.py"):
        assert run(script, config).returncode == 0
    same_contents(whole_run, tmp_path)


@pytest.mark.parametrize(("method", "n_moves"), [("in_sampler", 4), ("before_sampler", 2)])
def test_stage_2_by_a_way_that_costs_less(whole_run, tmp_path, method, n_moves):
    """Four steps are steered, or two iterations descended; the picture is that of the sampler's end."""
    config = copy_until(whole_run, tmp_path, "reconstruction/32_stage2.py")
    settings = [f"experiment.guidance.method={method}", "experiment.decoding.restore_variance=none"]
    done = run("reconstruction/32_stage2.py", config, "--subject", "subj01", *(f"--set={each}" for each in settings))
    assert done.returncode == 0, done.stderr
    made, usual = (
        folder / "runs/smallest/subj01/reconstruction/minddiffuser/stage2" for folder in (tmp_path, whole_run)
    )
    index = pd.read_csv(made / "index.csv")
    assert index["iteration"].tolist() == [n_moves] * 4
    for i, loss in zip(index["stimulus_id"], index["loss"], strict=True):
        curve = pd.read_csv(made / "trajectory" / f"{i:05d}.csv")["loss"]
        assert len(curve) == n_moves + 1
        assert curve.iloc[-1] == pytest.approx(loss, rel=1e-5)
        assert len(list((made / "trajectory" / f"{i:05d}").glob("*.png"))) == n_moves
        assert (made / f"{i:05d}.png").read_bytes() != (usual / f"{i:05d}.png").read_bytes()
    assert not (made / "state").exists()


OUTPUT = {
    "miniature/01_make_miniature.py": ["nsd"],
    "data/02_prepare_subject.py": [f"runs/smallest/{s}/prepared.h5" for s in ("subj01", "subj02")],
    "feature_decoding/23_detail.py": [f"runs/smallest/{s}/decoded/detail.h5" for s in ("subj01", "subj02")],
    "reconstruction/32_stage2.py": [
        f"runs/smallest/{s}/reconstruction/minddiffuser/stage2" for s in ("subj01", "subj02")
    ],
    "baselines/ozcelik/37_decode_ozcelik.py": [f"runs/smallest/{s}/ozcelik/decoded" for s in ("subj01", "subj02")],
    "miniature/03_make_god.py": ["god", "imagenet"],
    f"{CONCEPTS}/14_bank.py": ["runs/smallest/bank"],
}
SHARDED = {
    **{script: paths for script, paths in OUTPUT.items() if not script.startswith(("miniature/", CONCEPTS))},
    "baselines/takagi/35_decode_takagi.py": [f"runs/smallest/{s}/takagi/decoded" for s in ("subj01", "subj02")],
    "baselines/takagi/36_reconstruct_takagi.py": [f"runs/smallest/{s}/reconstruction" for s in ("subj01", "subj02")],
}
SLOW = (
    "data/02_prepare_subject.py", "baselines/takagi/35_decode_takagi.py", "baselines/takagi/36_reconstruct_takagi.py",
    "baselines/ozcelik/37_decode_ozcelik.py", f"{CONCEPTS}/14_bank.py",
)  # fmt: skip


def but_slow_ones(scripts, slow=SLOW):
    """Scripts for a test that runs each several times; what some of them do others do as well, in the same way."""
    return [pytest.param(script, marks=[pytest.mark.slow] if script in slow else []) for script in scripts]


def same_output(script, a, b):
    for part in {**OUTPUT, **SHARDED}[script]:
        if (a / part).is_dir():
            same_contents(a / part, b / part)
        else:
            assert (a / part).read_bytes() == (b / part).read_bytes()


@pytest.mark.parametrize("script", but_slow_ones(OUTPUT, (*SLOW, "reconstruction/32_stage2.py")))
def test_killed_and_run_again_ends_in_the_same_bytes(whole_run, tmp_path, script):
    config = copy_until(whole_run, tmp_path, script)
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command(script, config), env=ENVIRONMENT, **quiet)
    signs = {
        "reconstruction/32_stage2.py": "[0-9]*.png",
        "miniature/01_make_miniature.py": "*.hdf5",
        "miniature/03_make_god.py": "*.JPEG",
    }
    sign = signs.get(script, "*")
    while process.poll() is None and not {p for p in tmp_path.rglob(sign) if p.is_file()} - before:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was at work, and left something unfinished
    done = run(script, config)
    assert done.returncode == 0, done.stderr
    same_output(script, whole_run, tmp_path)


@pytest.mark.parametrize(
    "script", but_slow_ones(SHARDED, (*SLOW, "reconstruction/32_stage2.py", "feature_decoding/23_detail.py"))
)
def test_shards_end_in_the_same_bytes_as_one_run(whole_run, tmp_path, script):
    config = copy_until(whole_run, tmp_path, script)
    shards = ("1-of-2", "2-of-2") if "ozcelik" in script else ("2-of-2", "1-of-2")  # in any order
    for shard in (*shards, "1-of-1"):  # the last joins
        done = run(script, config, "--shard", shard)
        assert done.returncode == 0, done.stderr
    same_output(script, whole_run, tmp_path)


def test_the_two_ways_of_selecting_units_are_compared(whole_run):
    done = run("benchmarks/compare_unit_selection.py", whole_run / "smallest.yaml", "--subject", "subj01")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(io.StringIO("\n".join(done.stdout.splitlines()[1:])), sep=r"\s{2,}", engine="python")
    assert table["overlap"].between(0, 1).all()
    assert len(table) == 6


def take_in_all_forms(folder, pictures):
    """Take the same pictures in as PNGs in a zip, as an array, and as a tensor in another order; name the systems."""
    ids, images = read(pictures)
    with open_arrays(folder / "runs/smallest/subj01/prepared.h5", "02") as prepared:
        test_ids = prepared["stimulus_id"][:][prepared["is_test"][:]]
    place, order = {i: row for row, i in enumerate(ids.tolist())}, np.random.default_rng(0).permutation(len(ids))
    shutil.make_archive(str(folder / "zip"), "zip", pictures.parent, pictures.name)
    np.save(folder / "npy.npy", images[[place[i] for i in test_ids]])
    torch.save(torch.from_numpy(images[order]).permute(0, 3, 1, 2).float() / 255, folder / "pt.pt")
    (folder / "ids.txt").write_text("\n".join(map(str, ids[order])))
    for name, ids_file in (("zip.zip", None), ("npy.npy", None), ("pt.pt", folder / "ids.txt")):
        others = folder / "runs/smallest/subj01/reconstruction/others"
        foreign_files.adopt(folder / name, ids_file, others / name.split(".")[0], "subj01", test_ids)
    return "zip", "npy", "pt"


def test_somebody_elses_pictures_are_scored_beside_ours(whole_run, tmp_path):
    """Stage 1's own pictures under another name have stage 1's scores."""
    shutil.copytree(whole_run, tmp_path, dirs_exist_ok=True)
    config = write_config(tmp_path)
    stage1 = tmp_path / "runs/smallest/subj01/reconstruction/minddiffuser/stage1"
    options = ["--images", str(stage1), "--system", "twin", "--flag", "samples picked"]
    others = take_in_all_forms(tmp_path, stage1)
    done = run("evaluation/41_score.py", config, "--subject", "subj01", *options)
    assert done.returncode == 0, done.stderr
    scores = pd.read_csv(tmp_path / "runs/smallest/evaluation/scores.csv", dtype={"subject": str})
    of_ours = scores["metric"].isin(["loss_stage1", "loss_truth", "truth_is_lower"])  # of the method's own pictures
    assert of_ours.any()
    scores = scores[~of_ours]
    ours, twins = (
        scores[(scores["subject"] == "subj01") & (scores["system"] == system)].reset_index(drop=True)
        for system in ("minddiffuser/stage1", "others/twin")
    )
    for name in others:
        of_other = scores[scores["system"] == f"others/{name}"].reset_index(drop=True)
        pd.testing.assert_frame_equal(of_other.drop(columns="system"), twins.drop(columns="system"), check_exact=True)
    pd.testing.assert_frame_equal(ours.drop(columns="system"), twins.drop(columns="system"))
    assert run_here("evaluation/43_report.py", config).returncode == 0
    assert "others/twin" in (tmp_path / "runs/smallest/evaluation/index.html").read_text()
    flagged = tmp_path / "runs/smallest/subj01/reconstruction/others/twin/settings.json"
    assert json.loads(flagged.read_text())["flags"] == ["samples picked"]
    for options in (["--system", "twin"], ["--subject", "subj01"], ["--subject", "subj01", "--system", "a/b"]):
        done = run_here("evaluation/41_score.py", config, "--images", str(stage1), *options)
        assert done.returncode == 1
        assert "--images needs --s" in done.stderr


@pytest.mark.slow
def test_a_folder_that_changed_is_scored_again_whichever_subject_comes_first(whole_run, tmp_path):
    shutil.copytree(whole_run, tmp_path, dirs_exist_ok=True)
    config = write_config(tmp_path)
    changed = tmp_path / "runs/smallest/subj02/reconstruction/minddiffuser/stage1/settings.json"
    changed.write_text(json.dumps({**json.loads(changed.read_text()), "fingerprint": "another"}))
    for options in (["--subject", "subj01"], []):
        done = run("evaluation/41_score.py", config, *options)
        assert done.returncode == 0, done.stderr
    scores = "runs/smallest/evaluation/scores.csv"
    assert (tmp_path / scores).read_bytes() == (whole_run / scores).read_bytes()
