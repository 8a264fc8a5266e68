"""Cross-validation of the decoders' two settings: voxels an output, and penalty."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from sklearn.model_selection import KFold

from feature_decoding.ridge import Gram, Scaler, fit, predict
from minddiffuser.correlation import correlate_pairs
from minddiffuser.progress import progress


def cross_validate(
    X: np.ndarray,
    targets: Mapping[str, np.ndarray],
    alphas: Sequence[float],
    n_voxels: Sequence[int],
    n_folds: int,
    device: str | torch.device = "cpu",
) -> pd.DataFrame:
    """Decode held-out images at every point of a grid.

    All that is scaled is scaled by the fold's own training images. The Gram matrix is made once a fold, for all
    targets and the whole grid.

    Parameters
    ----------
    X : array of shape (n_images, n_voxels)
        Voxels, not standardised.
    targets : dict of arrays of shape (n_images, n_units)
    n_voxels : sequence of int
        More than there are counts as all of them.
    n_folds : int
        Contiguous folds, not shuffled.

    Returns
    -------
    DataFrame
        target, n_voxels, alpha, measure, r, ci_low, ci_high: mean over folds of the mean correlation, with its 95 %
        interval (Student's t over folds).
    """
    sizes = sorted({min(n, X.shape[1]) for n in n_voxels})
    rows = []
    folds = list(KFold(n_folds).split(X))
    with progress(total=n_folds * len(targets) * len(sizes) * len(alphas), desc="search") as bar:
        for train, test in folds:
            scale_x = Scaler.of(X[train])
            gram, X_test = Gram(scale_x.apply(X[train]), device), scale_x.apply(X[test])
            for (name, Y), n, alpha in itertools.product(targets.items(), sizes, alphas):
                scale_y = Scaler.of(Y[train])
                decoded = predict(X_test, fit(gram, scale_y.apply(Y[train]), alpha, n))
                true = scale_y.apply(Y[test])
                rows.append((name, n, alpha, "unit", correlate_pairs(decoded.T, true.T).mean()))
                rows.append((name, n, alpha, "image", correlate_pairs(decoded, true).mean()))
                bar.update()
            del gram, X_test  # before the next fold has its own
    table = pd.DataFrame(rows, columns=["target", "n_voxels", "alpha", "measure", "r"])
    grouped = table.groupby(["target", "n_voxels", "alpha", "measure"], sort=False)["r"]
    half = student.ppf(0.975, n_folds - 1) * grouped.std() / np.sqrt(n_folds)
    summary = pd.DataFrame({"r": grouped.mean(), "ci_low": grouped.mean() - half, "ci_high": grouped.mean() + half})
    return summary.reset_index()


def best_settings(table: pd.DataFrame) -> dict[str, float | int | list[int]]:
    """Give the settings of `decoding` that are best by image.

    All targets share the penalty: it is that of the highest sum of r of c, of z, and of the mean over layers, each with
    its best number of voxels.

    Parameters
    ----------
    table : DataFrame
        As `cross_validate` gives it, of "semantic", "detail" and the layers.

    Returns
    -------
    dict
        "alpha", "n_voxels_semantic", "n_voxels_detail", and "n_voxels_structural", a list.
    """
    by_image = table[table["measure"] == "image"]
    best = by_image.loc[by_image.groupby(["target", "alpha"], sort=False)["r"].idxmax()].set_index("target")
    layers = [target for target in best.index.unique() if target not in ("semantic", "detail")]

    def quality(of_alpha: pd.DataFrame) -> float:
        r = of_alpha["r"]
        return float(r["semantic"] + r["detail"] + r[layers].mean())

    qualities = {alpha: quality(of_alpha) for alpha, of_alpha in best.groupby("alpha")}
    alpha = max(qualities, key=lambda alpha: qualities[alpha])
    sizes = best.loc[best["alpha"] == alpha, "n_voxels"]
    return {
        "alpha": alpha,
        "n_voxels_semantic": int(sizes["semantic"]),
        "n_voxels_detail": int(sizes["detail"]),
        "n_voxels_structural": [int(sizes[layer]) for layer in layers],
    }
