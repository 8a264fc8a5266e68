"""The decoder against fastl2lir (installed and by its stored vectors) and scikit-learn."""

import numpy as np
import pytest
from fastl2lir import FastL2LiR
from sklearn.linear_model import Ridge

from feature_decoding.ridge import Scaler, correlation, fit, predict


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 30))
    Y = X[:, :7] @ rng.normal(size=(7, 12)) + rng.normal(size=(60, 12))
    return X, Y


def dense(decoder, n_voxels):
    """Weights as fastl2lir stores them, (n_voxels, n_units)."""
    W = np.zeros((n_voxels, len(decoder.bias)))
    for d, (voxels, weights) in enumerate(zip(decoder.voxels, decoder.weights, strict=True)):
        W[voxels, d] = weights
    return W


@pytest.mark.parametrize("alpha", [0.15, 1.0, 100.0])
@pytest.mark.parametrize("n_voxels", [1, 10, 29, 30, 50])
def test_equals_fastl2lir(data, alpha, n_voxels):
    X, Y = data
    X = X + 0.7  # not centred: the penalised bias matters
    reference = FastL2LiR()
    reference.fit(X, Y, alpha=alpha, n_feat=n_voxels if n_voxels < 30 else 0)
    decoder = fit(X, Y, alpha, n_voxels)
    np.testing.assert_allclose(dense(decoder, 30), reference.W, atol=1e-12)
    np.testing.assert_allclose(decoder.bias, np.ravel(reference.b), atol=1e-12)
    np.testing.assert_allclose(predict(X, decoder), reference.predict(X), atol=1e-11)


@pytest.mark.parametrize(("name", "alpha", "n_voxels"), [("basic", 1.0, 0), ("alpha01", 0.1, 0), ("nfeat", 1.0, 20)])
def test_equals_stored_vectors(test_data, name, alpha, n_voxels):
    with np.load(test_data / "fastl2lir_vectors" / f"testdata_{name}.npz") as stored:
        vectors = dict(stored)
    X, Y = vectors["x_tr"], vectors["y_2d"]
    Y = Y.reshape(len(Y), -1, order="F")
    decoder = fit(X, Y, alpha, n_voxels or X.shape[1])
    W = vectors["w_2d"].reshape(X.shape[1], -1, order="F")
    np.testing.assert_allclose(dense(decoder, X.shape[1]), W, atol=1e-10)


def test_equals_scikit_learn_on_standardised_data(data):
    X, Y = (Scaler.of(rows).apply(rows) for rows in data)
    decoder = fit(X, Y, 3.0, 30)
    expected = Ridge(alpha=3.0).fit(X, Y)
    np.testing.assert_allclose(decoder.weights, expected.coef_, atol=1e-12)
    np.testing.assert_allclose(decoder.bias, 0, atol=1e-12)


def test_equals_scikit_learn_on_the_selected_voxels(data):
    X, Y = (Scaler.of(rows).apply(rows) for rows in data)
    decoder = fit(X, Y, 0.15, 8)
    for d in range(Y.shape[1]):
        expected = Ridge(alpha=0.15).fit(X[:, decoder.voxels[d]], Y[:, d])
        np.testing.assert_allclose(decoder.weights[d], expected.coef_, atol=1e-12)


def test_correlation_equals_numpy(data):
    X, Y = data
    expected = np.corrcoef(X.T, Y.T)[: X.shape[1], X.shape[1] :]
    np.testing.assert_allclose(correlation(X, Y), expected, atol=1e-12)
