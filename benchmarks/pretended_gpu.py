"""A GPU that is not there: tensors that say they are on `cuda`, have a shape and no numbers.

torch's `FakeTensorMode` computes shapes and devices, and raises where two devices meet. Here are what it does not do by
itself, so that whole scripts run on it: an answer where a program looks at a number, gradients where it descends a loss
(a backward pass on `cuda` needs a real card), zeros where it takes numbers to NumPy; and the public models, of their
full size, which take neither memory nor a file. benchmarks/rehearsal.py runs the scripts on it, and
benchmarks/card_memory.py counts memory with it.
"""

import functools
import importlib
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import open_clip
import torch
from safetensors.torch import save
from torch._guards import active_fake_mode
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from baselines.ozcelik.generator import CHANNELS_256, Generator, open_generator
from minddiffuser.pretrained import stable_diffusion
from minddiffuser.pretrained.clip import Clip, open_clip_model
from minddiffuser.pretrained.files import frozen
from minddiffuser.pretrained.icgan import InstanceEncoder, open_instance_encoder
from minddiffuser.pretrained.pooled import PooledNetwork, open_pooled_network
from minddiffuser.pretrained.stable_diffusion import clip_tokenizer, open_text_encoder, open_unet, open_vae

# Packages in which what opens models is replaced.
ROOTS = (
    "baselines", "data", "doctor", "evaluation", "feature_decoding", "feature_extraction", "minddiffuser",
    "reconstruction",
)  # fmt: skip
WIDTH_OF_GENERATOR = 96  # of icgan_biggan_imagenet_res256
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ATEN = torch.ops.aten
_DRAWN = np.random.default_rng(0).uniform(0, 255, 8191)  # again and again: such pictures are soon written
MODE = FakeTensorMode(allow_non_fake_inputs=True)  # one for all: a tensor of one mode is a stranger to another


class Answers(TorchDispatchMode):
    """Answer where a program looks at numbers, or takes as many rows as there are true ones.

    A number is 1, and a condition is true, but for whether any of many is. A mask of one dimension chooses all.
    `nonzero` of a mask that came of the k largest of each row gives k for each row, and `unique` finds no two that are
    equal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_chosen, self.used_gpu, self._asked_any = 1, False, False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Answer, or let the mode below compute the shape."""
        if func is _ATEN._local_scalar_dense.default:
            if args[0].dtype == torch.bool:
                answer, self._asked_any = not self._asked_any, False
                return answer
            return 1.0 if args[0].dtype.is_floating_point else 1
        self._asked_any = self._asked_any or func.overloadpacket is _ATEN.any
        if func is _ATEN.kthvalue.default:
            self.n_chosen = args[0].shape[1] - args[1] + 1
        if func is _ATEN._pin_memory.default:
            return args[0]
        if func is _ATEN.nonzero.default:
            return args[0].new_zeros((len(args[0]) * self.n_chosen, args[0].ndim), dtype=torch.int64)
        if func is _ATEN.index.Tensor and len(args[1]) == 1 and args[1][0].dtype == torch.bool:
            return args[0].clone()
        if func is _ATEN.unique_dim.default:
            numbers = torch.zeros(len(args[0]), dtype=torch.int64, device=args[0].device)
            return args[0].clone(), numbers, numbers.clone()
        out = func(*args, **(kwargs or {}))
        self.used_gpu = self.used_gpu or (isinstance(out, torch.Tensor) and out.device.type == "cuda")
        return out


