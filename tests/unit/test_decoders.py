"""Fitting a decoder to a file, part by part."""

import h5py
import numpy as np
import pytest

from data.recipes import prepared
from feature_decoding import decoders
from feature_decoding.ridge import Gram, Scaler, fit, predict
from feature_extraction.recipes import features
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.recipe import Recipe
from minddiffuser.store import Artifact, DataError, Shard

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(80, 50)), RNG.normal(size=(80, 23)) * 3 + 1


def fit_to_file(folder, shard="1-of-1", targets=Y):
    """Fit all targets on 20 voxels each; return the path and whether it is complete."""
    artifact = Artifact(Recipe(folder, "a.h5", "subj01", "some/script.py", {"alpha": 0.15}))
    run = Run(Config(name="x"), ("subj01",), Shard.parse(shard), "cpu", False)
    return artifact.path, decoders.fit_decoder(run, artifact, Gram(X), targets, 20)


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """Bytes of a decoder that was fitted in one run, in parts of 5 outputs."""
    monkeypatch.setattr(decoders, "UNITS_PER_PART", 5)
    path, complete = fit_to_file(tmp_path / "whole")
    assert complete
    return path.read_bytes()


@pytest.mark.parametrize("n_parts_before", [0, 1, 3])
def test_killed_and_run_again_is_the_same_file(whole, tmp_path, monkeypatch, n_parts_before):
    calls = []

    def killed(*arguments):
        if len(calls) == n_parts_before:
            raise KeyboardInterrupt
        calls.append(arguments)
        return fit(*arguments)

    monkeypatch.setattr(decoders, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        fit_to_file(tmp_path)
    assert not (tmp_path / "a.h5").exists()
    done_before, calls = calls, []
    monkeypatch.setattr(decoders, "fit", lambda *arguments: calls.append(arguments) or fit(*arguments))
    path, _ = fit_to_file(tmp_path)
    assert len(done_before) + len(calls) == 5  # nothing is done twice
    assert path.read_bytes() == whole


@pytest.mark.parametrize("n", [2, 3, 7])
def test_shards_give_the_same_file_as_one_run(whole, tmp_path, n):
    complete = [fit_to_file(tmp_path, f"{k}-of-{n}")[1] for k in np.roll(np.arange(1, n + 1), 1)]
    assert complete == [False] * (n - 1) + [True] or n > 5  # of seven shards the last two have no part
    assert (tmp_path / "a.h5").read_bytes() == whole


def test_the_size_of_parts_does_not_matter(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "UNITS_PER_PART", 1024)
    path, _ = fit_to_file(tmp_path)
    with h5py.File(path) as one, h5py.File(tmp_path / "whole" / "a.h5") as other:
        np.testing.assert_array_equal(one["voxels"], other["voxels"])
        for name in ("weights", "bias", "mean", "std"):
            np.testing.assert_allclose(one[name], other[name], rtol=1e-6, atol=1e-9)


def test_weights_are_stored_for_the_selected_voxels_only(whole, tmp_path):
    with h5py.File(tmp_path / "whole" / "a.h5") as file:
        assert file["weights"].shape == file["voxels"].shape == (23, 20)
        assert (np.diff(file["voxels"][:], axis=1) > 0).all()


def test_a_target_that_is_not_finite_is_named_by_file_and_outputs(tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "UNITS_PER_PART", 5)
    bad = Y.copy()
    bad[3, 7] = np.nan
    with pytest.raises(DataError, match=r"a\.h5, outputs 5 to 9: Y has values that are not finite"):
        fit_to_file(tmp_path, targets=bad)
    bad[3, 7] = 0
    path, complete = fit_to_file(tmp_path, targets=bad)  # the first part is still there
    assert complete
    assert path.is_file()


@pytest.mark.parametrize("family", ["semantic", "detail"])
@pytest.mark.parametrize("permuted", [False, True])
def test_a_family_is_decoded_in_its_own_shape_and_without_the_first_token(tmp_path, family, permuted):
    shape, key, n_test = {"semantic": ((3, 5), "c", 7), "detail": ((4, 2, 2), "z", 7)}[family]
    values, X_test = RNG.normal(size=(n_test + 80, *shape)).astype(np.float32), RNG.normal(size=(n_test, 50))
    config = Config(name="x", execution={"runs": str(tmp_path)})
    ids = np.arange(100, 100 + len(values))
    Artifact(prepared(config, "subj01")).write({"nsd_id": ids, "is_test": ids < 100 + n_test})
    Artifact(features(config, "subj01", family)).write({"nsd_id": ids, key: values})
    run = Run(config, ("subj01",), Shard(), "cpu", False)
    decoder = Artifact(Recipe(tmp_path, "a.h5", "subj01", "some/script.py", {}))
    order = RNG.permutation(80) if permuted else None
    found = decoders.decode_family(run, family, decoder, Gram(X), X_test, 20, order)
    assert found
    assert list(found) == [key, "nsd_id"]
    np.testing.assert_array_equal(found["nsd_id"], ids[:n_test])
    training = values[n_test:]
    if key == "c":
        expected = np.broadcast_to(training[:, 0].mean(axis=0), (n_test, 5))
        np.testing.assert_array_equal(found["c"][:, 0], expected)
        training, found["c"] = training[:, 1:], found["c"][:, 1:]
    targets = training.reshape(80, -1).astype(np.float64)[slice(None) if order is None else order]
    scaler = Scaler.of(targets)
    expected = scaler.undo(predict(X_test, fit(X, scaler.apply(targets), config.experiment.decoding.alpha, 20)))
    np.testing.assert_allclose(found[key].reshape(n_test, -1), expected, rtol=1e-4, atol=1e-5)
    again = decoders.decode_family(
        run, family, decoder, Gram(X[::-1].copy()), X_test, 20
    )  # it is there: nothing is fitted
    assert again
    np.testing.assert_array_equal(again[key][:, -1], found[key][:, -1])
