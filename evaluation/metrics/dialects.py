"""The field's eight metrics in the two ways that published tables compute them, which do not give the same numbers.

Both compare PixCorr and SSIM at 425 pixels, features of AlexNet, Inception-v3 and CLIP by two-way identification of
the stimulus, and features of EfficientNet-B1 and SwAV by correlation distance, all without cropping. They differ in:

                    Brain-Diffuser                         MindEye (and MindBridge, NeuroPictor, ...)
    first           nothing                                both images to 256 pixels
    resizing        PIL, bicubic to 425, else bilinear     bilinear without antialiasing
    SSIM            by columns (scikit-image 0.17)         two-dimensional (scikit-image 0.20 and later)
    input pixels    224                                    AlexNet 256, Inception 342, EfficientNet 255, else 224
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
from torch.nn.functional import interpolate

from evaluation.catalogue import STAND_IN
from evaluation.metrics.features import correlation_distance, identification, normalise
from evaluation.metrics.images import by_pair, pixcorr_of_pair, resize_one, ssim_columns_of_pair, ssim_of_pair
from minddiffuser.correlation import correlate
from minddiffuser.pretrained.scoring import FeatureNetwork

PIXELS = 425
_DISTANCES = ("efficientnet", "swav")


class Layer(NamedTuple):
    """Where the features of a metric come from: a network of `pretrained.scoring`, its node, its input size."""

    network: str
    node: str
    size: int


class Dialect(NamedTuple):
    """One way of computing the eight."""

    name: str
    through: int | None  # size in pixels to which both images are brought first; None: by PIL, from what they are
    ssim: str  # "ssim_columns" or "ssim"
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


def with_clip_of(dialect: Dialect, size: int) -> Dialect:
    """Give the CLIP that scores its own input size: 224 for ViT-L/14."""
    return dialect._replace(layers={**dialect.layers, "clip": dialect.layers["clip"]._replace(size=size)})


def with_stand_ins(dialect: Dialect, size: int) -> Dialect:
    """Take all layers from the CLIP that scores, at its input size: what the miniature has in place of networks."""
    nodes = ("layer1", "layer2", "layer4", "embedding", "pooled", "layer3")
    layers = {name + STAND_IN: Layer("clip", node, size) for name, node in zip(dialect.layers, nodes, strict=True)}
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
    found: dict[str, np.ndarray] = {}
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        for name, size in sorted({(layer.network, layer.size) for layer in layers.values()}):
            network = networks[name]
            pixels = normalise(_inputs(dialect, batch, size), network.mean, network.std)
            with torch.no_grad():
                nodes = network.forward(pixels.to(device))
            for metric, layer in layers.items():
                if (layer.network, layer.size) == (name, size):
                    values = nodes[layer.node].flatten(1).float().cpu().numpy()
                    found.setdefault(metric, np.empty((len(images), values.shape[1]), np.float32))
                    found[metric][start : start + len(batch)] = values
    return {metric: found[metric] for metric in layers}


def pixel_scores(dialect: Dialect, stimuli: np.ndarray, reconstructions: np.ndarray) -> dict[str, np.ndarray]:
    """PixCorr and the dialect's SSIM of pairs of images.

    Parameters
    ----------
    stimuli : array of shape (n, height, width, 3), uint8
    reconstructions : array of shape (n, height, width, 3), uint8
        Perhaps of another size.

    Returns
    -------
    dict of metric to array of shape (n,)
    """
    index = {"ssim": ssim_of_pair, "ssim_columns": ssim_columns_of_pair}[dialect.ssim]

    def of_pair(stimulus: np.ndarray, reconstruction: np.ndarray) -> tuple[float, float]:
        a, b = _pixels(dialect, stimulus), _pixels(dialect, reconstruction)
        return pixcorr_of_pair(a, b), index(a, b)

    # Pair by pair: an image of 425 pixels in float32 just fits into a core's cache.
    pixcorr, ssim = by_pair(of_pair, stimuli, reconstructions).T
    return {"pixcorr": pixcorr, dialect.ssim: ssim}


def feature_scores(seen: dict[str, np.ndarray], rows: np.ndarray, made: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Two-way identifications and distances, of the layers that there are features of.

    Parameters
    ----------
    seen : dict of metric to array of shape (n_stimuli, n_features)
        `features` of all test stimuli; each is a distractor.
    rows : array of shape (n,), int
        Row of `seen` that each reconstruction is of.
    made : dict of metric to array of shape (n, n_features)
        `features` of the reconstructions.

    Returns
    -------
    dict of metric to array of shape (n,)
        Distances are lower where the images are more alike.
    """
    return {
        name: correlation_distance(seen[name][rows], values)
        if name.removesuffix(STAND_IN) in _DISTANCES
        else identification(correlate(values, seen[name]), rows, n_way=2)
        for name, values in made.items()
    }


def _pixels(dialect: Dialect, image: np.ndarray) -> np.ndarray:
    """(425, 425, 3): uint8, or float in [0, 1]."""
    if dialect.through is None:
        return image if image.shape[:2] == (PIXELS, PIXELS) else resize_one(image, PIXELS)
    pixels = _bilinear(_bilinear(_to_tensor(image[None]), dialect.through), PIXELS)
    return pixels[0].permute(1, 2, 0).numpy()


def _inputs(dialect: Dialect, images: np.ndarray, size: int) -> torch.Tensor:
    """(n, 3, size, size) in [0, 1]."""
    if dialect.through is not None:
        return _bilinear(_bilinear(_to_tensor(images), dialect.through), size)
    resized: Sequence[Image.Image] = [
        Image.fromarray(i).resize((size, size), Image.Resampling.BILINEAR) for i in images
    ]
    return _to_tensor(np.stack([np.asarray(image) for image in resized]))


def _to_tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def _bilinear(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Resize as torchvision did until version 0.16; pixels of that size are left as they are."""
    return pixels if pixels.shape[2:] == (size, size) else interpolate(pixels, (size, size), mode="bilinear")
