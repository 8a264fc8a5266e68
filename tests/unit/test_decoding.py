"""Accuracy, search and maps of decoders, on problems whose answers are known."""

import runpy

import numpy as np
import pandas as pd
import pytest

from data.recipes import prepared
from feature_decoding.accuracy import correlation_and_floor, ridge_operator
from feature_decoding.maps import explained, mean_weights
from feature_decoding.ridge import Scaler, fit, predict
from feature_decoding.search import best_settings, cross_validate
from minddiffuser.config import REPOSITORY, load
from minddiffuser.config.method import Decoding
from minddiffuser.store import Artifact


@pytest.mark.parametrize("axis", [0, 1])
def test_correlation_and_its_floor_equal_a_plain_loop(axis):
    rng = np.random.default_rng(0)
    true = rng.normal(size=(30, 12))
    decoded = true + 2 * rng.normal(size=true.shape)

    def mean_r(a, b):
        a, b = (a.T, b.T) if axis == 0 else (a, b)
        return np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])

    r, floor = correlation_and_floor(decoded, true, axis)
    assert r == pytest.approx(mean_r(decoded, true))
    chance = [mean_r(decoded, true[rng.permutation(30)]) for _ in range(400)]
    assert floor == pytest.approx(np.quantile(chance, 0.95), abs=0.03)
    assert r > floor


def test_decoded_noise_is_below_the_floor_nineteen_times_of_twenty():
    rng = np.random.default_rng(1)
    above = 0
    for _ in range(100):
        r, floor = correlation_and_floor(rng.normal(size=(20, 5)), rng.normal(size=(20, 5)), 0)
        above += r > floor
    assert above <= 12


def test_a_region_is_regressed_on_its_own_voxels_wherever_they_stand(tmp_path):
    """Columns of V1 lie among those of V2, as data of one's own may have them."""
    overrides = [f"execution.runs={tmp_path}", "experiment.subjects=[subj01]", "experiment.data.rois=[V2, V1]"]
    config = load(REPOSITORY / "configs" / "miniature.yaml", overrides)
    rng, is_test, roi = np.random.default_rng(0), np.arange(30) < 6, np.array(["V2", "V1", "V2", "V1", "V1", "V2"])
    betas = rng.normal(size=(30, 6)).astype(np.float32)
    content = {"betas": betas, "is_test": is_test, "stimulus_id": np.arange(30), "roi": roi.astype("S")}
    Artifact(prepared(config, "subj01")).write(content)
    script = runpy.run_path(str(REPOSITORY / "feature_decoding" / "25_accuracy.py"), run_name="accuracy")
    operators = script["open_operators"](config, "subj01", roi)
    for name, found in operators.items():
        scaler = Scaler.of(betas[6:][:, roi == name])
        train, test = (scaler.apply(betas[rows][:, roi == name]) for rows in (~is_test, is_test))
        np.testing.assert_allclose(found, ridge_operator(train, test, config.experiment.units.alpha))


def test_search_finds_the_number_of_voxels_that_carry_the_target():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(120, 60)) + 5
    Y = X[:, :10] @ rng.normal(size=(10, 20)) + rng.normal(size=(120, 20))
    table = cross_validate(X, {"a": Y}, alphas=[0.15, 1e5], n_voxels=[2, 10, 1000], n_folds=4)
    assert len(table) == 2 * 3 * 2
    by_unit = table[table["measure"] == "unit"]
    best = by_unit.loc[by_unit["r"].idxmax()]
    assert (best["n_voxels"], best["alpha"]) == (10, 0.15)
    assert set(table["n_voxels"]) == {2, 10, 60}
    assert (table["ci_low"] <= table["r"]).all()


def test_the_best_settings_have_one_penalty_for_all_targets():
    """Layers count as one target; each target has its best number of voxels with that penalty."""
    rows = [
        (target, n, alpha, measure, r if measure == "image" else 1 - r)
        for measure in ("unit", "image")
        for target, alpha, r_few, r_many in (
            ("semantic", 1.0, 0.1, 0.2), ("semantic", 100.0, 0.4, 0.3),
            ("detail", 1.0, 0.3, 0.35), ("detail", 100.0, 0.2, 0.3),
            ("linear_02", 1.0, 0.5, 0.6), ("linear_02", 100.0, 0.5, 0.4),
            ("linear_04", 1.0, 0.1, 0.6), ("linear_04", 100.0, 0.45, 0.5),
        )
        for n, r in ((10, r_few), (50, r_many))
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["target", "n_voxels", "alpha", "measure", "r"])
    found = best_settings(table)  # .4 + .3 + .5 against .2 + .35 + .6
    assert found == {"alpha": 100, "n_voxels_semantic": 10, "n_voxels_detail": 50, "n_voxels_structural": [10, 50]}
    Decoding.model_validate({"n_voxels_structural": [1] * 6} | {"alpha": found["alpha"]})


