"""Openers of models: every weight comes from a whole file, and what is not whole is one line that names it."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from torchvision import models as vision
from transformers import CLIPConfig, CLIPImageProcessor

from baselines.ozcelik.generator import open_generator
from feature_extraction.text import embed_captions
from minddiffuser import pretrained
from minddiffuser.config import Models
from minddiffuser.pretrained import MissingModelError
from minddiffuser.store import DataError

CPU = torch.device("cpu")
WEIGHTS = pretrained.REPOSITORY / "miniature" / "weights"


def open_part(opener):
    return lambda folder: opener(str(folder), None, CPU)


def open_clip_of(folder):
    return pretrained.open_clip_model(f"local-dir:{folder}", None, CPU)


OPENERS = {
    "stable-diffusion/scheduler": lambda folder: pretrained.open_scheduler(str(folder), None),
    "stable-diffusion/text_encoder": open_part(pretrained.open_text_encoder),
    "stable-diffusion/tokenizer": open_part(pretrained.open_text_encoder),
    "stable-diffusion/unet": open_part(pretrained.open_unet),
    "stable-diffusion/vae": open_part(pretrained.open_vae),
    "clip": open_clip_of,
    "scoring_clip": open_clip_of,
    "instance_encoder": open_part(pretrained.open_instance_encoder),
    "icgan": lambda folder: open_generator(str(folder), CPU),
}
FILES = sorted(
    str(path.relative_to(WEIGHTS)) for part in OPENERS for path in (WEIGHTS / part).iterdir() if path.is_file()
)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 492265168\n"
DAMAGES = {
    "absent": lambda _: None,
    "empty": lambda _: b"",
    "half": lambda whole: whole[: len(whole) // 2],
    "zeros": lambda whole: bytes(len(whole)),
    "pointer": lambda _: POINTER,
    "HTML": lambda _: b"<!DOCTYPE html><html><body>Please log in</body></html>",
    "JSON": lambda _: b'{"error": "not authorised"}',
}


def weight_of(state):
    """A matrix in the middle of a state."""
    names = [name for name, tensor in state.items() if tensor.ndim > 1]
    return names[len(names) // 2]


def replaced(state, change):
    name = weight_of(state)
    return {**state, name: change(state[name])}


CHANGES = {
    "other names": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    "one name more": lambda state: {**state, "of_another_model.weight": torch.ones(2, 2)},
    "one left out": lambda state: {name: tensor for name, tensor in state.items() if name != weight_of(state)},
    "another shape": lambda state: replaced(state, lambda tensor: tensor[1:].clone()),
    "not a number": lambda state: replaced(state, lambda tensor: tensor * float("nan")),
    "zeros": lambda state: replaced(state, torch.zeros_like),
}


@pytest.fixture
def copy(tmp_path):
    """Make a copy of a model of the miniature, of links to its files."""

    def make(model):
        shutil.copytree(WEIGHTS / model, tmp_path / model, copy_function=lambda a, b: Path(b).symlink_to(a))
        return tmp_path / model

    return make


def replace(path, content):
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


@contextmanager
def refused(file, *said):
    """Expect one line that names the file and says the other words."""
    with pytest.raises(MissingModelError) as error:
        yield error
    message = str(error.value)
    assert "\n" not in message
    for word in (str(file), *said):
        assert word in message


def opener_of(name):
    return OPENERS[str(Path(name).parent)]


def test_every_file_of_the_miniature_is_tried():
    suffixes = {".json", ".safetensors"}
    there = {str(path.relative_to(WEIGHTS)) for path in WEIGHTS.rglob("*") if path.suffix in suffixes}
    assert set(FILES) == there
    assert len(FILES) == 17


@pytest.mark.parametrize("part", OPENERS)
def test_whole_models_open(copy, part):
    model = copy(part.split("/")[0])
    assert OPENERS[part](model) is not None


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_damaged_is_named_in_one_line(copy, name, damage):
    model = copy(name.split("/")[0])
    path = model.parent / name
    replace(path, DAMAGES[damage]((WEIGHTS / name).read_bytes()))
    with refused(path):
        opener_of(name)(model)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".safetensors")])
def test_weights_that_are_not_the_models_are_refused(copy, name, change):
    model = copy(name.split("/")[0])
    path = model.parent / name
    state = CHANGES[change](load_file(path))
    path.unlink()
    save_file(state, path, {"format": "pt"})
    with refused(path):
        opener_of(name)(model)


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


# Stable Diffusion


def test_a_pointer_is_called_so_and_no_licence_is_blamed(copy):
    model = copy("stable-diffusion")
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    replace(path, POINTER)
    with refused(path, "is a Git LFS pointer") as error:
        pretrained.open_unet(str(model), None, CPU)
    assert "licence" not in str(error.value)


def test_a_folder_with_half_precision_only_says_what_is_there(copy):
    model = copy("stable-diffusion")
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with refused(path, "there is no", "diffusion_pytorch_model.fp16.safetensors"):
        pretrained.open_unet(str(model), None, CPU)


@pytest.mark.parametrize("name", ["/no/such/folder", "no/such/folder/here"])
def test_a_path_that_does_not_exist_gets_no_hint_of_a_licence(name):
    with pytest.raises(MissingModelError) as error:
        pretrained.open_vae(name, None, CPU)
    assert name in str(error.value)
    assert "licence" not in str(error.value)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache with the miniature's Stable Diffusion as a snapshot."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--somebody--small"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    shutil.copytree(WEIGHTS / "stable-diffusion", snapshot, copy_function=lambda a, b: Path(b).symlink_to(a))
    return snapshot


@pytest.mark.parametrize("revision", [None, "0" * 40])
def test_the_hubs_cache_opens_to_the_same_and_a_part_that_it_lacks_is_named(hub, revision):
    tokenizer, encoder = pretrained.open_text_encoder("somebody/small", revision, CPU)
    local = pretrained.open_text_encoder(str(WEIGHTS / "stable-diffusion"), None, CPU)
    assert tokenizer("a red car").input_ids == local[0]("a red car").input_ids
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), local[1].parameters(), strict=True))
    shutil.rmtree(hub / "tokenizer")
    with refused("tokenizer/tokenizer_config.json", "somebody/small", "data/00_get_models.py", "hf auth login"):
        pretrained.open_text_encoder("somebody/small", revision, CPU)
    replace(hub / "unet" / "diffusion_pytorch_model.safetensors", b"")
    with refused(hub / "unet" / "diffusion_pytorch_model.safetensors", "is empty", "data/00_get_models.py"):
        pretrained.open_unet("somebody/small", revision, CPU)


def test_a_scheduler_without_its_betas_is_refused(copy):
    path = copy("stable-diffusion") / "scheduler" / "scheduler_config.json"
    settings = json.loads(path.read_text())
    replace(path, {key: value for key, value in settings.items() if key != "beta_end"})
    with refused(path, "beta_end"):
        pretrained.open_scheduler(str(path.parents[1]), None)


def test_a_part_of_another_class_is_refused(copy):
    path = copy("stable-diffusion") / "vae" / "config.json"
    replace(path, {**json.loads(path.read_text()), "_class_name": "VQModel"})
    with refused(path, "VQModel"):
        pretrained.open_vae(str(path.parents[1]), None, CPU)


def test_names_of_older_versions_open_to_the_same(copy):
    """As in the hub's files: positions beside the text encoder's weights, and the autoencoder's attention."""
    model = copy("stable-diffusion")
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    text, vae = (model / name for name in ("text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"))
    states = {text: load_file(text), vae: load_file(vae)}
    renamed = {}
    for name, tensor in states[vae].items():
        for new, old in older.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        renamed[name] = tensor
    assert renamed.keys() != states[vae].keys()
    vae.unlink(), text.unlink()
    save_file(renamed, vae, {"format": "pt"})
    with_positions = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in states[text].items()}
    with_positions["text_model.embeddings.position_ids"] = torch.arange(15)[None]
    save_file(with_positions, text, {"format": "pt"})
    opened = {
        text: pretrained.open_text_encoder(str(model), None, CPU)[1],
        vae: pretrained.open_vae(str(model), None, CPU),
    }
    for path, found in opened.items():
        for name, tensor in found.state_dict().items():
            assert torch.equal(tensor, states[path][name].float()), name


