"""Networks that scores compare features of: torchvision's, LPIPS on one of them, and CLIP's layers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from minddiffuser.pretrained.clip import Clip
from minddiffuser.pretrained.files import MissingModelError, frozen, load_weights
from minddiffuser.store import DataError, reading

# A name's last part is the beginning of the file's SHA-256, but for SwAV's.
SCORING_URLS = {
    "alexnet": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "inception_v3": "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
    "efficientnet_b1_v1": "https://download.pytorch.org/models/efficientnet_b1_rwightman-bac287d4.pth",
    "efficientnet_b1_v2": "https://download.pytorch.org/models/efficientnet_b1-c27df63c.pth",
    "swav_resnet50": "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
}
DELETE = "delete it and run data/00_get_models.py"
_SPARE_OF_SWAV = re.compile(r"^(projection_head|prototypes)")  # trained with, and cut off for features


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
    state = read_weights(path, name)
    if name == "swav_resnet50":  # trained without a classifier, which is not used here either
        state = {key: value for key, value in state.items() if not _SPARE_OF_SWAV.search(key)}
        state = {**{key: value for key, value in model.state_dict().items() if key.startswith("fc.")}, **state}
    load_weights(model, state, path, name, DELETE)
    model = frozen(model, device)
    outputs = _outputs_of(model, ["features.4", "features.11"] if name == "alexnet" else ["avgpool"])

    def forward(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        model(pixels)
        return dict(outputs)

    return FeatureNetwork(forward, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def scoring_weights(folder: Path | None) -> dict[str, Path]:
    """Where the weight file of each network that scores is, or would be: in torch.hub's `folder`, or its own."""
    checkpoints = (folder or Path(torch.hub.get_dir())) / "checkpoints"
    return {name: checkpoints / url.rsplit("/", 1)[1] for name, url in SCORING_URLS.items()}


def read_weights(path: Path, name: str) -> dict[str, torch.Tensor]:
    """Read a weight file of torch.hub's folder: name to weight.

    Raises
    ------
    MissingModelError
        It is absent or broken.
    """
    if not path.is_file():
        raise MissingModelError(f"{path} is absent; python data/00_get_models.py downloads it")
    with reading(path, f"the weights of {name}", DELETE, MissingModelError):
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {key.removeprefix("module."): value for key, value in state.items()}


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
    load_weights(alexnet(weights=None), read_weights(path, "alexnet"), path, "alexnet", DELETE)
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
    network = frozen(network, device)
    return lambda a, b: network(a, b, normalize=True).flatten()


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
