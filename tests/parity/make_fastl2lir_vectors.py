"""Make the vectors of fastl2lir that the decoder is held against: fastl2lir_vectors.npz, beside this script.

fastl2lir 0.11 fails on NumPy 2.4 and later, and so is no dependency. To make the vectors again:

    python -m venv throw-away
    throw-away/bin/pip install "fastl2lir==0.11" "numpy<2.4"
    throw-away/bin/python tests/parity/make_fastl2lir_vectors.py

The file has, in float64, voxels that are not centred, so that the penalised bias matters:

    X (60, 30), Y (60, 12)
    alpha_<alpha>/n_<n_voxels>/W (30, 12) and b (12,)    weights and bias; 0 where a voxel is not selected

and voxels that are nearly copies of each other, X = np.repeat(base, 3, axis=1) + noise * jitter:

    base (200, 20), jitter (200, 60), targets (200, 5)
    copies_<noise>/predicted (200, 5)                     of the same X, by 40 voxels an output
"""

import warnings
from pathlib import Path

import numpy as np
from fastl2lir import FastL2LiR

ALPHAS, N_VOXELS = (0.15, 1.0, 100.0), (1, 10, 29, 30)  # 30 is all of them: no selection
ALPHA_OF_NOISE = {1e-1: 0.15, 1e-4: 0.15, 1e-7: 1e-6}


def fitted(X: np.ndarray, Y: np.ndarray, alpha: float, n_voxels: int) -> FastL2LiR:
    """Fit with the package; it takes 0 for no selection."""
    model = FastL2LiR()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, Y, alpha=alpha, n_feat=n_voxels if n_voxels < X.shape[1] else 0)
    return model


def main() -> None:
    """Fit all cases and write the file."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 30))
    Y = X[:, :7] @ rng.normal(size=(7, 12)) + rng.normal(size=(60, 12))
    X = X + 0.7
    vectors = {"X": X, "Y": Y}
    for alpha in ALPHAS:
        for n_voxels in N_VOXELS:
            model = fitted(X, Y, alpha, n_voxels)
            vectors[f"alpha_{alpha}/n_{n_voxels}/W"] = model.W
            vectors[f"alpha_{alpha}/n_{n_voxels}/b"] = np.ravel(model.b)
    rng = np.random.default_rng(2)
    base, jitter, targets = (rng.normal(size=(200, n)) for n in (20, 60, 5))
    vectors.update({"base": base, "jitter": jitter, "targets": targets})
    for noise, alpha in ALPHA_OF_NOISE.items():
        X = np.repeat(base, 3, axis=1) + noise * jitter
        vectors[f"copies_{noise}/predicted"] = fitted(X, targets, alpha, 40).predict(X)
    np.savez_compressed(Path(__file__).with_name("fastl2lir_vectors.npz"), **vectors)


if __name__ == "__main__":
    main()
