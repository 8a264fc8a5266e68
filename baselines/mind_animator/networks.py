"""Mind-Animator's three networks, written from their published form: semantic and structure decoder, motion generator.

    f, c = SemanticDecoder(...)(x)               a CLIP embedding and, from it, the tokens of the text
    z_1 = StructureDecoder(...)(x)               latents of the first frame
    z = MotionGenerator(...).roll_out(x, z_1)    latents of all frames, one after the other

with x the voxels of a clip. Weights have Glorot's uniform distribution, as the authors' have; biases torch's own.
`open_released` opens the authors' checkpoints, of which those of retrieval have no more than f: `EmbeddingDecoder`.

References: Lu et al. 2025 (arXiv 2405.03280); the authors' models/Decoder.py.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from baselines.mind_animator.masks import visible
from minddiffuser.pretrained.files import misfit, read_weights
from minddiffuser.store import DataError

MOST_FRAMES = 10  # of the released table of positions
_HIDDEN = -1e9  # logit of what may not be seen
_EPSILON = 1e-6  # of the norm of a branch


class SemanticDecoder(nn.Module):
    """Voxels to a CLIP embedding f, and from f to the tokens of the text.

    Parameters
    ----------
    n_in : int
        Voxels.
    width : int
        Of f: that of the CLIP embeddings that it is compared with.
    n_blocks : int
        Residual blocks before f.
    hidden : sequence of int
        Widths between f and the tokens.
    n_tokens, n_text : int
        Of c, with its first token, which is the same for each text and is not decoded; and the width of each.
    """

    def __init__(
        self,
        n_in: int,
        width: int = 512,
        n_blocks: int = 3,
        hidden: Sequence[int] = (2048, 4096),
        n_tokens: int = 20,
        n_text: int = 768,
    ) -> None:
        super().__init__()
        self.n_text = n_text
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.trunk = _Trunk(n_in, width, n_blocks)
        layers, last = [], width
        for n in (*hidden, (n_tokens - 1) * n_text):
            layers += [nn.LayerNorm(last), nn.GELU(), nn.Linear(last, n)]
            last = n
        self.to_tokens = nn.Sequential(*layers)
        _start(self)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode voxels (n_clips, n_in) to f (n_clips, width) and c (n_clips, n_tokens - 1, n_text)."""
        f = self.trunk(x)
        return f, self.to_tokens(f).unflatten(1, (-1, self.n_text))

    @property
    def scale(self) -> torch.Tensor:
        """What cosines are multiplied by in the loss."""
        return self.log_scale.exp()


