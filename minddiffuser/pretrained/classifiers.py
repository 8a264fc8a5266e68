"""Networks that score films: classifiers of pictures and of videos, and ViFi-CLIP's encoder of frames."""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from minddiffuser.config import REPOSITORY
from minddiffuser.pretrained.files import (
    AGAIN,
    OLD_NUMBERS,
    MissingModelError,
    frozen,
    load_weights,
    open_folder,
    read_json,
    three_numbers,
)
from minddiffuser.store import DataError, reading

FILES = ["*.json", "model.safetensors"]  # of a classifier on the hub
VIFI_ARCHITECTURE = "ViT-B-16-quickgelu"
_VIFI_PREFIX = "image_encoder."
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ViFi-CLIP normalises frames with it, not as CLIP does


class Network(NamedTuple):
    """A network of pictures or videos.

    Attributes
    ----------
    forward : callable
        From normalised pixels, (n, 3, size, size) or (n, n_frames, 3, size, size), to (n, n_classes) before the
        softmax, or (n, n_dimensions).
    size : int
        Height and width of the pictures that it takes, in pixels.
    mean, std : tuples of three float
        What pixels in [0, 1] are normalised with.
    """

    forward: Callable[[torch.Tensor], torch.Tensor]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def open_image_classifier(name: str, revision: str | None, device: torch.device) -> Network:
    """Open a ViT that classifies pictures, such as google/vit-base-patch16-224.

    Parameters
    ----------
    name : str
        A folder of transformers, or its name on the hub, in whose cache it must be.
    revision : str or None
        Commit on the hub.

    Raises
    ------
    MissingModelError
        It is absent or broken.
    """
    from transformers import ViTForImageClassification

    return _open_classifier(ViTForImageClassification, name, revision, device, {})


def open_video_classifier(name: str, revision: str | None, n_frames: int, device: torch.device) -> Network:
    """Open a VideoMAE that classifies videos, such as MCG-NJU/videomae-base-finetuned-kinetics.

    Its positions are sines, which no file has, so that it takes videos of other lengths than it was trained on, as
    Mind-Animator's authors use it.

    Parameters
    ----------
    name, revision
        As of `open_image_classifier`.
    n_frames : int
        Of the videos; a multiple of its tubelet_size, 2.

    Raises
    ------
    MissingModelError
        It is absent or broken.
    DataError
        It does not take videos of so many frames.
    """
    from transformers import VideoMAEForVideoClassification

    path = _folder_of(name, revision) / "config.json"
    tube = read_json(path, f"the configuration of the classifier {name}", ["tubelet_size"], AGAIN)["tubelet_size"]
    if n_frames % tube:
        raise DataError(
            f"{name} takes videos whose frames are a multiple of {tube}, not {n_frames}: set "
            "experiment.mind_animator.clips.n_frames to one"
        )
    return _open_classifier(VideoMAEForVideoClassification, name, revision, device, {"num_frames": n_frames})


def _open_classifier(
    kind: Any, name: str, revision: str | None, device: torch.device, settings: dict[str, Any]
) -> Network:
    what, folder = f"the classifier {name}", _folder_of(name, revision)
    remedy = f"{AGAIN}, by python data/00_get_models.py with this configuration"
    path = folder / "preprocessor_config.json"
    pixels = read_json(path, f"how {what} takes pixels", ["image_mean", "image_std"], remedy)
    mean, std = (three_numbers(pixels, key, path) for key in ("image_mean", "image_std"))
    model = frozen(open_folder(kind, folder, what, remedy, settings=settings), device)

    @torch.no_grad()
    def forward(pixels: torch.Tensor) -> torch.Tensor:
        return model(pixel_values=pixels).logits

    return Network(forward, int(model.config.image_size), mean, std)


def _folder_of(name: str, revision: str | None) -> Path:
    """Folder of a classifier, local or in the hub's cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    local = REPOSITORY / name
    if local.is_dir():
        return local
    try:
        return Path(hf_hub_download(name, "config.json", revision=revision, local_files_only=True)).parent
    except HFValidationError as error:
        raise MissingModelError(
            f"the classifier {name!r} is neither a folder ({local}) nor a name on the hub"
        ) from error
    except OSError as error:
        raise MissingModelError(
            f"the classifier {name} is not on this machine",
            "python data/00_get_models.py, with this configuration, downloads it",
            local,
        ) from error


def open_vifi(path: Path, device: torch.device) -> Network:
    """Open the encoder of frames of ViFi-CLIP (Rasheed et al. 2023, arXiv 2212.03640), a CLIP ViT-B/16.

    Parameters
    ----------
    path : Path
        The authors' checkpoint, k400_seed1_vifi_clip_base2novel.pth. Weights of the text encoder, of the optimiser and
        of the prompts are passed over.

    Raises
    ------
    MissingModelError
        It is absent or broken, or its weights are not exactly the encoder's.
    """
    import open_clip

    what, remedy = "a checkpoint of ViFi-CLIP", "get it again from github.com/muzairkhattak/ViFi-CLIP"
    if not path.is_file():
        raise MissingModelError(f"{path} is absent: {what}", remedy, path)
    # A checkpoint has the settings of its training beside the weights: a dict of a library that is not needed here.
    allowed: list[Any] = [(OrderedDict, "yacs.config.CfgNode"), *OLD_NUMBERS]
    with reading(path, what, remedy, MissingModelError), torch.serialization.safe_globals(allowed):
        found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        weights = {key.removeprefix("module."): value for key, value in found.get("model", found).items()}
    encoder = {key.removeprefix(_VIFI_PREFIX): value for key, value in weights.items() if key.startswith(_VIFI_PREFIX)}
    visual: Any = open_clip.create_model(
        VIFI_ARCHITECTURE, precision="fp32", load_weights=False, pretrained_image=False, pretrained_text=False
    ).visual
    load_weights(visual, encoder, path, "ViFi-CLIP's encoder of frames", remedy)
    visual, size = frozen(visual, device), visual.image_size

    @torch.no_grad()
    def forward(pixels: torch.Tensor) -> torch.Tensor:
        return visual(pixels)

    return Network(forward, size if isinstance(size, int) else size[0], *_IMAGENET)
