"""Stage 2: refine z and c until the picture's CLIP features match the decoded ones (specification section 5.3)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional
from tqdm import tqdm

from minddiffuser.config import EMBEDDING, Guidance


@dataclass(frozen=True)
class Targets:
    """Decoded CLIP features of n images.

    Attributes
    ----------
    values : dict of tensors of shape (n, n_kept)
        For each layer, at the selected units.
    units : dict of tensors of shape (n_kept,)
        Those units, into the flattened layer (token-major).
    embedding : tensor of shape (n, dimensions) or None
    """

    values: Mapping[str, torch.Tensor]
    units: Mapping[str, torch.Tensor]
    embedding: torch.Tensor | None = None


def feature_loss(generated: Mapping[str, torch.Tensor], targets: Targets, settings: Guidance) -> torch.Tensor:
    r"""Distance of generated features from the decoded ones, for each image.

    "weighted", as released: with n_i the norm of layer i's target and a_i its layer weight,

        L = sum_i w_i (1 - s) mean((target_i - generated_i)^2) + 0.1 s (1 - cosine of the embeddings)
        w_i = a_i (1 / n_i) / sum_j (1 / n_j)

    where s is `embedding_weight` and the mean is over all units of the layer, of which those not selected
    count as 0. "sum", the paper's algorithm 1: the plain sum over layers of squared norms.

    Parameters
    ----------
    generated : dict of tensors of shape (n, n_tokens, width)

    Returns
    -------
    tensor of shape (n,)
    """
    squares, sizes, norms = [], [], []
    for name, target in targets.values.items():
        layer = generated[name].flatten(start_dim=1)
        squares.append((target - layer[:, targets.units[name]]).square().sum(dim=1))
        sizes.append(layer.shape[1])
        norms.append(target.norm(dim=1))
    squared = torch.stack(squares, dim=1)  # (n, n_layers)
    if settings.loss == "sum":
        return squared.sum(dim=1)
    inverse = 1 / torch.stack(norms, dim=1)
    weights = inverse / inverse.sum(dim=1, keepdim=True) * squared.new_tensor(settings.layer_weights)
    loss = (weights * squared / squared.new_tensor(sizes)).sum(dim=1) * (1 - settings.embedding_weight)
    if settings.embedding_weight and targets.embedding is not None:
        similarity = functional.cosine_similarity(generated[EMBEDDING], targets.embedding, dim=1)
        loss = loss + 0.1 * settings.embedding_weight * (1 - similarity)
    return loss


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
    learning_rates : list of n_iterations float
    trajectory : dict of tensors of shape (n, 3, height, width)
        Pictures of every `save_every`-th iteration.
    """

    images: torch.Tensor
    iteration: torch.Tensor
    losses: torch.Tensor
    learning_rates: list[float]
    trajectory: dict[int, torch.Tensor]


def refine(
    z: torch.Tensor,
    c: torch.Tensor,
    sample: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    extract: Callable[[torch.Tensor], Mapping[str, torch.Tensor]],
    noise: Callable[[int], torch.Tensor],
    targets: Targets,
    settings: Guidance,
) -> Refinement:
    """Descend the feature loss in z, or in z and c, through the whole sampler (paper, algorithm 1).

    The losses of the images are added, and Adam treats each number by itself, so that images do not influence
    one another. The picture of iteration k is made before its update: iteration 0 is stage 1's picture.

    Parameters
    ----------
    z : tensor of shape (n, 4, height, width)
    c : tensor of shape (n, n_tokens, width)
    sample : callable
        (z, c, noise) to pictures in [0, 1].
    extract : callable
        Pictures to CLIP features.
    noise : callable
        Iteration to noise of the shape of z.
    targets : Targets
    settings : Guidance
        `result` says which picture is returned: that of the lowest loss, or of the last iteration. The stimulus
        is never looked at.
    """
    z = z.detach().clone().requires_grad_()
    c = c.detach().clone().requires_grad_(settings.optimise == "z_and_c")
    optimizer = torch.optim.Adam([v for v in (z, c) if v.requires_grad], lr=settings.learning_rate)
    best: torch.Tensor | None = None
    best_loss = torch.full((len(z),), torch.inf, device=z.device)
    iteration = torch.zeros(len(z), dtype=torch.long, device=z.device)
    losses, rates, trajectory = [], [], {}
    for k in tqdm(range(settings.n_iterations), desc="iterations", leave=False):
        rate = settings.learning_rate * settings.decay ** (k + 1)  # the original steps its schedule first
        optimizer.param_groups[0]["lr"] = rate
        images = sample(z, c, noise(k))
        loss = feature_loss(extract(images), targets, settings)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()

        images, loss = images.detach(), loss.detach()
        better = loss < best_loss if settings.result == "lowest_loss" else torch.ones_like(loss, dtype=torch.bool)
        best = images if best is None else torch.where(better[:, None, None, None], images, best)
        best_loss, iteration = torch.where(better, loss, best_loss), torch.where(better, k, iteration)
        losses.append(loss)
        rates.append(rate)
        if k % settings.save_every == 0:
            trajectory[k] = images
    assert best is not None  # n_iterations is at least 1
    return Refinement(best, iteration, torch.stack(losses), rates, trajectory)
