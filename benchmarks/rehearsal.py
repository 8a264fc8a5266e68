"""Rehearse every script that uses a GPU on a machine that has none.

    python benchmarks/rehearsal.py                                      # all, about two minutes
    python benchmarks/rehearsal.py --only reconstruction/32,takagi/36   # these alone

Each script runs as it is, with `--device cuda`, on tensors that have a device and a shape, and no numbers
(benchmarks/pretended_gpu.py). What it reads are a few simulated images and clips; models, c, and pictures of 512 pixels
have the sizes of Stable Diffusion v1-4, CLIP ViT-B/32, ResNet-50 and IC-GAN at 256 pixels, and the networks of
Mind-Animator those of its paper. A tensor that was left on the CPU ends the script with an error, and so does one that
is taken to NumPy from the GPU, and a script that computes nothing on the GPU. Not rehearsed: a backward pass, which
runs where its forward pass did; the opening of models; baselines/mind_animator/25 and evaluation/44, whose results must
be numbers that mean something; and how long anything takes.
"""

import argparse
import contextlib
import io
import json
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.pretended_gpu import pretended
from minddiffuser import cli
from minddiffuser.cli import Run, key_of
from minddiffuser.config import REPOSITORY, load
from reconstruction.folder import SETTINGS

CONFIG = "rehearsal.yaml"
_CONCEPTS, _FILMS = "baselines/semantic_brain_decoding", "baselines/mind_animator"
# What makes the data, on the CPU; none of it has anything to do on a GPU, and neither has feature_decoding/21.
DATA = (
    "miniature/01_make_miniature.py", "miniature/03_make_god.py", "miniature/04_make_cc2017.py",
    "data/02_prepare_subject.py", "data/05_prepare_films.py",
)  # fmt: skip
ON_CPU = ("feature_decoding/21_select_units.py",)
# Scripts in an order in which each finds what it reads, with arguments of their own.
SCRIPTS: dict[str, tuple[str, ...]] = {
    "feature_extraction/11_semantic.py": (),
    "feature_extraction/12_detail.py": (),
    "feature_extraction/13_structural.py": (),
    f"{_CONCEPTS}/14_bank.py": (),
    "feature_decoding/21_select_units.py": (),
    "feature_decoding/22_semantic.py": (),
    "feature_decoding/23_detail.py": (),
    "feature_decoding/24_structural.py": (),
    "feature_decoding/26_search.py": (),
    "feature_decoding/28_controls.py": (),
    f"{_CONCEPTS}/29_decode_labels.py": (),
    "reconstruction/31_stage1.py": (),
    "evaluation/41_score.py": (),  # here, where there are few systems to score
    "reconstruction/32_stage2.py": (),
    "reconstruction/33_controls.py": ("--only", "ceiling"),
    "reconstruction/34_ablations.py": (),
    "baselines/takagi/35_decode_takagi.py": (),
    "baselines/takagi/36_reconstruct_takagi.py": (),
    "baselines/ozcelik/37_decode_ozcelik.py": (),
    "baselines/ozcelik/38_reconstruct_ozcelik.py": (),
    f"{_CONCEPTS}/39_generate.py": (),
    "evaluation/40_score_concepts.py": (),
    f"{_FILMS}/11_features.py": (),
    f"{_FILMS}/21_semantic.py": (),
    f"{_FILMS}/22_structure.py": (),
    f"{_FILMS}/23_motion.py": (),
    f"{_FILMS}/31_reconstruct.py": (),
    f"{_FILMS}/32_controls.py": ("--only", "true_latents"),
}


