"""The networks that score films: opened only where all weights come from files."""

import json
import sys
import types
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from damages import CPU, DAMAGES, refused
from safetensors.torch import load_file, save_file
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, ViTConfig, ViTForImageClassification

from minddiffuser.pretrained import classifiers
from minddiffuser.pretrained.classifiers import open_image_classifier, open_video_classifier, open_vifi
from minddiffuser.store import DataError

SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    "patch_size": 8, "num_labels": 60,
}  # fmt: skip
PIXELS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size": {"height": 32, "width": 32}}


@pytest.fixture
def vit(tmp_path):
    """A small ViT with random weights, in a folder as on the hub."""
    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig(**SMALL)).save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    return tmp_path / "vit"


@pytest.fixture
def videomae(tmp_path):
    """A small VideoMAE with random weights, trained on 16 frames."""
    torch.manual_seed(0)
    VideoMAEForVideoClassification(VideoMAEConfig(**SMALL, num_frames=16)).save_pretrained(tmp_path / "videomae")
    (tmp_path / "videomae" / "preprocessor_config.json").write_text(json.dumps(PIXELS))
    return tmp_path / "videomae"


def test_a_classifier_gives_what_its_model_gives(vit):
    network = open_image_classifier(str(vit), None, CPU)
    assert (network.size, network.mean, network.std) == (32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = ViTForImageClassification.from_pretrained(vit).eval()(pixels).logits
    torch.testing.assert_close(network.forward(pixels), expected)
    assert expected.shape == (2, 60)


def test_a_video_classifier_takes_eight_frames_as_the_first_of_sixteen(videomae):
    """Its positions are sines, so that the first eight frames of sixteen have those of eight."""
    network = open_video_classifier(str(videomae), None, 8, CPU)
    pixels = torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = VideoMAEForVideoClassification.from_pretrained(videomae).eval()
    positions = model.videomae.embeddings.position_embeddings
    model.videomae.embeddings.position_embeddings = positions[:, : positions.shape[1] // 2]
    with torch.no_grad():
        torch.testing.assert_close(network.forward(pixels), model(pixels).logits)
    with pytest.raises(DataError, match="a multiple of 2, not 7: set"):
        open_video_classifier(str(videomae), None, 7, CPU)


def test_a_classifier_without_all_its_weights_is_refused(vit):
    path = vit / "model.safetensors"
    state = load_file(path)
    state.pop("classifier.weight")
    save_file(state, path, metadata={"format": "pt"})
    with refused(path, "missing", "classifier.weight"):
        open_image_classifier(str(vit), None, CPU)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_classifier_is_named(vit, file, damage):
    whole = (vit / file).read_bytes()
    (vit / file).unlink()
    if (content := DAMAGES[damage](whole)) is not None:
        (vit / file).write_bytes(content)
    with refused(vit / file):
        open_image_classifier(str(vit), None, CPU)


def test_a_folder_of_another_network_is_refused(vit, videomae):
    with refused(videomae):
        open_image_classifier(str(videomae), None, CPU)
    with refused(vit):
        open_video_classifier(str(vit), None, 8, CPU)


def test_a_classifier_that_is_not_downloaded_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with refused("google/vit-base-patch16-224", "python data/00_get_models.py"):
        open_image_classifier("google/vit-base-patch16-224", "3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3", CPU)


# ViFi-CLIP


@pytest.fixture
def encoder(monkeypatch, tmp_path):
    """A small encoder of frames, in place of ViT-B/16."""
    layout = {
        "embed_dim": 12, "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1},
    }  # fmt: skip
    (tmp_path / "small-vifi.json").write_text(json.dumps(layout))
    open_clip.add_model_config(tmp_path / "small-vifi.json")
    monkeypatch.setattr(classifiers, "VIFI_ARCHITECTURE", "small-vifi")
    torch.manual_seed(0)
    return open_clip.create_model("small-vifi").visual.eval()


def checkpoint(encoder, prefix="module."):
    """What the authors' training saves."""
    library = types.ModuleType("yacs.config")

    class CfgNode(dict):
        pass

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    vars(library)["CfgNode"] = CfgNode
    sys.modules["yacs"], sys.modules["yacs.config"] = types.ModuleType("yacs"), library
    settings = CfgNode(MODEL=CfgNode(ARCH="ViT-B/16"))
    settings.__dict__["__immutable__"] = True
    weights = {f"{prefix}image_encoder.{key}": value for key, value in encoder.state_dict().items()}
    spare = {f"{prefix}logit_scale": torch.ones(()), f"{prefix}text_encoder.ln_final.weight": torch.ones(16)}
    return {
        "model": {**weights, **spare}, "optimizer": {"state": {}}, "max_accuracy": np.float64(0.7), "epoch": 9,
        "config": settings,
    }  # fmt: skip


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_vifi_is_opened_without_the_library_of_its_settings(tmp_path, encoder, prefix):
    torch.save(checkpoint(encoder, prefix), tmp_path / "vifi.pth")
    sys.modules.pop("yacs.config")
    network = open_vifi(tmp_path / "vifi.pth", CPU)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.forward(pixels), encoder(pixels))
    assert (network.size, network.mean) == (32, (0.485, 0.456, 0.406))


def test_vifi_without_all_its_weights_is_refused(tmp_path, encoder):
    whole = checkpoint(encoder)
    whole["model"].pop("module.image_encoder.proj")
    torch.save(whole, tmp_path / "vifi.pth")
    with refused(tmp_path / "vifi.pth", "missing", "proj"):
        open_vifi(tmp_path / "vifi.pth", CPU)
    torch.save({"model": {}}, tmp_path / "vifi.pth")
    with refused(tmp_path / "vifi.pth", "missing"):
        open_vifi(tmp_path / "vifi.pth", CPU)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_vifi_is_named(tmp_path, encoder, damage):
    torch.save(checkpoint(encoder), tmp_path / "vifi.pth")
    content = DAMAGES[damage]((tmp_path / "vifi.pth").read_bytes())
    (tmp_path / "vifi.pth").unlink()
    if content is not None:
        (tmp_path / "vifi.pth").write_bytes(content)
    with refused(tmp_path / "vifi.pth"):
        open_vifi(tmp_path / "vifi.pth", CPU)


def test_a_checkpoint_with_code_is_not_run(tmp_path, encoder):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({**checkpoint(encoder), "more": Evil()}, tmp_path / "vifi.pth")
    with refused(tmp_path / "vifi.pth"):
        open_vifi(tmp_path / "vifi.pth", CPU)
