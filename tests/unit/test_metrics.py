"""Known truths about the scores."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import pearsonr
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from evaluation import metrics
from minddiffuser.pretrained import Clip


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 24, 24, 3), dtype=np.uint8)
    return images[0], images[1]


def test_pixcorr_of_an_image_with_itself_is_one_and_with_its_negative_minus_one(pairs):
    images = pairs[0]
    np.testing.assert_allclose(metrics.pixcorr(images, images), 1)
    np.testing.assert_allclose(metrics.pixcorr(images, 255 - images), -1)


def test_pixcorr_agrees_with_numpy_and_scipy(pairs):
    scores = metrics.pixcorr(*pairs)
    for score, a, b in zip(scores, *pairs, strict=True):
        np.testing.assert_allclose(score, np.corrcoef(a.ravel(), b.ravel())[0, 1])
        np.testing.assert_allclose(score, pearsonr(a.ravel().astype(float), b.ravel().astype(float))[0])


@pytest.mark.parametrize("level", [0, 7, 255])
def test_pixcorr_of_a_constant_image_is_zero_and_not_nan(pairs, level):
    assert (metrics.pixcorr(pairs[0], np.full_like(pairs[0], level)) == 0).all()


def test_ssim_agrees_with_skimage_and_is_one_for_identity(pairs):
    a, b = pairs
    expected = structural_similarity(
        rgb2gray(a[2]), rgb2gray(b[2]), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )
    np.testing.assert_allclose(metrics.ssim(a, b)[2], expected)
    np.testing.assert_allclose(metrics.ssim(a, a), 1)


def test_ssim_is_two_dimensional_and_not_by_columns():
    # Turning both images by 90 degrees changes an index that takes columns for channels.
    a, b = np.random.default_rng(1).integers(0, 256, (2, 1, 24, 24, 3), dtype=np.uint8)
    turned = metrics.ssim(a.transpose(0, 2, 1, 3), b.transpose(0, 2, 1, 3))
    np.testing.assert_allclose(metrics.ssim(a, b), turned)


def test_a_shape_that_differs_is_refused(pairs):
    with pytest.raises(ValueError, match="shape"):
        metrics.pixcorr(pairs[0], pairs[1][:, :20])
    with pytest.raises(ValueError, match="shape"):
        metrics.ssim(pairs[0], pairs[1][:3])


def test_resize_is_pils_bicubic_and_leaves_what_fits_alone(pairs):
    images = pairs[0]
    assert metrics.resize(images, 24) is images
    expected = Image.fromarray(images[1]).resize((17, 17), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(metrics.resize(images, 17)[1], expected)


def flattening_clip(image_size: int | tuple[int, int]) -> Clip:
    """Stand-in whose embedding is its input."""
    model: Any = SimpleNamespace(visual=SimpleNamespace(image_size=image_size), encode_image=lambda x: x.flatten(1))
    return Clip(model, (0.5, 0.25, 0.0), (1.0, 0.5, 2.0))


def test_clip_embeddings_normalise_channels_and_do_not_depend_on_the_batch(pairs):
    images = pairs[0]
    embeddings = metrics.clip_embeddings(flattening_clip(24), images, torch.device("cpu"), 3)
    expected = (images.transpose(0, 3, 1, 2) / 255 - np.array([0.5, 0.25, 0]).reshape(3, 1, 1)) / np.array(
        [1, 0.5, 2]
    ).reshape(3, 1, 1)
    np.testing.assert_allclose(embeddings, expected.reshape(4, -1), atol=1e-6)
    one_by_one = metrics.clip_embeddings(flattening_clip((24, 24)), images, torch.device("cpu"), 1)
    np.testing.assert_array_equal(embeddings, one_by_one)


def test_clip_embeddings_resize_like_pil(pairs):
    smooth = metrics.resize(metrics.resize(pairs[0], 6), 48)
    embeddings = metrics.clip_embeddings(flattening_clip(16), smooth, torch.device("cpu"), 8)
    by_pil = metrics.clip_embeddings(flattening_clip(16), metrics.resize(smooth, 16), torch.device("cpu"), 8)
    np.testing.assert_allclose(embeddings, by_pil, atol=3 / 255 / 0.5)


def test_clip_similarity_is_the_cosine():
    a = np.array([[1.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    b = np.array([[0.0, 2.0], [6.0, 8.0], [-1.0, -1.0]])
    np.testing.assert_allclose(metrics.clip_similarity(a, b), [0, 1, -1], atol=1e-12)


def test_two_way_by_hand():
    stimuli = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    # Nearest to stimulus 0, then 1, then 2; they are of 0, 1 and 2 in turn.
    reconstructions = np.array([[3.0, 2, 1], [3.0, 2, 1], [3.0, 2, 1]])
    np.testing.assert_array_equal(metrics.two_way_identification(stimuli, reconstructions, np.arange(3)), [1, 0.5, 0])


def test_two_way_of_the_stimuli_themselves_is_one():
    stimuli = np.random.default_rng(0).normal(size=(20, 16))
    rows = np.array([3, 17, 5])
    np.testing.assert_array_equal(metrics.two_way_identification(stimuli, stimuli[rows], rows), 1)


def test_two_way_counts_distractors_that_were_not_reconstructed():
    stimuli = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 0.5, 0]])
    score = metrics.two_way_identification(stimuli, np.array([[2.0, 1, 0]]), np.array([0]))
    np.testing.assert_allclose(score, 2 / 3)  # the fourth stimulus is nearer than its own


def test_two_way_ties_lose():
    generator = np.random.default_rng(0)
    stimuli = np.repeat(generator.normal(size=(1, 512)), 5, axis=0)
    np.testing.assert_array_equal(metrics.two_way_identification(stimuli, stimuli + 1, np.arange(5)), 0)
    different = generator.normal(size=(5, 512))
    constant = np.full((5, 512), 0.1)
    np.testing.assert_array_equal(metrics.two_way_identification(different, constant, np.arange(5)), 0)


def test_two_way_is_at_chance_for_random_embeddings():
    generator = np.random.default_rng(0)
    stimuli, reconstructions = generator.normal(size=(2, 200, 32))
    scores = metrics.two_way_identification(stimuli, reconstructions, np.arange(200))
    assert abs(scores.mean() - 0.5) < 0.06  # three standard errors: sqrt(1/12/200) each


def test_two_way_does_not_depend_on_the_order_of_distractors():
    generator = np.random.default_rng(0)
    stimuli = generator.normal(size=(30, 8))
    reconstructions = stimuli + generator.normal(size=(30, 8))
    order = generator.permutation(30)
    where = np.argsort(order)
    np.testing.assert_array_equal(
        metrics.two_way_identification(stimuli, reconstructions, np.arange(30)),
        metrics.two_way_identification(stimuli[order], reconstructions, where),
    )


@pytest.mark.parametrize(("n_stimuli", "n_rows"), [(1, 2), (4, 3)])
def test_two_way_refuses_what_it_cannot_answer(n_stimuli, n_rows):
    with pytest.raises(ValueError, match="stimuli"):
        metrics.two_way_identification(np.eye(4)[:n_stimuli], np.eye(4)[:2], np.zeros(n_rows, int))
