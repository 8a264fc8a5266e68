"""Networks whose pooled features Semantic Brain Decoding decodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from minddiffuser.config.method import Models
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.pretrained.files import frozen, load_weights
from minddiffuser.pretrained.scoring import DELETE, clip_features, read_weights, require_stand_ins

# torchvision's IMAGENET1K_V1: its later weights (V2) have other features.
RESNET50_URL = "https://download.pytorch.org/models/resnet50-0676ba61.pth"


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
    model, state = resnet50(weights=None), read_weights(path, name)
    load_weights(model, state, path, name, DELETE)
    head = state["fc.weight"].float().numpy(), state["fc.bias"].float().numpy()
    model = frozen(model, device)
    model.fc = torch.nn.Identity()
    return PooledNetwork(model, model, head, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def resnet50_weights(folder: Path | None) -> Path:
    """Where the weights of torchvision's ResNet-50 are, or would be: in torch.hub's `folder`, or its own."""
    return (folder or Path(torch.hub.get_dir())) / "checkpoints" / RESNET50_URL.rsplit("/", 1)[1]
