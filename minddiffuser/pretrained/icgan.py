"""IC-GAN: the weights of its generator, and the network whose features condition it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from minddiffuser.config import REPOSITORY
from minddiffuser.pretrained.files import (
    AGAIN,
    OLD_NUMBERS,
    MissingModelError,
    check_numbers,
    frozen,
    open_folder,
    read_json,
    three_numbers,
)
from minddiffuser.pretrained.scoring import feature_network
from minddiffuser.store import reading

_ICGAN_URL = "https://dl.fbaipublicfiles.com/ic_gan/icgan_biggan_imagenet_res256.tar.gz"
_SPARE_OF_ENCODER = re.compile(r"^classifier\.")  # of a ResNet that names classes, which is not used here


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
            f"ResNet: there is no {file}",
            AGAIN,
            file,
        )
    needed = ["image_mean", "image_std", "size"]
    processing = read_json(file, "the settings of an image processor", needed, AGAIN)
    mean, std = (three_numbers(processing, key, file) for key in ("image_mean", "image_std"))
    size = _input_size(processing, file)
    model = frozen(open_folder(ResNetModel, folder, "an instance encoder", AGAIN, _SPARE_OF_ENCODER), device)
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
            "width",
            AGAIN,
            path,
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
    with reading(file, "a checkpoint of IC-GAN", AGAIN, MissingModelError):
        of_safetensors = file.suffix == ".safetensors"
        state = load_file(file) if of_safetensors else torch.load(file, map_location="cpu", weights_only=True)
        state = {key: value.float() for key, value in state.items()}
    check_numbers(state, file, "IC-GAN's generator", AGAIN)
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
            f"{folder / 'generator.safetensors'}",
            "its weights are for non-commercial use (CC BY-NC 4.0); to get them, run "
            f"`mkdir -p {folder.parent}; curl -L {_ICGAN_URL} | tar xz -C {folder.parent}`; or set "
            f"experiment.ozcelik.generator to another folder, or leave this rival out: experiment.ozcelik=null",
            folder,
        )
    scores = {}
    for number in generators if len(generators) > 1 else ():
        record = folder / f"state_dict_best{number}.pth"
        others = ", ".join(map(str, generators.values()))
        remedy = f"it says how good {generators[number].name} is: set experiment.ozcelik.generator to one of {others}"
        with (
            reading(record, "a record of IC-GAN's training", remedy, MissingModelError),
            torch.serialization.safe_globals([*OLD_NUMBERS, torch.nn.ReLU]),  # its settings name an activation
        ):
            scores[number] = float(torch.load(record, map_location="cpu", weights_only=True)["best_FID"])
    return generators[min(generators, key=lambda number: scores.get(number, 0.0))]
