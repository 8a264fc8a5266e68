"""The only place that opens a model, real or miniature.

Stable Diffusion comes as a diffusers folder (`tokenizer/`, `text_encoder/`, `vae/`, `unet/`, `scheduler/`), local or in
the hub's cache, or as the original checkpoint file (`sd-v1-4.ckpt`); CLIP comes through open_clip, by name or from a
local folder. Only `download` uses the network: a model that is not on the disk is an error that says how to get it. All
models are returned frozen, in evaluation mode, in float32.

The model libraries are imported when a model is opened: that takes seconds, which a script that finds its work
done need not spend.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from minddiffuser.config import Models
from minddiffuser.store import DataError

if TYPE_CHECKING:
    import open_clip
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

REPOSITORY = Path(__file__).parents[1]
_STABLE_DIFFUSION_V1 = Path(__file__).parent / "stable_diffusion_v1"  # the public configurations of its parts
_STABLE_DIFFUSION_FILES = ["*/*.json", "*/merges.txt", "*/*model.safetensors"]  # fp16 variants have other names
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
_DELETE = "delete it and run data/00_get_models.py"
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


def _open_part(opener: Callable[..., Any], folder: str, revision: str | None, part: str, **kwargs: Any) -> Any:
    local = REPOSITORY / folder
    if local.is_file():
        return getattr(_open_checkpoint(local), part)
    source = str(local) if local.is_dir() else folder
    try:
        return opener(source, subfolder=part, revision=revision, local_files_only=True, **kwargs)
    except (OSError, ValueError) as error:
        where = f" at revision {revision}" if revision else ""
        raise MissingModelError(
            f"Stable Diffusion's {part} was not found: {folder!r}{where} is neither a folder or checkpoint file "
            f"(looked at {local}) nor in the hub's cache. To get it, accept the licence on "
            f"https://huggingface.co/{folder}, log in with `hf auth login`, and run\n"
            "    python data/00_get_models.py with this configuration\n"
            f"or set experiment.models.stable_diffusion to the folder or file that has it. ({error})"
        ) from error


@functools.lru_cache(maxsize=1)
def _open_checkpoint(path: Path) -> Any:
    """Open CompVis' checkpoint of Stable Diffusion v1, all parts at once, as a diffusers pipeline."""
    from diffusers import StableDiffusionPipeline

    # What checkpoints of that time name beside tensors: a class of the training framework, and numbers.
    allowed: list[Any] = [
        (_Callback, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
        *_OLD_NUMBERS,
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            return StableDiffusionPipeline.from_single_file(
                str(path),
                config=str(_STABLE_DIFFUSION_V1),
                tokenizer=clip_tokenizer(),
                safety_checker=None,
                feature_extractor=None,
                local_files_only=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise MissingModelError(f"{path} is not a whole checkpoint of Stable Diffusion v1: {error}") from error


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

    found = _open_part(DDIMScheduler.from_pretrained, folder, revision, "scheduler")
    return DDIMScheduler.from_config(  # type: ignore[return-value]
        found.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading"
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
    from safetensors import SafetensorError

    of_openai = weights == "openai"
    if name.startswith("local-dir:"):
        folder = REPOSITORY / name.removeprefix("local-dir:")
        if not (folder / "open_clip_model.safetensors").is_file():
            raise MissingModelError(f"CLIP was not found: there is no {folder / 'open_clip_model.safetensors'}")
        name = f"local-dir:{folder}"
    if weights is not None and not Path(weights).is_file():
        weights = _cached_clip_weights(name, weights)
    try:
        model = open_clip.create_model(name, pretrained=weights, precision="fp32")
    except (SafetensorError, RuntimeError, OSError) as error:
        file = weights or f"{name.removeprefix('local-dir:')}/{_CLIP_FILE}"
        raise MissingModelError(f"{file} is truncated, or not the weights of {name} ({error}); get it again") from error
    visual: Any = model.visual
    if of_openai and "QuickGELU" not in type(visual.transformer.resblocks[0].mlp.gelu).__name__:
        raise DataError(f"OpenAI's CLIP computes with QuickGELU: use the architecture {name}-quickgelu, not {name}")
    return Clip(_frozen(model, device), tuple(visual.image_mean), tuple(visual.image_std))


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
    try:
        if name == "swav_resnet50":  # trained without a classifier, which is not used here either
            state = {key.removeprefix("module."): value for key, value in state.items()}
            state = {
                key: value for key, value in state.items() if not key.startswith(("projection_head", "prototypes"))
            }
            state = {**{key: value for key, value in model.state_dict().items() if key.startswith("fc.")}, **state}
        model.load_state_dict(state)
    except (RuntimeError, KeyError, AttributeError) as error:
        raise MissingModelError(f"{path} is not the weights of {name} ({error}); {_DELETE}") from error
    model = _frozen(model, device)
    outputs = _outputs_of(model, ["features.4", "features.11"] if name == "alexnet" else ["avgpool"])

    def forward(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        model(pixels)
        return dict(outputs)

    return FeatureNetwork(forward, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _read_weights(path: Path, name: str) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise MissingModelError(f"{path} is absent; python data/00_get_models.py downloads it")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise MissingModelError(f"{path} is truncated, or not the weights of {name} ({error}); {_DELETE}") from error


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
    try:
        model.load_state_dict(state)
    except (RuntimeError, AttributeError) as error:
        raise MissingModelError(f"{path} is not the weights of {name} ({error}); {_DELETE}") from error
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
    checker = _open_part(StableDiffusionSafetyChecker.from_pretrained, *source, "safety_checker")
    return _frozen(checker, device), _open_part(CLIPImageProcessor.from_pretrained, *source, "feature_extractor")


def open_instance_encoder(name: str, hub: Path | None, device: torch.device) -> InstanceEncoder:
    """Open what conditions IC-GAN: "swav_resnet50", in torch.hub's folder `hub`, or a transformers folder of a ResNet.

    Raises
    ------
    MissingModelError
        The weights are absent or broken.
    """
    if name in _SCORING_URLS:
        network = feature_network(name, hub, device)
        return InstanceEncoder(lambda x: network.forward(x)["avgpool"].flatten(1), network.mean, network.std, 224)
    from safetensors import SafetensorError
    from transformers import ResNetModel

    folder = REPOSITORY / name
    try:
        processing = json.loads((folder / "preprocessor_config.json").read_text())
        model = _frozen(ResNetModel.from_pretrained(folder, local_files_only=True), device)
    except (OSError, ValueError, SafetensorError) as error:
        raise MissingModelError(
            f"experiment.ozcelik.instance_encoder: {folder} is neither swav_resnet50 nor a whole transformers "
            f"folder of a ResNet ({error})"
        ) from error
    mean, std = (tuple(processing[key]) for key in ("image_mean", "image_std"))
    return InstanceEncoder(lambda x: model(x).pooler_output.flatten(1), mean, std, processing["size"]["height"])


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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = REPOSITORY / name
    try:
        if (path / "generator.safetensors").is_file():
            state = load_file(path / "generator.safetensors")
        else:
            file = path if path.is_file() else _best_icgan(path)
            state = torch.load(file, map_location="cpu", weights_only=True)
        return {key: value.float() for key, value in state.items()}
    except (OSError, EOFError, RuntimeError, AttributeError, SafetensorError, pickle.UnpicklingError) as error:
        raise MissingModelError(f"{path} is not a whole checkpoint of IC-GAN ({error}); get it again") from error


def _best_icgan(folder: Path) -> Path:
    """File of the generator, in a folder of a public checkpoint, whose training had the lower best FID."""
    generators = {path.stem.removeprefix("G_ema_best"): path for path in sorted(folder.glob("G_ema_best*.pth"))}
    if not generators:
        raise MissingModelError(
            f"IC-GAN was not found: experiment.ozcelik.generator is {folder}, which has no G_ema_best*.pth. Its "
            f"weights are for non-commercial use (CC BY-NC 4.0). To get them:\n    mkdir -p {folder.parent}; "
            f"curl -L {_ICGAN_URL} | tar xz -C {folder.parent}\nor leave this rival out: experiment.ozcelik=null"
        )
    scores = {}
    for number in generators if len(generators) > 1 else ():
        record = folder / f"state_dict_best{number}.pth"
        try:
            with torch.serialization.safe_globals([*_OLD_NUMBERS, torch.nn.ReLU]):  # its settings name an activation
                scores[number] = float(torch.load(record, map_location="cpu", weights_only=True)["best_FID"])
        except (OSError, EOFError, RuntimeError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise MissingModelError(
                f"{record}, which says how good {generators[number].name} is, cannot be read ({error}); set "
                f"experiment.ozcelik.generator to one of {', '.join(map(str, generators.values()))}"
            ) from error
    return generators[min(generators, key=lambda number: scores.get(number, 0.0))]


def open_lpips(folder: Path | None, device: torch.device) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Open LPIPS on AlexNet (Zhang et al. 2018): from two batches in [0, 1], (n, 3, height, width), to n distances.

    Raises
    ------
    MissingModelError
        AlexNet's weights are absent.
    """
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

    path = scoring_weights(folder)["alexnet"]
    if not path.is_file():
        raise MissingModelError(f"{path} is absent; python data/00_get_models.py downloads it")
    before = torch.hub.get_dir()
    torch.hub.set_dir(path.parent.parent)
    try:
        network: Any = LearnedPerceptualImagePatchSimilarity(net_type="alex").net
    finally:
        torch.hub.set_dir(before)
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
            f"CLIP {name!r} with weights {tag!r} is not on this machine. To get it, run once, with the network,\n"
            "    python data/00_get_models.py with this configuration\n"
            "or name a weight file, or a folder as local-dir:FOLDER."
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
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = []
    if not (REPOSITORY / models.stable_diffusion).exists():
        wanted.append((models.stable_diffusion, models.stable_diffusion_revision, _STABLE_DIFFUSION_FILES))
    for name, weights in {
        (models.clip, models.clip_weights),
        (models.scoring_clip, models.scoring_clip_weights),
    }:
        if weights is not None and not Path(weights).is_file():
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
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise MissingModelError(
                f"{repository} could not be downloaded: {error}\nCheck the network, accept the licence on "
                f"https://huggingface.co/{repository} if it has one, and log in with `hf auth login`."
            ) from error


def download_scoring_weights(folder: Path | None) -> Iterator[Path]:
    """Download the networks that scores compare features of, where they are absent or broken; yield the path of each.

    Raises
    ------
    MissingModelError
        There is no network, or a file is not what its name says.
    """
    for name, path in scoring_weights(folder).items():
        yield _download_weights(_SCORING_URLS[name], path)


def download_resnet50(folder: Path | None) -> Path:
    """Download torchvision's ResNet-50 like the networks that score."""
    return _download_weights(_RESNET50_URL, resnet50_weights(folder))


def _download_weights(url: str, path: Path) -> Path:
    checksum = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if not path.is_file() or (checksum and not _sha256(path).startswith(checksum[1])):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), checksum and checksum[1])
        except (OSError, RuntimeError) as error:
            raise MissingModelError(f"{url} could not be downloaded: {error}") from error
    return path


def damaged_files(folder: Path) -> list[Path]:
    """Files of a folder in the hub's cache whose content is not what the hub has.

    The cache stores each large file under its SHA-256, as the hub gave it; small files, under other names, are not
    checked.
    """
    damaged = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.resolve().name
        if re.fullmatch("[0-9a-f]{64}", name) and _sha256(path) != name:
            damaged.append(path)
    return damaged


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
