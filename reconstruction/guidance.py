"""Stage 2: refine z and c until the picture's CLIP features match the decoded ones (paper, algorithm 1)."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from minddiffuser.config.method import EMBEDDING, Guidance, Precision
from minddiffuser.precision import products
from minddiffuser.progress import progress

if TYPE_CHECKING:
    from reconstruction.sampler import ImageToImage

# So that gradients pass through float16 without vanishing, or, further down, without overflow. Each iteration begins
# with the first, so that going on from a state takes the same way.
_LOSS_SCALES = (2.0**12, 2.0**6, 1.0, 2.0**-6)


@dataclass(frozen=True)
class Targets:
    """Decoded features of n images.

    Attributes
    ----------
    values : dict of tensors of shape (n, n_kept)
        CLIP's, for each layer, at the selected units.
    units : dict of tensors of shape (n_kept,)
        Those units, into the flattened layer (token-major).
    embedding : tensor of shape (n, dimensions) or None
    latents : tensor of shape (n, n_channels, height, width) or None
        The decoded z.
    deviations : dict of tensors
        Of loss "variance_restored": the training images' deviation of each unit of a layer (n_kept,), and of each
        latent ("latents", of the shape of z).
    """

    values: Mapping[str, torch.Tensor]
    units: Mapping[str, torch.Tensor]
    embedding: torch.Tensor | None = None
    latents: torch.Tensor | None = None
    deviations: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def of(self, rows: slice | np.ndarray | torch.Tensor) -> "Targets":
        """Choose those of some images."""
        return replace(
            self,
            values={name: values[rows] for name, values in self.values.items()},
            embedding=None if self.embedding is None else self.embedding[rows],
            latents=None if self.latents is None else self.latents[rows],
        )

    def to(self, device: torch.device) -> "Targets":
        """Copy to a device."""
        return Targets(
            {name: values.to(device) for name, values in self.values.items()},
            {name: units.to(device) for name, units in self.units.items()},
            None if self.embedding is None else self.embedding.to(device),
            None if self.latents is None else self.latents.to(device),
            {name: values.to(device) for name, values in self.deviations.items()},
        )


def feature_loss(
    generated: Mapping[str, torch.Tensor],
    targets: Targets,
    settings: Guidance,
    latents: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Distance of generated features from the decoded ones, for each image.

    "weighted", as released: with n_i the norm of layer i's target and a_i its layer weight,

        L = sum_i w_i (1 - s) mean((target_i - generated_i)^2) + 0.1 s (1 - cosine of the embeddings)
        w_i = a_i (1 / n_i) / sum_j (1 / n_j)

    where s is `embedding_weight` and the mean is over all units of the layer, of which those not selected
    count as 0. "sum", the paper's algorithm 1: the plain sum over layers of squared norms. "variance_restored", this
    project's: with d the deviation of each unit over training images, and x the sampler's final latents,

        L = mean over layers of mean(((target_i - generated_i) / d_i)^2) + latent_weight mean(((z - x) / d_z)^2)

    The targets' variance should be restored before (feature_decoding/variance.py): a target that is shrunk to the mean
    is nearer to a bland picture than to what was seen.

    Parameters
    ----------
    generated : dict of tensors of shape (n, n_tokens, width)
    latents : tensor of shape (n, n_channels, height, width), optional
        The sampler's final latents, where they have a weight.

    Returns
    -------
    tensor of shape (n,)

    Raises
    ------
    ValueError
        Targets are of another shape than what is generated at their units, or there is not one weight for each layer,
        or no target of the embedding, or of the latents, which has a weight.
    """
    if settings.loss == "weighted" and len(settings.layer_weights) != len(targets.values):
        raise ValueError(f"{len(settings.layer_weights)} layer_weights are for {len(targets.values)} layers of targets")
    if settings.loss == "weighted" and settings.embedding_weight and targets.embedding is None:
        raise ValueError(f"embedding_weight is {settings.embedding_weight}, but there is no target of the embedding")
    squares, sizes, norms = [], [], []
    for name, target in targets.values.items():
        layer = generated[name].flatten(start_dim=1)
        selected = layer[:, targets.units[name]]
        if target.shape != selected.shape:
            raise ValueError(f"{name}: targets are {tuple(target.shape)}, what is generated {tuple(selected.shape)}")
        difference = target - selected
        if settings.loss == "variance_restored":
            squares.append((difference / targets.deviations[name]).square().mean(dim=1))
            continue
        squares.append(difference.square().sum(dim=1))
        sizes.append(layer.shape[1])
        norms.append(target.norm(dim=1))
    squared = torch.stack(squares, dim=1)  # (n, n_layers)
    if settings.loss == "variance_restored":
        loss = squared.mean(dim=1)
        if settings.latent_weight:
            if targets.latents is None or latents is None:
                raise ValueError(f"latent_weight is {settings.latent_weight}, but there are no latents to compare")
            if targets.latents.shape != latents.shape:
                raise ValueError(
                    f"the decoded z are {tuple(targets.latents.shape)}, final latents {tuple(latents.shape)}"
                )
            difference = (targets.latents - latents) / targets.deviations["latents"]
            loss = loss + settings.latent_weight * difference.square().flatten(start_dim=1).mean(dim=1)
        return loss
    if settings.loss == "sum":
        return squared.sum(dim=1)
    inverse = 1 / torch.stack(norms, dim=1)
    weights = inverse / inverse.sum(dim=1, keepdim=True) * squared.new_tensor(settings.layer_weights)
    loss = (weights * squared / squared.new_tensor(sizes)).sum(dim=1) * (1 - settings.embedding_weight)
    if settings.embedding_weight and targets.embedding is not None:  # the second is for the type checker
        similarity = functional.cosine_similarity(generated[EMBEDDING], targets.embedding, dim=1)
        loss = loss + 0.1 * settings.embedding_weight * (1 - similarity)
    return loss