@pytest.mark.parametrize(
    "damage", ["whole", "index is JSON of another kind", "index is cut", "piece absent", "piece cut"]
)
def test_weights_in_pieces_open_whole_or_name_the_piece(copy, damage):
    model = copy("stable-diffusion")
    whole = model / "text_encoder" / "model.safetensors"
    state, index = load_file(whole), whole.with_name("model.safetensors.index.json")
    names = sorted(state)
    pieces = {f"model-0000{k}-of-00002.safetensors": names[k - 1 :: 2] for k in (1, 2)}
    for file, held in pieces.items():
        save_file({name: state[name] for name in held}, whole.with_name(file), {"format": "pt"})
    places = {name: file for file, held in pieces.items() for name in held}
    content = json.dumps({"metadata": {"total_size": 1}, "weight_map": places})
    index.write_text(content)
    whole.unlink()
    piece = whole.with_name("model-00002-of-00002.safetensors")
    if damage == "whole":
        opened = pretrained.open_text_encoder(str(model), None, CPU)[1]
        assert all(torch.equal(tensor, state[name].float()) for name, tensor in opened.state_dict().items())
        return
    broken = index if damage.startswith("index") else piece
    replace(
        broken,
        {
            "index is JSON of another kind": b'{"weight_map": ["not", "a", "map"]}',
            "index is cut": content[:50].encode(),
            "piece absent": None,
            "piece cut": piece.read_bytes()[:500],
        }[damage],
    )
    with refused(broken):
        pretrained.open_text_encoder(str(model), None, CPU)


