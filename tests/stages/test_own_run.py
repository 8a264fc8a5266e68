"""The worked example of docs/own_data.md, with small models: from arrays and a folder to reconstructions and scores."""

import re
import subprocess

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from smallest import REPOSITORY, run_here

from data import own
from miniature.nsd import draw_pictures
from reconstruction.folder import read

N_IMAGES, N_TEST, N_VOXELS = 40, 6, 100


def blocks(language):
    """Blocks of code of the page."""
    text = (REPOSITORY / "docs/own_data.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def merged(first, second):
    both = {
        key: merged(first[key], second[key]) for key in first.keys() & second.keys() if isinstance(first[key], dict)
    }
    return {**first, **second, **both}


def score_the_stimuli(folder):
    """Before anything is made of the rows, somebody else's pictures can be scored: here the stimuli themselves."""
    ids = np.sort(np.flatnonzero(np.load("is_test.npy")))
    np.save("seen.npy", np.stack([np.asarray(Image.open(f"pictures/{i}.png")) for i in ids]) / 255)
    done = run_here("evaluation/41_score.py", folder / "own.yaml", "--images", "seen.npy", "--system", "seen")
    assert done.returncode == 0, done.stderr
    assert "were read as in [0, 1]" in done.stdout
    scores = pd.read_csv(folder / "runs/own/evaluation/scores.csv").query("system == 'others/seen'")
    assert scores.query("metric == 'pixcorr'")["value"].tolist() == [1] * N_TEST


def test_the_worked_example_runs_from_arrays_to_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (settings,), (example,) = blocks("yaml"), blocks("python")
    assert len([line for line in example.splitlines() if line]) <= 30
    with (REPOSITORY / "configs/miniature.yaml").open() as file:
        small = yaml.safe_load(file)["experiment"]
    small = {key: small[key] for key in ("models", "detail", "sampler", "evaluation")}
    small |= {"decoding": {"n_voxels_semantic": 30, "n_voxels_detail": 30, "alpha": 100}}
    small["evaluation"] |= {"n_bootstrap": 100, "n_flips": 100}
    execution = {"nsd": str(tmp_path / "own"), "runs": str(tmp_path / "runs"), "device": "cpu", "batch_size": 8}
    config = merged(yaml.safe_load(settings), {"experiment": small, "execution": execution})
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))

    made, rng = draw_pictures(N_IMAGES, seed=5), np.random.default_rng(5)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(made.images):
        Image.fromarray(image).save(tmp_path / f"pictures/{i}.png")
    captions = [(i, text) for i, texts in enumerate(made.texts) for text in texts]
    pd.DataFrame(captions, columns=["stimulus_id", "caption"]).to_csv("pictures/captions.csv", index=False)
    pixels = made.images[:, ::8, ::8].reshape(N_IMAGES, -1) / 255.0  # a brain that sees colours of places
    is_test = np.zeros(N_IMAGES, bool)
    is_test[rng.permutation(N_IMAGES)[:N_TEST]] = True
    np.save("betas.npy", pixels @ rng.normal(size=(pixels.shape[1], N_VOXELS)) / 9)
    np.save("stimulus_id.npy", np.arange(N_IMAGES))
    np.save("is_test.npy", is_test)

    def run(line, check):
        assert check
        if line[1:3] == ["-m", "data.own"]:
            own.main(line[3:])
            if "--take" in line:
                score_the_stimuli(tmp_path)
        else:
            done = run_here(line[1], tmp_path / "own.yaml")
            assert done.returncode == 0, f"{line}:\n{done.stdout}\n{done.stderr}"

    monkeypatch.setattr(subprocess, "run", run)
    exec(compile(example, "docs/own_data.md", "exec"), {})
    assert "34 training and 6 test images, 100 voxels; nothing is wrong" in capsys.readouterr().out
    done = run_here("doctor/__main__.py", tmp_path / "own.yaml", "--scripts", "feature_decoding/23_detail.py")
    assert "p01 rows: 34 training and 6 test images, 100 voxels" in done.stdout
    assert done.returncode == 0, done.stdout
    done = run_here("feature_decoding/27_weight_maps.py", tmp_path / "own.yaml", "--fs-lr", "hcp")
    assert done.stderr == "error: --fs-lr: there are no transforms to the surface for these data\n"
    ids, images = read(tmp_path / "runs/own/p01/reconstruction/minddiffuser/stage1")
    assert sorted(ids) == np.flatnonzero(is_test).tolist()
    assert images.shape == (N_TEST, 64, 64, 3)
    scores = pd.read_csv(tmp_path / "runs/own/evaluation/scores.csv")
    pixcorr = scores.query("system == 'minddiffuser/stage1' and metric == 'pixcorr'")
    assert sorted(pixcorr["stimulus_id"]) == sorted(ids)
    assert pixcorr["value"].mean() > 0.1
