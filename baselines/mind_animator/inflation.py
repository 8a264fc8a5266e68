"""Stable Diffusion's U-Net for films: the frames of a clip look at each other, without one new weight.

Frames are the batch of the two-dimensional U-Net, the n_frames of a clip one after the other. Three things make it
that of Tune-A-Video, which Mind-Animator takes with the weights of Stable Diffusion, not tuned:

    self-attention   queries of frame i meet keys and values of frames 0 and max(i - 1, 0)
    normalisation    groups of channels have one mean and deviation over all frames of a clip, in the residual blocks
                     and before the last convolution, not in the transformers
    temporal bias    each transformer block ends in an attention over time whose last matrix is zero; its bias is not

Frames that are all the same give what the U-Net gives for one of them.

Reference: Wu et al. 2023 (arXiv 2212.11565), sections 4.1 and 4.2; the authors' Inflated_SD_by_Wu.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from minddiffuser.config.mind_animator import Video
from minddiffuser.seeds import torch_generator

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


class FrameAttention:
    """Self-attention across frames: a processor of diffusers' `Attention`, with its weights.

    Parameters
    ----------
    n_frames : int
    keys : "first_and_previous" or "first"
        Whose keys and values a frame meets; "first" is what the authors' code has beside the other, not in use.
    """

    def __init__(self, n_frames: int, keys: str) -> None:
        self.n_frames, self.keys = n_frames, keys

    def __call__(self, attn: Any, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Attend: (n_clips * n_frames, n_places, width) to the same shape."""
        queries = self._heads(attn, attn.to_q(hidden_states))
        keys, values = (self._heads(attn, self._seen(part(hidden_states))) for part in (attn.to_k, attn.to_v))
        found = functional.scaled_dot_product_attention(queries, keys, values)
        found = found.transpose(1, 2).flatten(2)  # (n_clips * n_frames, n_places, width)
        return attn.to_out[1](attn.to_out[0](found))

    def _seen(self, part: torch.Tensor) -> torch.Tensor:
        """Give each frame the tokens of those that it meets, one after the other."""
        frames = part.unflatten(0, (-1, self.n_frames))  # (n_clips, n_frames, n_places, width)
        first = frames[:, :1].expand_as(frames)
        if self.keys == "first":
            return first.flatten(0, 1)
        previous = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        return torch.cat([first, previous], dim=2).flatten(0, 1)

    @staticmethod
    def _heads(attn: Any, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.unflatten(2, (attn.heads, -1)).transpose(1, 2)  # (n_clips * n_frames, n_heads, n_tokens, d)


class PooledGroupNorm(nn.GroupNorm):
    """Group normalisation whose statistics are those of all frames of a clip, with the weights of another one.

    Parameters
    ----------
    norm : GroupNorm
    n_frames : int
    """

    def __init__(self, norm: nn.GroupNorm, n_frames: int) -> None:
        super().__init__(norm.num_groups, norm.num_channels, norm.eps)
        self.weight, self.bias, self.n_frames = norm.weight, norm.bias, n_frames

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (n_clips * n_frames, n_channels, height, width)."""
        clips = input.unflatten(0, (-1, self.n_frames)).transpose(1, 2)  # (n_clips, n_channels, n_frames, h, w)
        return super().forward(clips).transpose(1, 2).flatten(0, 1)


def inflate(unet: UNet2DConditionModel, n_frames: int, settings: Video, seed: int) -> None:
    """Turn a U-Net into one for films, in place: its batch is n_clips * n_frames from here on.

    Parameters
    ----------
    unet : UNet2DConditionModel
    n_frames : int
    settings : Video
        `keys`, `group_norm` and `temporal_bias`.
    seed : int
        Of the random temporal bias, which the authors draw in each process anew: the bias of a linear layer as torch
        begins it, uniform within 1 / sqrt(width), for each transformer block.
    """
    processors = {
        name: FrameAttention(n_frames, settings.keys) if name.endswith("attn1.processor") else processor
        for name, processor in unet.attn_processors.items()
    }
    unet.set_attn_processor(processors)  # type: ignore[arg-type]
    for name, block in list(unet.named_modules()):
        if settings.group_norm == "pooled":
            for norm in {"ResnetBlock2D": ("norm1", "norm2"), type(unet).__name__: ("conv_norm_out",)}.get(
                type(block).__name__, ()
            ):
                setattr(block, norm, PooledGroupNorm(getattr(block, norm), n_frames))
        if settings.temporal_bias == "random" and type(block).__name__ == "BasicTransformerBlock":
            _add_bias(block, torch_generator(seed, name, "temporal bias"))


def _add_bias(block: Any, generator: torch.Generator) -> None:
    """Let a transformer block add a random vector to what it gives."""
    weight = block.attn1.to_q.weight
    width = weight.shape[1]
    bias = ((2 * torch.rand(width, generator=generator) - 1) / width**0.5).to(weight)
    block.register_forward_hook(lambda _block, _inputs, output: output + bias)
