"""The only place that opens a model, real or miniature.

Stable Diffusion comes as a diffusers folder (`tokenizer/`, `text_encoder/`, `vae/`, `unet/`, `scheduler/`), local or in
the hub's cache, or as the original checkpoint file (`sd-v1-4.ckpt`); CLIP comes through open_clip, by name or from a
local folder. Only `download` uses the network: a model that is not on the disk is an error that says how to get it. All
models are returned frozen, in evaluation mode, in float32.

No weight is random and no input is guessed: a model is opened only where every weight comes from a file, where the file
has no weights that the model does not know (`_SPARE` lists the exceptions), and where the settings that come with it
are there. All else is a MissingModelError of one line that names the file.

The model libraries are imported when a model is opened: that takes seconds, which a script that finds its work
done need not spend.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from minddiffuser.config import Models
from minddiffuser.store import DataError, reading

if TYPE_CHECKING:
    import open_clip
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

REPOSITORY = Path(__file__).parents[1]
_STABLE_DIFFUSION_V1 = Path(__file__).parent / "stable_diffusion_v1"  # the public configurations of its parts
_STABLE_DIFFUSION_FILES = ["*/*.json", "*/merges.txt", "*/*model.safetensors"]  # fp16 variants have other names
# The file of each part that says what it is; of the others, config.json.
_MAIN_FILES = {
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
    "feature_extractor": "preprocessor_config.json",
}
# What the names of a part's weights begin with in CompVis' checkpoint.
_CHECKPOINT_PREFIXES = {
    "text_encoder": "cond_stage_model.transformer.text_model.",
    "vae": "first_stage_model.",
    "unet": "model.diffusion_model.",
}
_CLIP_FILE = "open_clip_model.safetensors"
# Networks that scores compare features of. A name's last part is the beginning of the file's SHA-256, but for SwAV's.
_SCORING_URLS = {
    "alexnet": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "inception_v3": "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
    "efficientnet_b1_v1": "https://download.pytorch.org/models/efficientnet_b1_rwightman-bac287d4.pth",
    "efficientnet_b1_v2": "https://download.pytorch.org/models/efficientnet_b1-c27df63c.pth",
    "swav_resnet50": "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
}
# torchvision's IMAGENET1K_V1: its later weights (V2) have other features.
_RESNET50_URL = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
# NumPy's numbers in checkpoints, under the name that NumPy has for them now and had before its version 2.
_SCALAR = np.float64(0).__reduce__()[0]
_OLD_NUMBERS: list[Any] = [_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"), np.dtype, type(np.dtype(np.float64))]
# Names in public files that a model has no place for, and why; any other makes the file one of another model.
_POSITIONS = re.compile(r"(^|\.)position_ids$")  # 0, 1, 2 ..., which older versions of transformers stored
_SPARE = {
    "text_encoder": _POSITIONS,
    "safety_checker": _POSITIONS,
    "clip": _POSITIONS,
    "instance_encoder": re.compile(r"^classifier\."),  # of a ResNet that names classes, which is not used here
    "swav_resnet50": re.compile(r"^(projection_head|prototypes)"),  # trained with, and cut off for features
}
_COUNTER = "num_batches_tracked"  # of batch norm, of no effect in evaluation; older files have none
_DELETE = "delete it and run data/00_get_models.py"
_AGAIN = "get it again"
_ICGAN_URL = "https://dl.fbaipublicfiles.com/ic_gan/icgan_biggan_imagenet_res256.tar.gz"


class MissingModelError(DataError):
    """A model is not on this machine; the message says how to get it."""


class FeatureNetwork(NamedTuple):
    """A network of which some layers are compared in scores.

    Attributes
    ----------
    forward : callable
        From normalised pixels (n, 3, height, width) to a dict of node to features (n, ...).
    mean, std : tuples of three float
        What pixels in [0, 1] are normalised with.
    """

    forward: Callable[[torch.Tensor], dict[str, torch.Tensor]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class InstanceEncoder(NamedTuple):
    """A network whose pooled features, brought to length 1, condition IC-GAN's generator.

    Attributes
    ----------
    forward : callable
        From normalised pixels (n, 3, size, size) to features (n, n_features).
    mean, std : tuples of three float
        What pixels in [0, 1] are normalised with.
    size : int
        Pixels.
    """

    forward: Callable[[torch.Tensor], torch.Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int


class PooledNetwork(NamedTuple):
    """A convolutional network whose features, averaged over places, are decoded.

    Attributes
    ----------
    model : Module
        In evaluation mode; its batch norm can be set to use a batch's own statistics.
    forward : callable
        From normalised pixels (n, 3, size, size) to features (n, n_features).
    head : pair of arrays, or None
        Weights (n_classes, n_features) and bias (n_classes,) of its last layer, where it is a classifier.
    mean, std : tuples of three float
        What pixels in [0, 1] are normalised with.
    """

    model: torch.nn.Module
    forward: Callable[[torch.Tensor], torch.Tensor]
    head: tuple[np.ndarray, np.ndarray] | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Clip(NamedTuple):
    """An open_clip model and the constants that its authors normalise pixels with."""

    model: open_clip.CLIP
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _frozen(model: Any, device: torch.device) -> Any:
    return model.float().eval().requires_grad_(False).to(device)


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence what libraries say while they open: tables of weights that do not fit, of which errors are made here."""
    from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    disabled, bars = logging.root.manager.disable, is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    disable_progress_bar()
    try:
        yield
    finally:
        logging.disable(disabled)
        if bars:
            enable_progress_bar()


