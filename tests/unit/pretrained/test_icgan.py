"""What IC-GAN is opened from: the instance encoder with the settings of its pixels, and the generator."""

import json

import pytest
import torch
from damages import CPU, WEIGHTS, refused, replace
from safetensors.torch import load_file, save_file

from baselines.ozcelik.generator import open_generator
from minddiffuser.pretrained.icgan import open_instance_encoder


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": 224}, 224),
        ({"size": {"shortest_edge": 224}}, 224),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, 224),  # ConvNext's: to 256, cropped to 224
        ({"size": {"height": 32, "width": 32}}, 32),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, 224),
        ({"size": 256, "crop_size": 224, "do_center_crop": True}, 224),
        ({"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": False}, 256),
        ({"size": 224, "do_center_crop": True}, 224),
    ],
)
def test_the_size_of_the_hubs_image_processors_is_read(copy, settings, expected):
    path = copy("instance_encoder") / "preprocessor_config.json"
    whole = json.loads(path.read_text())
    replace(path, {**{key: whole[key] for key in ("image_mean", "image_std")}, **settings})
    opened = open_instance_encoder(str(path.parent), None, CPU)
    assert opened.size == expected
    assert opened.forward(torch.zeros(1, 3, opened.size, opened.size)).shape == (1, 128)


WRONG_SETTINGS = {
    "no square": {"size": {"height": 32, "width": 48}},
    "longest edge": {"size": {"longest_edge": 224}},
    "text": {"size": "224"},
    "truth": {"size": True},
    "none": {"size": None},
    "zero": {"size": 0},
    "list": {"size": [224, 224]},
    "crop is no square": {"size": 256, "crop_size": {"height": 224}},
    "mean of one": {"image_mean": 0.5},
    "mean of two": {"image_mean": [0.5, 0.5]},
    "mean of text": {"image_mean": ["a", "b", "c"]},
    "deviation of zero": {"image_std": [0, 0.5, 0.5]},
    "no deviation": {"image_std": None},
    "not normalised": {"do_normalize": False},
    "scaled otherwise": {"rescale_factor": 0.5},
}


@pytest.mark.parametrize("case", WRONG_SETTINGS)
def test_settings_of_an_image_processor_that_are_unknown_are_refused(copy, case):
    path = copy("instance_encoder") / "preprocessor_config.json"
    replace(path, {**json.loads(path.read_text()), **WRONG_SETTINGS[case]})
    with refused(path):
        open_instance_encoder(str(path.parent), None, CPU)


@pytest.mark.parametrize("key", ["image_mean", "image_std", "size"])
def test_settings_that_an_image_processor_lacks_are_named(copy, key):
    path = copy("instance_encoder") / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    del settings[key]
    replace(path, settings)
    with refused(path, key):
        open_instance_encoder(str(path.parent), None, CPU)


def test_of_a_resnet_that_names_classes_the_classifier_is_left_out(copy):
    """The hub's ResNets have it; older files also have no counters of batches."""
    path = copy("instance_encoder") / "model.safetensors"
    state = load_file(path)
    weights = {f"resnet.{name}": tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(weights) < len(state)
    path.unlink()
    save_file({**weights, "classifier.1.weight": torch.ones(2, 128), "classifier.1.bias": torch.ones(2)}, path)
    opened = open_instance_encoder(str(path.parent), None, CPU)
    whole = open_instance_encoder(str(WEIGHTS / "instance_encoder"), None, CPU)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened.forward(x), whole.forward(x))


def test_an_encoder_of_another_network_is_refused(tmp_path):
    with refused("alexnet", "neither swav_resnet50 nor"):
        open_instance_encoder("alexnet", tmp_path, CPU)


def test_shapes_that_no_generator_has_are_refused(copy):
    path = copy("icgan") / "generator.safetensors"
    whole = load_file(path)
    path.unlink()
    for name in ("linear.weight", "blocks.0.0.conv1.weight", "shared_feat.weight", "shared.weight"):
        save_file({**whole, name: torch.ones(3)}, path)
        with refused(path, "not the state of an IC-GAN generator"):
            open_generator(str(path.parent), CPU)
