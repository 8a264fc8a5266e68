"""CLIP through open_clip, by name or from a local folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from minddiffuser.config import REPOSITORY
from minddiffuser.pretrained.files import (
    AGAIN,
    POSITIONS,
    MissingModelError,
    frozen,
    load_weights,
    quietly,
    read_json,
    three_numbers,
)
from minddiffuser.store import DataError, reading

if TYPE_CHECKING:
    import open_clip

CLIP_FILE = "open_clip_model.safetensors"


class Clip(NamedTuple):
    """An open_clip model and the constants that its authors normalise pixels with."""

    model: open_clip.CLIP
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def open_clip_model(name: str, weights: str | None, device: torch.device) -> Clip:
    """Open a CLIP.

    Parameters
    ----------
    name : str
        An open_clip architecture such as `ViT-B-32-quickgelu`, or `local-dir:FOLDER` with a folder that holds
        `open_clip_config.json` and `open_clip_model.safetensors`.
    weights : str or None
        open_clip's tag (`openai`) or a weight file, whose pixels are normalised as OpenAI's; None for a local folder,
        which has its own.

    Raises
    ------
    MissingModelError
        No weights are named, or what is named is absent or broken.
    DataError
        The weights were trained with another activation than the architecture has.
    """
    import open_clip
    from open_clip.factory import load_state_dict

    check_clip_names(name, weights)
    remedy, normalisation = AGAIN, None
    if name.startswith("local-dir:"):
        folder = REPOSITORY / name.removeprefix("local-dir:")
        config, path, name = folder / "open_clip_config.json", folder / CLIP_FILE, f"local-dir:{folder}"
        if not path.is_file():
            text = f"CLIP was not found: there is no {path}"
            raise MissingModelError(text, f"{AGAIN}, or name another folder", path)
        what = "the configuration of a CLIP"
        normalisation = read_json(config, what, ["model_cfg", "preprocess_cfg"], AGAIN)["preprocess_cfg"]
    else:
        config = path = REPOSITORY / str(weights)
        if not path.is_file():
            normalisation = open_clip.get_pretrained_cfg(name, str(weights))
            _check_activation(name, str(weights), normalisation)
            path = Path(_cached_clip_weights(name, str(weights)))
            remedy = "python data/00_get_models.py, with this configuration, says how to mend it"
    with reading(path, f"the weights of CLIP {name}", remedy, MissingModelError):
        state = load_state_dict(str(path), weights_only=True)
        state = {key: value for key, value in state.items() if not POSITIONS.search(key)}
    with reading(config, "the configuration of a CLIP", AGAIN, MissingModelError), quietly():
        model: Any = open_clip.create_model(
            name, precision="fp32", load_weights=False, pretrained_image=False, pretrained_text=False
        )
    visual: Any = model.visual
    if normalisation is None:
        normalisation = {"mean": visual.image_mean, "std": visual.image_std}
    mean, std = (three_numbers(normalisation, key, config) for key in ("mean", "std"))
    load_weights(model, state, path, f"CLIP {name}", remedy)
    return Clip(frozen(model, device), mean, std)


def check_clip_names(name: str, weights: str | None) -> None:
    """Raise MissingModelError unless a CLIP's name and weights name one that can be had."""
    import open_clip

    if name.startswith("local-dir:"):
        if weights is not None:
            raise MissingModelError(f"CLIP {name} has weights of its own: set clip_weights of {weights!r} to null")
    elif name not in open_clip.list_models():
        raise MissingModelError(f"CLIP {name!r} is neither an architecture of open_clip nor local-dir:FOLDER")
    elif weights is None:
        raise MissingModelError(
            f"CLIP {name!r} is named without weights, and would be random: set experiment.models.clip_weights "
            "(scoring_clip_weights for the one that scores) to a tag such as openai, or to a weight file"
        )


def _check_activation(name: str, tag: str, weights: dict[str, Any]) -> None:
    """Raise DataError where weights were trained with QuickGELU and the architecture has GELU, or the other way."""
    import open_clip

    architecture: Any = open_clip.get_model_config(name)
    if weights and weights.get("quick_gelu", False) != architecture.get("quick_gelu", False):
        computes, needed = (
            ("with QuickGELU", f"{name}-quickgelu")
            if weights.get("quick_gelu")
            else ("without QuickGELU", name.removesuffix("-quickgelu"))
        )
        whose = "OpenAI's CLIP" if tag == "openai" else f"CLIP {tag}"
        raise DataError(f"{whose} computes {computes}: use the architecture {needed}, not {name}")


def _cached_clip_weights(name: str, tag: str) -> str:
    """Path of the weights that open_clip calls `tag`, which must be in the hub's cache already."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository = clip_repository(name, tag)
    try:
        return hf_hub_download(repository, CLIP_FILE, local_files_only=True)
    except LocalEntryNotFoundError as error:
        raise MissingModelError(
            f"CLIP {name!r} with weights {tag!r} is not on this machine. To get it, run once, with the network, "
            "python data/00_get_models.py with this configuration, or name a weight file, or a folder as "
            "local-dir:FOLDER."
        ) from error


def clip_repository(name: str, tag: str) -> str:
    """Hub repository of the weights that open_clip calls `tag`.

    Raises
    ------
    MissingModelError
        open_clip knows none.
    """
    import open_clip

    known = open_clip.get_pretrained_cfg(name, tag)
    if not known:
        raise MissingModelError(
            f"open_clip knows no weights {tag!r} for {name!r}; it has {open_clip.list_pretrained_tags_by_model(name)}"
        )
    return known["hf_hub"].rstrip("/")


def random_clip(name: str, device: torch.device) -> Clip:
    """Make an open_clip architecture with random weights, for tests and timings."""
    import open_clip

    model = open_clip.create_model(name, pretrained=None, precision="fp32")
    visual: Any = model.visual
    return Clip(frozen(model, device), tuple(visual.image_mean), tuple(visual.image_std))
