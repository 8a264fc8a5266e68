"""The smallest miniature: its configuration, and how tests run the real scripts on it."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]
# One thread each, so that scripts run side by side; the same everywhere, because the number of threads changes bytes.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
CONCEPTS = "baselines/semantic_brain_decoding"
# Of CC2017, in order: tests/stages/test_films_run.py runs them, on the smallest films.
OF_FILMS = [
    "miniature/04_make_cc2017.py",
    "data/05_prepare_films.py",
    *(f"baselines/mind_animator/{name}.py" for name in (
        "11_features", "21_semantic", "22_structure", "23_motion", "24_retrieval", "25_maps",
        "31_reconstruct", "32_controls",
    )),
    "evaluation/44_score_films.py",
]  # fmt: skip
# All others, in order; the scripts of a group do not need each other.
GROUPS = [
    ["miniature/01_make_miniature.py", "miniature/03_make_god.py"],
    ["data/02_prepare_subject.py", f"{CONCEPTS}/14_bank.py"],
    ["feature_extraction/11_semantic.py", "feature_extraction/12_detail.py", "feature_extraction/13_structural.py"],
    ["feature_decoding/21_select_units.py", "feature_decoding/22_semantic.py", "feature_decoding/23_detail.py"],
    ["feature_decoding/24_structural.py", "feature_decoding/26_search.py", "feature_decoding/28_controls.py"],
    ["feature_decoding/25_accuracy.py", "feature_decoding/27_weight_maps.py", "reconstruction/31_stage1.py"],
    ["reconstruction/32_stage2.py", "reconstruction/33_controls.py", "baselines/takagi/35_decode_takagi.py"],
    ["reconstruction/34_ablations.py", "baselines/ozcelik/37_decode_ozcelik.py", f"{CONCEPTS}/29_decode_labels.py"],
    ["baselines/takagi/36_reconstruct_takagi.py", "baselines/ozcelik/38_reconstruct_ozcelik.py"],
    [f"{CONCEPTS}/39_generate.py"],
    ["evaluation/41_score.py", "evaluation/40_score_concepts.py"],
    ["evaluation/42_compare.py"],
    ["evaluation/43_report.py"],
]


def write_config(folder: Path, **execution: str) -> Path:
    """Configuration of the smallest miniature, with all its files under `folder`."""
    with (REPOSITORY / "configs" / "miniature.yaml").open() as file:
        config = yaml.safe_load(file)
    config["name"] = "smallest"
    config["experiment"].update(
        miniature={"n_shared": 6, "n_own": 24, "sessions": 5, "roi_scale": 0.02},
        data={"sessions": 4},
        units={"keep": 0.1, "n_folds": 2},
        decoding={
            "n_voxels_semantic": 20,
            "n_voxels_detail": 20,
            "n_voxels_structural": [10] * 6,
            "restore_variance": "train",
            "restore_folds": 2,
        },
        search={"n_voxels": [5, 20, 10000], "alphas": [1.0, 1000.0], "n_folds": 2, "n_units": 10},
        sampler={"n_steps": 6, "noise_index": 4, "denoise_steps": 4},
        guidance={"n_iterations": 2, "n_images": 4, "save_every": 1},
        restored={"guidance": {"n_iterations": 2, "n_images": 4, "save_every": 1, "latent_weight": 2}, "stage2": True},
        evaluation={"image_size": 64, "networks": "scoring_clip", "n_bootstrap": 100, "n_flips": 100},
        takagi={
            "alphas": [1.0, 1000.0],
            "n_voxels_semantic": 20,
            "n_voxels_detail": 20,
            "n_samples": 2,
            "sampler": {"n_steps": 6, "noise_index": 3, "denoise_steps": 4},
        },
        ozcelik={**config["experiment"]["ozcelik"], "n_voxels": 20, "inversion_steps": 2},
        miniature_god={
            "n_training": 2,
            "n_test": 1,
            "n_repetitions": 3,
            "n_imagery": 1,
            "n_bank": 3,
            "roi_scale": 0.02,
        },
        semantic_brain_decoding={
            **config["experiment"]["semantic_brain_decoding"],
            "bank_per_class": 3,
            "n_labels": 3,
            "n_pictures": 2,
            "n_steps": 2,
        },
        controls={"ranks": [0, 2], "n_seeds": 1, "n_clusters": 4, "n_folds": 2, "n_units": 10, "n_ablated": 3},
    )
    places = {name: str(folder / name) for name in ("nsd", "god", "imagenet", "runs")}
    places["wordnet"] = config["execution"]["wordnet"]
    config["execution"] = {**places, "batch_size": 2, **execution}
    path = folder / "smallest.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return path


def command(script: str, config: Path, *arguments: str) -> list[str]:
    """Command line of a stage script."""
    return [sys.executable, str(REPOSITORY / script), "--config", str(config), *arguments]


def run(script: str, config: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a stage script to its end."""
    line = command(script, config, *arguments)
    return subprocess.run(line, capture_output=True, text=True, check=False, env=ENVIRONMENT)


def run_here(script: str, config: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a stage script to its end in this process, which has imported already what costs a new one seconds.

    For what a script says; its threads are others than in `run`, and so may be the last bits of its numbers.
    """
    line, before = command(script, config, *arguments)[1:], sys.argv
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        sys.argv = line
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(line[0], run_name="__main__")
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
        if isinstance(stopped.code, str):
            err.write(f"{stopped.code}\n")
    finally:
        sys.argv = before
    return subprocess.CompletedProcess(line, code, out.getvalue(), err.getvalue())
