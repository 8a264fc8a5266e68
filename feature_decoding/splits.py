"""How well training images are decoded when they are held out: by lot, or with all that are like them."""

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.model_selection import GroupKFold, KFold

from feature_decoding.ridge import Gram, Scaler, fit, predict
from minddiffuser.config.method import Controls
from minddiffuser.correlation import correlate


def held_out_scores(
    betas: np.ndarray,
    targets: dict[str, np.ndarray],
    kinds: np.ndarray,
    controls: Controls,
    alpha: float,
    n_voxels: dict[str, int],
    seed: int,
    device: torch.device,
) -> tuple[np.ndarray, dict[str, dict[str, dict[str, np.ndarray]]]]:
    """Cross-validate in random folds and in folds of whole clusters, and score each image when it is held out.

    Every image is identified among the same others in both splits, so that the task is equally hard; the clusters of a
    fold differ from all that its decoder was fitted to.

    Parameters
    ----------
    betas : array of shape (n_images, n_voxels)
        Not standardised.
    targets : dict of arrays of shape (n_images, n_units)
    kinds : array of shape (n_images, n_features)
        What images are clustered by.
    controls : Controls
        With `n_clusters` and `n_folds`.
    n_voxels : dict of int
        Of each target's outputs.

    Returns
    -------
    cluster : array of shape (n_images,), int
        What is held out together; images of one are not independent of each other.
    scores : dict of target to dict of split to dict of metric to array of shape (n_images,)
        "naive_split" and "held_out_clusters", each with "feature_correlation", across standardised units, and
        "feature_two_way", the share of other images whose targets are less like the decoded ones.
    """
    n = len(betas)
    n_clusters = min(controls.n_clusters, n)
    cluster = KMeans(n_clusters, n_init=3, random_state=seed).fit_predict(Scaler.of(kinds).apply(kinds))
    n_folds = min(controls.n_folds, len(np.unique(cluster)))
    folds = {
        "naive_split": KFold(n_folds, shuffle=True, random_state=seed).split(betas),
        "held_out_clusters": GroupKFold(n_folds).split(betas, groups=cluster),
    }
    true = {name: Scaler.of(Y).apply(Y) for name, Y in targets.items()}
    scores: dict[str, dict[str, dict[str, np.ndarray]]] = {name: {} for name in targets}
    for split, parts in folds.items():
        decoded = {name: np.empty_like(Y) for name, Y in true.items()}
        for train, test in parts:
            scale_x = Scaler.of(betas[train])
            gram = Gram(scale_x.apply(betas[train]), device)
            for name, Y in true.items():
                scale_y = Scaler.of(Y[train])
                decoder = fit(gram, scale_y.apply(Y[train]), alpha, min(n_voxels[name], betas.shape[1]))
                decoded[name][test] = scale_y.undo(predict(scale_x.apply(betas[test]), decoder))
            del gram  # before the next fold has its own
        for name, Y in true.items():
            r = correlate(decoded[name], Y)
            own = np.diag(r)
            two_way = (r < own[:, None]).sum(axis=1) / (n - 1)
            scores[name][split] = {"feature_correlation": own, "feature_two_way": two_way}
    return cluster, scores
