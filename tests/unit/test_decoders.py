"""Fitting a decoder to a file, part by part, and giving what it decodes its variance back."""

import h5py
import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data.recipes import prepared
from feature_decoding import decoders, recipes
from feature_decoding.ridge import Gram, Scaler, fit, predict
from feature_decoding.spread import measure_spread, read_spread
from feature_extraction.recipes import features
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.recipe import Recipe
from minddiffuser.store import Artifact, DataError, Shard

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(80, 50)), RNG.normal(size=(80, 23)) * 3 + 1


def artifact_in(folder, name="a.h5"):
    return Artifact(Recipe(folder, name, "subj01", "some/script.py", {"alpha": 0.15}))


def run_with(shard="1-of-1", folder="runs", **decoding):
    config = Config(name="x", experiment={"decoding": decoding}, execution={"runs": str(folder)})
    return Run(config, ("subj01",), Shard.parse(shard), "cpu", False)


def fit_to_file(folder, shard="1-of-1", targets=Y):
    """Fit all targets on 20 voxels each; return the path and whether it is complete."""
    artifact = artifact_in(folder)
    return artifact.path, decoders.fit_decoder(run_with(shard), artifact, Gram(X), targets, 20)


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
    shards = [f"{k}-of-{n}" for k in np.roll(np.arange(1, n + 1), 1)]  # of seven the last two have no part
    assert [fit_to_file(tmp_path, shard)[1] for shard in [*shards, "1-of-1"]] == [False] * n + [True]
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
    Artifact(prepared(config, "subj01")).write({"stimulus_id": ids, "is_test": ids < 100 + n_test})
    Artifact(features(config, "subj01", family)).write({"stimulus_id": ids, key: values})
    run = Run(config, ("subj01",), Shard(), "cpu", False)
    decoder = Artifact(Recipe(tmp_path, "a.h5", "subj01", "some/script.py", {}))
    order = RNG.permutation(80) if permuted else None
    found = decoders.decode_family(run, family, decoder, Gram(X), X_test, 20, order)
    assert found
    assert list(found) == [key, "stimulus_id"]
    np.testing.assert_array_equal(found["stimulus_id"], ids[:n_test])
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


# Variance


N_IMAGES, ALPHA = 402, 50.0  # five folds of 80 or 81 images


class Noisy:
    """Targets (n_images, 12) that noisy voxels tell in part, of training and of new images; two of them are constant.

    One constant is the same but for its last bit, as what a network gives for one input in batches of different size.
    """

    def __init__(self, n_new=600):
        rng = np.random.default_rng(4)
        scenes, W, A = rng.normal(size=(N_IMAGES + n_new, 30)), rng.normal(size=(30, 12)), rng.normal(size=(30, 60))
        voxels = scenes @ A / 30**0.5 + 2 * rng.normal(size=(len(scenes), 60))
        targets = (3 + scenes @ W * np.linspace(0.1, 9, 12)).astype(np.float32)
        targets[:, 4] = targets[:, 7] = np.float32(3.3)
        targets[::7, 7] += np.float32(2e-7)
        scaler = Scaler.of(voxels[:N_IMAGES])
        self.X, self.X_new = scaler.apply(voxels[:N_IMAGES]), scaler.apply(voxels[N_IMAGES:])
        self.Y, self.Y_new = targets[:N_IMAGES], targets[N_IMAGES:]
        self.varies = np.setdiff1d(np.arange(12), (4, 7))

    def fitted(self, folder, n_voxels):
        """Recipes of a decoder with that many voxels an output, and of its spread."""
        decoder, spread, run = artifact_in(folder), artifact_in(folder, "spread.h5"), run_with(alpha=ALPHA)
        assert decoders.fit_decoder(run, decoder, Gram(self.X), self.Y, n_voxels)
        assert measure_spread(run, {"a": spread}, self.X, lambda _: self.Y, {"a": n_voxels})
        return decoder.recipe, spread.recipe


@pytest.fixture(scope="module")
def noisy():
    return Noisy()


