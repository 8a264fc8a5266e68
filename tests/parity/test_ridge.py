"""The decoder against fastl2lir (by vectors of this project and of its own) and scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat
from sklearn.linear_model import Ridge

from feature_decoding import lapack
from feature_decoding.ridge import Gram, Scaler, _solve_batch, _solve_selected, fit, predict, select_voxels


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


@pytest.fixture(scope="session")
def vectors():
    """What make_fastl2lir_vectors.py wrote."""
    with np.load(Path(__file__).with_name("fastl2lir_vectors.npz")) as stored:
        return dict(stored)


@pytest.mark.parametrize("alpha", [0.15, 1.0, 100.0])
@pytest.mark.parametrize("n_voxels", [1, 10, 29, 30, 50])
def test_equals_fastl2lir(vectors, alpha, n_voxels):
    X, Y = vectors["X"], vectors["Y"]
    W, b = (vectors[f"alpha_{alpha}/n_{min(n_voxels, 30)}/{name}"] for name in ("W", "b"))
    decoder = fit(X, Y, alpha, n_voxels)
    np.testing.assert_allclose(dense(decoder, 30), W, atol=1e-12)
    np.testing.assert_allclose(decoder.bias, b, atol=1e-12)
    np.testing.assert_allclose(predict(X, decoder), X @ W + b, atol=1e-11)


@pytest.mark.parametrize(("name", "alpha", "n_voxels"), [("basic", 1.0, 0), ("alpha01", 0.1, 0), ("nfeat", 1.0, 20)])
def test_equals_the_vectors_of_its_own_tests(test_data, name, alpha, n_voxels):
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
    expected = np.corrcoef(X.T, Y.T)[X.shape[1] :, : X.shape[1]]
    r, products = Gram(X + 0.7).correlation(torch.from_numpy(Y - 0.3))
    np.testing.assert_allclose(r, expected, atol=1e-12)
    np.testing.assert_allclose(products, (Y - 0.3).T @ np.c_[X + 0.7, np.ones(60)], atol=1e-11)


def test_selection_takes_the_largest_and_of_equals_the_first():
    r = torch.tensor([[0.1, -0.9, 0.5, 0.5, -0.5], [0.0, 0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(select_voxels(r, 3), [[1, 2, 3], [0, 1, 2]])
    r = torch.from_numpy(np.random.default_rng(1).normal(size=(20, 300)))
    expected = np.sort(np.argsort(-r.abs().numpy(), axis=1, kind="stable")[:, :40], axis=1)
    np.testing.assert_array_equal(select_voxels(r, 40), expected)


@pytest.mark.parametrize("noise", [1e-1, 1e-4, 1e-7])
def test_refinement_keeps_the_precision_of_float64_for_voxels_that_are_nearly_copies(vectors, noise):
    """The worse the condition of the systems, the more float32 must be refined; at 1e-7 float64 takes over."""
    X = np.repeat(vectors["base"], 3, axis=1) + noise * vectors["jitter"]
    decoder = fit(X, vectors["targets"], 1e-6 if noise < 1e-5 else 0.15, 40)
    expected = vectors[f"copies_{noise}/predicted"]
    np.testing.assert_allclose(predict(X, decoder), expected, atol=1e-7 if noise < 1e-5 else 1e-10)


def test_more_voxels_than_images_equals_scikit_learn():
    """The dual form."""
    rng = np.random.default_rng(3)
    X, Y = rng.normal(size=(20, 50)), rng.normal(size=(20, 4))
    decoder = fit(X + 0.5, Y + 1, 2.0, 50)
    expected = Ridge(alpha=2.0, fit_intercept=False).fit(np.c_[X + 0.5, np.ones(20)], Y + 1)
    np.testing.assert_allclose(np.c_[decoder.weights, decoder.bias], expected.coef_, atol=1e-12)


@pytest.fixture
def one_thread():
    """A function that lets torch use one thread, until the test is over."""
    n_threads = torch.get_num_threads()
    yield lambda: torch.set_num_threads(1)
    torch.set_num_threads(n_threads)


@pytest.mark.parametrize(("n_all", "n_voxels"), [(30, 8), (30, 30), (500, 300)])
def test_threads_and_blocks_do_not_matter(one_thread, n_all, n_voxels):
    rng = np.random.default_rng(4)
    X, Y = rng.normal(size=(600, n_all)), rng.normal(size=(600, 12))
    gram = Gram(X)
    whole = fit(gram, Y, 0.15, n_voxels)
    one_thread()
    parts = [fit(gram, Y[:, s : s + 5], 0.15, n_voxels) for s in range(0, 12, 5)]
    for together, *apart in zip(whole, *parts, strict=True):
        np.testing.assert_allclose(np.concatenate(apart), together, rtol=1e-9, atol=1e-12)


def test_the_same_call_gives_the_same_bytes(data):
    """However the threads happen to share the outputs."""
    X, Y = data
    first = fit(X, Y, 0.15, 8)
    for _ in range(5):
        for a, b in zip(first, fit(X, Y, 0.15, 8), strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("n_voxels", [1, 31, 32, 33, 200])
def test_batches_of_a_gpu_equal_threads_of_a_cpu(n_voxels):
    """The batched form, run on the CPU; sizes on both sides of the rows that are gathered at once."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(400, 210)) + 3 * rng.normal(size=(400, 1))
    gram, Y = Gram(X), torch.from_numpy(rng.normal(size=(400, 6)))
    r, products = gram.correlation(Y)
    voxels = select_voxels(r, n_voxels)
    J = torch.cat([voxels, voxels.new_full((6, 1), 210)], dim=1)
    apart = _solve_selected(gram.matrix, products.gather(1, J), J, 0.15)
    together = _solve_batch(gram.matrix, products.gather(1, J), J, 0.15)
    np.testing.assert_allclose(apart, together, rtol=1e-8, atol=1e-14)
    A = gram.matrix[J[0][:, None], J[0]] + 0.15 * torch.eye(n_voxels + 1, dtype=torch.float64)
    np.testing.assert_allclose(apart[0], torch.linalg.solve(A, products[0, J[0]]), rtol=1e-8, atol=1e-14)