class Sampler(Protocol):
    """What stage 2 asks of a sampler: from z, c and noise to final latents, and from these to pictures in [0, 1]."""

    def denoise(  # noqa: D102
        self, z: torch.Tensor, c: torch.Tensor, noise: torch.Tensor, gradient_steps: int | None = None
    ) -> torch.Tensor: ...

    def draw(self, latents: torch.Tensor) -> torch.Tensor: ...  # noqa: D102


@dataclass
class Refinement:
    """What stage 2 did to n images.

    Attributes
    ----------
    images : tensor of shape (n, 3, height, width)
        The result, in [0, 1].
    iteration : tensor of shape (n,)
        The iteration that made it, 0 being stage 1's picture.
    losses : tensor of shape (n_iterations, n)
        NaN from the iteration on at which an image had stopped.
    z : tensor of shape (n, 4, height, width) or None
        Where a descent ended.
    """

    images: torch.Tensor
    iteration: torch.Tensor
    losses: torch.Tensor
    z: torch.Tensor | None = None


def learning_rate(k: int, settings: Guidance) -> float:
    """Learning rate of iteration k, counted from 0; the original steps its schedule before its first iteration."""
    if settings.schedule == "cosine":
        return settings.learning_rate * (1 + math.cos(math.pi * k / settings.n_iterations)) / 2
    return settings.learning_rate * settings.decay ** (k + 1)


