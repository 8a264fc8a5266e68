"""The paper's shuffle test, exactly: whether a film's end-point error is lower than in another order of its frames.

The flow of a film in any order of its frames is made of flows between pairs of frames. There are 56 pairs of 8 frames
and 40,320 orders of them, so that the flows of all pairs, once compared with the true ones, give the error of each
order by looking up 7 numbers (`motion.measure`). The p is exact then, and takes less time than the 500 orders at random
that the authors take, whose flows they compute anew.

What the test tells is that neighbouring frames are alike. Any film that moves smoothly passes it, whatever it shows,
and one that does not move fails. Which motion it is, is the question of `motion.other_clips_test`.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np
from scipy import stats

from minddiffuser.seeds import numpy_generator

_MOST_FRAMES = 9  # 362,880 orders
_EQUAL = 1e-9  # relative: errors that differ by less are equal


class ShuffleTest(NamedTuple):
    """Where the true order of frames is among all orders.

    Attributes
    ----------
    epe : float
        Mean end-point error over clips in the true order.
    shuffled : float
        Mean over all orders.
    p : float
        Share of the orders whose error is as low as the true one's, or lower; the true one is among them.
    n_orders : int
    """

    epe: float
    shuffled: float
    p: float
    n_orders: int


def shuffle_test(distances: np.ndarray) -> ShuffleTest:
    """Compare the true order of frames with every order, the same in all clips.

    Parameters
    ----------
    distances : array of shape (n_clips, n_frames - 1, n_frames, n_frames)
        See `motion.Motion`.

    Raises
    ------
    ValueError
        There are more than 9 frames.

    References
    ----------
    Lu et al. 2025 (arXiv 2405.03280), who draw orders at random.
    """
    errors = every_order(distances.mean(axis=0))
    p = (errors <= errors[0] * (1 + _EQUAL)).mean()
    return ShuffleTest(float(errors[0]), float(errors.mean()), float(p), len(errors))


def every_order(distances: np.ndarray) -> np.ndarray:
    """End-point error with the frames in each order.

    Parameters
    ----------
    distances : array of shape (n_frames - 1, n_frames, n_frames)
        Of a clip, or their mean over clips.

    Returns
    -------
    array of shape (n_frames!,)
        In the order of `orders`: the first is the true one.
    """
    return errors_of(orders(distances.shape[-1]), distances)


def errors_of(order: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """End-point error with the frames in some orders (n, n_frames), by `distances` as in `every_order`: (n,)."""
    total = np.zeros(len(order))
    for t, of_pair in enumerate(distances):
        total += of_pair[order[:, t], order[:, t + 1]]
    return total / len(distances)


@functools.lru_cache(maxsize=2)
def orders(n_frames: int) -> np.ndarray:
    """All orders of frames (n_frames!, n_frames), from 0, the true one first."""
    if n_frames > _MOST_FRAMES:
        raise ValueError(f"{n_frames} frames have too many orders: at most {_MOST_FRAMES} frames")
    return np.array(list(itertools.permutations(range(n_frames))), np.int8)


# As published.


def sampled_shuffle_test(
    distances: np.ndarray, seed: int, n_orders: int = 100, n_repeats: int = 5
) -> tuple[float, float]:
    """Compare the true order with orders drawn at random, as published.

    p = 1 - (number of orders with a higher error) / n_orders, so that it can be 0; the true order may be among them.

    Parameters
    ----------
    distances : array of shape (n_clips, n_frames - 1, n_frames, n_frames)
    seed : int
        Of the orders; the authors' have none.
    n_orders, n_repeats : int

    Returns
    -------
    p, deviation : float
        Mean and standard deviation over repeats.

    References
    ----------
    shuffle_test of Mind-Animator's authors, in Explainable_analysis.
    """
    mean, n_frames = distances.mean(axis=0), distances.shape[-1]
    p = []
    for repeat in range(n_repeats):
        generator = numpy_generator(seed, "shuffle test", repeat)
        drawn = generator.permuted(np.tile(np.arange(n_frames), (n_orders, 1)), axis=1)
        drawn = np.concatenate([np.arange(n_frames)[None], drawn])
        true, *shuffled = errors_of(drawn, mean)
        p.append(1 - np.mean(np.array(shuffled) > true * (1 + _EQUAL)))
    return float(np.mean(p)), float(np.std(p))


def bootstrap_wilcoxon_test(first: np.ndarray, second: np.ndarray, seed: int, n_bootstrap: int = 100) -> float:
    """Compare two systems as published: p of a Wilcoxon test of bootstrapped means. It is not valid.

    The means are of each system's own resamples, and a Wilcoxon signed-rank test takes them for n_bootstrap independent
    pairs. More resamples make any difference significant, also one that is chance: where the systems are equal, p is
    below .05 in five of six cases. `significance.sign_flip_test` is the valid one.

    Parameters
    ----------
    first, second : arrays of shape (n_clips,)
        Scores.
    seed, n_bootstrap : int

    References
    ----------
    bootstrap_with_wilcoxon.py of Mind-Animator's authors.
    """
    generator = numpy_generator(seed, "bootstrap and Wilcoxon")
    means = [x[generator.integers(len(x), size=(n_bootstrap, len(x)))].mean(axis=1) for x in (first, second)]
    if np.array_equal(*means):
        return 1.0
    return float(stats.wilcoxon(*means).pvalue)
