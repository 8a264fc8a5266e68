"""What Mind-Animator's networks minimise, and the schedules of their rates and penalties.

References: Lu et al. 2025 (arXiv 2405.03280); the authors' train_semantic_decoder.py,
train_structure_decoder.py and train_CMG.py, from which the constants in `minddiffuser/config/mind_animator.py` are.
"""

import math

import torch
from torch import nn
from torch.nn import functional


def bi_info_nce(
    f: torch.Tensor, target: torch.Tensor, scale: torch.Tensor | float, same: torch.Tensor | None = None
) -> torch.Tensor:
    """Compare each code with the targets of all clips of a batch, and each target with all codes.

    S = scale cos(f_i, t_j),  loss = (CE(S, P) + CE(S^T, P^T)) / 2,  CE(S, P) = - mean_i sum_j P_ij log softmax_j(S_ij)

    P is the identity, as released: clip j is a wrong answer for clip i even where both have the same caption. With
    `same` all clips of equal number are right answers, in equal parts.

    Parameters
    ----------
    f, target : tensors of shape (n_clips, width)
        Decoded codes and CLIP embeddings, of any length.
    scale : tensor of shape (), or float
        exp of the learned logarithm.
    same : tensor of shape (n_clips,), int, optional
        The same number for clips whose target is the same, such as that of a caption.

    Returns
    -------
    tensor of shape ()
        Of logits that are all equal it is ln(n_clips).
    """
    S = scale * functional.normalize(f, dim=-1) @ functional.normalize(target, dim=-1).T  # (n_clips, n_clips)
    if same is None:
        same = torch.arange(len(f), device=f.device)
    P = (same[:, None] == same).to(S)
    P = P / P.sum(dim=1, keepdim=True)  # symmetric: clips of one kind have the same sum
    return (functional.cross_entropy(S, P) + functional.cross_entropy(S.T, P)) / 2


def semantic_loss(
    f: torch.Tensor,
    c: torch.Tensor,
    clip_text: torch.Tensor,
    clip_image: torch.Tensor,
    true_c: torch.Tensor,
    scale: torch.Tensor | float,
    contrast_weight: float,
    projection_weight: float,
    same: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the loss of the semantic decoder.

    L = MSE(f, t) + contrast_weight (BiInfoNCE(f, t) + BiInfoNCE(f, v)) / 2 + projection_weight MSE(c, true_c)

    The first term is in the authors' script, and not in the paper.

    Parameters
    ----------
    f : tensor of shape (n_clips, width)
        Decoded.
    c, true_c : tensors of shape (n_clips, n_tokens - 1, n_text)
        Decoded and true tokens of the text, without begin of text.
    clip_text, clip_image : tensors of shape (n_clips, width)
        t and v, CLIP's embeddings of the caption and of the middle frame, as they leave CLIP.
    scale, same
        As in `bi_info_nce`.
    """
    contrast = (bi_info_nce(f, clip_text, scale, same) + bi_info_nce(f, clip_image, scale, same)) / 2
    projection = functional.mse_loss(c, true_c)
    return functional.mse_loss(f, clip_text) + contrast_weight * contrast + projection_weight * projection


def l1_norm(network: nn.Module) -> torch.Tensor:
    """Sum the absolute values of all weights, with those of norms and biases, as the authors do."""
    return torch.stack([parameter.abs().sum() for parameter in network.parameters()]).sum()


def l1_weight(start: float, rate: float, epoch: int, compounds: bool) -> float:
    """Give the weight of `l1_norm` in an epoch, counted from 0.

    start exp(-rate epoch), or, where it compounds, as released, start exp(-rate (0 + 1 + ... + (epoch - 1))): there the
    weight of the last epoch, not the first, is multiplied by exp(-rate epoch).
    """
    return start * math.exp(-rate * (epoch * (epoch - 1) / 2 if compounds else epoch))


def noam(step: int, width: int, warm_up: int) -> float:
    """Give the learning rate of a step, counted from 1 (Vaswani et al. 2017, arXiv 1706.03762, equation 3).

    width^-.5 min(step^-.5, step warm_up^-1.5), which is highest at `warm_up`.
    """
    return width**-0.5 * min(step**-0.5, step * warm_up**-1.5)
