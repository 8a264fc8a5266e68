"""Known truths about intervals, tests, and the tables made of them."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, permutation_test

from evaluation import significance
from evaluation.pictures.catalogue import CATALOGUE
from evaluation.pictures.scoring import spread_over_seeds


def test_the_interval_covers_the_true_mean_about_95_times_in_100():
    generator = np.random.default_rng(0)
    samples = generator.normal(2, 3, (40, 400))  # 400 experiments of 40 images
    low, high = significance.bootstrap_intervals(samples, 400, seed=1)
    covered = ((low <= 2) & (high >= 2)).mean()
    assert 0.91 < covered < 0.975  # 2 standard errors are 0.02; the percentile interval is a little narrow


def test_the_interval_agrees_with_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=50)
    ours = significance.bootstrap_intervals(values[:, None], 5000, seed=1)
    theirs = bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    np.testing.assert_allclose(np.ravel(ours), theirs, atol=0.05 * (theirs.high - theirs.low))


def test_the_interval_does_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    values = np.random.default_rng(0).normal(size=(30, 2))
    whole = significance.bootstrap_intervals(values, 500, 1)
    significance._resampling_weights.cache_clear()
    monkeypatch.setattr(significance, "_DRAWS_AT_ONCE", 1000)
    np.testing.assert_array_equal(significance.bootstrap_intervals(values, 500, 1), whole)


def test_equal_values_have_an_interval_of_no_width():
    np.testing.assert_allclose(significance.bootstrap_intervals(np.full((5, 1), 0.25), 100, 0), 0.25)


@pytest.mark.parametrize("values", [[], [1.0, np.nan]])
def test_what_cannot_be_averaged_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        significance.bootstrap_intervals(np.array(values)[:, None], 100, 0)


def test_an_interval_over_subjects_is_as_wide_as_subjects_differ():
    """Images that do not matter and subjects that do: only the subjects' spread is left."""
    values = np.repeat([[0.0], [1.0]], 50, axis=1)  # two subjects, 50 images
    low, high = significance.bootstrap_interval_over_subjects(values, 2000, seed=1)
    assert (low, high) == (pytest.approx(0), pytest.approx(1))
    same = np.tile(np.random.default_rng(0).normal(size=50), (2, 1))
    over_both = significance.bootstrap_interval_over_subjects(same, 4000, seed=1)
    over_images = np.ravel(significance.bootstrap_intervals(same[:1].T, 4000, seed=1))
    np.testing.assert_allclose(over_both, over_images, atol=1e-12)  # the same resamples of images


