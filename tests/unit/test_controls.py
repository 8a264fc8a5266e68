"""Controls on problems whose answers are known."""

import numpy as np
import pytest
import torch

from feature_decoding.accuracy import noise_ceiling_by_image
from feature_decoding.splits import held_out_scores
from minddiffuser.config.method import Controls
from reconstruction.controls import JointSpace, Targets

CPU = torch.device("cpu")


@pytest.fixture
def training() -> Targets:
    rng = np.random.default_rng(0)
    z = rng.normal(3, 2, (40, 4, 3, 3)).astype(np.float32)
    c = rng.normal(-1, 5, (40, 5, 8)).astype(np.float32)
    c[:, 0] = 0.7  # begin of text
    return Targets(z, c)


def test_all_components_pass_everything_and_none_passes_the_mean(training):
    joint = JointSpace(training)
    components = joint.principal_components(100, seed=0)
    assert joint.principal_components(0, seed=0).shape == (0, components.shape[1])
    assert len(components) == 40  # not more than there are images
    whole = joint.limited(training, components)
    np.testing.assert_allclose(whole.z, training.z, atol=1e-4)
    np.testing.assert_allclose(whole.c, training.c, atol=1e-4)
    alone = joint.limited(training, components[:0])
    np.testing.assert_allclose(alone.z, np.broadcast_to(training.z.mean(axis=0), training.z.shape), atol=1e-5)
    np.testing.assert_allclose(alone.c, np.broadcast_to(training.c.mean(axis=0), training.c.shape), atol=1e-5)


def test_k_components_leave_rank_k_and_lose_less_the_more_there_are(training):
    joint = JointSpace(training)
    components = joint.principal_components(12, seed=0)
    losses = []
    for rank in (1, 4, 12):
        rows = joint.rows(joint.limited(training, components[:rank]))
        assert np.linalg.matrix_rank(rows, tol=1e-4) == rank
        losses.append(((rows - joint.training) ** 2).sum())
    assert losses[0] > losses[1] > losses[2]


def test_z_and_c_have_equal_weight(training):
    rows = JointSpace(training).training
    assert (rows[:, :36] ** 2).sum() == pytest.approx(40, rel=1e-3)  # one for each image
    assert (rows[:, 36:] ** 2).sum() == pytest.approx(40 * 32 / 40, rel=1e-3)  # but for the constant token


def test_the_nearest_training_image_of_a_noisy_one_is_itself(training):
    joint = JointSpace(training)
    rng = np.random.default_rng(1)
    noisy = Targets(*(part + rng.normal(0, 0.5, part.shape).astype(np.float32) for part in training))
    order = rng.permutation(40)
    np.testing.assert_array_equal(joint.nearest(Targets(noisy.z[order], noisy.c[order])), order)


@pytest.mark.parametrize("n_trials", [2, 3])
def test_the_noise_ceiling_is_the_correlation_with_what_is_free_of_noise(n_trials):
    rng = np.random.default_rng(2)
    signal = rng.normal(size=(60, 4000))
    trials = signal + 1.5 * rng.normal(size=(n_trials, *signal.shape))
    mean = trials.mean(axis=0)
    truth = [np.corrcoef(a, b)[0, 1] for a, b in zip(mean, signal, strict=True)]
    reliability, ceiling = noise_ceiling_by_image(trials[0], trials[1], np.full(60, n_trials))
    assert reliability.mean() == pytest.approx(1 / (1 + 1.5**2), abs=0.01)
    assert ceiling.mean() == pytest.approx(np.mean(truth), abs=0.01)


def test_an_image_with_one_trial_has_no_ceiling():
    first, second = np.random.default_rng(3).normal(size=(2, 3, 50))
    first[0] = second[0] = np.nan
    second[1] = -first[1]
    reliability, ceiling = noise_ceiling_by_image(first, second, np.array([1, 2, 3]))
    assert np.isnan([reliability[0], ceiling[0]]).all()
    assert reliability[1] == pytest.approx(-1)
    assert ceiling[1] == 0


def test_the_reliability_of_noise_is_zero_and_its_ceiling_is_biased_as_documented():
    first, second = np.random.default_rng(5).normal(size=(2, 4000, 20))
    reliability, ceiling = noise_ceiling_by_image(first, second, np.full(4000, 3))
    assert abs(reliability.mean()) < 0.02
    assert 0.1 < ceiling.mean() < 0.35


def test_kinds_that_were_never_seen_are_decoded_worse_and_random_folds_hide_it():
    """Voxels that tell only the kind of a picture decode its features by heart: held out with its kind it is lost."""
    rng = np.random.default_rng(4)
    kind = np.repeat(np.arange(8), 25)
    prototypes = rng.normal(size=(8, 30))
    Y = prototypes[kind] + 0.1 * rng.normal(size=(200, 30))
    betas = np.eye(8)[kind] @ rng.normal(size=(8, 40)) + 0.3 * rng.normal(size=(200, 40))
    controls = Controls(n_clusters=8, n_folds=4)
    cluster, scores = held_out_scores(betas, {"Y": Y}, Y, controls, 10, {"Y": 40}, seed=0, device=CPU)
    assert all(len(set(cluster[kind == k])) == 1 for k in range(8))  # the clusters are the kinds
    naive, held_out = (
        scores["Y"][split]["feature_correlation"].mean() for split in ("naive_split", "held_out_clusters")
    )
    assert naive > 0.9
    assert held_out < 0.3

    # A code that holds for all pictures is decoded in both.
    X = rng.normal(size=(200, 40))
    code = X @ rng.normal(size=(40, 30))
    _, scores = held_out_scores(X, {"code": code}, Y, controls, 1, {"code": 40}, seed=0, device=CPU)
    for split in ("naive_split", "held_out_clusters"):
        assert scores["code"][split]["feature_correlation"].mean() > 0.95
        assert scores["code"][split]["feature_two_way"].mean() > 0.99
