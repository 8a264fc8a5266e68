"""Films that are moved by a known velocity have that velocity."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from feature_extraction.optical_flow import flows, greys, mean_velocity


def moved_film(right: float, down: float, n_frames: int = 8, size: int = 64) -> np.ndarray:
    """Move a random picture by a velocity, in pixels a frame."""
    picture = gaussian_filter(np.random.default_rng(0).normal(size=(size + 64, size + 64, 3)), (3, 3, 0))
    picture = (picture - picture.min()) / np.ptp(picture) * 255
    frames = [shift(picture, (t * down, t * right, 0), order=3, mode="nearest") for t in range(n_frames)]
    return np.stack(frames)[:, 32:-32, 32:-32].clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("velocity", [(1.0, 0.0), (0.0, 2.0), (-1.5, 0.5)])
def test_a_moved_film_has_its_velocity_and_backwards_the_opposite_one(velocity):
    video = moved_film(*velocity)
    flow = flows(video)
    assert flow.shape == (7, 64, 64, 2)
    assert flow.dtype == np.float32
    np.testing.assert_allclose(np.median(flow, axis=(0, 1, 2)), velocity, atol=0.03)
    np.testing.assert_allclose(mean_velocity(flow), velocity, atol=0.07)
    np.testing.assert_allclose(mean_velocity(flows(video[::-1])), np.negative(velocity), atol=0.07)


def test_flow_is_opencvs_with_the_authors_numbers():
    video = moved_film(1, 0.5, n_frames=2)
    first, second = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video)
    theirs = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    np.testing.assert_array_equal(flows(video)[0], theirs)
    swapped = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in video]
    theirs = cv2.calcOpticalFlowFarneback(*swapped, None, 0.5, 3, 15, 3, 5, 1.2, 0)
    np.testing.assert_array_equal(flows(video, "bgr")[0], theirs)
    assert not np.array_equal(flows(video, "bgr"), flows(video))


def test_brightness_takes_red_for_red_unless_as_published():
    red = np.zeros((2, 4, 4, 3), np.uint8)
    red[..., 0] = 200
    assert greys(red)[0][0, 0] == round(0.299 * 200)
    assert greys(red, "bgr")[0][0, 0] == round(0.114 * 200)


def test_flow_does_not_depend_on_how_the_array_lies_in_memory_or_on_threads():
    video, threads = moved_film(1, 0), cv2.getNumThreads()
    flow = flows(video)
    lying = np.asfortranarray(np.repeat(video, 2, axis=1))[:, ::2]
    np.testing.assert_array_equal(flows(lying), flow)
    try:
        cv2.setNumThreads(1)
        np.testing.assert_array_equal(flows(video), flow)
    finally:
        cv2.setNumThreads(threads)


def test_the_mean_velocity_is_of_what_moves():
    flow = np.zeros((1, 10, 10, 2), np.float32)
    assert mean_velocity(flow).tolist() == [0, 0]
    flow[0, 2:4, 3:5] = (3, -4)
    np.testing.assert_allclose(mean_velocity(flow), [3, -4])
    flow[0, 7, 7] = (0, 5)  # as fast as each of the four: a fifth of the weight
    np.testing.assert_allclose(mean_velocity(flow), [0.8 * 3, 0.8 * -4 + 0.2 * 5])
    flow[0, 7, 7] = (0, 10)  # twice as fast, and twice the weight
    np.testing.assert_allclose(mean_velocity(flow), [4 / 6 * 3, 4 / 6 * -4 + 2 / 6 * 10])


@pytest.mark.parametrize(
    "video", [np.zeros((8, 4, 4), np.uint8), np.zeros((8, 4, 4, 3)), np.zeros((1, 4, 4, 3), np.uint8)]
)
def test_what_is_no_film_is_refused(video):
    with pytest.raises(ValueError, match=r"expected \(n_frames, h, w, 3\) uint8, two frames or more"):
        flows(video)