def _read_json(path: Path, what: str, needed: Collection[str], remedy: str) -> dict[str, Any]:
    """Read a file of settings, which must have the `needed` keys: libraries would take their own defaults for them."""
    if not path.is_file():
        raise MissingModelError(f"{what} was not found: there is no {path}; {remedy}")
    with reading(path, what, remedy, MissingModelError):
        found = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in needed if not isinstance(found, dict) or key not in found]
    if missing or not isinstance(found, dict):
        raise MissingModelError(f"{path} is not {what}: it has no {', '.join(missing) or 'keys'}; {remedy}")
    return found


def misfit(model: torch.nn.Module, state: Mapping[str, Any]) -> str:
    """Say how names and shapes of a state dict differ from those of a model's weights; "" where they are the same."""
    own = model.state_dict()
    reshaped = {key for key in own.keys() & state.keys() if getattr(state[key], "shape", None) != own[key].shape}
    return _differences(own.keys(), own.keys() - state.keys(), state.keys() - own.keys(), reshaped)


def _differences(
    own: Collection[str], missing: Collection[str], unknown: Collection[str], reshaped: Collection[str]
) -> str:
    """Say which weights do not fit; batch norm's counters of batches may be absent, all of them."""
    counters = {key for key in own if key.endswith(_COUNTER)}
    missing = set(missing) - counters if counters <= set(missing) else missing
    kinds = {"missing": missing, "unknown to it": unknown, "of another shape": reshaped}
    return ", ".join(
        f"{len(keys)} of the weights are {kind} (such as {min(keys)})" for kind, keys in kinds.items() if keys
    )


def _load(model: torch.nn.Module, state: Mapping[str, Any], path: Path, what: str, remedy: str) -> None:
    """Put the weights of a file into a model.

    Raises
    ------
    MissingModelError
        They are not exactly the model's, or not numbers.
    """
    if differences := misfit(model, state):
        raise MissingModelError(f"{path} does not have the weights of {what}: {differences}; {remedy}")
    model.load_state_dict(state, strict=False)  # but for the counter
    _check_numbers(state, path, what, remedy)


def _check_numbers(state: Mapping[str, torch.Tensor], path: Path, what: str, remedy: str) -> None:
    """Raise MissingModelError where a weight is not finite, or a matrix all zeros, as a stopped download leaves it."""
    for name, tensor in state.items():
        if tensor.is_floating_point():
            norm = torch.linalg.vector_norm(tensor, dtype=torch.float32)
            if not norm.isfinite() or (norm == 0 and tensor.ndim > 1):
                kind = "all zeros" if norm == 0 else "not finite"
                raise MissingModelError(f"{path} does not have the weights of {what}: {name} is {kind}; {remedy}")


def _weight_files(folder: Path, stems: tuple[str, str], what: str, remedy: str) -> list[Path]:
    """List the files of the weights in a folder of diffusers or transformers: one, or the pieces of an index."""
    names = [f"{stems[0]}.safetensors", f"{stems[1]}.bin"]
    for name in names:
        index = folder / f"{name}.index.json"
        if index.is_file():
            places = _read_json(index, f"the index of {what}'s weights", ["weight_map"], remedy)["weight_map"]
            with reading(index, f"the index of {what}'s weights", remedy, MissingModelError):
                files = [folder / name for name in sorted(set(places.values()))]
            if absent := [file for file in files if not file.is_file()]:
                raise MissingModelError(f"{what} was not found whole: there is no {absent[0]}; {remedy}")
            return files
        if (folder / name).is_file():
            return [folder / name]
    there = ", ".join(sorted(path.name for path in folder.iterdir()))
    raise MissingModelError(f"{what} was not found: there is no {folder / names[0]} (there is {there}); {remedy}")


