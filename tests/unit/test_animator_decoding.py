"""Controls, scores and rows of Mind-Animator's decoders, on data whose truth is known; variations of targets."""

import numpy as np
import pytest
import sklearn.linear_model
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from baselines.mind_animator import recipes
from baselines.mind_animator.decoding import (
    ALPHAS,
    Ridge,
    Rows,
    controls,
    distinct_forms,
    held_out,
    mean_of,
    of_training,
    score,
)
from baselines.mind_animator.targets import vary_caption, vary_frames
from minddiffuser.config import Config, Experiment
from minddiffuser.config.mind_animator import MindAnimator

N_TEST, N_TRAINING, N_VALIDATION = 40, 300, 60
CPU = torch.device("cpu")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def planted(rng):
    """Rows of 30 vertices, and 12 units that are a noisy linear function of them."""
    n = N_TEST + N_TRAINING + N_VALIDATION
    X = rng.standard_normal((n, 30)).astype(np.float32)
    Y = (X @ rng.standard_normal((30, 12)) + rng.standard_normal((n, 12)) + 5).astype(np.float32)
    rows = np.arange(n)
    parts = np.split(rows, [N_TEST, N_TEST + N_TRAINING])
    return Rows(X, rows + 100, *parts), Y


def test_ridge_decodes_what_is_planted_and_permuted_vertices_do_not(planted):
    rows, Y = planted
    table = score(controls(rows, Y, of_training(rows, CPU)), Y[rows.test], Y[rows.training]).set_index("system")
    assert table.loc["ridge", "r_by_clip"] > 0.9
    assert table.loc["ridge", "r_over_clips"] > 0.9
    assert abs(table.loc["permuted", "r_by_clip"]) < 0.05
    assert table.loc["mean", "r_by_clip"] == table.loc["mean", "r_over_clips"] == 0
    assert 0.1 < table.loc["nearest_training", "r_by_clip"] < 0.9
    assert table.loc["ridge", "mse"] < table.loc["mean", "mse"] < table.loc["nearest_training", "mse"] * 1.5


def test_controls_know_training_clips_alone(planted):
    """Neither targets of test clips nor vertices of other test clips change what is decoded."""
    rows, Y = planted
    plain = controls(rows, Y, of_training(rows, CPU))
    other, X = Y.copy(), rows.X.copy()
    other[rows.test] += 100
    X[rows.test[1:]] += 3
    moved = rows._replace(X=X)
    changed = controls(moved, other, of_training(moved, CPU))
    for name, values in plain.items():
        np.testing.assert_array_equal(values[..., 0, :], changed[name][..., 0, :], err_msg=name)


def test_a_clip_that_is_held_out_is_decoded_without_its_own_target(planted):
    rows, Y = planted
    plain, changed = held_out(rows, Y, CPU), Y.copy()
    changed[rows.training[7]] += 50
    found = held_out(rows, changed, CPU)
    np.testing.assert_array_equal(found[7], plain[7])
    assert (found[-1] != plain[-1]).any()
    assert np.corrcoef(plain.ravel(), Y[rows.training].ravel())[0, 1] > 0.8


def test_ridge_is_that_of_scikit_learn_with_the_penalty_that_validates_best(planted):
    rows, Y = planted
    X = rows.X * np.linspace(1, 3, 30, dtype=np.float32)
    parts = rows.training, rows.validation, rows.test
    fits = [
        make_pipeline(
            StandardScaler(),
            TransformedTargetRegressor(
                sklearn.linear_model.Ridge(alpha), transformer=StandardScaler(), check_inverse=False
            ),
        ).fit(X[parts[0]], Y[parts[0]])
        for alpha in ALPHAS
    ]
    best = min(fits, key=lambda fit: np.square(fit.predict(X[parts[1]]) - Y[parts[1]]).mean())
    found = Ridge(X[parts[0]], X[parts[1]], CPU).decode(Y[parts[0]], Y[parts[1]], X[parts[2]])
    np.testing.assert_allclose(found, best.predict(X[parts[2]]), rtol=1e-4, atol=1e-4)


def test_scores_of_truth_of_what_all_have_in_common_and_of_units_that_do_not_vary(rng):
    common = 10 * rng.standard_normal(20)
    true, training = (common + rng.standard_normal((n, 20)) for n in (50, 200))
    true[:, 3] = 7
    training[:, 3] = 7
    mean = np.tile(mean_of(training), (50, 1))
    found = score({"truth": true, "other": true[::-1], "mean": mean}, true, training).set_index("system")
    np.testing.assert_allclose(found.loc["truth"], [0, 1, 1], atol=1e-6)
    assert (found.loc["other", ["r_by_clip", "r_over_clips"]].abs() < 0.2).all()
    assert (found.loc["mean", ["r_by_clip", "r_over_clips"]] == 0).all()


def config(**own):
    settings = MindAnimator(**own)
    return Config(name="x", experiment=Experiment(mind_animator=settings))


def test_forms_share_decoders_whose_settings_are_equal():
    assert distinct_forms(config(), "semantic") == ["original", "corrected"]
    assert distinct_forms(config(), "structure") == ["original", "corrected"]
    assert distinct_forms(config(), "motion") == ["original", "corrected", "change"]
    assert distinct_forms(config(forms=["change", "corrected"]), "structure") == ["change"]


def test_recipes_follow_the_settings_of_their_form_and_no_others():
    before, after = config(), config(structure={"epochs": 5})
    for decoder, changes in (("structure", True), ("semantic", False), ("motion", True)):
        first, second = (recipes.decoded(c, "Subject01", "corrected", decoder).fingerprint for c in (before, after))
        assert (first != second) == changes, decoder
    forms = [recipes.decoded(before, "Subject01", form, "structure") for form in ("original", "corrected", "change")]
    assert forms[1] == forms[2]
    assert forms[0].fingerprint != forms[1].fingerprint


def test_crops_of_an_epoch_are_one_window_or_one_for_each_clip_whatever_the_batch():
    frames, ids = torch.rand(6, 3, 64, 64).expand(6, 3, 64, 64).clone(), np.arange(6) + 3001
    frames[:] = frames[:1]
    same = vary_frames(frames, ids, 1, "per_epoch", 32, seed=4)
    assert torch.equal(same, same[:1].expand_as(same))
    own = vary_frames(frames, ids, 1, "per_image", 32, seed=4)
    assert len({tuple(crop.flatten()[:9].tolist()) for crop in own}) > 3
    halves = torch.cat([vary_frames(frames[:3], ids[:3], 1, "per_image", 32, 4),
                        vary_frames(frames[3:], ids[3:], 1, "per_image", 32, 4)])  # fmt: skip
    assert torch.equal(own, halves)
    for kind, before in (("per_epoch", same), ("per_image", own)):
        assert not torch.equal(vary_frames(frames, ids, 2, kind, 32, 4), before)


def test_a_variation_of_a_caption_depends_on_seed_clip_and_number_alone():
    text = "a large red circle moves over a green field"
    found = [vary_caption(text, clip, number, None, 1) for clip in range(5) for number in range(5)]
    assert found == [vary_caption(text, clip, number, None, 1) for clip in range(5) for number in range(5)]
    assert len(set(found)) > 5