def test_lapack_without_the_interpreter_lock_equals_numpy():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(90, 40))
    A, b = X.T @ X, rng.normal(size=40)
    L = A.astype(np.float32)
    assert lapack.cholesky(L)
    np.testing.assert_allclose(np.tril(L), np.linalg.cholesky(A), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.triu(L, 1), np.triu(A, 1).astype(np.float32))
    x = lapack.solve(L, b)
    np.testing.assert_allclose(x, np.linalg.solve(A, b), rtol=1e-3, atol=1e-5)
    x = rng.normal(size=40)
    np.testing.assert_allclose(lapack.subtract_product(np.tril(A), x, b), b - A @ x, rtol=1e-12, atol=1e-12)
    assert not lapack.cholesky(-L)


@pytest.mark.parametrize("n_voxels", [6, 8])
def test_copies_of_voxels_without_a_penalty_are_an_error_that_says_so(n_voxels):
    X = np.repeat(np.random.default_rng(6).integers(-3, 4, size=(50, 4)), 2, axis=1).astype(float)
    with pytest.raises(ValueError, match="is too small: some voxels are copies"):
        fit(X, np.tile(X[:, :4] + 1, 5), 0.0, n_voxels)  # more outputs than threads


def test_bad_arrays_are_refused(data):
    X, Y = data
    with pytest.raises(ValueError, match=r"60 rows .* 59"):
        fit(X, Y[1:], 0.15, 5)
    with pytest.raises(ValueError, match="at least one voxel"):
        fit(X, Y, 0.15, 0)
    for bad in (np.nan, np.inf):
        spoiled = Y.copy()
        spoiled[3, 4] = bad
        with pytest.raises(ValueError, match="Y has values that are not finite"):
            fit(X, spoiled, 0.15, 5)
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="X has values that are not finite"):
        fit(X, Y, 0.15, 5)


@pytest.mark.parametrize(
    ("split", "pixcorr", "identification"), [("stimulus", 0.793, 0.25), ("repetition", 0.967, 0.96)]
)
def test_real_voxels_of_miyawaki_et_al(test_data, split, pixcorr, identification):
    """Leaving one stimulus out and leaving one repetition out differ, because the second one leaks.

    When a repetition is left out, the decoder has seen the other seven of the same ten pictures and need only tell
    which of them it is; when a stimulus is left out, it must put together a picture that it has never seen.
    """
    data = loadmat(test_data / "miyawaki_v1" / "V1_mean_figure.mat")
    X, Y = data["R2"].T.astype(float), data["I2"].T.astype(float)  # (80, 797), (80, 100)
    stimuli, stimulus = np.unique(Y, axis=0, return_inverse=True)
    repetition = np.array([(stimulus[:k] == s).sum() for k, s in enumerate(stimulus)])
    assert len(stimuli) == 10
    assert (np.bincount(repetition) == 10).all()
    group = stimulus if split == "stimulus" else repetition
    decoded = np.empty_like(Y)
    for left_out in np.unique(group):
        train = group != left_out
        scale_x, scale_y = Scaler.of(X[train]), Scaler(Y[train].mean(axis=0), np.ones(100))
        decoder = fit(scale_x.apply(X[train]), scale_y.apply(Y[train]), 100.0, X.shape[1])
        decoded[~train] = scale_y.undo(predict(scale_x.apply(X[~train]), decoder)).clip(0, 1)  # pixels
    r = np.corrcoef(decoded, stimuli)[:80, 80:]  # (80, 10)
    assert r[np.arange(80), stimulus].mean() == pytest.approx(pixcorr, abs=0.001)
    assert (r.argmax(axis=1) == stimulus).mean() == pytest.approx(identification, abs=0.005)