def test_search_does_not_see_held_out_images():
    """Held-out targets that are pure noise are not decoded, even with more voxels than images."""
    rng = np.random.default_rng(3)
    table = cross_validate(rng.normal(size=(40, 200)), {"a": rng.normal(size=(40, 30))}, [0.15], [20, 200], 4)
    assert (table["r"].abs() < 0.15).all()


def test_maps_show_the_voxels_that_carry_the_targets():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(300, 40))
    Y = X[:, :4] @ rng.normal(size=(4, 10)) + 0.5 * rng.normal(size=(300, 10))
    decoder = fit(X, Scaler.of(Y).apply(Y), 1.0, 8)
    strength = np.sqrt(explained([predict(X, decoder)], X, np.zeros(X.shape[1], int)).by_voxel)
    assert strength[:4].min() > 2 * strength[4:].max()
    expected = np.corrcoef(X.T, predict(X, decoder).T)[:40, 40:]
    np.testing.assert_allclose(strength, np.sqrt((expected**2).mean(axis=1)), atol=1e-12)
    weights = mean_weights([decoder], 40)
    assert (weights.min(), weights.max()) == (0, 1)
    W = np.zeros((10, 40))
    np.put_along_axis(W, decoder.voxels.astype(int), decoder.weights, axis=1)
    expected = np.abs(W.mean(axis=0))
    np.testing.assert_allclose(weights, (expected - expected.min()) / np.ptp(expected), atol=1e-12)


def test_a_voxel_that_only_cancels_noise_has_a_weight_but_no_pattern():
    """Haufe et al.: the second voxel sees only the noise of the first."""
    rng = np.random.default_rng(5)
    y, noise = rng.normal(size=(2, 500))
    X = np.c_[y + noise, noise]
    X = Scaler.of(X).apply(X)
    decoder = fit(X, y[:, None], 0.1, 2)
    strength = np.sqrt(explained([predict(X, decoder)], X, np.zeros(X.shape[1], int)).by_voxel)
    assert abs(decoder.weights[0, 1]) > 0.5
    assert strength[1] < 0.15 < 0.5 < strength[0]


def test_pseudo_values_of_images_are_the_influence_that_they_have():
    rng, group = np.random.default_rng(7), np.repeat([0, 1], [4, 6])
    X, decoded = rng.normal(size=(200, 10)), rng.normal(size=(200, 5))
    X += decoded @ rng.normal(size=(5, 10))

    def mean_of(images):
        r = np.corrcoef(X[images].T, decoded[images].T)[:10, 10:]
        return np.array([(r[group == k] ** 2).mean() for k in (0, 1)])

    found = explained([decoded[:, :2], decoded[:, 2:]], X, group)
    whole = mean_of(np.arange(200))
    np.testing.assert_allclose(found.by_image.mean(axis=0), whole, rtol=1e-10)
    jackknife = np.array([200 * whole - 199 * mean_of(np.delete(np.arange(200), i)) for i in range(200)])
    assert np.corrcoef(found.by_image[:, 0], jackknife[:, 0])[0, 1] > 0.995
    np.testing.assert_allclose(found.by_image.std(axis=0), jackknife.std(axis=0), rtol=0.02)
    assert found.n_outputs == 5


def test_an_image_is_decoded_alone_as_among_others():
    rng = np.random.default_rng(6)
    X, Y, X_test = rng.normal(size=(50, 20)), rng.normal(size=(50, 6)), rng.normal(size=(9, 20))
    decoder = fit(X, Y, 0.15, 7)
    together = predict(X_test, decoder)
    alone = np.concatenate([predict(X_test[k : k + 1], decoder) for k in range(9)])
    np.testing.assert_allclose(alone, together, rtol=1e-12, atol=1e-12)