def refine(
    z: torch.Tensor,
    c: torch.Tensor,
    sampler: Sampler,
    extract: Callable[[torch.Tensor], Mapping[str, torch.Tensor]],
    noise: Callable[[int], torch.Tensor],
    targets: Targets,
    settings: Guidance,
    precision: Precision = "float32",
    state: Mapping[str, torch.Tensor] | None = None,
    keep: Callable[[int, torch.Tensor, dict[str, torch.Tensor]], None] | None = None,
) -> Refinement:
    """Descend the feature loss in z, or in z and c, through the whole sampler (paper, algorithm 1).

    The losses of the images are added, and Adam treats each number by itself, so that images do not influence
    one another. The picture of iteration k is made before its update: iteration 0 is stage 1's picture.

    Parameters
    ----------
    z : tensor of shape (n, 4, height, width)
    c : tensor of shape (n, n_tokens, width)
    sampler : Sampler
        Such as `sampler.ImageToImage`.
    extract : callable
        Pictures to CLIP features.
    noise : callable
        Iteration to noise of the shape of z.
    targets : Targets
    settings : Guidance
        `result` says which picture is returned: that of the lowest loss, or of the last iteration. The stimulus
        is never looked at.
    precision : "float32", "tf32" or "float16"
        Of `sampler`. In float16 the loss is scaled, and taken again with a smaller scale where gradients overflow.
    state : dict of tensors, optional
        As `keep` was given it: go on from there, to the same result as without the break.
    keep : callable, optional
        Called after every `save_every`-th iteration with its number, its pictures, and all that is needed to go on.

    Raises
    ------
    FloatingPointError
        A gradient is not finite, in float16 with any scale; the message says what to do. But for float16 it is raised
        when pictures are kept, or at the end: looking in each iteration would be waiting for the GPU.
    """
    variables = {"z": z.detach().clone().requires_grad_()}
    c = c.detach().clone()
    if settings.optimise == "z_and_c":
        variables["c"] = c.requires_grad_()
    optimizer = torch.optim.Adam(variables.values(), lr=settings.learning_rate)
    best = torch.zeros(0, device=z.device)  # made with the first pictures
    best_loss = torch.full((len(z),), torch.inf, device=z.device)
    iteration = torch.zeros(len(z), dtype=torch.long, device=z.device)
    losses: list[torch.Tensor] = []
    if state is not None:
        best, best_loss, iteration = (state[name].to(z.device) for name in ("best", "best_loss", "iteration"))
        losses = list(state["losses"].to(z.device))
        _restore(optimizer, variables, state, len(losses))
    broken = torch.tensor(settings.n_iterations, device=z.device)  # first iteration without finite gradients
    bar = progress(range(settings.n_iterations), initial=len(losses), desc="iterations", leave=False)
    for k in range(len(losses), settings.n_iterations):
        running = slice(None)
        if settings.patience is not None and losses:
            (running,) = torch.where(~losses[-1].isnan() & (k - iteration <= settings.patience))
            if not len(running):
                break
        optimizer.param_groups[0]["lr"] = learning_rate(k, settings)

        def measure(k: int = k, running: slice | torch.Tensor = running) -> tuple[torch.Tensor, ...]:
            latents = sampler.denoise(variables["z"][running], c[running], noise(k)[running], settings.gradient_steps)
            images = sampler.draw(latents)
            return feature_loss(extract(images), targets.of(running), settings, latents), images

        (loss, images), gradients, finite = differentiate(measure, list(variables.values()), precision)
        broken = torch.where(finite, broken, broken.clamp(max=k))
        if precision == "float16":  # in which the GPU was waited for
            _check(broken, settings, precision)
        for variable, gradient in zip(variables.values(), gradients, strict=True):
            variable.grad = gradient
        optimizer.step()

        if not len(best):
            best = torch.zeros_like(images)
        better = loss < best_loss[running] if settings.result == "lowest_loss" else torch.ones_like(loss).bool()
        best[running] = torch.where(better[:, None, None, None], images, best[running])
        best_loss[running] = torch.where(better, loss, best_loss[running])
        iteration[running] = torch.where(better, k, iteration[running])
        losses.append(torch.full_like(best_loss, torch.nan))
        losses[-1][running] = loss
        if keep and k % settings.save_every == 0:
            _check(broken, settings, precision)
            here = {"best": best, "best_loss": best_loss, "iteration": iteration, "losses": torch.stack(losses)}
            here |= _state_of(optimizer, variables)
            shown = best.index_copy(0, running, images) if isinstance(running, torch.Tensor) else images
            keep(k, shown, {name: tensor.contiguous() for name, tensor in here.items()})
        bar.update()
    bar.close()
    _check(broken, settings, precision)
    return Refinement(best, iteration, torch.stack(losses), variables["z"].detach())


def differentiate(
    measure: Callable[[], tuple[torch.Tensor, ...]], variables: Sequence[torch.Tensor], precision: Precision
) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...], torch.Tensor]:
    """Differentiate the sum of losses; in float16 the loss is scaled, by less where gradients overflow.

    Parameters
    ----------
    measure : callable
        Gives the loss of each image, and whatever else is wanted.
    variables : sequence of tensors

    Returns
    -------
    what `measure` gave, without gradients; gradients of each variable; and whether these are finite (one bool)
    """
    scales = _LOSS_SCALES if precision == "float16" else (1.0,)  # elsewhere a scale would change no bit
    for scale in scales:
        with products(precision):
            made = measure()
            for variable in variables:
                variable.grad = None
            (made[0].sum() * scale).backward(inputs=list(variables))
        gradients = tuple(variable.grad / scale for variable in variables if variable.grad is not None)
        finite = torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
        if len(scales) == 1 or finite:  # only the second waits for the GPU
            break
    return tuple(part.detach() for part in made), gradients, finite  # type: ignore[possibly-undefined]


def _check(broken: torch.Tensor, settings: Guidance, precision: Precision) -> None:
    """Raise if gradients of an iteration were not finite."""
    is_sound = broken == settings.n_iterations
    if not is_sound:
        k = int(broken)
        raise FloatingPointError(f"gradients are not finite at iteration {k}; {_way_out(k, precision)}")


