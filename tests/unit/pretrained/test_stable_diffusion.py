"""Stable Diffusion: its parts wherever they come from, its tokenizer, its safety checker."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from damages import CPU, DAMAGES, POINTER, WEIGHTS, Other, refused, replace
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor

from feature_extraction.text import embed_captions
from minddiffuser.config.method import Models
from minddiffuser.pretrained.files import MissingModelError
from minddiffuser.pretrained.stable_diffusion import (
    open_safety_checker,
    open_scheduler,
    open_text_encoder,
    open_unet,
    open_vae,
)
from minddiffuser.store import DataError


def test_a_pointer_is_called_so_and_no_licence_is_blamed(copy):
    model = copy("stable-diffusion")
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    replace(path, POINTER)
    with refused(path, "is a Git LFS pointer") as error:
        open_unet(str(model), None, CPU)
    assert "licence" not in str(error.value)


def test_a_folder_with_half_precision_only_says_what_is_there(copy):
    model = copy("stable-diffusion")
    path = model / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with refused(path, "there is no", "diffusion_pytorch_model.fp16.safetensors"):
        open_unet(str(model), None, CPU)


@pytest.mark.parametrize("name", ["/no/such/folder", "no/such/folder/here"])
def test_a_path_that_does_not_exist_gets_no_hint_of_a_licence(name):
    with pytest.raises(MissingModelError) as error:
        open_vae(name, None, CPU)
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
    tokenizer, encoder = open_text_encoder("somebody/small", revision, CPU)
    local = open_text_encoder(str(WEIGHTS / "stable-diffusion"), None, CPU)
    assert tokenizer("a red car").input_ids == local[0]("a red car").input_ids
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), local[1].parameters(), strict=True))
    shutil.rmtree(hub / "tokenizer")
    with refused("tokenizer/tokenizer_config.json", "somebody/small", "data/00_get_models.py", "hf auth login"):
        open_text_encoder("somebody/small", revision, CPU)
    replace(hub / "unet" / "diffusion_pytorch_model.safetensors", b"")
    with refused(hub / "unet" / "diffusion_pytorch_model.safetensors", "is empty", "data/00_get_models.py"):
        open_unet("somebody/small", revision, CPU)


def test_a_scheduler_without_its_betas_is_refused(copy):
    path = copy("stable-diffusion") / "scheduler" / "scheduler_config.json"
    settings = json.loads(path.read_text())
    replace(path, {key: value for key, value in settings.items() if key != "beta_end"})
    with refused(path, "beta_end"):
        open_scheduler(str(path.parents[1]), None)


def test_a_part_of_another_class_is_refused(copy):
    path = copy("stable-diffusion") / "vae" / "config.json"
    replace(path, {**json.loads(path.read_text()), "_class_name": "VQModel"})
    with refused(path, "VQModel"):
        open_vae(str(path.parents[1]), None, CPU)


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
        text: open_text_encoder(str(model), None, CPU)[1],
        vae: open_vae(str(model), None, CPU),
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
        opened = open_text_encoder(str(model), None, CPU)[1]
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
        open_text_encoder(str(model), None, CPU)


@pytest.mark.parametrize("part", ["text_encoder", "unet"])
def test_pickled_weights_open_to_the_same_but_with_tensors_only(copy, part):
    model = copy("stable-diffusion")
    path = next((model / part).glob("*.safetensors"))
    pickled = path.with_name({"unet": "diffusion_pytorch_model.bin", "text_encoder": "pytorch_model.bin"}[part])
    state = load_file(path)
    path.unlink()

    def opened():
        if part == "unet":
            return open_unet(str(model), None, CPU)
        return open_text_encoder(str(model), None, CPU)[1]

    torch.save(state, pickled)
    assert all(torch.equal(tensor, state[name].float()) for name, tensor in opened().state_dict().items())
    torch.save({**state, "other": Other()}, pickled)
    with refused(pickled):
        opened()


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
        embed_captions(captions, *open_text_encoder(str(folder), None, CPU), 15)
        for folder in (original_tokenizer.parent, WEIGHTS / "stable-diffusion")
    )
    assert torch.equal(c, expected)
    assert (c[0] - c[1]).abs().max() > 0.1


def test_more_tokens_than_the_text_encoder_has_are_refused():
    parts = open_text_encoder(str(WEIGHTS / "stable-diffusion"), None, CPU)
    with pytest.raises(DataError, match=r"16 tokens \(max_length\), but the text encoder has 15"):
        embed_captions(["a red car"], *parts, 16)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"])
def test_a_file_of_the_hubs_layout_that_is_damaged_is_named(original_tokenizer, name, damage):
    path = original_tokenizer / name
    replace(path, DAMAGES[damage](path.read_bytes()))
    if name == "special_tokens_map.json" and damage in ("absent", "JSON"):  # tokenizer_config.json says the same
        tokenizer = open_text_encoder(str(original_tokenizer.parent), None, CPU)[0]
        whole = open_text_encoder(str(WEIGHTS / "stable-diffusion"), None, CPU)[0]
        assert tokenizer("a red car").input_ids == whole("a red car").input_ids
        return
    with refused(original_tokenizer, "tokenizer", name):
        open_text_encoder(str(original_tokenizer.parent), None, CPU)


@pytest.mark.parametrize("kept", [[], ["tokenizer_config.json"]])
def test_a_folder_without_its_words_is_refused(copy, kept):
    folder = copy("stable-diffusion") / "tokenizer"
    for path in list(folder.iterdir()):
        if path.name not in kept:
            path.unlink()
    with refused(folder, "tokenizer was not found"):
        open_text_encoder(str(folder.parent), None, CPU)


def test_a_tokenizer_of_another_text_encoder_is_refused(copy):
    path = copy("stable-diffusion") / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    words = content["model"]["vocab"]
    words["{"] = len(words)
    replace(path, content)
    with refused(path.parent, "222 words", "221"):
        open_text_encoder(str(path.parents[1]), None, CPU)


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
    checker, extractor = open_safety_checker(Models(stable_diffusion=str(with_checker)), CPU)
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
        open_safety_checker(Models(stable_diffusion=str(folder)), CPU)
