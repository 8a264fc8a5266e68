"""The field's eight metrics in the two ways that published tables compute them, which do not give the same numbers.

Both compare PixCorr and SSIM at 425 pixels, features of AlexNet, Inception-v3 and CLIP by two-way identification of
the stimulus, and features of EfficientNet-B1 and SwAV by correlation distance, all without cropping. They differ in:

                    Brain-Diffuser                         MindEye (and MindBridge, NeuroPictor, ...)
    first           nothing                                both images to 256 pixels
    resizing        PIL, bicubic to 425, else bilinear     bilinear without antialiasing
    SSIM            by columns (scikit-image 0.17)         two-dimensional (scikit-image 0.20 and later)
    pixels          all networks 224                       AlexNet 256, Inception 342, CLIP 224, EfficientNet 255, SwAV 224
    EfficientNet    weights IMAGENET1K_V1                  weights IMAGENET1K_V2

Sources: ozcelikfu/brain-diffuser, scripts/eval_extract_features.py and evaluate_reconstruction.py;
MedARC-AI/fMRI-reconstruction-NSD, src/Reconstruction_Metrics.py; MedARC-AI/MindEyeV2, src/final_evaluations.ipynb.
MindEye computes CLIP in float16 on a GPU; here all is float32.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from evaluation import metrics
from evaluation.catalogue import STAND_IN
from minddiffuser.pretrained import FeatureNetwork

_PIXELS = 425
_DISTANCES = ("efficientnet", "swav")


class Layer(NamedTuple):
    """Where the features of a metric come from: a network of `pretrained.feature_network`, its node, its input size."""

    network: str
    node: str
    size: int


class Dialect(NamedTuple):
    """One way of computing the eight.

    Attributes
    ----------
    name : str
    through : int or None
        Size in pixels to which both images are brought first; None: by PIL, from what they are.
    ssim : str
        "ssim_columns" or "ssim".
    layers : dict of metric to Layer
    """

    name: str
    through: int | None
    ssim: str
    layers: dict[str, Layer]


BRAIN_DIFFUSER = Dialect(
    "brain_diffuser",
    None,
    "ssim_columns",
    {
        "alexnet_2": Layer("alexnet", "features.4", 224),
        "alexnet_5": Layer("alexnet", "features.11", 224),
        "inception": Layer("inception_v3", "avgpool", 224),
        "clip": Layer("clip", "embedding", 224),
        "efficientnet": Layer("efficientnet_b1_v1", "avgpool", 224),
        "swav": Layer("swav_resnet50", "avgpool", 224),
    },
)
MINDEYE = Dialect(
    "mindeye",
    256,
    "ssim",
    {
        "alexnet_2": Layer("alexnet", "features.4", 256),
        "alexnet_5": Layer("alexnet", "features.11", 256),
        "inception": Layer("inception_v3", "avgpool", 342),
        "clip": Layer("clip", "embedding", 224),
        "efficientnet": Layer("efficientnet_b1_v2", "avgpool", 255),
        "swav": Layer("swav_resnet50", "avgpool", 224),
    },
)


def with_stand_ins(dialect: Dialect, size: int) -> Dialect:
    """Take all layers from the CLIP that scores, at its input size: what the miniature has in place of networks."""
    nodes = ("layer1", "layer2", "layer4", "embedding", "pooled", "layer3")
    layers = {
        name + STAND_IN: Layer("clip", node, size) for name, node in zip(dialect.layers, nodes, strict=True)
    }
    return dialect._replace(layers=layers)


def features(
    dialect: Dialect,
    networks: dict[str, FeatureNetwork],
    images: np.ndarray,
    device: torch.device,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Features of images in every layer of a dialect whose network is there.

    Parameters
    ----------
    networks : dict of name to FeatureNetwork
        On `device`; layers of others are left out.
    images : array of shape (n, height, width, 3), uint8

    Returns
    -------
    dict of metric to array of shape (n, n_features), float32
    """
    layers = {metric: layer for metric, layer in dialect.layers.items() if layer.network in networks}
    found: dict[str, list[np.ndarray]] = {metric: [] for metric in layers}
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        for name, size in sorted({(layer.network, layer.size) for layer in layers.values()}):
            network = networks[name]
            pixels = transforms.normalize(_inputs(dialect, batch, size), list(network.mean), list(network.std))
            with torch.no_grad():
                nodes = network.forward(pixels.to(device))
            for metric, layer in layers.items():
                if (layer.network, layer.size) == (name, size):
                    found[metric].append(nodes[layer.node].flatten(1).float().cpu().numpy())
    return {metric: np.concatenate(parts) for metric, parts in found.items()}


def score(
    dialect: Dialect,
    stimuli: np.ndarray,
    seen: dict[str, np.ndarray],
    rows: np.ndarray,
    reconstructions: np.ndarray,
    made: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Score reconstructions, as far as there are features.

    Parameters
    ----------
    stimuli : array of shape (n_stimuli, height, width, 3), uint8
        All test stimuli; each is a distractor in the two-way identifications.
    seen : dict
        Their `features`.
    rows : array of shape (n,), int
        Row of `stimuli` that each reconstruction is of.
    reconstructions : array of shape (n, height, width, 3), uint8
    made : dict
        Their `features`.

    Returns
    -------
    dict of metric to array of shape (n,)
        Names begin with the dialect's. Distances are lower where the images are more alike.
    """
    values: dict[str, list[np.ndarray]] = {"pixcorr": [], dialect.ssim: []}
    for start in range(0, len(rows), 16):  # in float32 a photograph of 425 pixels takes 2 MB
        here = slice(start, start + 16)
        pair = [_pixels(dialect, images) for images in (stimuli[rows[here]], reconstructions[here])]
        values["pixcorr"].append(metrics.pixcorr(*pair))
        values[dialect.ssim].append(getattr(metrics, dialect.ssim)(*pair))
    scores = {name: np.concatenate(parts) for name, parts in values.items()}
    for name in dialect.layers:
        if name not in made:
            continue
        if name.removesuffix(STAND_IN) in _DISTANCES:
            scores[name] = metrics.correlation_distance(seen[name][rows], made[name])
        else:
            scores[name] = metrics.identification(metrics.correlate(made[name], seen[name]), rows, n_way=2)
    return {f"{dialect.name}/{name}": scores[name] for name in ("pixcorr", dialect.ssim, *made)}


def _pixels(dialect: Dialect, images: np.ndarray) -> np.ndarray:
    """(n, 425, 425, 3): uint8, or float in [0, 1]."""
    if dialect.through is None:
        return metrics.resize(images, _PIXELS)
    return _bilinear(_bilinear(_to_tensor(images), dialect.through), _PIXELS).permute(0, 2, 3, 1).numpy()


def _inputs(dialect: Dialect, images: np.ndarray, size: int) -> torch.Tensor:
    """(n, 3, size, size) in [0, 1]."""
    if dialect.through is not None:
        return _bilinear(_bilinear(_to_tensor(images), dialect.through), size)
    resized: Sequence[Image.Image] = [Image.fromarray(i).resize((size, size), Image.Resampling.BILINEAR) for i in images]
    return _to_tensor(np.stack([np.asarray(image) for image in resized]))


def _to_tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def _bilinear(pixels: torch.Tensor, size: int) -> torch.Tensor:
    return transforms.resize(pixels, [size, size], InterpolationMode.BILINEAR, antialias=False)