def _open_folder(kind: Any, folder: Path, what: str, part: str, remedy: str) -> Any:
    """Open a model of diffusers or transformers with every weight from the files of its folder.

    Parameters
    ----------
    kind : class
        The model's.
    folder : Path
    what : str
        What the model is, for errors.
    part : str
        Key of `_SPARE`.
    remedy : str
        What to do about a folder that is not whole, for errors.
    """
    from safetensors import safe_open

    of_diffusers = hasattr(kind, "load_config")
    config = folder / "config.json"
    found = _read_json(
        config, f"the configuration of {what}", ["_class_name" if of_diffusers else "model_type"], remedy
    )
    if of_diffusers and found["_class_name"] != kind.__name__:
        raise MissingModelError(f"{config} is of a {found['_class_name']}, not of {what} ({kind.__name__}); {remedy}")
    stems = ("diffusion_pytorch_model", "diffusion_pytorch_model") if of_diffusers else ("model", "pytorch_model")
    files = _weight_files(folder, stems, what, remedy)
    for file in files:
        if file.suffix == ".safetensors":
            with reading(file, f"the weights of {what}", remedy, MissingModelError), safe_open(file, "pt"):
                pass
    # What fails without weights is the configuration's fault.
    with reading(config, f"the configuration of {what}", remedy, MissingModelError), torch.device("meta"):
        _ = kind.from_config(found) if of_diffusers else kind(kind.config_class.from_pretrained(folder))
    options = {"low_cpu_mem_usage": False} if of_diffusers else {}
    with reading(files[0], f"the weights of {what}", remedy, MissingModelError), _quietly():
        model, info = kind.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    spare = _SPARE.get(part)
    unknown = [key for key in info["unexpected_keys"] if not (spare and spare.search(key))]
    reshaped = [key for key, *_ in info["mismatched_keys"]]
    differences = _differences(model.state_dict().keys(), info["missing_keys"], unknown, reshaped)
    if differences:
        raise MissingModelError(f"{files[0]} does not have the weights of {what}: {differences}; {remedy}")
    _check_numbers(model.state_dict(), files[0], what, remedy)
    return model


