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


# Groups: images that are not independent of each other, such as clips of a shot.


def in_groups(n_experiments: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Make values of 40 groups of 1 to 5 images that share most of what they vary by: (n_images, n_experiments)."""
    groups = np.repeat(np.arange(40), np.arange(40) % 5 + 1)
    shared = generator.normal(size=(40, n_experiments))[groups]
    return shared + 0.5 * generator.normal(size=shared.shape), groups


def test_intervals_over_groups_cover_where_those_over_images_are_too_narrow():
    values, groups = in_groups(300, np.random.default_rng(0))
    covered = {}
    for name, of in {"groups": groups, "images": None}.items():
        low, high = significance.bootstrap_intervals(values, 400, 1, of)
        covered[name] = ((low <= 0) & (high >= 0)).mean()
    assert covered["groups"] > 0.9 > 0.85 > covered["images"]


def test_the_interval_over_groups_is_that_of_means_of_all_images_of_drawn_groups():
    values, groups = in_groups(2, np.random.default_rng(1))
    ours = significance.bootstrap_intervals(values, 4000, 1, groups)
    generator, members = np.random.default_rng(2), [values[groups == g] for g in range(40)]
    drawn = generator.integers(40, size=(4000, 40))
    means = [np.concatenate([members[g] for g in of]).mean(axis=0) for of in drawn]
    theirs = np.quantile(means, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(ours, theirs, atol=0.06 * np.ptp(theirs, axis=0).max())


def test_sign_flips_of_groups_reject_five_times_in_a_hundred_and_those_of_images_too_often():
    values, groups = in_groups(1000, np.random.default_rng(3))
    assert 0.03 < (significance.sign_flip_test(values, 999, 1, groups) <= 0.05).mean() < 0.07
    assert (significance.sign_flip_test(values, 999, 1) <= 0.05).mean() > 0.15


def test_sign_flips_of_groups_agree_with_those_of_the_groups_sums():
    values, groups = in_groups(3, np.random.default_rng(4))
    sums = np.stack([values[groups == g].sum(axis=0) for g in range(40)])
    by_groups = significance.sign_flip_test(values, 2000, 1, groups)
    np.testing.assert_allclose(by_groups, significance.sign_flip_test(sums, 2000, 1))
    unsorted = np.random.default_rng(5).permutation(len(values))
    np.testing.assert_allclose(significance.sign_flip_test(values[unsorted], 2000, 1, groups[unsorted]), by_groups)


def test_groups_of_one_image_each_change_nothing():
    values = np.random.default_rng(6).normal(size=(20, 3))
    alone = np.arange(20)[::-1] * 7
    np.testing.assert_allclose(
        significance.bootstrap_intervals(values[::-1], 500, 1, alone), significance.bootstrap_intervals(values, 500, 1)
    )
    over = [significance.bootstrap_interval_over_subjects(values.T, 500, 1, of) for of in (np.arange(20), None)]
    np.testing.assert_allclose(*over)


def test_tables_take_groups_by_image():
    generator = np.random.default_rng(7)
    shots = pd.Series(np.repeat(range(8), 5), index=range(40))
    scores = []
    for subject in ("subj01", "subj02"):
        shared = generator.normal(0.5, 1, 8)[shots]
        scores.append(table(subject, stage1=shared.tolist(), stage2=(shared * generator.uniform(0, 1, 40)).tolist()))
    scores = pd.concat(scores)
    shuffled = shots.sample(frac=1, random_state=1)
    by_image, by_shot = (significance.summarise(scores, 300, 1, of) for of in (None, shuffled))
    pd.testing.assert_frame_equal(
        by_image.drop(columns=["ci_low", "ci_high"]), by_shot.drop(columns=["ci_low", "ci_high"])
    )
    assert (by_shot["ci_high"] - by_shot["ci_low"] > 1.3 * (by_image["ci_high"] - by_image["ci_low"])).all()
    pairs = [("stage1", "stage2")]
    by_image, by_shot = (significance.compare(scores, pairs, CATALOGUE, 300, 255, 1, of) for of in (None, shuffled))
    assert len(by_shot) == 3
    assert (by_shot["p"] > by_image["p"]).all()
    with pytest.raises(ValueError, match="2 images have no group, such as 38"):
        significance.summarise(scores, 100, 1, shots[:38])
    with pytest.raises(ValueError, match="39 images have a group, of 40"):
        significance.sign_flip_test(np.zeros((40, 1)), 10, 1, np.arange(39))