class LiveMemory(TorchDispatchMode):
    """Add up the bytes of all storages that are alive, and keep the peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._live: dict[int, int] = {}

    def add(self, tensor: object) -> None:
        """Count a tensor's storage, until it is gone."""
        if not isinstance(tensor, torch.Tensor):
            return
        storage = tensor.untyped_storage()
        if storage._cdata not in self._live:
            self._live[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, storage._cdata)

    def _drop(self, key: int) -> None:
        self.now -= self._live.pop(key, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Compute, and count what comes of it."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            self.add(tensor)
        return out


@contextmanager
def pretended(*namespaces: dict[str, Any]) -> Iterator[Answers]:
    """Compute without numbers inside this block, with models that are made as they are opened.

    Parameters
    ----------
    *namespaces : dict
        Of scripts, beside those of the project's modules, in which what opens models is replaced.

    Yields
    ------
    Answers
        Whose `used_gpu` tells whether anything was computed on `cuda`.
    """
    stand_ins: dict[Any, Any] = {**OPENERS, save: lambda *_: b""}
    common = importlib.import_module("torch.cuda.amp.common")
    with (
        replaced(stand_ins, *namespaces),
        patch.object(torch.Tensor, "numpy", _numpy),
        patch.object(torch.Tensor, "backward", _backward),
        patch.object(common, "amp_definitely_not_available", lambda: False),
        without_numbers() as answers,
    ):
        yield answers


@contextmanager
def without_numbers() -> Iterator[Answers]:
    """Make and move tensors without numbers inside this block, on any device."""
    with patch.object(torch.nn.Module, "_apply", _apply), MODE, Answers() as answers:
        yield answers


@contextmanager
def replaced(stand_ins: Mapping[Any, Any], *namespaces: dict[str, Any]) -> Iterator[None]:
    """Put other objects in the place of some, under whatever names the project's modules have them."""
    of = {id(original): stand_in for original, stand_in in stand_ins.items()}
    own = [vars(module) for name, module in list(sys.modules.items()) if name.partition(".")[0] in ROOTS]
    places = [
        (space, name, value) for space in (*own, *namespaces) for name, value in list(space.items()) if id(value) in of
    ]
    for space, name, value in places:
        space[name] = of[id(value)]
    try:
        yield
    finally:
        for space, name, value in places:
            space[name] = value


_real_numpy = torch.Tensor.numpy


def _numpy(tensor: torch.Tensor, **how: Any) -> np.ndarray:
    """Draw numbers for a tensor without any, which must be on the CPU and without gradients, as torch wants it."""
    if not isinstance(tensor, FakeTensor):
        return _real_numpy(tensor, **how)
    if tensor.device.type != "cpu" or tensor.requires_grad:
        raise TypeError(f"can't convert a tensor on {tensor.device}, requires_grad {tensor.requires_grad}, to numpy")
    shape, kind = tuple(tensor.shape), np.dtype(str(tensor.dtype).removeprefix("torch."))
    if kind.kind != "f":
        return np.zeros(shape, kind)
    return np.resize(_DRAWN, shape).astype(kind, copy=False)


def _backward(loss: torch.Tensor, *_: Any, **__: Any) -> None:
    """Give a gradient to all that a loss was made of: on its own device, and without numbers."""
    seen, waiting, n_leaves = set(), [loss.grad_fn], 0
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            leaf.grad = torch.zeros_like(leaf)
            n_leaves += 1
        waiting += [following for following, _ in node.next_functions]
    if not n_leaves:
        raise RuntimeError("nothing that the loss was made of requires a gradient")


def _apply(module: Any, change: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
    """Move a model to another device, or type: torch's own way wants tensors that have numbers."""
    for child in module.children() if recurse else ():
        child._apply(change)
    with torch.no_grad():
        for name, weight in module._parameters.items():
            if weight is not None and (moved := change(weight)) is not weight:
                module._parameters[name] = torch.nn.Parameter(moved, weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = change(buffer)
    return module


# Models ---------------------------------------------------------------------------------------------------------------


@contextmanager
def unfilled() -> Iterator[None]:
    """Make layers without their first weights, which take most of the time, where there are no numbers."""
    with ExitStack() as stack:
        if active_fake_mode() is None:
            yield
            return
        for name in [name for name in dir(torch.nn.init) if name.endswith("_") and not name.startswith("_")]:
            stack.enter_context(patch.object(torch.nn.init, name, lambda tensor, *_, **__: tensor))
        yield


def open_part(part: str, device: torch.device) -> Any:
    """Make a part of Stable Diffusion v1-4: "unet", "vae" or "text_encoder"."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = str(stable_diffusion.STABLE_DIFFUSION_V1)
    with device, unfilled():
        if part == "text_encoder":
            model: Any = CLIPTextModel(CLIPTextConfig.from_pretrained(folder, subfolder=part))
        else:
            kind: Any = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part]
            model = kind.from_config(kind.load_config(folder, subfolder=part))
    return frozen(model, device)


_tokenizer = functools.cache(clip_tokenizer)


def clip(name: str, _weights: str | None, device: torch.device) -> Clip:
    """Make the CLIP that guides; or, in place of the one that scores, one with a ResNet, as the miniature's is."""
    with device, unfilled():
        settings: Any = open_clip.get_model_config("RN50-quickgelu" if "scoring" in name else "ViT-B-32-quickgelu")
        model = open_clip.CLIP(**settings)
    return Clip(frozen(model, device), (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))


def generator(_name: str, device: torch.device) -> Generator:
    """Make IC-GAN's generator of 256 pixels."""
    with device, unfilled():
        return frozen(Generator([WIDTH_OF_GENERATOR * k for k in CHANNELS_256], attention_after=3), device)


def _resnet50(device: torch.device) -> Any:
    from torchvision.models import resnet50

    with device, unfilled():
        model = resnet50()
    model.fc = torch.nn.Identity()
    return frozen(model, device)


def instance_encoder(_name: str, _hub: object, device: torch.device) -> InstanceEncoder:
    """Make a ResNet-50 in place of SwAV's."""
    return InstanceEncoder(_resnet50(device), _MEAN, _STD, 224)


def pooled_network(_name: str, _models: object, _hub: object, device: torch.device) -> PooledNetwork:
    """Make a ResNet-50."""
    model = _resnet50(device)
    return PooledNetwork(model, model, None, _MEAN, _STD)


OPENERS: dict[Any, Any] = {
    open_unet: lambda _name, _revision, device: open_part("unet", device),
    open_vae: lambda _name, _revision, device: open_part("vae", device),
    open_text_encoder: lambda _name, _revision, device: (_tokenizer(), open_part("text_encoder", device)),
    open_clip_model: clip,
    open_generator: generator,
    open_instance_encoder: instance_encoder,
    open_pooled_network: pooled_network,
}