class EmbeddingDecoder(nn.Module):
    """Voxels to a CLIP embedding f alone: what the authors released for retrieval, with two residual blocks.

    Parameters
    ----------
    n_in, width, n_blocks : int
        As in `SemanticDecoder`.
    """

    def __init__(self, n_in: int, width: int = 512, n_blocks: int = 2) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.trunk = _Trunk(n_in, width, n_blocks)
        _start(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Decode voxels (n_clips, n_in) to f (n_clips, width)."""
        return self.trunk(x)


class StructureDecoder(nn.Module):
    """Voxels to the latents of the first frame. Up to its last norm it is linear, as released.

    Parameters
    ----------
    n_in, width, n_out : int
        Voxels; units between; numbers of a frame's latents.
    n_blocks : int
    """

    def __init__(self, n_in: int, n_out: int, width: int = 1024, n_blocks: int = 2) -> None:
        super().__init__()
        self.trunk = _Trunk(n_in, width, n_blocks, is_linear=True)
        self.to_latents = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, n_out))
        _start(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Decode voxels (n_clips, n_in) to latents (n_clips, n_out)."""
        return self.to_latents(self.trunk(x))


class MotionGenerator(nn.Module):
    r"""The consistency motion generator: a Transformer decoder whose tokens are the latents of whole frames.

    Each layer adds to the frames h, one branch after the other,

        h <- h + LN'(dropout(branch(h))),   LN'(u) = gain (u - mean) / (std + 1e-6) + bias,   std with n - 1

    attention to the frames that a mask shows, attention to the memory, which the voxels become, and two layers on each
    frame. With one token of memory, as released, the second has one key: its weight is 1 whatever the query, so that
    it adds the same vector to every frame.

    Parameters
    ----------
    n_in, d : int
        Voxels, and numbers of a frame's latents, which are even.
    inner, heads : int
        Width of queries, keys and values of all heads together, and heads.
    d_ff : int
        Width within a frame's two layers, and of the voxels' trunk.
    n_layers : int
    n_memory : int
        Tokens that the voxels become.
    output : "normalised" or "change"
        normalised: the next frame is LN'(h), as released, so that it has the same amplitude whether it is certain or
        not. change, of this project: it is the last frame plus two layers on h, the last of which starts from zero.

    Raises
    ------
    ValueError
        d is odd, or `inner` is no multiple of `heads`.
    """

    positions: torch.Tensor

    def __init__(
        self,
        n_in: int,
        d: int,
        inner: int = 1024,
        heads: int = 4,
        d_ff: int = 768,
        n_layers: int = 2,
        n_memory: int = 1,
        output: Literal["normalised", "change"] = "normalised",
    ) -> None:
        super().__init__()
        if d % 2 or inner % heads:
            raise ValueError(f"d is {d}, and must be even; inner is {inner}, and must be a multiple of heads ({heads})")
        self.trunk = _Trunk(n_in, d_ff, n_blocks=1)
        self.to_memory = nn.Linear(d_ff, n_memory * d)
        self.layers = nn.ModuleList([_Layer(d, inner, heads, d_ff) for _ in range(n_layers)])
        self.norm = _BranchNorm(d) if output == "normalised" else None
        self.change = _FeedForward(d, d_ff) if output == "change" else None
        self.dropout = nn.Dropout(0.2)
        self.register_buffer("positions", positions(d), persistent=False)
        _start(self)
        if self.change is not None:
            nn.init.zeros_(self.change.last.weight)
            nn.init.zeros_(self.change.last.bias)

    def memory(self, x: torch.Tensor) -> torch.Tensor:
        """Turn voxels (n_clips, n_in) into the tokens of the memory, (n_clips, n_memory, d)."""
        return self.to_memory(self.trunk(x)).unflatten(1, (-1, self.positions.shape[1]))

    def decode(self, memory: torch.Tensor, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Give for each frame the one that should follow it.

        Parameters
        ----------
        memory : tensor of shape (n_clips, n_memory, d)
        frames : tensor of shape (n_clips, n_frames, d)
            Latents, from the first frame on; `MOST_FRAMES` at most.
        mask : tensor of shape (1 or n_clips, n_frames, n_frames), bool
            From `masks.visible`.

        Returns
        -------
        tensor of shape (n_clips, n_frames, d)

        Raises
        ------
        ValueError
            There are more frames than positions.
        """
        n_frames = frames.shape[1]
        if n_frames > len(self.positions):
            raise ValueError(f"{n_frames} frames: there are {len(self.positions)} positions")
        h = self.dropout(frames + self.positions[:n_frames])
        for layer in self.layers:
            h = layer(h, memory, mask)
        return self.norm(h) if self.change is None else frames + self.change(h)  # type: ignore[misc]

    def forward(self, x: torch.Tensor, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Decode with the memory of voxels x (n_clips, n_in), for training: true frames, and those after them."""
        return self.decode(self.memory(x), frames, mask)

    @torch.no_grad()
    def roll_out(
        self,
        x: torch.Tensor,
        first: torch.Tensor,
        n_frames: int = 8,
        keep: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Make films, each frame from those before it.

        Parameters
        ----------
        x : tensor of shape (n_clips, n_in)
        first : tensor of shape (n_clips, d)
            Latents of the first frame, which stays as it is.
        n_frames : int
            With the first.
        keep, generator
            Of the mask (`masks.visible`), which is one for all clips. At 0, as released, a frame depends on the first
            and on the one before it, and on no other.

        Returns
        -------
        tensor of shape (n_clips, n_frames, d)
        """
        return self.unroll(x, first, visible(n_frames - 1, keep, generator).to(x.device))

    def unroll(self, x: torch.Tensor, first: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Make films as `roll_out` does, with gradients, through a mask (1, n_frames - 1, n_frames - 1)."""
        memory, frames = self.memory(x), first[:, None]
        for n in range(1, mask.shape[1] + 1):
            following = self.decode(memory, frames, mask[:, :n, :n])[:, -1:]
            frames = torch.cat([frames, following], dim=1)
        return frames


def positions(d: int, n: int = MOST_FRAMES) -> torch.Tensor:
    """Give the sinusoids that tell frames apart (Vaswani et al. 2017, arXiv 1706.03762, section 3.5): (n, d)."""
    wavelengths = 10000.0 ** (torch.arange(0, d, 2, dtype=torch.float64) / d)
    angles = torch.arange(n, dtype=torch.float64)[:, None] / wavelengths  # (n, d / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).float()


class _Trunk(nn.Module):
    """Voxels to `width` units, and residual blocks of them: with norm and GELU, or linear."""

    def __init__(self, n_in: int, width: int, n_blocks: int, is_linear: bool = False) -> None:
        super().__init__()

        def layer(n: int, dropout: float) -> nn.Sequential:
            between = [] if is_linear else [nn.LayerNorm(width), nn.GELU()]
            return nn.Sequential(nn.Linear(n, width), *between, nn.Dropout(0.2 if is_linear else dropout))

        self.first = layer(n_in, 0.3)
        self.blocks = nn.ModuleList([layer(width, 0.15) for _ in range(n_blocks)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return x


class _BranchNorm(nn.Module):
    """LN': the deviation is of n - 1, and epsilon is added to it rather than to the variance."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        norm = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)  # x.std takes twice the time
        return self.gain * centred / (norm / math.sqrt(x.shape[-1] - 1) + _EPSILON) + self.bias


class _Attention(nn.Module):
    """Attention with several heads, whose queries, keys and values have another width than the tokens."""

    def __init__(self, d: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(d, inner) for _ in range(3))
        self.output = nn.Linear(inner, d)
        self.dropout = nn.Dropout(0.15)

    def forward(self, tokens: torch.Tensor, seen: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Look from (n, n_tokens, d) at (n, n_seen, d), where a mask (n, n_tokens, n_seen) is true."""
        q, k, v = (
            layer(part).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (n, heads, n_tokens, inner / heads)
            for layer, part in ((self.query, tokens), (self.key, seen), (self.value, seen))
        )
        logits = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None], _HIDDEN)
        attended = self.dropout(logits.softmax(dim=-1)) @ v
        return self.output(attended.transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    """Two layers on each frame."""

    def __init__(self, d: int, d_ff: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(d, d_ff), nn.Linear(d_ff, d)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.dropout(self.first(x).relu()))


class _Layer(nn.Module):
    """Three branches, each of which is normalised and added."""

    def __init__(self, d: int, inner: int, heads: int, d_ff: int) -> None:
        super().__init__()
        self.self_attention, self.memory_attention = _Attention(d, inner, heads), _Attention(d, inner, heads)
        self.feed_forward = _FeedForward(d, d_ff)
        self.norms = nn.ModuleList([_BranchNorm(d) for _ in range(3)])
        self.dropout = nn.Dropout(0.2)

    def forward(self, h: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        h = h + self.norms[0](self.dropout(self.self_attention(h, h, mask)))
        h = h + self.norms[1](self.dropout(self.memory_attention(h, memory)))
        return h + self.norms[2](self.dropout(self.feed_forward(h)))


def _start(network: nn.Module) -> None:
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)


Network = SemanticDecoder | EmbeddingDecoder | StructureDecoder | MotionGenerator

# Names of weights in the authors' checkpoints, and ours. Their table of positions is ours, and is left out.
_TRUNK = {r"lin0\.": "trunk.first.", r"mlp\.": "trunk.blocks."}
_SEMANTIC = {**_TRUNK, r"logit_scale": "log_scale", r"lin1\.": "to_tokens."}
_STRUCTURE = {**_TRUNK, r"lin1\.": "to_latents."}
_MOTION = {
    **{rf"encoder\.{theirs}": ours for theirs, ours in _TRUNK.items()},
    r"encoder\.lin1\.": "to_memory.",
    r"decoder\.norm\.a_2": "norm.gain",
    r"decoder\.norm\.b_2": "norm.bias",
}
_LAYER = {  # after "decoder.layers.<number>."
    "self_attn.linears.0.": "self_attention.query.",
    "self_attn.linears.1.": "self_attention.key.",
    "self_attn.linears.2.": "self_attention.value.",
    "self_attn.linears1.": "self_attention.output.",
    "src_attn.linears.0.": "memory_attention.query.",
    "src_attn.linears.1.": "memory_attention.key.",
    "src_attn.linears.2.": "memory_attention.value.",
    "src_attn.linears1.": "memory_attention.output.",
    "feed_forward.w_1.": "feed_forward.first.",
    "feed_forward.w_2.": "feed_forward.last.",
    "sublayer.": "norms.",
}


def open_released(path: Path, n_in: int) -> Network:
    """Open a checkpoint of the authors.

    Parameters
    ----------
    path : Path
    n_in : int
        Columns of the rows that it is to decode.

    Raises
    ------
    DataError
        The file is missing, broken or of no network of theirs, or it decodes from another number of columns.
    """
    state = read_weights(path, "a checkpoint of Mind-Animator", "name a file that its authors released")
    try:
        network = from_released(state)
    except ValueError as error:
        raise DataError(f"{path}: {error}", path=path) from error
    first = next(weight for key, weight in network.named_parameters() if key.endswith("trunk.first.0.weight"))
    if (n := first.shape[1]) != n_in:
        raise DataError(
            f"{path} decodes from {n} vertices, and the rows have {n_in}",
            f"set experiment.mind_animator.voxels.n to {n}, and the rest as the checkpoint's authors did",
            path,
        )
    return network


def from_released(state: Mapping[str, torch.Tensor], n_text: int = 768) -> Network:
    """Make the network that one of the authors' checkpoints is of, with sizes read from its tensors.

    Parameters
    ----------
    state : mapping of str to tensor
        A checkpoint's, with or without the prefix "module.".
    n_text : int
        Width of a token of c, which the shapes of a semantic decoder do not tell.

    Raises
    ------
    ValueError
        Keys are missing, are not used, or have other shapes; the message names them.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        with torch.device("meta"):  # no weights of its own
            network, names = _of_sizes(state, n_text)
    except (KeyError, IndexError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f"not a network of Mind-Animator: {type(error).__name__} {error}") from error
    renamed = {_renamed(key, names): value for key, value in state.items() if key != "tgt_embed.1.pe"}
    if differences := misfit(network, renamed):
        raise ValueError(f"not a {type(network).__name__} of Mind-Animator: {differences}")
    network.load_state_dict(renamed, assign=True)
    if isinstance(network, MotionGenerator):
        network.positions = positions(network.positions.shape[1])
    return network.eval().requires_grad_(False)


def _of_sizes(state: Mapping[str, torch.Tensor], n_text: int) -> tuple[Network, dict[str, str]]:
    """Build the network whose sizes a checkpoint has, and give the names of its weights."""

    def count(start: str) -> int:
        found = [re.match(rf"{start}\.(\d+)\.", key) for key in state]
        return 1 + max((int(match[1]) for match in found if match), default=-1)

    def shape(key: str) -> tuple[int, ...]:
        return tuple(state[key].shape)

    if "encoder.lin1.weight" in state:
        d_ff, n_in = shape("encoder.lin0.0.weight")
        inner, d = shape("decoder.layers.0.self_attn.linears.0.weight")
        n_memory = shape("encoder.lin1.weight")[0] // d
        n_layers = count(r"decoder\.layers")
        return MotionGenerator(n_in, d, inner, 4, d_ff, n_layers, n_memory), _MOTION
    width, n_in = shape("lin0.0.weight")
    if "logit_scale" not in state:
        return StructureDecoder(n_in, shape("lin1.2.weight")[0], width, count("mlp")), _STRUCTURE
    if not count("lin1"):
        return EmbeddingDecoder(n_in, width, count("mlp")), _SEMANTIC
    *hidden, n_out = (shape(f"lin1.{k}.weight")[0] for k in range(2, count("lin1"), 3))
    return SemanticDecoder(n_in, width, count("mlp"), hidden, n_out // n_text + 1, n_text), _SEMANTIC


def _renamed(key: str, names: Mapping[str, str]) -> str:
    if match := re.match(r"decoder\.layers\.(\d+)\.(.*)", key):
        number, rest = match.groups()
        for theirs, ours in _LAYER.items():
            if rest.startswith(theirs):
                rest = ours + rest.removeprefix(theirs)
                break
        return f"layers.{number}.{rest.replace('norm.a_2', 'gain').replace('norm.b_2', 'bias')}"
    for theirs, ours in names.items():
        if re.match(theirs, key):
            return re.sub(f"^{theirs}", ours, key)
    return key
