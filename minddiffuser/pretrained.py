"""The only place that opens a model, real or miniature.

Stable Diffusion comes as a diffusers folder (`tokenizer/`, `text_encoder/`, `vae/`, `unet/`, `scheduler/`),
local or in the hub's cache; CLIP comes through open_clip, by name or from a local folder. Nothing is
downloaded here: a model that is not on the disk is an error that says how to get it. All models are returned
frozen, in evaluation mode, in float32.

The model libraries are imported when a model is opened: that takes seconds, which a script that finds its work
done need not spend.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from minddiffuser.store import DataError

if TYPE_CHECKING:
    import open_clip
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

REPOSITORY = Path(__file__).parents[1]


class MissingModelError(DataError):
    """A model is not on this machine; the message says how to get it."""


class Clip(NamedTuple):
    """An open_clip model and the constants that its authors normalise pixels with."""

    model: open_clip.CLIP
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _frozen(model: Any, device: torch.device) -> Any:
    return model.float().eval().requires_grad_(False).to(device)


def _open_part(opener: Callable[..., Any], folder: str, revision: str | None, part: str, **kwargs: Any) -> Any:
    local = REPOSITORY / folder
    source = str(local) if local.is_dir() else folder
    try:
        return opener(source, subfolder=part, revision=revision, local_files_only=True, **kwargs)
    except (OSError, ValueError) as error:
        where = f" at revision {revision}" if revision else ""
        raise MissingModelError(
            f"Stable Diffusion's {part} was not found: {folder!r}{where} is neither a folder (looked at {local}) nor "
            f"in the hub's cache. To get it, accept the licence on https://huggingface.co/{folder} and run\n"
            f"    hf download {folder}{f' --revision {revision}' if revision else ''}\n"
            f"or set experiment.models.stable_diffusion to the folder that has it. ({error})"
        ) from error


def open_text_encoder(folder: str, revision: str | None, device: torch.device) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Open Stable Diffusion's tokenizer and CLIP text encoder."""
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = _open_part(CLIPTokenizer.from_pretrained, folder, revision, "tokenizer")
    return tokenizer, _frozen(_open_part(CLIPTextModel.from_pretrained, folder, revision, "text_encoder"), device)


def open_vae(folder: str, revision: str | None, device: torch.device) -> AutoencoderKL:
    """Open Stable Diffusion's autoencoder (the paper calls it VQ-VAE; it is AutoencoderKL)."""
    from diffusers import AutoencoderKL

    return _frozen(_open_part(AutoencoderKL.from_pretrained, folder, revision, "vae", low_cpu_mem_usage=False), device)


def open_unet(folder: str, revision: str | None, device: torch.device) -> UNet2DConditionModel:
    """Open Stable Diffusion's noise predictor."""
    from diffusers import UNet2DConditionModel

    return _frozen(
        _open_part(UNet2DConditionModel.from_pretrained, folder, revision, "unet", low_cpu_mem_usage=False), device
    )


def open_scheduler(folder: str, revision: str | None) -> DDIMScheduler:
    """Open the noise schedule as CompVis' DDIM sampler uses it.

    The options that the hub's own file sets otherwise, or leaves to defaults that differ, are fixed here:
    no clipping, alpha of the last step taken from the schedule, timesteps 1, 21, ..., 981.
    """
    from diffusers import DDIMScheduler

    return _open_part(
        DDIMScheduler.from_pretrained,
        folder,
        revision,
        "scheduler",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def open_clip_model(name: str, weights: str | None, device: torch.device) -> Clip:
    """Open a CLIP.

    Parameters
    ----------
    name : str
        An open_clip architecture such as `ViT-B-32-quickgelu`, or `local-dir:FOLDER` with a folder that holds
        `open_clip_config.json` and `open_clip_model.safetensors`.
    weights : str or None
        open_clip's tag (`openai`) or a weight file; None for a local folder, which has its own.

    Raises
    ------
    MissingModelError
        The folder is absent, or the weights are not in the hub's cache.
    """
    import open_clip

    if name.startswith("local-dir:"):
        folder = REPOSITORY / name.removeprefix("local-dir:")
        if not (folder / "open_clip_model.safetensors").is_file():
            raise MissingModelError(f"CLIP was not found: there is no {folder / 'open_clip_model.safetensors'}")
        name = f"local-dir:{folder}"
    if weights is not None and not Path(weights).is_file():
        weights = _cached_clip_weights(name, weights)
    model = open_clip.create_model(name, pretrained=weights, precision="fp32")
    visual: Any = model.visual
    return Clip(_frozen(model, device), tuple(visual.image_mean), tuple(visual.image_std))


def _cached_clip_weights(name: str, tag: str) -> str:
    """Path of the weights that open_clip calls `tag`, which must be in the hub's cache already."""
    import open_clip
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    known = open_clip.get_pretrained_cfg(name, tag)
    if not known:
        raise MissingModelError(
            f"open_clip knows no weights {tag!r} for {name!r}; it has {open_clip.list_pretrained_tags_by_model(name)}"
        )
    try:
        return hf_hub_download(known["hf_hub"].rstrip("/"), "open_clip_model.safetensors", local_files_only=True)
    except LocalEntryNotFoundError as error:
        raise MissingModelError(
            f"CLIP {name!r} with weights {tag!r} is not on this machine. To get it, run once, with the network,\n"
            f"    hf download {known['hf_hub'].rstrip('/')} open_clip_model.safetensors\n"
            "or name a weight file, or a folder as local-dir:FOLDER."
        ) from error
