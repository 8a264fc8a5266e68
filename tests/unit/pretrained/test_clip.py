"""CLIP: names, activations, and what stands in its folder."""

import json

import open_clip
import pytest
import torch
from damages import CPU, POINTER, WEIGHTS, refused, replace
from safetensors.torch import load_file, save_file

from minddiffuser.config.method import Models
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.pretrained.downloading import download
from minddiffuser.store import DataError


def open_clip_of(folder):
    return open_clip_model(f"local-dir:{folder}", None, CPU)


@pytest.mark.parametrize("name", ["clip", "scoring_clip"])
@pytest.mark.parametrize("key", ["positional_embedding", "visual.positional_embedding"])
def test_positions_of_another_number_are_not_interpolated(copy, name, key):
    path = copy(name) / "open_clip_model.safetensors"
    state = load_file(path)
    if key not in state:
        key = "visual.attnpool.positional_embedding"
    state[key] = torch.cat([state[key], state[key][1:]])
    path.unlink()
    save_file(state, path)
    with refused(path, "of another shape", key):
        open_clip_of(path.parent)


@pytest.mark.parametrize("key", ["clip", "scoring_clip"])
def test_a_clip_without_weights_is_refused(key):
    models = Models(**{key: "ViT-B-32-quickgelu", f"{key}_weights": None})
    name, weights = getattr(models, key), getattr(models, f"{key}_weights")
    with refused("ViT-B-32-quickgelu", "would be random", "clip_weights"):
        open_clip_model(name, weights, CPU)
    with refused("ViT-B-32-quickgelu", "would be random"):
        list(download(models.model_copy(update={"stable_diffusion": str(WEIGHTS)})))


def test_a_name_that_is_no_clips_or_has_weights_twice_is_refused():
    with refused("hf-hub:somebody/clip", "neither an architecture"):
        open_clip_model("hf-hub:somebody/clip", None, CPU)
    with refused(WEIGHTS / "clip", "weights of its own"):
        open_clip_model(f"local-dir:{WEIGHTS / 'clip'}", "openai", CPU)


@pytest.mark.parametrize(
    ("name", "tag", "needed"),
    [
        ("ViT-B-32", "openai", "ViT-B-32-quickgelu"),
        ("RN50", "openai", "RN50-quickgelu"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "ViT-B-32"),
    ],
)
def test_weights_of_another_activation_are_refused(monkeypatch, name, tag, needed):
    known = open_clip.get_pretrained_cfg(name.removesuffix("-quickgelu"), tag)
    monkeypatch.setattr("open_clip.get_pretrained_cfg", lambda *_: known)
    with pytest.raises(DataError, match=f"use the architecture {needed}, not {name}$"):
        open_clip_model(name, tag, CPU)


def test_clip_weights_that_are_not_downloaded_are_named_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with refused("ViT-B-32-quickgelu", "data/00_get_models.py"):
        open_clip_model("ViT-B-32-quickgelu", "openai", CPU)


@pytest.mark.parametrize("content", [b"", POINTER, b"<html></html>"])
def test_a_weight_file_that_is_named_and_broken_is_named(tmp_path, content):
    file = tmp_path / "clip.pt"
    file.write_bytes(content)
    with refused(file):
        open_clip_model("ViT-B-32-quickgelu", str(file), CPU)


@pytest.mark.parametrize(
    "normalisation", [None, {}, {"mean": [0.5], "std": [0.5]}, {"mean": [0.5] * 3, "std": [0.5, 0, 0.5]}, [1]]
)
def test_a_clip_whose_pixels_have_no_normalisation_is_refused(copy, normalisation):
    path = copy("clip") / "open_clip_config.json"
    settings = {**json.loads(path.read_text()), "preprocess_cfg": normalisation}
    replace(path, settings if normalisation is not None else {"model_cfg": settings["model_cfg"]})
    with refused(path):
        open_clip_of(path.parent)


@pytest.mark.parametrize("architecture", [{}, [], "ViT-B-32", {"embed_dim": 96}])
def test_a_clip_whose_architecture_is_no_architecture_is_refused(copy, architecture):
    path = copy("clip") / "open_clip_config.json"
    replace(path, {**json.loads(path.read_text()), "model_cfg": architecture})
    with refused(path):
        open_clip_of(path.parent)