@pytest.mark.parametrize("part", ["text_encoder", "unet"])
def test_pickled_weights_open_to_the_same_but_with_tensors_only(copy, part):
    model = copy("stable-diffusion")
    path = next((model / part).glob("*.safetensors"))
    pickled = path.with_name({"unet": "diffusion_pytorch_model.bin", "text_encoder": "pytorch_model.bin"}[part])
    state = load_file(path)
    path.unlink()

    def opened():
        if part == "unet":
            return pretrained.open_unet(str(model), None, CPU)
        return pretrained.open_text_encoder(str(model), None, CPU)[1]

    torch.save(state, pickled)
    assert all(torch.equal(tensor, state[name].float()) for name, tensor in opened().state_dict().items())
    torch.save({**state, "other": Other()}, pickled)
    with refused(pickled):
        opened()


@pytest.mark.parametrize("part", OPENERS)
def test_opening_says_nothing(capfd, part):
    OPENERS[part](WEIGHTS / part.split("/")[0])
    assert capfd.readouterr() == ("", "")


# The tokenizer: without its words, all captions would be embedded alike


@pytest.fixture
def original_tokenizer(copy):
    """The miniature's tokenizer in the hub's layout: vocab.json, merges.txt, special_tokens_map.json."""
    model = copy("stable-diffusion")
    folder = model / "tokenizer"
    whole = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    replace(folder / "vocab.json", whole["vocab"])
    lines = ["#version: 0.2", *(" ".join(pair) for pair in whole["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    replace(folder / "special_tokens_map.json", {"eos_token": "<|endoftext|>", "bos_token": "<|startoftext|>"})
    return folder


def test_the_hubs_layout_of_a_tokenizer_embeds_the_same(original_tokenizer):
    captions = ["a red car on a beach", "two green fish in a pond"]
    c, expected = (
        embed_captions(captions, *pretrained.open_text_encoder(str(folder), None, CPU), 15)
        for folder in (original_tokenizer.parent, WEIGHTS / "stable-diffusion")
    )
    assert torch.equal(c, expected)
    assert (c[0] - c[1]).abs().max() > 0.1


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"])
def test_a_file_of_the_hubs_layout_that_is_damaged_is_named(original_tokenizer, name, damage):
    path = original_tokenizer / name
    replace(path, DAMAGES[damage](path.read_bytes()))
    if name == "special_tokens_map.json" and damage in ("absent", "JSON"):  # tokenizer_config.json says the same
        tokenizer = pretrained.open_text_encoder(str(original_tokenizer.parent), None, CPU)[0]
        whole = pretrained.open_text_encoder(str(WEIGHTS / "stable-diffusion"), None, CPU)[0]
        assert tokenizer("a red car").input_ids == whole("a red car").input_ids
        return
    with refused(original_tokenizer, "tokenizer", name):
        pretrained.open_text_encoder(str(original_tokenizer.parent), None, CPU)


@pytest.mark.parametrize("kept", [[], ["tokenizer_config.json"]])
def test_a_folder_without_its_words_is_refused(copy, kept):
    folder = copy("stable-diffusion") / "tokenizer"
    for path in list(folder.iterdir()):
        if path.name not in kept:
            path.unlink()
    with refused(folder, "tokenizer was not found"):
        pretrained.open_text_encoder(str(folder.parent), None, CPU)


def test_a_tokenizer_of_another_text_encoder_is_refused(copy):
    path = copy("stable-diffusion") / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    words["{"] = len(words)
    replace(path, content)
    with refused(path.parent, "222 words", "221"):
        pretrained.open_text_encoder(str(path.parents[1]), None, CPU)


# CLIP


@pytest.mark.parametrize("key", ["clip", "scoring_clip"])
def test_a_clip_without_weights_is_refused(key):
    models = Models(**{key: "ViT-B-32-quickgelu", f"{key}_weights": None})
    name, weights = getattr(models, key), getattr(models, f"{key}_weights")
    with refused("ViT-B-32-quickgelu", "would be random", "clip_weights"):
        pretrained.open_clip_model(name, weights, CPU)
    with refused("ViT-B-32-quickgelu", "would be random"):
        list(pretrained.download(models.model_copy(update={"stable_diffusion": str(WEIGHTS)})))


def test_a_name_that_is_no_clips_or_has_weights_twice_is_refused():
    with refused("hf-hub:somebody/clip", "neither an architecture"):
        pretrained.open_clip_model("hf-hub:somebody/clip", None, CPU)
    with refused(WEIGHTS / "clip", "weights of its own"):
        pretrained.open_clip_model(f"local-dir:{WEIGHTS / 'clip'}", "openai", CPU)


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
        pretrained.open_clip_model(name, tag, CPU)


def test_clip_weights_that_are_not_downloaded_are_named_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with refused("ViT-B-32-quickgelu", "data/00_get_models.py"):
        pretrained.open_clip_model("ViT-B-32-quickgelu", "openai", CPU)


@pytest.mark.parametrize("content", [b"", POINTER, b"<html></html>"])
def test_a_weight_file_that_is_named_and_broken_is_named(tmp_path, content):
    file = tmp_path / "clip.pt"
    file.write_bytes(content)
    with refused(file):
        pretrained.open_clip_model("ViT-B-32-quickgelu", str(file), CPU)


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


# The instance encoder


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
    opened = pretrained.open_instance_encoder(str(path.parent), None, CPU)
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
        pretrained.open_instance_encoder(str(path.parent), None, CPU)


@pytest.mark.parametrize("key", ["image_mean", "image_std", "size"])
def test_settings_that_an_image_processor_lacks_are_named(copy, key):
    path = copy("instance_encoder") / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    del settings[key]
    replace(path, settings)
    with refused(path, key):
        pretrained.open_instance_encoder(str(path.parent), None, CPU)


def test_of_a_resnet_that_names_classes_the_classifier_is_left_out(copy):
    """The hub's ResNets have it; older files also have no counters of batches."""
    path = copy("instance_encoder") / "model.safetensors"
    state = load_file(path)
    weights = {f"resnet.{name}": tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(weights) < len(state)
    path.unlink()
    save_file({**weights, "classifier.1.weight": torch.ones(2, 128), "classifier.1.bias": torch.ones(2)}, path)
    opened = pretrained.open_instance_encoder(str(path.parent), None, CPU)
    whole = pretrained.open_instance_encoder(str(WEIGHTS / "instance_encoder"), None, CPU)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(opened.forward(x), whole.forward(x))


# Networks of torchvision, and LPIPS on one of them


@pytest.fixture(scope="module")
def swav():
    """SwAV's ResNet-50 in the layout of its file."""
    state = vision.resnet50(weights=None).state_dict()
    kept = {f"module.{name}": tensor for name, tensor in state.items() if not name.startswith("fc.")}
    return {**kept, "module.projection_head.0.weight": torch.ones(2, 2), "module.prototypes.weight": torch.ones(2, 2)}


def save(folder, name, state):
    path = pretrained.scoring_weights(folder)[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def test_a_network_has_every_weight_from_its_file(tmp_path, swav):
    path = save(tmp_path, "swav_resnet50", swav)
    pretrained.feature_network("swav_resnet50", tmp_path, CPU)
    name = "module.layer2.0.conv1.weight"
    torch.save({**swav, name: swav[name] * float("nan")}, path)
    with refused(path, "layer2.0.conv1.weight is not finite", "delete it"):
        pretrained.feature_network("swav_resnet50", tmp_path, CPU)
    torch.save({key: value for key, value in swav.items() if key != name}, path)
    with refused(path, "1 of the weights are missing (such as layer2.0.conv1.weight)"):
        pretrained.feature_network("swav_resnet50", tmp_path, CPU)


class Other:
    """Not a tensor."""


@pytest.mark.parametrize("network", ["alexnet", "lpips"])
@pytest.mark.parametrize(
    "content", [b"", POINTER, b"<html></html>", b'{"error": 1}', [], Other(), {"features.0.weight": 1}]
)
def test_a_file_that_is_not_the_networks_is_named(tmp_path, network, content):
    path = save(tmp_path, "alexnet", content)
    if isinstance(content, bytes):
        path.write_bytes(content)
    with refused(path, "delete it"):
        if network == "lpips":
            pretrained.open_lpips(tmp_path, CPU)
        else:
            pretrained.feature_network(network, tmp_path, CPU)


def test_an_encoder_of_another_network_is_refused(tmp_path):
    with refused("alexnet", "neither swav_resnet50 nor"):
        pretrained.open_instance_encoder("alexnet", tmp_path, CPU)


# The safety checker


@pytest.fixture(scope="module")
def with_checker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checked")
    width = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    vision_part = {**width, "image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=width, vision_config=vision_part, projection_dim=8)
    checker = StableDiffusionSafetyChecker(config)
    for tensor in (checker.concept_embeds, checker.special_care_embeds):
        torch.nn.init.normal_(tensor)
    checker.save_pretrained(folder / "safety_checker")
    CLIPImageProcessor().save_pretrained(folder / "feature_extractor")
    return folder


def test_a_safety_checker_opens(with_checker):
    checker, extractor = pretrained.open_safety_checker(Models(stable_diffusion=str(with_checker)), CPU)
    assert checker.concept_embeds.abs().sum() > 0
    assert extractor(np.zeros((40, 40, 3), np.uint8)).pixel_values[0].shape == (3, 224, 224)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name",
    ["safety_checker/config.json", "safety_checker/model.safetensors", "feature_extractor/preprocessor_config.json"],
)
def test_a_file_of_the_safety_checker_that_is_damaged_is_named(tmp_path, with_checker, name, damage):
    folder = tmp_path / "copy"
    shutil.copytree(with_checker, folder)
    replace(folder / name, DAMAGES[damage]((folder / name).read_bytes()))
    with refused(folder / name):
        pretrained.open_safety_checker(Models(stable_diffusion=str(folder)), CPU)


# IC-GAN


def test_shapes_that_no_generator_has_are_refused(copy):
    path = copy("icgan") / "generator.safetensors"
    whole = load_file(path)
    path.unlink()
    for name in ("linear.weight", "blocks.0.0.conv1.weight", "shared_feat.weight", "shared.weight"):
        save_file({**whole, name: torch.ones(3)}, path)
        with refused(path, "not the state of an IC-GAN generator"):
            open_generator(str(path.parent), CPU)
