"""All openers: every weight comes from a whole file, and what is not whole is one line that names it."""

from pathlib import Path

import pytest
import torch
from damages import CPU, DAMAGES, WEIGHTS, refused, replace
from safetensors.torch import load_file, save_file

from baselines.ozcelik.generator import open_generator
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.pretrained.icgan import open_instance_encoder
from minddiffuser.pretrained.stable_diffusion import open_scheduler, open_text_encoder, open_unet, open_vae


def open_part(opener):
    return lambda folder: opener(str(folder), None, CPU)


def open_clip_of(folder):
    return open_clip_model(f"local-dir:{folder}", None, CPU)


OPENERS = {
    "stable-diffusion/scheduler": lambda folder: open_scheduler(str(folder), None),
    "stable-diffusion/text_encoder": open_part(open_text_encoder),
    "stable-diffusion/tokenizer": open_part(open_text_encoder),
    "stable-diffusion/unet": open_part(open_unet),
    "stable-diffusion/vae": open_part(open_vae),
    "clip": open_clip_of,
    "scoring_clip": open_clip_of,
    "instance_encoder": open_part(open_instance_encoder),
    "icgan": lambda folder: open_generator(str(folder), CPU),
}
FILES = sorted(
    str(path.relative_to(WEIGHTS)) for part in OPENERS for path in (WEIGHTS / part).iterdir() if path.is_file()
)


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


@pytest.mark.parametrize("part", OPENERS)
def test_opening_says_nothing(capfd, part):
    OPENERS[part](WEIGHTS / part.split("/")[0])
    assert capfd.readouterr() == ("", "")
