"""Stable Diffusion v1 from the original checkpoint file (`sd-v1-4.ckpt`), which has weights only."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from minddiffuser.pretrained.files import AGAIN, OLD_NUMBERS, POSITIONS, MissingModelError, load_weights
from minddiffuser.store import reading

STABLE_DIFFUSION_V1 = Path(__file__).parent / "stable_diffusion_v1"  # the public configurations of its parts
# What the names of a part's weights begin with in the checkpoint.
_PREFIXES = {
    "text_encoder": "cond_stage_model.transformer.text_model.",
    "vae": "first_stage_model.",
    "unet": "model.diffusion_model.",
}


def open_checkpoint_part(kind: Any, path: Path, part: str) -> Any:
    """Open a part of CompVis' checkpoint of Stable Diffusion v1; the file is let go of on return.

    Raises
    ------
    MissingModelError
        The file is broken, or its weights are not exactly the part's.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

    what, prefix = "a checkpoint of Stable Diffusion v1", _PREFIXES[part]
    state = {key: value for key, value in _read_checkpoint(path).items() if key.startswith(prefix)}
    if not state:
        raise MissingModelError(f"{path} is not {what}: it has no weights {prefix}*; {AGAIN}")
    if part == "text_encoder":
        model = kind(kind.config_class.from_pretrained(STABLE_DIFFUSION_V1, subfolder=part))
        converted = {key.removeprefix(prefix): state[key] for key in state if not POSITIONS.search(key)}
    else:
        config = kind.load_config(STABLE_DIFFUSION_V1, subfolder=part)
        model = kind.from_config(config)
        convert = convert_ldm_unet_checkpoint if part == "unet" else convert_ldm_vae_checkpoint
        try:
            converted = convert(state, config)
        except KeyError as error:
            raise MissingModelError(f"{path} is not {what}: its {part} lacks {error}; {AGAIN}") from error
        if len(converted) != len(state):  # the conversion passes over names that it does not know
            raise MissingModelError(
                f"{path} is not {what}: it has {len(state)} weights {prefix}*, of which {len(converted)} are known; "
                f"{AGAIN}"
            )
    load_weights(model, converted, path, f"Stable Diffusion v1's {part}", AGAIN)
    return model


def _read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Read CompVis' checkpoint: name to weight, mapped from the disk, so that what is not used takes no memory."""
    from safetensors.torch import load_file

    # What checkpoints of that time name beside tensors: a class of the training framework, and numbers.
    allowed: list[Any] = [
        (_Callback, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
        *OLD_NUMBERS,
    ]
    with reading(path, "a checkpoint of Stable Diffusion v1", AGAIN, MissingModelError):
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(allowed):
                state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        return dict(state.get("state_dict", state))


class _Callback:
    """Stands for a class of the training framework in checkpoints."""