@pytest.fixture(scope="module", params=[60, 20], ids=["all voxels", "some voxels"])
def fitted(noisy, request, tmp_path_factory):
    return noisy.fitted(tmp_path_factory.mktemp("fitted"), request.param)


def test_restored_predictions_of_new_images_spread_as_much_as_the_targets(noisy, fitted):
    decoder, spread = fitted
    plain, restored = (decoders.decode(decoder, noisy.X_new, *rest) for rest in ((), (spread,)))
    deviation = Scaler.of(noisy.Y).std[noisy.varies]

    def relative(decoded):
        return decoded[:, noisy.varies].std(axis=0) / deviation

    assert (relative(plain) < 0.75).all()
    np.testing.assert_allclose(relative(restored), 1, atol=4 * (1 / 2 / N_IMAGES + 1 / 2 / 600) ** 0.5)  # 4 errors
    assert relative(restored).mean() == pytest.approx(1, abs=0.06)
    for output in noisy.varies:  # and only the scale changes
        assert np.corrcoef(plain[:, output], restored[:, output])[0, 1] == pytest.approx(1)


def test_the_spread_is_that_of_scikit_learns_cross_validated_predictions(noisy, tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "UNITS_PER_PART", 5)
    monkeypatch.setattr("feature_decoding.spread._UNITS_AT_ONCE", 5)
    decoder, spread = noisy.fitted(tmp_path, 60)
    ridge = make_pipeline(StandardScaler(), Ridge(ALPHA))
    model = TransformedTargetRegressor(ridge, transformer=StandardScaler())
    Y, varies = noisy.Y.astype(np.float64), noisy.varies
    folds = KFold(5, shuffle=True, random_state=Config(name="x").experiment.seed)
    of_targets, of_predictions = Scaler.of(Y), Scaler.of(cross_val_predict(model, noisy.X, Y, cv=folds))
    found = read_spread(spread)
    np.testing.assert_allclose(found.std[varies], (of_predictions.std / of_targets.std)[varies], rtol=1e-8)
    expected = (of_predictions.mean - of_targets.mean) / of_targets.std
    np.testing.assert_allclose(found.mean[varies], expected[varies], atol=1e-8)
    predicted = of_predictions.apply(model.fit(noisy.X, Y).predict(noisy.X_new))
    restored = decoders.decode(decoder, noisy.X_new, spread)
    np.testing.assert_allclose(restored[:, varies], of_targets.undo(predicted)[:, varies], rtol=1e-4, atol=1e-4)


def test_strength_is_a_power_of_the_deviation(noisy, fitted):
    decoder, spread = fitted
    of_targets, found = Scaler.of(noisy.Y), read_spread(spread)
    plain = of_targets.apply(decoders.decode(decoder, noisy.X_new))
    for strength, divided_by in ((1.0, found.std), (0.5, np.sqrt(found.std)), (0.25, found.std**0.25)):
        restored = of_targets.apply(decoders.decode(decoder, noisy.X_new, spread, strength))
        np.testing.assert_allclose(restored, (plain - found.mean) / divided_by, atol=1e-5)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_constant_output_stays_constant(noisy, fitted, strength):
    decoder, spread = fitted
    restored = decoders.decode(decoder, noisy.X_new, spread, strength)
    np.testing.assert_allclose(restored[:, [4, 7]], 3.3, rtol=1e-6)
    assert np.isfinite(restored).all()


def test_an_image_alone_is_restored_as_among_others(noisy, fitted):
    decoder, spread = fitted
    batch = decoders.decode(decoder, noisy.X_new, spread)
    for k in (0, 5):
        alone = decoders.decode(decoder, noisy.X_new[k : k + 1], spread)
        np.testing.assert_allclose(alone, batch[k : k + 1], rtol=1e-5, atol=1e-5)


