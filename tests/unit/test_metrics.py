"""Known truths about the scores."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import pearsonr
from skimage.color import rgb2gray
from skimage.data import camera
from skimage.metrics import structural_similarity

from evaluation.metrics import features
from evaluation.metrics.images import pixcorr, psnr, resize, ssim, ssim_columns
from minddiffuser.correlation import correlate
from minddiffuser.pretrained.clip import Clip


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 24, 24, 3), dtype=np.uint8)
    return images[0], images[1]


def test_pixcorr_of_an_image_with_itself_is_one_and_with_its_negative_minus_one(pairs):
    images = pairs[0]
    np.testing.assert_allclose(pixcorr(images, images), 1)
    np.testing.assert_allclose(pixcorr(images, 255 - images), -1)


def test_pixcorr_agrees_with_numpy_and_scipy(pairs):
    scores = pixcorr(*pairs)
    for score, a, b in zip(scores, *pairs, strict=True):
        np.testing.assert_allclose(score, np.corrcoef(a.ravel(), b.ravel())[0, 1])
        np.testing.assert_allclose(score, pearsonr(a.ravel().astype(float), b.ravel().astype(float))[0])


@pytest.mark.parametrize("level", [0, 7, 255])
def test_pixcorr_of_a_constant_image_is_zero_and_not_nan(pairs, level):
    assert (pixcorr(pairs[0], np.full_like(pairs[0], level)) == 0).all()


def test_ssim_agrees_with_skimage_and_is_one_for_identity(pairs):
    a, b = pairs
    expected = structural_similarity(
        rgb2gray(a[2]), rgb2gray(b[2]), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )
    np.testing.assert_allclose(ssim(a, b)[2], expected)
    np.testing.assert_allclose(ssim(a, a), 1)


def test_ssim_is_two_dimensional_and_not_by_columns():
    # Turning both images by 90 degrees changes an index that takes columns for channels.
    a, b = np.random.default_rng(1).integers(0, 256, (2, 1, 24, 24, 3), dtype=np.uint8)
    turned = ssim(a.transpose(0, 2, 1, 3), b.transpose(0, 2, 1, 3))
    np.testing.assert_allclose(ssim(a, b), turned)


def test_ssim_by_columns_is_the_mean_of_one_dimensional_indices():
    a, b = np.random.default_rng(2).integers(0, 256, (2, 1, 24, 20, 3), dtype=np.uint8)
    gray = [rgb2gray(image[0]) for image in (a, b)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    columns = [structural_similarity(gray[0][:, k], gray[1][:, k], **options) for k in range(20)]
    np.testing.assert_allclose(ssim_columns(a, b), np.mean(columns))
    assert ssim_columns(a, b) != ssim(a, b)
    np.testing.assert_allclose(ssim_columns(a, a), 1)


def test_scikit_image_is_the_version_that_its_regression_constant_is_of():
    noisy = camera() + np.random.RandomState(5).randn(512, 512) * 20
    noisy = noisy.clip(0, 255).astype(np.uint8)
    assert structural_similarity(camera(), noisy) == pytest.approx(0.3674518327910367, abs=1e-12)


def test_a_blurred_and_a_grey_image_score_well_in_ssim_and_not_in_pixcorr():
    """Why SSIM must be read beside trivial images."""
    photograph = np.repeat(camera()[None, ::2, ::2, None], 3, axis=3)
    noise = np.random.default_rng(3).integers(0, 256, photograph.shape, dtype=np.uint8)
    grey = np.full_like(photograph, 128)
    assert ssim(photograph, grey) > ssim(photograph, noise) + 0.2
    assert pixcorr(photograph, grey) == 0


@pytest.mark.parametrize("metric", [pixcorr, ssim, ssim_columns, psnr])
def test_more_noise_scores_less(metric):
    photograph = np.repeat(camera()[None, ::4, ::4, None], 3, axis=3)
    noise = np.random.default_rng(4).normal(size=photograph.shape)
    noisy = [(photograph + deviation * noise).clip(0, 255).astype(np.uint8) for deviation in (5, 20, 80)]
    shifted = np.roll(photograph, 8, axis=1)
    scores = [metric(photograph, image)[0] for image in noisy]
    assert metric(photograph, photograph)[0] > scores[0] > scores[1] > scores[2]
    assert metric(photograph, shifted)[0] < scores[0]


def test_psnr_by_hand():
    black = np.zeros((1, 4, 4, 3), np.uint8)
    assert psnr(black, black + 255)[0] == 0
    assert psnr(black, black + 51)[0] == pytest.approx(20 * np.log10(5))
    assert psnr(black, black)[0] == 100


def test_identification_by_hand():
    similarity = np.array([[0.9, 0.5, 0.1, 0.2], [0.9, 0.5, 0.1, 0.2], [0.1, 0.1, 0.1, 0.1]])
    own = np.array([0, 1, 2])
    np.testing.assert_allclose(features.identification(similarity, own, 2), [1, 2 / 3, 0])
    np.testing.assert_allclose(features.identification(similarity, own, 3), [1, 1 / 3, 0])
    np.testing.assert_allclose(features.identification(similarity, own, 4), [1, 0, 0])


@pytest.mark.parametrize("n_way", [2, 5, 50])
def test_identification_equals_the_mean_over_draws(n_way):
    rng = np.random.default_rng(5)
    similarity = rng.normal(size=(60, 60)) + 1.5 * np.eye(60)
    exact = features.identification(similarity, np.arange(60), n_way)
    won = np.zeros(60)
    for _ in range(400):
        for query in range(60):
            others = rng.choice(np.delete(np.arange(60), query), n_way - 1, replace=False)
            won[query] += similarity[query, query] > similarity[query, others].max()
    np.testing.assert_allclose(exact, won / 400, atol=0.11)  # four standard errors of one draw's share
    assert abs((exact - won / 400).mean()) < 0.01


@pytest.mark.parametrize("n_way", [2, 10, 300])
def test_identification_of_random_systems_is_at_chance(n_way):
    similarity = np.random.default_rng(6).normal(size=(400, 400))
    scores = features.identification(similarity, np.arange(400), n_way)
    assert abs(scores.mean() - 1 / n_way) < 4 * scores.std() / np.sqrt(400)


def test_the_two_directions_of_identification_are_different_tasks():
    """One reconstruction that is like everything (a hub) wins stimuli over, and loses none of its own."""
    stimuli = np.eye(6) + 0.01 * np.random.default_rng(7).normal(size=(6, 6))
    reconstructions = 0.5 * np.eye(6) + 0.1
    reconstructions[0] = stimuli.sum(axis=0) + stimuli[0]
    similarity = reconstructions @ stimuli.T
    of_stimulus = features.identification(similarity, np.arange(6), 6)
    of_reconstruction = features.identification(similarity.T, np.arange(6), 6)
    np.testing.assert_array_equal(of_stimulus, 1)
    np.testing.assert_array_equal(of_reconstruction, [1, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("n_way", [1, 7])
def test_identification_among_too_few_is_refused(n_way):
    with pytest.raises(ValueError, match="among 6 stimuli"):
        features.identification(np.eye(6), np.arange(6), n_way)


def test_correlate_equals_numpy_and_a_constant_row_is_zero():
    rng = np.random.default_rng(8)
    A, B = rng.normal(size=(3, 9)), rng.normal(size=(4, 9))
    np.testing.assert_allclose(correlate(A, B), np.corrcoef(A, B)[:3, 3:], atol=1e-12)
    A[1] = 0.1
    np.testing.assert_array_equal(correlate(A, B)[1], 0)


def test_a_shape_that_differs_is_refused(pairs):
    with pytest.raises(ValueError, match="shape"):
        pixcorr(pairs[0], pairs[1][:, :20])
    with pytest.raises(ValueError, match="shape"):
        ssim(pairs[0], pairs[1][:3])


def test_resize_is_pils_bicubic_and_leaves_what_fits_alone(pairs):
    images = pairs[0]
    assert resize(images, 24) is images
    expected = Image.fromarray(images[1]).resize((17, 17), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize(images, 17)[1], expected)


def flattening_clip(image_size: int | tuple[int, int]) -> Clip:
    """Stand-in whose embedding is its input."""
    model: Any = SimpleNamespace(visual=SimpleNamespace(image_size=image_size), encode_image=lambda x: x.flatten(1))
    return Clip(model, (0.5, 0.25, 0.0), (1.0, 0.5, 2.0))


def test_clip_embeddings_normalise_channels_and_do_not_depend_on_the_batch(pairs):
    images = pairs[0]
    embeddings = features.clip_embeddings(flattening_clip(24), images, torch.device("cpu"), 3)
    expected = (images.transpose(0, 3, 1, 2) / 255 - np.array([0.5, 0.25, 0]).reshape(3, 1, 1)) / np.array(
        [1, 0.5, 2]
    ).reshape(3, 1, 1)
    np.testing.assert_allclose(embeddings, expected.reshape(4, -1), atol=1e-6)
    one_by_one = features.clip_embeddings(flattening_clip((24, 24)), images, torch.device("cpu"), 1)
    np.testing.assert_array_equal(embeddings, one_by_one)


def test_clip_embeddings_resize_like_pil(pairs):
    smooth = resize(resize(pairs[0], 6), 48)
    embeddings = features.clip_embeddings(flattening_clip(16), smooth, torch.device("cpu"), 8)
    by_pil = features.clip_embeddings(flattening_clip(16), resize(smooth, 16), torch.device("cpu"), 8)
    np.testing.assert_allclose(embeddings, by_pil, atol=3 / 255 / 0.5)


def test_clip_similarity_is_the_cosine():
    a = np.array([[1.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    b = np.array([[0.0, 2.0], [6.0, 8.0], [-1.0, -1.0]])
    np.testing.assert_allclose(features.clip_similarity(a, b), [0, 1, -1], atol=1e-12)


def two_way(stimuli, reconstructions, own):
    """Identify stimuli by reconstructions."""
    return features.identification(correlate(reconstructions, stimuli), own, n_way=2)


def test_two_way_by_hand():
    stimuli = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    # Nearest to stimulus 0, then 1, then 2; they are of 0, 1 and 2 in turn.
    reconstructions = np.array([[3.0, 2, 1], [3.0, 2, 1], [3.0, 2, 1]])
    np.testing.assert_array_equal(two_way(stimuli, reconstructions, np.arange(3)), [1, 0.5, 0])


def test_two_way_of_the_stimuli_themselves_is_one():
    stimuli = np.random.default_rng(0).normal(size=(20, 16))
    rows = np.array([3, 17, 5])
    np.testing.assert_array_equal(two_way(stimuli, stimuli[rows], rows), 1)


def test_two_way_counts_distractors_that_were_not_reconstructed():
    stimuli = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 0.5, 0]])
    score = two_way(stimuli, np.array([[2.0, 1, 0]]), np.array([0]))
    np.testing.assert_allclose(score, 2 / 3)  # the fourth stimulus is nearer than its own


def test_two_way_ties_lose():
    generator = np.random.default_rng(0)
    stimuli = np.repeat(generator.normal(size=(1, 512)), 5, axis=0)
    np.testing.assert_array_equal(two_way(stimuli, stimuli + 1, np.arange(5)), 0)
    different = generator.normal(size=(5, 512))
    constant = np.full((5, 512), 0.1)
    np.testing.assert_array_equal(two_way(different, constant, np.arange(5)), 0)


def test_two_way_is_at_chance_for_random_embeddings():
    generator = np.random.default_rng(0)
    stimuli, reconstructions = generator.normal(size=(2, 200, 32))
    scores = two_way(stimuli, reconstructions, np.arange(200))
    assert abs(scores.mean() - 0.5) < 0.06  # three standard errors: sqrt(1/12/200) each


def test_two_way_does_not_depend_on_the_order_of_distractors():
    generator = np.random.default_rng(0)
    stimuli = generator.normal(size=(30, 8))
    reconstructions = stimuli + generator.normal(size=(30, 8))
    order = generator.permutation(30)
    where = np.argsort(order)
    np.testing.assert_array_equal(
        two_way(stimuli, reconstructions, np.arange(30)),
        two_way(stimuli[order], reconstructions, where),
    )


@pytest.mark.parametrize(("n_stimuli", "n_rows"), [(1, 2), (4, 3)])
def test_two_way_refuses_what_it_cannot_answer(n_stimuli, n_rows):
    with pytest.raises(ValueError, match="stimuli"):
        two_way(np.eye(4)[:n_stimuli], np.eye(4)[:2], np.zeros(n_rows, int))