def steer(
    z: torch.Tensor,
    c: torch.Tensor,
    sampler: "ImageToImage",
    extract: Callable[[torch.Tensor], Mapping[str, torch.Tensor]],
    noise: Callable[[int], torch.Tensor],
    targets: Targets,
    settings: Guidance,
    precision: Precision = "float32",
    keep: Callable[[int, torch.Tensor, dict[str, torch.Tensor]], None] | None = None,
) -> Refinement:
    r"""Steer one pass of the sampler by the feature loss of the clean pictures that its steps predict.

    With e the guided noise estimate at x_t, e_t the part of it that is guidance by c, a_t and s_t the scales of picture
    and noise, and rms the root of the mean square over an image's latents, each step takes in place of e

        e + steering rms(e_t) / rms(g) g      g = gradient in x_t of L(decoder((x_t - s_t e) / a_t))

    It is differentiated through the U-Net, once a step. With `repeats` R each step is taken R times, and its result
    noised back to where it began, with noise R - 1 times fresh (time travel).

    Reference: the gradient of a loss of the predicted clean picture is that of diffusion posterior sampling (Chung et
    al. 2023, arXiv 2209.14687, algorithm 1). Universal guidance (Bansal et al. 2023, arXiv 2302.07121, section 3) adds
    it to the noise estimate, and repeats steps. FreeDoM (Yu et al. 2023, arXiv 2303.09833) takes its size from
    classifier-free guidance.

    Parameters are those of `refine`. Losses are of the predicted pictures, step by step, and at last of the result.
    """
    x, last, losses = sampler.noised(z, noise(0)), None, []
    both = torch.cat([sampler.unconditional.expand_as(c), c])
    moves = [(k, repeat) for k in range(len(sampler.timesteps)) for repeat in range(settings.repeats)]
    for move, (k, repeat) in enumerate(progress(moves, desc="steps", leave=False)):
        x = x.detach().requires_grad_()
        predict = partial(_predict, k, x, both, sampler, extract, targets, settings)
        (loss, images, e, by_text), (gradient,), finite = differentiate(predict, [x], precision)
        with torch.no_grad():
            e = e + settings.steering * _rms(by_text) / _rms(gradient).clamp(min=1e-30) * gradient
            after, clean = sampler.advance(k, x, torch.where(finite, e, torch.nan), last)
            if repeat < settings.repeats - 1:
                x = sampler.noised_again(k, after, noise(move + 1))
            else:
                x, last = after, clean
        losses.append(loss)
        if keep and move % settings.save_every == 0:
            keep(move, images, {})
    with torch.no_grad(), products(precision):
        images = sampler.draw(x)
        losses.append(feature_loss(extract(images), targets, settings, x))
    if not losses[-1].isfinite().all():
        ways = f"lower experiment.guidance.steering (now {settings.steering:g}), or {_way_out(0, precision)}"
        raise FloatingPointError(f"gradients, or what was sampled, are not finite; {ways}")
    return Refinement(images, torch.full((len(z),), len(moves), device=z.device), torch.stack(losses))


def _predict(
    k: int,
    x: torch.Tensor,
    both: torch.Tensor,
    sampler: "ImageToImage",
    extract: Callable[[torch.Tensor], Mapping[str, torch.Tensor]],
    targets: Targets,
    settings: Guidance,
) -> tuple[torch.Tensor, ...]:
    """Give the loss of the clean pictures that step k predicts, these pictures, and the step's two estimates."""
    e, by_text = sampler.estimate(k, x, both)
    latents = sampler.clean(k, x, e)
    images = sampler.draw(latents)
    return feature_loss(extract(images), targets, settings, latents), images, e, by_text


def refine_before(
    z: torch.Tensor,
    c: torch.Tensor,
    sampler: Sampler,
    extract: Callable[[torch.Tensor], Mapping[str, torch.Tensor]],
    noise: Callable[[int], torch.Tensor],
    targets: Targets,
    settings: Guidance,
    precision: Precision = "float32",
    state: Mapping[str, torch.Tensor] | None = None,
    keep: Callable[[int, torch.Tensor, dict[str, torch.Tensor]], None] | None = None,
) -> Refinement:
    """Descend the feature loss in z through the autoencoder's decoder alone, then sample once.

    No U-Net is differentiated: L(decoder(z)) is descended from the decoded z, and the z where that ends is noised and
    denoised with the decoded c, as in stage 1. This way is ours.

    Parameters are those of `refine`. Losses are of pictures without the sampler, and at last of the result.
    """
    alone = settings.model_copy(update={"optimise": "z", "result": "last"})
    found = refine(z, c, _DecoderAlone(sampler), extract, noise, targets, alone, precision, state, keep)
    assert found.z is not None
    with torch.no_grad(), products(precision):
        latents = sampler.denoise(found.z, c, noise(0))
        images = sampler.draw(latents)
        loss = feature_loss(extract(images), targets, settings, latents)
    return Refinement(
        images, torch.full_like(found.iteration, len(found.losses)), torch.cat([found.losses, loss[None]])
    )


