"""The structural target Z_CLIP: outputs of the first MLPs of CLIP's vision tower (paper, algorithm 1).

"Linear-2k" in the authors' counting is the output projection of the MLP in block k-1, before it is added to the
residual stream. The same encoder extracts targets from stimuli and, with gradient, features from reconstructions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from minddiffuser.config.method import EMBEDDING, layer_name
from minddiffuser.pretrained.clip import Clip
from minddiffuser.store import DataError

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class ClipLayers:
    """A CLIP vision tower with hooks on its MLPs.

    Parameters
    ----------
    clip : Clip
    layers : sequence of int
        "Linear" numbers, even: 2 is the first block's MLP, 12 the sixth's.
    normalisation : "clip" or "imagenet"
        Whose mean and deviation the pixels are normalised with; the released code uses ImageNet's.
    antialias : bool
        Whether the resize to the model's size filters first.
    """

    def __init__(self, clip: Clip, layers: Sequence[int], normalisation: str, antialias: bool) -> None:
        self.visual: Any = clip.model.visual
        self.layers, self.antialias = tuple(layers), antialias
        blocks = self.visual.transformer.resblocks
        if any(n % 2 or not 0 < n <= 2 * len(blocks) for n in layers):
            raise DataError(
                f"experiment.structural.layers: CLIP has Linear-2 ... {2 * len(blocks)}, not {list(layers)}"
            )
        mean, std = _IMAGENET if normalisation == "imagenet" else (clip.mean, clip.std)
        device = next(self.visual.parameters()).device
        self.mean = torch.tensor(mean, device=device)[:, None, None]
        self.std = torch.tensor(std, device=device)[:, None, None]
        size = self.visual.image_size
        self.size = [size, size] if isinstance(size, int) else list(size)
        self._outputs: dict[str, torch.Tensor] = {}
        for number in self.layers:
            name = layer_name(number)
            blocks[number // 2 - 1].mlp.c_proj.register_forward_hook(
                lambda _module, _inputs, output, name=name: self._outputs.__setitem__(name, output)
            )

    def __call__(self, pixels: torch.Tensor, resize: str) -> dict[str, torch.Tensor]:
        """Features of pictures, differentiable in the pixels.

        Parameters
        ----------
        pixels : tensor of shape (n, 3, height, width)
            In [0, 1].
        resize : "bicubic" or "bilinear"

        Returns
        -------
        dict of tensors
            `linear_02` ...: (n, n_tokens, width), class token first; `embedding`: (n, dimensions).
        """
        resized = functional.interpolate(pixels, self.size, mode=resize, antialias=self.antialias)
        embedding = self.visual((resized - self.mean) / self.std)
        outputs = {layer_name(number): self._outputs.pop(layer_name(number)) for number in self.layers}
        return {**outputs, EMBEDDING: embedding}