def spread_to_file(folder, shard="1-of-1"):
    """Measure the spread with 20 voxels each, in three folds, of 27 or 26 images."""
    artifact = artifact_in(folder, "spread.h5")
    return artifact.path, measure_spread(run_with(shard, restore_folds=3), {"a": artifact}, X, lambda _: Y, {"a": 20})


@pytest.mark.parametrize("n_blocks_before", [0, 5, 8])
def test_a_spread_that_was_killed_and_measured_again_is_the_same_file(tmp_path, monkeypatch, n_blocks_before):
    """Folds are kept; the blocks of outputs of one that was not finished are done again."""
    monkeypatch.setattr("feature_decoding.spread._UNITS_AT_ONCE", 5)
    path, complete = spread_to_file(tmp_path / "whole")
    assert complete
    calls = []

    def killed(*arguments):
        if len(calls) == n_blocks_before:
            raise KeyboardInterrupt
        calls.append(arguments)
        return fit(*arguments)

    monkeypatch.setattr("feature_decoding.spread.fit", killed)
    with pytest.raises(KeyboardInterrupt):
        spread_to_file(tmp_path)
    assert not (tmp_path / "spread.h5").exists()
    calls = []
    monkeypatch.setattr("feature_decoding.spread.fit", lambda *arguments: calls.append(arguments) or fit(*arguments))
    assert spread_to_file(tmp_path)[1]
    assert len(calls) == 5 * (3 - n_blocks_before // 5)
    assert (tmp_path / "spread.h5").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("n", [2, 3, 4])
def test_shards_measure_the_same_spread_as_one_run(tmp_path, monkeypatch, n):
    path, _ = spread_to_file(tmp_path / "whole")
    monkeypatch.setattr("feature_decoding.spread._UNITS_AT_ONCE", 5)  # blocks matter in last digits alone
    spread_to_file(tmp_path / "in blocks")
    shards = [f"{k}-of-{n}" for k in range(1, n + 1)]
    assert [spread_to_file(tmp_path, shard)[1] for shard in [*shards, "1-of-1"]] == [False] * n + [True]
    with h5py.File(path) as whole, h5py.File(tmp_path / "spread.h5") as shards:
        assert shards["n"][:].tolist() == [27, 27, 26]
        for name in ("mean", "std"):
            np.testing.assert_allclose(shards[name], whole[name], atol=1e-9)
    assert (tmp_path / "spread.h5").read_bytes() == (tmp_path / "in blocks" / "spread.h5").read_bytes()


@pytest.mark.parametrize("family", ["semantic", "detail"])
def test_a_family_is_restored_in_its_own_shape_and_its_first_token_is_left(tmp_path, family):
    shape, key = {"semantic": ((3, 5), "c"), "detail": ((4, 2, 2), "z")}[family]
    run, X_test = run_with(folder=tmp_path, alpha=ALPHA, restore_strength=0.5), RNG.normal(size=(7, 50))
    config, ids = run.config, np.arange(100, 187)
    values = RNG.normal(size=(87, *shape)).astype(np.float32)
    Artifact(prepared(config, "subj01")).write({"stimulus_id": ids, "is_test": ids < 107})
    Artifact(features(config, "subj01", family)).write({"stimulus_id": ids, key: values})
    decoder, restored = (of(config, "subj01", family) for of in (recipes.decoder, recipes.restored))
    decoders.restore_family(run, "subj01", family, X, X_test)
    assert not restored.path.exists()  # before there is a decoder
    plain = decoders.decode_family(run, family, Artifact(decoder), Gram(X), X_test, 20)
    decoders.restore_family(run, "subj01", family, X, X_test)
    expected = decoders.decode(decoder, X_test, recipes.spread(config, "subj01", family), 0.5)
    with h5py.File(restored.path) as file:
        assert file[key].shape == (7, *shape)
        np.testing.assert_array_equal(file["stimulus_id"], ids[:7])
        found = file[key][:]
        if key == "c":
            np.testing.assert_array_equal(found[:, 0], plain["c"][:, 0])
            found = found[:, 1:]
    np.testing.assert_array_equal(found.reshape(7, -1), expected)
