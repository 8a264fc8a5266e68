"""How much each voxel has to do with a decoder's outputs: two measures, over all outputs of a target family."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from feature_decoding.ridge import Decoder
from minddiffuser.correlation import unit_rows


def mean_weights(decoders: Iterable[Decoder], n_voxels: int) -> np.ndarray:
    """Mean weight of each voxel over outputs, taken absolutely: the recipe of MindDiffuser's authors.

    It is in their later code (Mind-Animator, `Semantic_weight_projection`); the paper's figures 9 to 11 do not say
    how they were made. Weights of opposite sign cancel, and a weight is no sign of information: a voxel can have a
    large one because it cancels noise that it shares with others (Haufe et al. 2014).

    Parameters
    ----------
    decoders : iterable of Decoder
        Blocks of outputs. A voxel that was not selected has weight 0.

    Returns
    -------
    array of shape (n_voxels,), scaled to reach from 0 to 1
    """
    total = np.zeros(n_voxels)
    n_units = 0
    for decoder in decoders:
        np.add.at(total, decoder.voxels.ravel(), decoder.weights.ravel())
        n_units += len(decoder.bias)
    return from_0_to_1(np.abs(total / n_units))


def from_0_to_1(values: np.ndarray) -> np.ndarray:
    """Shift and scale values so that they reach from 0 to 1, as the authors do; equal ones become 0."""
    return (values - values.min()) / (np.ptp(values) or 1)


class Explained(NamedTuple):
    """How much of the variance of voxels what is decoded explains, mean over decoded outputs.

    Attributes
    ----------
    by_voxel : array of shape (n_voxels,)
        Mean over outputs of the squared correlation of voxel and output.
    by_image : array of shape (n_images, n_groups)
        Pseudo-values of the mean of `by_voxel` over a group of voxels: their mean over images is that mean, and their
        spread over images is the influence that an image has on it.
    n_outputs : int
    """

    by_voxel: np.ndarray
    by_image: np.ndarray
    n_outputs: int


def explained(decoded_blocks: Iterable[np.ndarray], X: np.ndarray, group: np.ndarray) -> Explained:
    r"""Square the correlation r_vj of each voxel v with each decoded output j, and take the mean over outputs.

    For one output at a time Haufe et al. (2014, doi 10.1016/j.neuroimage.2013.10.067, equation 6) give the activation
    pattern cov(X, decoded) / var(decoded); with both standardised it is this correlation. It says in which voxels
    what is decoded can be seen, whether or not they were selected. Squares do not cancel over outputs, and are shares
    of variance, which can be compared between voxels.

    With x and y standardised, image i has the influence x_i y_i - r (x_i^2 + y_i^2) / 2 on r (the infinitesimal
    jackknife), and 2 r times that on r^2.

    Parameters
    ----------
    decoded_blocks : iterable of arrays of shape (n_images, n_units_here)
        What is decoded from the training images.
    X : array of shape (n_images, n_voxels)
        Their voxels. Its precision is that of the computation.
    group : array of shape (n_voxels,), int
        From 0: the group of each voxel, such as its ROI.
    """
    n, n_groups, n_outputs = len(X), int(group.max()) + 1, 0
    Y = unit_rows(X.T).T
    members = [np.flatnonzero(group == k) for k in range(n_groups)]
    by_voxel, by_image = np.zeros(X.shape[1]), np.zeros((n, n_groups))
    for decoded in decoded_blocks:
        P = unit_rows(decoded.astype(X.dtype).T).T  # (n_images, n_units_here)
        R = Y.T @ P  # (n_voxels, n_units_here)
        by_voxel += (R**2).sum(axis=1)
        n_outputs += P.shape[1]
        for k, voxels in enumerate(members):
            r = R[voxels]
            by_image[:, k] += 2 * ((Y[:, voxels] @ r) * P).sum(axis=1) - P**2 @ (r**2).sum(axis=0)
    by_voxel /= n_outputs
    for k, voxels in enumerate(members):
        influence = by_image[:, k] / n_outputs - Y[:, voxels] ** 2 @ by_voxel[voxels]
        by_image[:, k] = (by_voxel[voxels].sum() + n * influence) / len(voxels)
    return Explained(by_voxel, by_image, n_outputs)