def test_sign_flips_agree_with_scipy_on_a_small_sample():
    differences = np.random.default_rng(3).normal(0.4, 1, (10, 3))
    ours = significance.sign_flip_test(differences, 40_000, seed=1)
    for column, p in zip(differences.T, ours, strict=True):
        exact = permutation_test((column,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
        assert p == pytest.approx(exact, abs=0.01)


def test_sign_flips_reject_five_times_in_a_hundred_where_nothing_differs():
    differences = np.random.default_rng(4).standard_t(3, size=(30, 2000))
    p = significance.sign_flip_test(differences, 1000, seed=1)
    assert 0.03 < (p <= 0.05).mean() < 0.07
    assert p.min() >= 1 / 1001


def test_holm_by_hand():
    np.testing.assert_allclose(significance.holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(significance.holm(np.array([0.6, 0.5])), [1, 1])
    np.testing.assert_allclose(significance.holm(np.array([0.2])), [0.2])


def table(subject: str = "subj01", **values: list[float]) -> pd.DataFrame:
    """Scores of one subject and metric: system=[value of image 0, of image 1, ...]."""
    rows = [(subject, s, i, "pixcorr", v) for s, column in values.items() for i, v in enumerate(column)]
    return pd.DataFrame(rows, columns=["subject", "system", "stimulus_id", "metric", "value"])


def test_summary_has_the_mean_and_count_of_each_system():
    summary = significance.summarise(table(b=[1, 2, 3], a=[5]), 200, seed=1)
    assert list(summary.columns) == ["subject", "system", "metric", "mean", "ci_low", "ci_high", "n"]
    assert summary[["system", "mean", "n"]].to_numpy().tolist() == [["b", 2.0, 3], ["a", 5.0, 1]]


def test_summary_does_not_depend_on_the_order_of_rows_or_on_other_systems():
    scores = table(a=[0.1, 0.5, 0.2, 0.9], b=[1, 2, 3, 4])
    alone = significance.summarise(scores[scores["system"] == "a"].iloc[::-1], 200, seed=1)
    pd.testing.assert_frame_equal(alone, significance.summarise(scores, 200, seed=1).iloc[:1])


def test_over_subjects_only_what_all_have_is_averaged():
    first, second = table(a=[1, 2, 3], b=[1, 1, 1]), table("subj02", a=[3, 4])
    summary = significance.summarise(pd.concat([first, second]), 200, seed=1)
    row = summary[summary["subject"] == "all"]
    assert row[["system", "mean", "n"]].to_numpy().tolist() == [["a", 2.5, 2]]


def test_a_score_that_some_images_lack_has_its_own_count():
    whole = table(a=[1.0, 2, 3])
    partial = table(a=[5.0, 7]).assign(metric="ssim")
    summary = significance.summarise(pd.concat([whole, partial]), 200, seed=1).set_index("metric")
    assert summary["n"].to_dict() == {"pixcorr": 3, "ssim": 2}
    assert summary["mean"].to_dict() == {"pixcorr": 2, "ssim": 6}


def test_differences_are_of_the_images_that_both_have():
    scores = table(refined=[1.0, 1.0], start=[0.5, 0.7, 100.0])
    paired = significance.compare(scores, [("refined", "start"), ("refined", "absent")], CATALOGUE, 200, 200, seed=1)
    expected = "subject system baseline metric difference ci_low ci_high p p_holm n"
    assert list(paired.columns) == expected.split()
    assert len(paired) == 1
    row = paired.iloc[0]
    assert (row["n"], row["difference"]) == (2, pytest.approx(0.4))
    assert row["ci_low"] == pytest.approx(0.3)
    assert row["ci_high"] == pytest.approx(0.5)


def test_a_constant_gain_is_certain_however_much_images_differ():
    start = np.random.default_rng(0).normal(size=20)
    scores = table(refined=list(start + 0.25), start=list(start), twin=list(start))
    paired = significance.compare(scores, [("refined", "start"), ("twin", "start")], CATALOGUE, 200, 2000, 1)
    np.testing.assert_allclose(paired[["difference", "ci_low", "ci_high"]].to_numpy(float)[0], 0.25)
    assert paired["p"][0] < 0.002
    assert paired["p_holm"][0] == pytest.approx(2 * paired["p"][0])  # of two tests
    assert paired["p"][1] == 1  # no difference at all


def test_over_subjects_the_difference_is_of_common_images():
    first, second = table(a=[1, 2, 3], b=[0, 0, 0]), table("subj02", a=[3, 4, 9], b=[1, 1])
    paired = significance.compare(pd.concat([first, second]), [("a", "b")], CATALOGUE, 200, 200, seed=1)
    row = paired[paired["subject"] == "all"].iloc[0]
    assert (row["difference"], row["n"]) == (pytest.approx((1 + 2 + 2 + 3) / 4), 2)


def test_spread_is_the_deviation_of_means_over_seeds():
    scores = table(
        **{"minddiffuser/stage1": [1.0, 3], "seed/1": [2.0, 4], "seed/2": [4.0, 4], "control/grey": [9.0, 9]}
    )
    row = spread_over_seeds(scores).iloc[0]
    assert row["n_seeds"] == 3
    assert row["mean"] == pytest.approx(3)
    assert row["sd"] == pytest.approx(np.std([2, 3, 4], ddof=1))
    assert spread_over_seeds(table(**{"minddiffuser/stage1": [1.0, 3]})).empty


def test_candidates_of_another_set_of_images_are_not_compared():
    """How well a reconstruction is found among its own kind depends on how many there are."""
    whole = pd.concat([table(a=[1.0, 1, 1], b=[0.5, 0.5, 0.5]), table(c=[0.5, 0.5])])
    scores = pd.concat([whole, whole.assign(metric="clip_two_way_of_reconstruction")])
    paired = significance.compare(scores, [("a", "b"), ("a", "c")], CATALOGUE, 100, 100, seed=1)
    found = set(zip(paired["baseline"], paired["metric"], strict=True))
    assert found == {("b", "pixcorr"), ("b", "clip_two_way_of_reconstruction"), ("c", "pixcorr")}


def test_pairs_without_a_common_image_are_left_out():
    scores = pd.concat([table(a=[1.0, 2, 3]), table(b=[1.0, 2]).assign(stimulus_id=[70, 71])])
    assert significance.compare(scores, [("a", "b")], CATALOGUE, 100, 100, seed=1).empty