def _part_folder(name: str, revision: str | None, part: str) -> tuple[Path, str]:
    """Folder of a part of Stable Diffusion, local or in the hub's cache, and what to do where it is not whole."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    main, local = _MAIN_FILES.get(part, "config.json"), REPOSITORY / name
    other = "set experiment.models.stable_diffusion to the folder or file that has it"
    if local.is_dir():
        if not (local / part / main).is_file():
            raise MissingModelError(
                f"Stable Diffusion's {part} was not found: there is no {local / part / main}; put it there, or {other}"
            )
        return local / part, f"get it again, or {other}"
    where = f" at revision {revision}" if revision else ""
    nowhere = (
        f"Stable Diffusion's {part} was not found: {name!r}{where} is neither a folder or checkpoint file "
        f"(looked at {local})"
    )
    try:
        file = hf_hub_download(name, f"{part}/{main}", revision=revision, local_files_only=True)
    except HFValidationError as error:
        raise MissingModelError(f"{nowhere} nor a name on the hub; {other}") from error
    except OSError as error:
        raise MissingModelError(
            f"{nowhere}, nor is {part}/{main} of it in the hub's cache. To get it, accept the licence on "
            f"https://huggingface.co/{name}, log in with `hf auth login`, and run python data/00_get_models.py with "
            f"this configuration, or {other}"
        ) from error
    return Path(file).parent, "python data/00_get_models.py, with this configuration, says how to mend it"


def _open_part(kind: Any, name: str, revision: str | None, part: str, device: torch.device) -> Any:
    """Open a model that is a part of Stable Diffusion."""
    if (REPOSITORY / name).is_file():
        return _frozen(_open_checkpoint_part(kind, REPOSITORY / name, part), device)
    folder, remedy = _part_folder(name, revision, part)
    return _frozen(_open_folder(kind, folder, f"Stable Diffusion's {part}", part, remedy), device)


def _read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Read CompVis' checkpoint: name to weight, mapped from the disk, so that what is not used takes no memory."""
    from safetensors.torch import load_file

    # What checkpoints of that time name beside tensors: a class of the training framework, and numbers.
    allowed: list[Any] = [
        (_Callback, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
        *_OLD_NUMBERS,
    ]
    with reading(path, "a checkpoint of Stable Diffusion v1", _AGAIN, MissingModelError):
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(allowed):
                state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        return dict(state.get("state_dict", state))


def _open_checkpoint_part(kind: Any, path: Path, part: str) -> Any:
    """Open a part of CompVis' checkpoint of Stable Diffusion v1; the file is let go of on return."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

    what, prefix = "a checkpoint of Stable Diffusion v1", _CHECKPOINT_PREFIXES[part]
    state = {key: value for key, value in _read_checkpoint(path).items() if key.startswith(prefix)}
    if not state:
        raise MissingModelError(f"{path} is not {what}: it has no weights {prefix}*; {_AGAIN}")
    if part == "text_encoder":
        model = kind(kind.config_class.from_pretrained(_STABLE_DIFFUSION_V1, subfolder=part))
        converted = {key.removeprefix(prefix): state[key] for key in state if not _POSITIONS.search(key)}
    else:
        config = kind.load_config(_STABLE_DIFFUSION_V1, subfolder=part)
        model = kind.from_config(config)
        convert = convert_ldm_unet_checkpoint if part == "unet" else convert_ldm_vae_checkpoint
        try:
            converted = convert(state, config)
        except KeyError as error:
            raise MissingModelError(f"{path} is not {what}: its {part} lacks {error}; {_AGAIN}") from error
        if len(converted) != len(state):  # the conversion passes over names that it does not know
            raise MissingModelError(
                f"{path} is not {what}: it has {len(state)} weights {prefix}*, of which {len(converted)} are known; "
                f"{_AGAIN}"
            )
    _load(model, converted, path, f"Stable Diffusion v1's {part}", _AGAIN)
    return model


class _Callback:
    """Stands for a class of the training framework in checkpoints."""


def clip_tokenizer() -> CLIPTokenizer:
    """Tokenizer of OpenAI's CLIP, which is Stable Diffusion's, from the vocabulary that comes with open_clip."""
    import gzip

    from open_clip.tokenizer import bytes_to_unicode, default_bpe
    from transformers import CLIPTokenizer

    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    letters = list(bytes_to_unicode().values())
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)  # type: ignore[arg-type]


def open_text_encoder(name: str, revision: str | None, device: torch.device) -> tuple[CLIPTokenizer, CLIPTextModel]:
    """Open Stable Diffusion's tokenizer and CLIP text encoder.

    Raises
    ------
    MissingModelError
        One is absent or broken, or the tokenizer is not the encoder's.
    """
    from transformers import CLIPTextModel

    if (REPOSITORY / name).is_file():
        tokenizer, folder = clip_tokenizer(), REPOSITORY / name
    else:
        folder, remedy = _part_folder(name, revision, "tokenizer")
        tokenizer = _open_tokenizer(folder, remedy)
    encoder = _open_part(CLIPTextModel, name, revision, "text_encoder", device)
    if len(tokenizer) != encoder.config.vocab_size:
        raise MissingModelError(
            f"Stable Diffusion's tokenizer in {folder} has {len(tokenizer)} words, but its text_encoder takes "
            f"{encoder.config.vocab_size}: they are of two models; get both again"
        )
    return tokenizer, encoder


def _open_tokenizer(folder: Path, remedy: str) -> CLIPTokenizer:
    """Open a tokenizer whose files are whole: transformers would take an empty one in place of what is absent."""
    from transformers import CLIPTokenizer

    what = "Stable Diffusion's tokenizer"
    _read_json(folder / "tokenizer_config.json", f"the configuration of {what}", ["model_max_length"], remedy)
    if (folder / "special_tokens_map.json").is_file():
        _read_json(folder / "special_tokens_map.json", f"the special tokens of {what}", [], remedy)
    if (folder / "tokenizer.json").is_file():
        file = folder / "tokenizer.json"
        _read_json(file, what, ["model", "added_tokens"], remedy)
    else:
        file = folder / "merges.txt"
        if not file.is_file() or not (folder / "vocab.json").is_file():
            raise MissingModelError(
                f"{what} was not found: there is neither {folder / 'tokenizer.json'} nor vocab.json and merges.txt; "
                f"{remedy}"
            )
        _read_json(folder / "vocab.json", f"the words of {what}", ["<|endoftext|>"], remedy)
    with reading(file, what, remedy, MissingModelError):
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    # Words are put together from letters; without the merges all text would be spelt.
    made = {"".join(pair) for pair in model["merges"]}
    letters = {word for word in model["vocab"] if len(word.removesuffix("</w>")) == 1}
    if lost := set(model["vocab"]) - made - letters - set(tokenizer.all_special_tokens):
        raise MissingModelError(
            f"{file} is not {what}: it cannot make {len(lost)} of its {len(tokenizer)} words (such as {min(lost)!r}); "
            f"{remedy}"
        )
    return tokenizer


def open_vae(name: str, revision: str | None, device: torch.device) -> AutoencoderKL:
    """Open Stable Diffusion's autoencoder (the paper calls it VQ-VAE; it is AutoencoderKL)."""
    from diffusers import AutoencoderKL

    return _open_part(AutoencoderKL, name, revision, "vae", device)


def open_unet(name: str, revision: str | None, device: torch.device) -> UNet2DConditionModel:
    """Open Stable Diffusion's noise predictor."""
    from diffusers import UNet2DConditionModel

    return _open_part(UNet2DConditionModel, name, revision, "unet", device)


def open_scheduler(name: str, revision: str | None) -> DDIMScheduler:
    """Open the noise schedule as CompVis' DDIM sampler uses it.

    The options that the hub's own file sets otherwise, or leaves to defaults that differ, are fixed here:
    no clipping, alpha of the last step taken from the schedule, timesteps 1, 21, ..., 981.
    """
    from diffusers import DDIMScheduler

    if (REPOSITORY / name).is_file():
        name = str(_STABLE_DIFFUSION_V1)  # the checkpoint has weights only
    folder, remedy = _part_folder(name, revision, "scheduler")
    file, what = folder / "scheduler_config.json", "Stable Diffusion's scheduler"
    found = _read_json(file, what, ["num_train_timesteps", "beta_start", "beta_end", "beta_schedule"], remedy)
    with reading(file, what, remedy, MissingModelError):
        return DDIMScheduler.from_config(  # type: ignore[return-value]
            found, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
        )


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

    _check_clip_names(name, weights)
    remedy, normalisation = _AGAIN, None
    if name.startswith("local-dir:"):
        folder = REPOSITORY / name.removeprefix("local-dir:")
        config, path, name = folder / "open_clip_config.json", folder / _CLIP_FILE, f"local-dir:{folder}"
        if not path.is_file():
            raise MissingModelError(f"CLIP was not found: there is no {path}; {_AGAIN}, or name another folder")
        what = "the configuration of a CLIP"
        normalisation = _read_json(config, what, ["model_cfg", "preprocess_cfg"], _AGAIN)["preprocess_cfg"]
    else:
        config = path = REPOSITORY / str(weights)
        if not path.is_file():
            normalisation = open_clip.get_pretrained_cfg(name, str(weights))
            _check_activation(name, str(weights), normalisation)
            path = Path(_cached_clip_weights(name, str(weights)))
            remedy = "python data/00_get_models.py, with this configuration, says how to mend it"
    with reading(path, f"the weights of CLIP {name}", remedy, MissingModelError):
        state = load_state_dict(str(path), weights_only=True)
        state = {key: value for key, value in state.items() if not _SPARE["clip"].search(key)}
    with reading(config, "the configuration of a CLIP", _AGAIN, MissingModelError), _quietly():
        model: Any = open_clip.create_model(
            name, precision="fp32", load_weights=False, pretrained_image=False, pretrained_text=False
        )
    visual: Any = model.visual
    if normalisation is None:
        normalisation = {"mean": visual.image_mean, "std": visual.image_std}
    mean, std = (_three_numbers(normalisation, key, config) for key in ("mean", "std"))
    _load(model, state, path, f"CLIP {name}", remedy)
    return Clip(_frozen(model, device), mean, std)


def _check_clip_names(name: str, weights: str | None) -> None:
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


def _three_numbers(settings: Any, key: str, path: Path) -> tuple[float, float, float]:
    """Take what pixels are normalised with from settings: three numbers, and of deviations none that is zero."""
    values = settings.get(key) if isinstance(settings, dict) else None
    if (
        not isinstance(values, list | tuple)
        or len(values) != 3
        or not all(isinstance(value, int | float) and np.isfinite(value) for value in values)
        or (key.endswith("std") and min(values) <= 0)
    ):
        raise MissingModelError(
            f"{path}: {key}, which pixels are normalised with, is {values!r}, not three numbers; {_AGAIN}"
        )
    return tuple(values)


def clip_features(clip: Clip) -> FeatureNetwork:
    """Wrap a CLIP: its node "embedding" is compared, and of CLIP's ResNets also layer1 ... layer4, and pooled."""
    visual: Any = clip.model.visual
    layers = [name for name in ("layer1", "layer2", "layer3", "layer4") if hasattr(visual, name)]
    outputs = _outputs_of(visual, layers)

    def forward(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        embedding = clip.model.encode_image(pixels)
        pooled = {"pooled": outputs["layer4"].mean(dim=(2, 3))} if layers else {}
        return {**outputs, **pooled, "embedding": embedding}

    return FeatureNetwork(forward, clip.mean, clip.std)


def require_stand_ins(clip: Clip) -> None:
    """Raise DataError unless a CLIP has the layers that stand in for the networks that score."""
    if not hasattr(clip.model.visual, "layer4"):
        raise DataError(
            "evaluation.networks: scoring_clip needs a CLIP with a ResNet, such as the miniature's; set it to imagenet"
        )


def _outputs_of(model: Any, names: list[str]) -> dict[str, torch.Tensor]:
    """Make a dict that holds, after each call of the model, what some of its modules returned."""
    outputs: dict[str, torch.Tensor] = {}
    for name in names:
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.update({name: output})
        )
    return outputs


def scoring_weights(folder: Path | None) -> dict[str, Path]:
    """Where the weight file of each network that scores is, or would be: in torch.hub's `folder`, or its own."""
    checkpoints = (folder or Path(torch.hub.get_dir())) / "checkpoints"
    return {name: checkpoints / url.rsplit("/", 1)[1] for name, url in _SCORING_URLS.items()}


def feature_network(name: str, folder: Path | None, device: torch.device) -> FeatureNetwork:
    """Open a network trained on ImageNet, whose features scores compare.

    Parameters
    ----------
    name : str
        "alexnet" (nodes features.4, features.11), "inception_v3", "efficientnet_b1_v1", "efficientnet_b1_v2" or
        "swav_resnet50" (node avgpool).
    folder : Path or None
        torch.hub's folder; None: its own.

    Raises
    ------
    MissingModelError
        The weight file is absent or broken.
    """
    from torchvision import models

    path = scoring_weights(folder)[name]
    architecture = name.removeprefix("swav_").removesuffix("_v1").removesuffix("_v2")
    options = {"transform_input": True, "init_weights": False} if name == "inception_v3" else {}
    model = models.get_model(architecture, weights=None, **options)
    state = _read_weights(path, name)
    if name == "swav_resnet50":  # trained without a classifier, which is not used here either
        state = {key: value for key, value in state.items() if not _SPARE[name].search(key)}
        state = {**{key: value for key, value in model.state_dict().items() if key.startswith("fc.")}, **state}
    _load(model, state, path, name, _DELETE)
    model = _frozen(model, device)
    outputs = _outputs_of(model, ["features.4", "features.11"] if name == "alexnet" else ["avgpool"])

    def forward(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        model(pixels)
        return dict(outputs)

    return FeatureNetwork(forward, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _read_weights(path: Path, name: str) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise MissingModelError(f"{path} is absent; python data/00_get_models.py downloads it")
    with reading(path, f"the weights of {name}", _DELETE, MissingModelError):
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {key.removeprefix("module."): value for key, value in state.items()}


def resnet50_weights(folder: Path | None) -> Path:
    """Where the weights of torchvision's ResNet-50 are, or would be: in torch.hub's `folder`, or its own."""
    return (folder or Path(torch.hub.get_dir())) / "checkpoints" / _RESNET50_URL.rsplit("/", 1)[1]


def open_pooled_network(name: str, models: Models, hub: Path | None, device: torch.device) -> PooledNetwork:
    """Open a network whose pooled features are decoded: "resnet50", in torch.hub's folder `hub`, or "scoring_clip".

    Raises
    ------
    MissingModelError
        The weights are absent or broken.
    """
    if name == "scoring_clip":
        clip = open_clip_model(models.scoring_clip, models.scoring_clip_weights, device)
        require_stand_ins(clip)
        features = clip_features(clip)
        visual: Any = clip.model.visual
        return PooledNetwork(visual, lambda x: features.forward(x)["pooled"], None, clip.mean, clip.std)
    from torchvision.models import resnet50

    path = resnet50_weights(hub)
    model, state = resnet50(weights=None), _read_weights(path, name)
    _load(model, state, path, name, _DELETE)
    head = state["fc.weight"].float().numpy(), state["fc.bias"].float().numpy()
    model = _frozen(model, device)
    model.fc = torch.nn.Identity()
    return PooledNetwork(model, model, head, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def open_safety_checker(models: Models, device: torch.device) -> tuple[Any, Any]:
    """Open Stable Diffusion's safety checker, and what prepares pictures for it.

    Raises
    ------
    MissingModelError
        It is not with the model; CompVis' checkpoint file and the miniature have none.
    """
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessor

    source = (models.stable_diffusion, models.stable_diffusion_revision)
    if (REPOSITORY / models.stable_diffusion).is_file():
        raise MissingModelError(f"{models.stable_diffusion} has no safety checker; set safety_checker to false")
    checker = _open_part(StableDiffusionSafetyChecker, *source, "safety_checker", device)
    folder, remedy = _part_folder(*source, "feature_extractor")
    file, what = folder / "preprocessor_config.json", "Stable Diffusion's feature_extractor"
    processing = _read_json(file, what, ["image_mean", "image_std", "size", "crop_size"], remedy)
    for key in ("image_mean", "image_std"):
        _three_numbers(processing, key, file)
    with reading(file, what, remedy, MissingModelError):
        return checker, CLIPImageProcessor.from_pretrained(folder, local_files_only=True)


def open_instance_encoder(name: str, hub: Path | None, device: torch.device) -> InstanceEncoder:
    """Open what conditions IC-GAN: "swav_resnet50", in torch.hub's folder `hub`, or a transformers folder of a ResNet.

    Raises
    ------
    MissingModelError
        The weights or the settings are absent or broken, or pixels are prepared in a way that this does not know.
    """
    if name == "swav_resnet50":
        network = feature_network(name, hub, device)
        return InstanceEncoder(lambda x: network.forward(x)["avgpool"].flatten(1), network.mean, network.std, 224)
    from transformers import ResNetModel

    folder = REPOSITORY / name
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        raise MissingModelError(
            f"experiment.ozcelik.instance_encoder: {name} is neither swav_resnet50 nor a transformers folder of a "
            f"ResNet: there is no {file}; {_AGAIN}"
        )
    needed = ["image_mean", "image_std", "size"]
    processing = _read_json(file, "the settings of an image processor", needed, _AGAIN)
    mean, std = (_three_numbers(processing, key, file) for key in ("image_mean", "image_std"))
    size = _input_size(processing, file)
    model = _frozen(_open_folder(ResNetModel, folder, "an instance encoder", "instance_encoder", _AGAIN), device)
    return InstanceEncoder(lambda x: model(x).pooler_output.flatten(1), mean, std, size)


def _input_size(processing: dict[str, Any], path: Path) -> int:
    """Pixels of the square that a network of transformers sees, from the settings of its image processor.

    That is what the picture is cropped to, or else resized to. ConvNext's processor, which ResNets come with, takes
    {"shortest_edge": 224} and "crop_pct" for the size after the crop, as the number that is written there.

    Raises
    ------
    MissingModelError
        The settings are not those of a square, or leave out what is done with all pictures here: to scale pixels to
        [0, 1] and to normalise them.
    """
    crops = processing.get("do_center_crop", "crop_size" in processing) and "crop_size" in processing
    key = "crop_size" if crops else "size"
    size = processing[key]
    if isinstance(size, dict):
        edges = [size["shortest_edge"]] if size.keys() == {"shortest_edge"} else [size.get("height"), size.get("width")]
    else:
        edges = [size]
    if len(set(map(repr, edges))) != 1 or type(edges[0]) is not int or edges[0] < 1:
        raise MissingModelError(
            f'{path}: {key} is {size!r}, not a number of pixels, {{"shortest_edge": pixels}}, or equal height and '
            f"width; {_AGAIN}"
        )
    factor = processing.get("rescale_factor", 1 / 255)
    if not all(processing.get(f"do_{step}", True) is True for step in ("resize", "rescale", "normalize")) or (
        not isinstance(factor, int | float) or abs(255 * factor - 1) > 0.01
    ):
        raise MissingModelError(
            f"{path}: pixels are resized, scaled by 1/255 and normalised here, which do_resize, do_rescale, "
            f"rescale_factor or do_normalize says otherwise; take another instance encoder"
        )
    return edges[0]


def icgan_state(name: str) -> dict[str, torch.Tensor]:
    """Read the weights of IC-GAN's generator, on the CPU, in float32.

    Parameters
    ----------
    name : str
        A folder of a public checkpoint, of which the generator with the lower best FID is taken, as its code does; one
        file of it (`G_ema_best0.pth`); or a folder with `generator.safetensors`.

    Raises
    ------
    MissingModelError
        The files are absent or broken.
    """
    from safetensors.torch import load_file

    file = icgan_file(name)
    with reading(file, "a checkpoint of IC-GAN", _AGAIN, MissingModelError):
        of_safetensors = file.suffix == ".safetensors"
        state = load_file(file) if of_safetensors else torch.load(file, map_location="cpu", weights_only=True)
        state = {key: value.float() for key, value in state.items()}
    _check_numbers(state, file, "IC-GAN's generator", _AGAIN)
    return state


def icgan_file(name: str) -> Path:
    """File that `icgan_state` reads."""
    path = REPOSITORY / name
    if path.is_file():
        return path
    return path / "generator.safetensors" if (path / "generator.safetensors").is_file() else _best_icgan(path)


def _best_icgan(folder: Path) -> Path:
    """File of the generator, in a folder of a public checkpoint, whose training had the lower best FID."""
    generators = {path.stem.removeprefix("G_ema_best"): path for path in sorted(folder.glob("G_ema_best*.pth"))}
    if not generators:
        raise MissingModelError(
            f"IC-GAN was not found: there is neither {folder / 'G_ema_best*.pth'} nor "
            f"{folder / 'generator.safetensors'}. Its weights are for non-commercial use (CC BY-NC 4.0). To get them, "
            f"run `mkdir -p {folder.parent}; curl -L {_ICGAN_URL} | tar xz -C {folder.parent}`; or set "
            f"experiment.ozcelik.generator to another folder, or leave this rival out: experiment.ozcelik=null"
        )
    scores = {}
    for number in generators if len(generators) > 1 else ():
        record = folder / f"state_dict_best{number}.pth"
        others = ", ".join(map(str, generators.values()))
        remedy = f"it says how good {generators[number].name} is: set experiment.ozcelik.generator to one of {others}"
        with (
            reading(record, "a record of IC-GAN's training", remedy, MissingModelError),
            torch.serialization.safe_globals([*_OLD_NUMBERS, torch.nn.ReLU]),  # its settings name an activation
        ):
            scores[number] = float(torch.load(record, map_location="cpu", weights_only=True)["best_FID"])
    return generators[min(generators, key=lambda number: scores.get(number, 0.0))]


def open_lpips(folder: Path | None, device: torch.device) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Open LPIPS on AlexNet (Zhang et al. 2018): from two batches in [0, 1], (n, 3, height, width), to n distances.

    Raises
    ------
    MissingModelError
        AlexNet's weights are absent.
    """
    from torchmetrics.functional.image import lpips
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity
    from torchvision.models import alexnet

    path = scoring_weights(folder)["alexnet"]
    _load(alexnet(weights=None), _read_weights(path, "alexnet"), path, "alexnet", _DELETE)
    before = torch.hub.get_dir()
    torch.hub.set_dir(path.parent.parent)
    try:
        network: Any = LearnedPerceptualImagePatchSimilarity(net_type="alex").net
    finally:
        torch.hub.set_dir(before)
    # torchmetrics takes what it finds in the file of LPIPS' own weights, and leaves the others random.
    heads, own = Path(lpips.__file__).parent / "lpips_models" / "alex.pth", network.state_dict()
    with reading(heads, "the weights of LPIPS", "install torchmetrics again", MissingModelError):
        state = torch.load(heads, map_location="cpu", weights_only=True)
        if lost := [key for key in own if re.match(r"lin\d", key) and key not in state]:
            raise ValueError(f"no {', '.join(lost)}")
    network = _frozen(network, device)
    return lambda a, b: network(a, b, normalize=True).flatten()


def _cached_clip_weights(name: str, tag: str) -> str:
    """Path of the weights that open_clip calls `tag`, which must be in the hub's cache already."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository = _clip_repository(name, tag)
    try:
        return hf_hub_download(repository, _CLIP_FILE, local_files_only=True)
    except LocalEntryNotFoundError as error:
        raise MissingModelError(
            f"CLIP {name!r} with weights {tag!r} is not on this machine. To get it, run once, with the network, "
            "python data/00_get_models.py with this configuration, or name a weight file, or a folder as "
            "local-dir:FOLDER."
        ) from error


def _clip_repository(name: str, tag: str) -> str:
    """Hub repository of the weights that open_clip calls `tag`."""
    import open_clip

    known = open_clip.get_pretrained_cfg(name, tag)
    if not known:
        raise MissingModelError(
            f"open_clip knows no weights {tag!r} for {name!r}; it has {open_clip.list_pretrained_tags_by_model(name)}"
        )
    return known["hf_hub"].rstrip("/")


def download(models: Models, safety_checker: bool = False) -> Iterator[Path]:
    """Download what a configuration names on the hub and is not here yet; yield the folder of each model.

    Stable Diffusion's safety checker (1.2 GB) only if it is asked for.

    Raises
    ------
    MissingModelError
        The licence was not accepted, nobody is logged in, or there is no network.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    wanted = []
    if not (REPOSITORY / models.stable_diffusion).exists():
        wanted.append((models.stable_diffusion, models.stable_diffusion_revision, _STABLE_DIFFUSION_FILES))
    for name, weights in {
        (models.clip, models.clip_weights),
        (models.scoring_clip, models.scoring_clip_weights),
    }:
        _check_clip_names(name, weights)
        if weights is not None and not (REPOSITORY / weights).is_file():
            wanted.append((_clip_repository(name, weights), None, [_CLIP_FILE]))
    for repository, revision, patterns in wanted:
        try:
            yield Path(
                snapshot_download(
                    repository,
                    revision=revision,
                    allow_patterns=patterns,
                    ignore_patterns=None if safety_checker else ["safety_checker/*"],
                )
            )
        except HFValidationError as error:
            raise MissingModelError(f"{repository} is neither a path that exists nor a name on the hub") from error
        except Exception as error:  # the hub's own, and those of what it uses for the network
            raise MissingModelError(
                f"{repository} could not be downloaded: {_first_line(error)}; check the network, accept the licence on "
                f"https://huggingface.co/{repository} if it has one, and log in with `hf auth login`"
            ) from error


def download_scoring_weights(folder: Path | None) -> Iterator[Path]:
    """Download the networks that scores compare features of, where they are absent or broken; yield the path of each.

    Raises
    ------
    MissingModelError
        There is no network, or a file is not what its name says.
    """
    for name, path in scoring_weights(folder).items():
        yield _download_weights(name, _SCORING_URLS[name], path)


def download_resnet50(folder: Path | None) -> Path:
    """Download torchvision's ResNet-50 like the networks that score."""
    return _download_weights("resnet50", _RESNET50_URL, resnet50_weights(folder))


def _download_weights(name: str, url: str, path: Path) -> Path:
    checksum = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if not path.is_file() or (checksum and not _sha256(path).startswith(checksum[1])):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), checksum and checksum[1])
        except Exception as error:  # of the network, the disk, or the checksum
            raise MissingModelError(f"{path.name}: {url} could not be downloaded: {_first_line(error)}") from error
    if not checksum:
        _read_weights(path, name)
    return path


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def damaged_files(folder: Path) -> list[Path]:
    """Files of a folder in the hub's cache whose content is not what the hub has.

    The cache stores each large file, as the hub gave it, under its SHA-256, and each small one under Git's checksum.
    """
    damaged = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.resolve().name
        if (re.fullmatch("[0-9a-f]{64}", name) and _sha256(path) != name) or (
            re.fullmatch("[0-9a-f]{40}", name) and _git_sha1(path) != name
        ):
            damaged.append(path)
    return damaged


def _git_sha1(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def random_stable_diffusion(device: torch.device) -> dict[str, Any]:
    """Stable Diffusion v1-4's parts at full size with random weights, for tests and timings; "meta" takes no memory."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = str(_STABLE_DIFFUSION_V1)
    unet: Any = UNet2DConditionModel.load_config(folder, subfolder="unet")
    vae: Any = AutoencoderKL.load_config(folder, subfolder="vae")
    with device:
        models = {
            "unet": UNet2DConditionModel.from_config(unet),
            "vae": AutoencoderKL.from_config(vae),
            "text_encoder": CLIPTextModel(CLIPTextConfig.from_pretrained(folder, subfolder="text_encoder")),
        }
    models = {name: _frozen(model, device) for name, model in models.items()}
    return {**models, "scheduler": DDIMScheduler.from_pretrained(folder, subfolder="scheduler")}


def random_clip(name: str, device: torch.device) -> Clip:
    """Make an open_clip architecture with random weights, for tests and timings."""
    import open_clip

    model = open_clip.create_model(name, pretrained=None, precision="fp32")
    visual: Any = model.visual
    return Clip(_frozen(model, device), tuple(visual.image_mean), tuple(visual.image_std))
