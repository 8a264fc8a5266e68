"""How much each voxel has to do with a decoder's outputs: two measures, over all outputs of a target family."""

from collections.abc import Iterable

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


def pattern_strength(decoded_blocks: Iterable[np.ndarray], X: np.ndarray) -> np.ndarray:
    """Root mean square, over outputs, of each voxel's correlation with the decoded output.

    For one output at a time Haufe et al. (2014, doi 10.1016/j.neuroimage.2013.10.067, equation 6) give the activation
    pattern cov(X, decoded) / var(decoded); with both standardised it is this correlation. It says in which voxels
    what is decoded can be seen, whether or not they were selected. Squares do not cancel over outputs.

    Parameters
    ----------
    decoded_blocks : iterable of arrays of shape (n_images, n_units_here)
        What is decoded from the training images.
    X : array of shape (n_images, n_voxels)
        Their voxels, standardised.

    Returns
    -------
    array of shape (n_voxels,), from 0 to 1
    """
    total = np.zeros(X.shape[1])
    n_units = 0
    deviation = X.std(axis=0)
    for decoded in decoded_blocks:
        covariance = X.T @ unit_rows(decoded.T).T  # (n_voxels, n_units_here)
        total += (covariance**2).sum(axis=1)
        n_units += decoded.shape[1]
    return np.sqrt(total / n_units / len(X)) / np.where(deviation > 0, deviation, np.inf)