def main() -> None:
    """Rehearse the scripts, and say how each went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="SCRIPTS", help="folders and numbers, such as reconstruction/32,takagi/36")
    args = parser.parse_args()
    keys = {key_of(REPOSITORY / script): script for script in SCRIPTS}
    wanted = args.only.split(",") if args.only else list(keys)
    if unknown := sorted(set(wanted) - set(keys)):
        parser.error(f"no such scripts: {', '.join(unknown)}; there are {', '.join(keys)}")
    last, failed = max(list(keys).index(key) for key in wanted), []
    with tempfile.TemporaryDirectory() as folder:
        config = prepare(Path(folder))
        for key in list(keys)[: last + 1]:  # those before make what the others read
            began = time.process_time()
            try:
                rehearse(keys[key], config)
                how = "ok"
            except Exception as error:
                failed.append(key)
                how = f"{type(error).__name__}: {error}"
            print(f"{key:<32}{time.process_time() - began:6.1f} s of the CPU  {how}", flush=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def write_config(folder: Path) -> Path:
    """Write the configuration: few simulated images and clips, and the real sizes of pictures, c and networks."""
    few = {"n_steps": 4, "noise_index": 2, "denoise_steps": 1}
    experiment: dict[str, Any] = {
        "subjects": ["subj01"],
        "miniature": {"n_shared": 4, "n_own": 12, "sessions": 3, "roi_scale": 0.01},
        "data": {"sessions": 2},
        "models": {
            "stable_diffusion": "miniature/weights/stable-diffusion",
            "clip": "local-dir:miniature/weights/clip",
            "clip_weights": None,
            "scoring_clip": "local-dir:miniature/weights/scoring_clip",
            "scoring_clip_weights": None,
        },
        "units": {"n_folds": 2},
        "decoding": {
            "n_voxels_semantic": 5,
            "n_voxels_detail": 5,
            "n_voxels_structural": [5] * 5 + [100_000],
            "restore_variance": "train",
            "restore_folds": 2,
        },
        "search": {"n_voxels": [5], "alphas": [1.0], "n_folds": 2, "n_units": 10},
        "sampler": {**few, "precision": "float16"},
        "guidance": {"n_iterations": 1, "n_images": 2},
        "restored": {"guidance": {"n_iterations": 1, "n_images": 2}},
        "controls": {"ranks": [0], "n_seeds": 1, "n_clusters": 2, "n_folds": 2, "n_units": 10, "n_ablated": 2},
        "evaluation": {"networks": "scoring_clip", "n_bootstrap": 100, "n_flips": 100},
        "takagi": {"forms": ["corrected", "minddiffuser"], "alphas": [1.0], "n_voxels_semantic": 5,
                   "n_voxels_detail": 5, "n_samples": 1, "sampler": few},
        "ozcelik": {"generator": "miniature/weights/icgan", "instance_encoder": "miniature/weights/instance_encoder",
                    "n_voxels": 5, "inversion_steps": 1},
        "miniature_god": {"n_training": 2, "n_test": 1, "n_repetitions": 1, "n_imagery": 0, "n_bank": 1,
                          "roi_scale": 0.01},
        "semantic_brain_decoding": {"subjects": ["Subject1"], "forms": ["corrected"], "network": "scoring_clip",
                                    "bank_per_class": 3, "n_labels": 2, "n_pictures": 1, "n_steps": 2},
        "miniature_cc2017": {"n_segments": 2, "clips": 8, "n_tests": 1, "test_clips": 8, "mean_shot": 2,
                             "test_repetitions": 1, "vertex_share": 0.03, "n_silent": 10, "direction": [True]},
        "mind_animator": {"subjects": ["Subject01"], "voxels": {"n": 30}, "n_validation": 2, "batch_size": 4,
                          "clips": {"frame_step": 1}, "forms": ["corrected"], "sampled": ["corrected"],
                          "semantic": {"n_variations": 1, "epochs": 1, "eda": "none"}, "structure": {"epochs": 1},
                          "motion": {"epochs": 1}, "video": {"n_steps": 2},
                          "metrics": {"networks": "scoring_clip"}},
    }  # fmt: skip
    places = {name: str(folder / name) for name in ("nsd", "god", "imagenet", "cc2017", "runs")}
    places["wordnet"] = "miniature/wordnet"
    path = folder / CONFIG
    config = {"name": "rehearsal", "experiment": experiment, "execution": {**places, "batch_size": 64}}
    path.write_text(yaml.safe_dump(config))
    return path


def prepare(folder: Path) -> Path:
    """Simulate the data that the scripts read, by the real scripts: give the configuration."""
    config = write_config(folder)
    with quietly():
        for script in DATA:
            loaded(REPOSITORY / script)["main"](["--config", str(config)])
    return config


def rehearse(script: str, config: Path, source: str | None = None) -> None:
    """Run a script on a GPU that is not there.

    Parameters
    ----------
    script : str
        Of `SCRIPTS`.
    config : Path
        From `prepare`; what scripts before this one make is there.
    source : str, optional
        To be run in its place.

    Raises
    ------
    RuntimeError
        Two devices met, or nothing was computed on the GPU; and whatever else the script raises.
    """
    space = loaded(REPOSITORY / script, source)
    forget(script, config)
    before, latest = Run.device, cli._latest
    Run.device = torch.device("cuda")  # type: ignore[assignment]
    try:
        with quietly(), pretended(space) as answers:
            space["main"](["--config", str(config), "--overwrite", *SCRIPTS[script]])
    finally:
        Run.device, cli._latest = before, latest  # type: ignore[assignment]
    if answers.used_gpu == (script in ON_CPU):
        raise RuntimeError(f"{script} computed {'something' if answers.used_gpu else 'nothing'} on the GPU")


def forget(script: str, config: Path) -> None:
    """Delete what a script made, which it would not make again."""
    for record in list(load(config).folder().rglob("*.json")):
        if not record.is_file() or json.loads(record.read_text()).get("made_by") != script:
            continue
        if record.name == SETTINGS:
            shutil.rmtree(record.parent)
        else:
            record.with_suffix(".h5").unlink(missing_ok=True)


def loaded(script: Path, source: str | None = None) -> dict[str, Any]:
    """Give the names of a script, which is read and not yet run."""
    text = script.read_text(encoding="utf-8") if source is None else source
    space: dict[str, Any] = {"__name__": f"rehearsed_{script.stem}", "__file__": str(script)}
    exec(compile(text, str(script), "exec"), space)
    return space


@contextlib.contextmanager
def quietly() -> Any:
    """Print nothing of what a script says, or of what NumPy says to numbers that mean nothing."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


if __name__ == "__main__":
    main()