@dataclass(frozen=True)
class _DecoderAlone:
    """A sampler whose final latents are z itself."""

    sampler: Sampler

    def denoise(self, z: torch.Tensor, c: Any, noise: Any, gradient_steps: int | None = None) -> torch.Tensor:  # noqa: ARG002
        return z

    def draw(self, latents: torch.Tensor) -> torch.Tensor:
        return self.sampler.draw(latents)


def _rms(x: torch.Tensor) -> torch.Tensor:
    """Root of the mean square of each image, of shape (n, 1, 1, 1)."""
    return x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def best_of(
    z: torch.Tensor,
    c: torch.Tensor,
    sampler: Sampler,
    extract: Callable[[torch.Tensor], Mapping[str, torch.Tensor]],
    noise: Callable[[int], torch.Tensor],
    targets: Targets,
    settings: Guidance,
    precision: Precision = "float32",
    state: Mapping[str, torch.Tensor] | None = None,
    keep: Callable[[int, None, dict[str, torch.Tensor]], None] | None = None,
) -> Refinement:
    """Draw `n_iterations` pictures of each image, from different noises, and take that of the lowest loss.

    This is what stage 2 would be without its descent, with as many U-Net calls forward and none backward. Parameters
    are those of `refine`; `noise` should give other noise each time. Draw 0 is stage 1's picture. `keep` is given no
    pictures: the next one does not follow from the last.
    """
    best, best_loss = torch.zeros(0), torch.full((len(z),), torch.inf, device=z.device)
    chosen = torch.zeros(len(z), dtype=torch.long, device=z.device)
    losses: list[torch.Tensor] = []
    if state is not None:
        best, best_loss, chosen = (state[name].to(z.device) for name in ("best", "best_loss", "iteration"))
        losses = list(state["losses"].to(z.device))
    with torch.no_grad(), products(precision):
        for k in range(len(losses), settings.n_iterations):
            latents = sampler.denoise(z, c, noise(k))
            images = sampler.draw(latents)
            loss = feature_loss(extract(images), targets, settings, latents)
            better = loss < best_loss
            best = torch.where(better[:, None, None, None], images, best) if k else images
            best_loss, chosen = torch.where(better, loss, best_loss), torch.where(better, k, chosen)
            losses.append(loss)
            if keep and k % settings.save_every == 0:
                here = {"best": best, "best_loss": best_loss, "iteration": chosen, "losses": torch.stack(losses)}
                keep(k, None, {name: tensor.contiguous() for name, tensor in here.items()})
    return Refinement(best, chosen, torch.stack(losses))


def _way_out(k: int, precision: Precision) -> str:
    """Say what to do about gradients that are not finite."""
    if precision == "float16":
        return "set experiment.sampler.precision to float32 or tf32"
    if k == 0:  # nothing was changed yet
        return "what was decoded is not finite, or far too large: look at decoded/ of the subject, and decode it again"
    return "lower experiment.guidance.learning_rate"


def _state_of(optimizer: torch.optim.Adam, variables: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Values of z and c, and Adam's two averages of their gradients."""
    tensors = {}
    for name, variable in variables.items():
        averages = optimizer.state[variable]
        tensors |= {
            name: variable.detach(),
            f"{name}_mean": averages["exp_avg"],
            f"{name}_square": averages["exp_avg_sq"],
        }
    return tensors


def _restore(
    optimizer: torch.optim.Adam, variables: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], n_done: int
) -> None:
    """Put back what `_state_of` took out."""
    for name, variable in variables.items():
        mean, square = (state[f"{name}_{part}"].to(variable.device) for part in ("mean", "square"))
        with torch.no_grad():
            variable.copy_(state[name])
        optimizer.state[variable] = {"step": torch.tensor(float(n_done)), "exp_avg": mean, "exp_avg_sq": square}
