"""IC-GAN's generator: BigGAN conditioned on the features of an instance, written from its published configuration.

A picture is made from noise z, in chunks of equal length, and from the L2-normalised feature vector f of a picture that
it should be like (Casanova et al. 2021, arXiv 2109.05070; BigGAN: Brock et al. 2019, arXiv 1809.11096):

    y = shared_feat(f)
    h = linear(z_0), as 4 x 4 pixels
    h = block_i(h, [y, z_{i+1}])                     twice the size; after one of them, self-attention
    picture = tanh(conv(relu(batch_norm(h))))        in [-1, 1]

All weights but those of batch norms and `shared` are divided by their spectral norm, for which one step of the power
iteration is made from a stored vector. Names of modules are those of the public checkpoints, so that these load with
every key used and none missing. `shared`, a table of classes, is in them and is not used.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from minddiffuser.pretrained.files import AGAIN, MissingModelError, misfit
from minddiffuser.pretrained.icgan import icgan_file, icgan_state

_EPSILON_NORM, _EPSILON_BATCH = 1e-6, 1e-5
CHANNELS_256 = (16, 16, 8, 8, 4, 2, 1)  # of the 4 x 4 pixels and after each block, in units of the network's width


class _Spectral(nn.Module):
    """A weight that is used divided by its largest singular value, as one power iteration from `u0` estimates it."""

    u0: torch.Tensor
    sv0: torch.Tensor

    def __init__(self, shape: Sequence[int], bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(*shape)))
        self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
        self.register_buffer("u0", torch.randn(1, shape[0]))
        self.register_buffer("sv0", torch.ones(1))

    def normalised(self) -> torch.Tensor:
        """Weight over its spectral norm; in training the vector and the value are kept."""
        W = self.weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(self.u0 @ W, eps=_EPSILON_NORM)
            u = F.normalize(v @ W.T, eps=_EPSILON_NORM)
        sigma = (v @ W.T @ u.T).squeeze()
        if self.training:
            self.u0.copy_(u)
            self.sv0.copy_(sigma.detach())
        return self.weight / sigma


class _Linear(_Spectral):
    def __init__(self, n_in: int, n_out: int, bias: bool = True) -> None:
        super().__init__((n_out, n_in), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.normalised(), self.bias)


class _Conv(_Spectral):
    def __init__(self, n_in: int, n_out: int, size: int, bias: bool = True) -> None:
        super().__init__((n_out, n_in, size, size), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.normalised(), self.bias, padding="same")


class _BatchNorm(nn.Module):
    """Batch norm with stored statistics under BigGAN's names, without gain and bias."""

    stored_mean: torch.Tensor
    stored_var: torch.Tensor

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.register_buffer("stored_mean", torch.zeros(n_channels))
        self.register_buffer("stored_var", torch.ones(n_channels))

    def standardised(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width), with mean 0 and deviation 1 of each channel."""
        return F.batch_norm(x, self.stored_mean, self.stored_var, training=self.training, eps=_EPSILON_BATCH)


class _ConditionalNorm(_BatchNorm):
    """Batch norm whose gain and bias depend on the condition."""

    def __init__(self, n_condition: int, n_channels: int) -> None:
        super().__init__(n_channels)
        self.gain = _Linear(n_condition, n_channels, bias=False)
        self.bias = _Linear(n_condition, n_channels, bias=False)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        gain, bias = (part(condition)[:, :, None, None] for part in (self.gain, self.bias))
        return self.standardised(x) * (1 + gain) + bias


class _OutputNorm(_BatchNorm):
    def __init__(self, n_channels: int) -> None:
        super().__init__(n_channels)
        self.gain = nn.Parameter(torch.ones(n_channels))
        self.bias = nn.Parameter(torch.zeros(n_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.standardised(x) * self.gain[:, None, None] + self.bias[:, None, None]


class _Block(nn.Module):
    """Residual block that doubles the size."""

    def __init__(self, n_in: int, n_out: int, n_condition: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _Conv(n_in, n_out, 3), _Conv(n_out, n_out, 3)
        self.conv_sc = _Conv(n_in, n_out, 1)
        self.bn1, self.bn2 = _ConditionalNorm(n_condition, n_in), _ConditionalNorm(n_condition, n_out)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        h = F.interpolate(F.relu(self.bn1(x, condition)), scale_factor=2)  # nearest
        h = self.conv2(F.relu(self.bn2(self.conv1(h), condition)))
        return h + self.conv_sc(F.interpolate(x, scale_factor=2))


class _Attention(nn.Module):
    """Self-attention over pixels, added in proportion to `gamma`."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.theta, self.phi = _Conv(n, n // 8, 1, bias=False), _Conv(n, n // 8, 1, bias=False)
        self.g, self.o = _Conv(n, n // 2, 1, bias=False), _Conv(n // 2, n, 1, bias=False)
        self.gamma = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        theta = self.theta(x).flatten(2)  # (n, channels / 8, pixels)
        phi, g = (F.max_pool2d(part(x), 2).flatten(2) for part in (self.phi, self.g))  # of a quarter of the pixels
        weights = (theta.transpose(1, 2) @ phi).softmax(dim=-1)  # (n, pixels, pixels / 4)
        attended = (g @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        return self.gamma * self.o(attended) + x


class Generator(nn.Module):
    """IC-GAN's generator.

    Parameters
    ----------
    channels : sequence of int
        Of the first 4 x 4 pixels, and after each block; each block doubles the size.
    attention_after : int or None
        Number of the block after which there is self-attention.
    n_features, n_condition : int
        Length of an instance's features, and of what is made of them.
    n_chunk : int
        Length of a chunk of the noise.
    classes : tuple of two int
        Shape of the table of classes, which is not used.
    """

    def __init__(
        self,
        channels: Sequence[int],
        attention_after: int | None,
        n_features: int = 2048,
        n_condition: int = 512,
        n_chunk: int = 17,
        classes: tuple[int, int] = (1000, 128),
    ) -> None:
        super().__init__()
        self.n_chunk, self.n_first = n_chunk, channels[0]
        self.shared = nn.Embedding(*classes)
        self.shared_feat = _Linear(n_features, n_condition)
        self.linear = _Linear(n_chunk, 16 * channels[0])
        self.blocks = nn.ModuleList()
        for i, (n_in, n_out) in enumerate(itertools.pairwise(channels)):
            stage = nn.ModuleList([_Block(n_in, n_out, n_condition + n_chunk)])
            if i == attention_after:
                stage.append(_Attention(n_out))
            self.blocks.append(stage)
        self.output_layer = nn.ModuleList([_OutputNorm(channels[-1]), nn.ReLU(), _Conv(channels[-1], 3, 3)])

    @property
    def n_noise(self) -> int:
        """Length of the noise vector z."""
        return self.n_chunk * (len(self.blocks) + 1)

    @property
    def size(self) -> int:
        """Pixels of a picture."""
        return 4 * 2 ** len(self.blocks)

    def dense(self, z: torch.Tensor) -> torch.Tensor:
        """First 4 x 4 pixels, flat, that z makes: (n, 16 * channels[0])."""
        return self.linear(z[:, : self.n_chunk])

    def forward(self, z: torch.Tensor, features: torch.Tensor, dense: torch.Tensor | None = None) -> torch.Tensor:
        """Make pictures.

        Parameters
        ----------
        z : tensor of shape (n, n_noise)
            Standard normal. Its first chunk has no effect where `dense` is given.
        features : tensor of shape (n, n_features)
            Of length 1 each.
        dense : tensor of shape (n, 16 * channels[0]), optional
            In place of what the first chunk of z makes.

        Returns
        -------
        tensor of shape (n, 3, size, size)
            In [-1, 1].
        """
        y = self.shared_feat(features)
        h = (self.dense(z) if dense is None else dense).unflatten(1, (self.n_first, 4, 4))
        for chunk, stage in zip(z.split(self.n_chunk, dim=1)[1:], self.blocks, strict=True):
            block, *attention = stage  # type: ignore[misc]
            h = block(h, torch.cat([y, chunk], dim=1))
            for layer in attention:
                h = layer(h)
        for layer in self.output_layer:
            h = layer(h)
        return torch.tanh(h)


def generator_of(state: dict[str, Any]) -> Generator:
    """Make the generator that a state dict is of, in evaluation mode, with sizes read from its tensors.

    Parameters
    ----------
    state : dict of str to tensor
        A checkpoint's, with or without the prefix "module.".

    Raises
    ------
    ValueError
        Keys are missing, are not used, or have other shapes; the message names them.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    needed = ("linear.weight", "shared_feat.weight", "shared.weight", "blocks.0.0.conv1.weight")
    if missing := [key for key in needed if key not in state]:
        raise ValueError(f"not the state of an IC-GAN generator: {', '.join(missing)} is missing")
    try:
        n_blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
        widths = [state[key].shape[0] for i in range(n_blocks) if (key := f"blocks.{i}.0.conv1.weight") in state]
        attention = [int(key.split(".")[1]) for key in state if key.endswith(".1.gamma")]
        n_condition, n_features = state["shared_feat.weight"].shape
        n_dense, n_chunk = state["linear.weight"].shape
        with torch.device("meta"):  # no weights of its own: orthogonal ones would take long, to no use
            generator = Generator(
                [n_dense // 16, *widths],
                attention[0] if attention else None,
                n_features,
                n_condition,
                n_chunk,
                tuple(state["shared.weight"].shape),
            )
    except Exception as error:  # torch's, of all kinds, over shapes that no generator has
        raise ValueError(f"not the state of an IC-GAN generator: no generator has its shapes ({error})") from error
    if differences := misfit(generator, state):
        raise ValueError(f"not the state of an IC-GAN generator: {differences}")
    generator.load_state_dict(state, assign=True)
    return generator.eval().requires_grad_(False)


def open_generator(name: str, device: torch.device) -> Generator:
    """Open the generator of `experiment.ozcelik.generator`.

    Raises
    ------
    MissingModelError
        Its files are absent or broken, or are not of such a generator.
    """
    file = icgan_file(name)
    state = icgan_state(str(file))
    try:
        generator = generator_of(state)
    except ValueError as error:
        raise MissingModelError(f"experiment.ozcelik.generator: {file}: {error}", AGAIN, file) from error
    return generator.to(device).to(memory_format=torch.channels_last)  # a quarter less time on a CPU
