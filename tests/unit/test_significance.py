"""Known truths about the intervals and the tables made of them."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from evaluation import significance


def test_the_interval_covers_the_true_mean_about_95_times_in_100():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        low, high = significance.bootstrap_interval(generator.normal(2, 3, 40), 400, generator)
        covered += low <= 2 <= high
    assert 0.91 < covered / 400 < 0.975  # 2 standard errors are 0.02; the percentile interval is a little narrow


def test_the_interval_agrees_with_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=50)
    ours = significance.bootstrap_interval(values, 5000, np.random.default_rng(1))
    theirs = bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.05 * (theirs.high - theirs.low))


def test_the_interval_does_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    values = np.random.default_rng(0).normal(size=30)
    whole = significance.bootstrap_interval(values, 500, np.random.default_rng(1))
    monkeypatch.setattr(significance, "_DRAWS_AT_ONCE", 1000)
    assert significance.bootstrap_interval(values, 500, np.random.default_rng(1)) == whole


def test_equal_values_have_an_interval_of_no_width():
    assert significance.bootstrap_interval(np.full(5, 0.25), 100, np.random.default_rng(0)) == (0.25, 0.25)


@pytest.mark.parametrize("values", [[], [1.0, np.nan]])
def test_what_cannot_be_averaged_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        significance.bootstrap_interval(np.array(values), 100, np.random.default_rng(0))


def table(**values: list[float]) -> pd.DataFrame:
    """Scores of one subject and metric: system=[value of image 0, of image 1, ...]."""
    rows = [("subj01", s, i, "pixcorr", v) for s, column in values.items() for i, v in enumerate(column)]
    return pd.DataFrame(rows, columns=["subject", "system", "nsd_id", "metric", "value"])


def test_summary_has_the_mean_and_count_of_each_system():
    summary = significance.summarise(table(b=[1, 2, 3], a=[5]), 200, seed=1)
    assert list(summary.columns) == ["subject", "system", "metric", "mean", "ci_low", "ci_high", "n"]
    assert summary[["system", "mean", "n"]].to_numpy().tolist() == [["b", 2.0, 3], ["a", 5.0, 1]]


def test_summary_does_not_depend_on_the_order_of_rows_or_on_other_systems():
    scores = table(a=[0.1, 0.5, 0.2, 0.9], b=[1, 2, 3, 4])
    alone = significance.summarise(scores[scores["system"] == "a"].iloc[::-1], 200, seed=1)
    pd.testing.assert_frame_equal(alone, significance.summarise(scores, 200, seed=1).iloc[:1])


def test_differences_are_of_the_images_that_both_have():
    scores = table(refined=[1.0, 1.0], start=[0.5, 0.7, 100.0])
    paired = significance.compare(scores, [("refined", "start"), ("refined", "absent")], 200, seed=1)
    assert list(paired.columns) == ["subject", "system", "baseline", "metric", "difference", "ci_low", "ci_high", "n"]
    assert len(paired) == 1
    row = paired.iloc[0]
    assert (row["n"], row["difference"]) == (2, pytest.approx(0.4))
    assert row["ci_low"] == pytest.approx(0.3)
    assert row["ci_high"] == pytest.approx(0.5)


def test_a_constant_gain_is_certain_however_much_images_differ():
    start = np.random.default_rng(0).normal(size=20)
    paired = significance.compare(table(refined=list(start + 0.25), start=list(start)), [("refined", "start")], 200, 1)
    np.testing.assert_allclose(paired[["difference", "ci_low", "ci_high"]].to_numpy(float), 0.25)
