"""All scores of a folder of pictures, by the miniature's networks."""

import numpy as np
import pytest
import torch

from evaluation.catalogue import METRICS, STAND_IN
from evaluation.metrics import resize
from evaluation.scoring import Scorer, absent_metrics
from minddiffuser.config import REPOSITORY, load

STIMULI = resize(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8), 64)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    overrides = [f"execution.torch_hub={tmp_path_factory.mktemp('empty')}"]
    return load(REPOSITORY / "configs" / "miniature.yaml", overrides)


@pytest.fixture(scope="module")
def scorer(config) -> Scorer:
    return Scorer(config, STIMULI, torch.device("cpu"))


def test_the_stimuli_themselves_score_as_well_as_anything_can(scorer):
    scores = scorer.score(np.arange(6), STIMULI)
    for name, values in scores.items():
        best = {"psnr": 100.0}.get(name, 0.0 if name.removesuffix(STAND_IN).endswith(("efficientnet", "swav")) else 1.0)
        np.testing.assert_allclose(values, best, atol=1e-6, err_msg=name)


def test_every_metric_is_computed_or_absent_with_a_reason(config, scorer):
    absent = absent_metrics(config)
    assert set(absent) == {"lpips"}
    assert "make models" in absent["lpips"]
    computed = {name.removesuffix(STAND_IN) for name in scorer.score(np.arange(6), STIMULI)}
    assert computed | set(absent) == {name for name, metric in METRICS.items() if metric.group != "features"}
    on_real_networks = config.model_copy(
        update={"experiment": config.experiment.model_copy(
            update={"evaluation": config.experiment.evaluation.model_copy(update={"networks": "imagenet"})}
        )}
    )  # fmt: skip
    assert len(absent_metrics(on_real_networks)) == 1 + 2 * 5  # all networks but CLIP, in both dialects


def test_a_single_picture_is_scored(scorer):
    scores = scorer.score(np.array([4]), STIMULI[4:5])
    assert scores["clip_two_way"].tolist() == [1]
    assert "clip_two_way_of_reconstruction" not in scores  # there is none to tell it from


def test_scores_do_not_depend_on_what_is_scored_beside(scorer):
    noisy = (STIMULI + np.random.default_rng(1).normal(0, 25, STIMULI.shape)).clip(0, 255).astype(np.uint8)
    rows = np.array([5, 1, 2])
    whole, part = scorer.score(np.arange(6), noisy), scorer.score(rows, noisy[rows])
    for name in set(part) - {"clip_two_way_of_reconstruction"}:
        np.testing.assert_allclose(part[name], whole[name][rows], atol=1e-6, err_msg=name)


def test_the_eight_are_left_out_where_they_are_not_asked_for(scorer):
    scores = scorer.score(np.arange(6), STIMULI, field=False)
    assert {METRICS[name].group for name in scores} == {"main", "more"}
