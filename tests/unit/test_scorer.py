"""All scores of a folder of pictures, by the miniature's networks."""

import numpy as np
import pytest
import torch

from evaluation.catalogue import STAND_IN
from evaluation.metrics.catalogue import METRICS
from evaluation.metrics.images import resize
from evaluation.metrics.scorer import Scorer, absent_metrics, score_folder
from minddiffuser.config import REPOSITORY, load
from minddiffuser.recipe import Recipe
from minddiffuser.store import DataError
from reconstruction.folder import ReconstructionFolder

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
    assert "not part of the miniature" in absent["lpips"]
    computed = {name.removesuffix(STAND_IN) for name in scorer.score(np.arange(6), STIMULI)}
    assert computed | set(absent) == set(METRICS)
    on_real_networks = config.model_copy(
        update={"experiment": config.experiment.model_copy(
            update={"evaluation": config.experiment.evaluation.model_copy(update={"networks": "imagenet"})}
        )}
    )  # fmt: skip
    assert len(absent_metrics(on_real_networks)) == 1 + 2 * 5  # all networks but CLIP, in both dialects
    assert all("make models" in reason for reason in absent_metrics(on_real_networks).values())


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


IDS = np.array([3, 7, 12, 30, 41, 55])  # of the stimuli


def write(path, ids, images):
    folder = ReconstructionFolder(Recipe(path.parent, path.name, "subj01", "some/script.py", {}), len(ids))
    folder.save(ids, images, seed=0)
    folder.write_index()


def test_the_score_of_an_image_is_the_mean_over_its_samples(scorer, tmp_path):
    """As Takagi & Nishimoto do with their five; candidates are those of the same sample."""
    rng, rows = np.random.default_rng(2), np.array([5, 1, 2])
    samples = [(STIMULI + rng.normal(0, sd, STIMULI.shape)).clip(0, 255).astype(np.uint8)[rows] for sd in (10, 40, 90)]
    for name, images in zip(("", "sample_2", "sample_3"), samples, strict=True):
        write(tmp_path / "system" / name, IDS[rows], images)
    found = score_folder(scorer, tmp_path / "system", IDS, field=True)
    assert found.pop("stimulus_id").tolist() == sorted(IDS[rows])
    alone = [scorer.score(np.sort(rows), images[np.argsort(rows)]) for images in samples]
    assert set(found) == set(alone[0])
    for name, values in found.items():
        np.testing.assert_allclose(values, np.mean([scores[name] for scores in alone], axis=0), err_msg=name)
    assert not np.allclose(found["pixcorr"], alone[0]["pixcorr"])


def test_pictures_of_images_that_were_not_tested_are_refused(scorer, tmp_path):
    write(tmp_path / "system", np.array([3, 8]), STIMULI[:2])
    with pytest.raises(DataError, match="not test images, such as 8"):
        score_folder(scorer, tmp_path / "system", IDS, field=False)
