r"""Scores of motion: whether a reconstructed film moves as the film did that was seen.

f is the optical flow of the reconstructed clip, g that of the true one, from each frame to the next, at each pixel p.

    end-point error   EPE = mean over frames and pixels of |f_p - g_p|
    flow cosine       cos = sum_p f_p . g_p / (|f| |g|)
    direction         cosine of the two mean velocities (`optical_flow.mean_velocity`)
    speed             mean over frames and pixels of |f_p|

The EPE is the paper's measure. A film that hardly moves has a low one, so that it stands beside that of a film without
any motion. The flow cosine takes neither smoothness nor amplitude for motion. A film shown backwards has the same
smoothness, amplitude and pictures, and the opposite motion. Whether the motion is that of this clip, rather than of
films in general, is told by the cosines with other clips (`other_clips_test`).
"""

import itertools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np

from feature_extraction.optical_flow import Channels, flow_between, flows, greys, mean_velocity
from minddiffuser.seeds import numpy_generator

# A still film has a flow, too, of rounding, where it has edges: .001 pixels a frame, seldom .01. It is the same for the
# same picture, so that two still clips would agree in how they move.
STILL = 0.02  # pixels a frame below which a clip, or a true clip, is still
STILL_SHARE = 0.01  # share of the true clip's speed below which a clip is still
_GRID = 64  # cells on a side, at most, over which flows are averaged to be compared with those of other clips
_CLIPS_AT_ONCE = 64
_DRAWS_AT_ONCE = 2_000_000


class Motion(NamedTuple):
    """How the clips of a system move.

    Attributes
    ----------
    scores : dict of str to array of shape (n_clips,)
        epe, epe_reversed, epe_still   end-point error in pixels a frame: of the film, of the film shown backwards, and
                                       of one that does not move, which is the true film's speed
        flow_cosine, flow_cosine_reversed   of the film, and of the film shown backwards
        direction_cosine, speed, speed_ratio
    cosines : array of shape (n_clips, n_clips), float32
        Flow cosine of clip i with the true clip j.
    distances : array of shape (n_clips, n_frames - 1, n_frames, n_frames), or None
        At [:, t, a, b] the end-point error of the flow from frame a to frame b against the true flow from frame t to
        t + 1; not a number where a is b. They tell the EPE of the film in every order of its frames
        (`evaluation.videos.shuffle`).
    """

    scores: dict[str, np.ndarray]
    cosines: np.ndarray
    distances: np.ndarray | None


def measure(
    videos: Iterable[np.ndarray],
    true: Iterable[np.ndarray],
    channels: Channels = "rgb",
    orders: bool = True,
    flows_of: Callable[[np.ndarray, Channels], np.ndarray] = flows,
) -> Motion:
    """Measure the motion of clips against that of the true ones.

    Clips are taken one by one, and none is kept. Peak memory: the flows of one clip, and of each pair two grids of at
    most 64 x 64 cells a frame, 0.55 GB for the 1,200 test clips of CC2017. Nearly all of the time is optical flow,
    between 63 pairs of frames a clip, or 21 without `orders`.

    Parameters
    ----------
    videos, true : iterables of arrays of shape (n_frames, h, w, 3), uint8
        As many of both, and of one shape.
    channels : {"rgb", "bgr"}
        As `optical_flow.flows` takes it; "bgr" is as published.
    orders : bool
        Whether `distances` are wanted.
    flows_of : callable
        Gives the flows of true clips, as `optical_flow.flows` does: one that remembers them, for instance.

    Raises
    ------
    ValueError
        There are no clips, or not as many of both, or two of a pair differ in shape.
    """
    rows, distances, grids, true_grids = [], [], [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, (video, seen) in enumerate(zip(videos, true, strict=True)):
            if video.shape != seen.shape:
                raise ValueError(f"clip {number} is {video.shape}, and the true one {seen.shape}")
            g, last = flows_of(seen, channels), len(video) - 1
            D, f, backwards = _pairs(greys(video, channels), g, orders, pool)
            t = np.arange(last)
            rows.append(
                {
                    "epe": D[t, t, t + 1].mean(),
                    "epe_reversed": D[t, last - t, last - t - 1].mean(),
                    "epe_still": speed(g),
                    "flow_cosine_reversed": flow_cosine(backwards, g),
                    "direction_cosine": direction_cosine(f, g),
                    "speed": speed(f),
                }
            )
            grids.append(_on_grid(f))
            true_grids.append(_on_grid(g))
            if orders:
                distances.append(D)
    if not rows:
        raise ValueError("there are no clips")
    scores = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    cosines = _cosines(grids, true_grids, scores["speed"], scores["epe_still"])
    scores["flow_cosine"] = np.diagonal(cosines).astype(np.float64)
    scores["speed_ratio"] = speed_ratio(scores["speed"], scores["epe_still"])
    return Motion(scores, cosines, np.stack(distances) if orders else None)


def epe(flow: np.ndarray, true: np.ndarray) -> float:
    """End-point error of a flow (..., h, w, 2), in pixels a frame: 0 for the true one."""
    return speed(flow - true)


def speed(flow: np.ndarray) -> float:
    """Mean length of the vectors of a flow (..., h, w, 2), in pixels a frame."""
    return float(np.sqrt(np.einsum("...k,...k", flow, flow)).mean(dtype=np.float64))


def speed_ratio(speeds: np.ndarray, true_speeds: np.ndarray) -> np.ndarray:
    """Share of the true speed, a number a clip: its speed over the mean of the true ones.

    So the mean is the ratio of the mean speeds. A mean of ratios would be that of the clips that hardly move.
    """
    mean = true_speeds.mean()
    return speeds / mean if mean else np.zeros(len(speeds))


def flow_cosine(flow: np.ndarray, true: np.ndarray) -> float:
    """Cosine of a clip's flow with the true one, over all frames and pixels, or cells where there are more than 64.

    Parameters
    ----------
    flow, true : arrays of shape (n_frames - 1, h, w, 2)

    Returns
    -------
    float
        -1 to 1; 0 where either is still: slower than .02 pixels a frame, or the clip slower than .01 of the true one.
    """
    speeds = np.array([speed(flow)]), np.array([speed(true)])
    return float(_cosines([_on_grid(flow)], [_on_grid(true)], *speeds)[0, 0])


def direction_cosine(flow: np.ndarray, true: np.ndarray) -> float:
    """Cosine of the mean velocity of a clip with that of the true one, of their flows; 0 as in `flow_cosine`."""
    v, u = mean_velocity(flow), mean_velocity(true)
    lengths = math.hypot(*v) * math.hypot(*u)
    return float(v @ u / lengths) if lengths and _moves(speed(flow), speed(true)) else 0.0


def cosines_with_others(cosines: np.ndarray, shots: np.ndarray) -> np.ndarray:
    """Mean flow cosine of each clip with the true clips of other shots: (n_clips,).

    Parameters
    ----------
    cosines : array of shape (n_clips, n_clips)
        See `Motion`.
    shots : array of shape (n_clips,)

    Raises
    ------
    ValueError
        All clips are of one shot.
    """
    others = shots[:, None] != shots
    if not others.any():
        raise ValueError(f"the {len(shots)} clips are of one shot: there is no other one")
    return np.where(others, cosines, 0).sum(axis=1) / others.sum(axis=1)


class OtherClipsTest(NamedTuple):
    """What the flow cosine is where clips are exchanged.

    Attributes
    ----------
    mean : float
        Flow cosine with the own clip, of the clips that take part.
    others : float
        With clips of other shots in the same place.
    p : float
        One-sided.
    smallest_p : float
        That there can be.
    n_clips, n_shots : int
        That take part.
    """

    mean: float
    others: float
    p: float
    smallest_p: float
    n_clips: int
    n_shots: int


def other_clips_test(cosines: np.ndarray, shots: np.ndarray, n_permutations: int, seed: int) -> OtherClipsTest:
    """Test that clips move as their own true clips do, rather than as others.

    Clips of a shot move alike, in the film and in what is decoded of it. So shots are exchanged whole: all clips of one
    are compared, each in its place, with those of another shot that has as many clips. Among shots of equal length any
    exchange is as likely as the true one where the decoded motion has nothing to do with the clip, whatever clips of a
    shot have in common. Clips exchanged one by one, or a film shifted against itself, break shots up, and have p too
    small. Clips of a shot whose length no other has take no part.

    p = (1 + number of exchanges with a mean cosine at least as high) / (1 + n_permutations).

    Parameters
    ----------
    cosines : array of shape (n_clips, n_clips)
        See `Motion`; clips of a shot in the order of time.
    shots : array of shape (n_clips,)
        The shot of each clip (`data.shots.shots_of`).
    n_permutations, seed : int
        Exchanges are drawn at random, and depend on nothing but these and the lengths of shots.

    Raises
    ------
    ValueError
        No two shots have as many clips.

    References
    ----------
    Good (2005), Permutation, Parametric, and Bootstrap Tests of Hypotheses, chapter 3: exchanges within blocks.
    """
    _, number, counts = np.unique(shots, return_inverse=True, return_counts=True)
    generator = numpy_generator(seed, "other clips")
    observed, others, exchanged, n_clips, n_shots, log_orders = 0.0, 0.0, np.zeros(n_permutations), 0, 0, 0.0
    for length in np.unique(counts):
        alike = np.flatnonzero(counts == length)
        n = len(alike)
        if n < 2:
            continue
        clips = np.stack([np.flatnonzero(number == shot) for shot in alike])  # (n, length)
        D = cosines[clips[:, None], clips[None]].sum(axis=2, dtype=np.float64)  # (n, n), of shot i with true shot j
        observed += np.trace(D)
        others += (D.sum() - np.trace(D)) / (n - 1)
        step = max(1, _DRAWS_AT_ONCE // n)
        for start in range(0, n_permutations, step):
            size = min(step, n_permutations - start)
            order = generator.permuted(np.tile(np.arange(n), (size, 1)), axis=1)
            exchanged[start : start + size] += D[order, np.arange(n)].sum(axis=1)
        n_clips, n_shots, log_orders = n_clips + n * length, n_shots + n, log_orders + math.lgamma(n + 1)
    if not n_shots:
        raise ValueError(f"no two of {len(counts)} shots have as many clips: there are none to exchange")
    p = (1 + (exchanged >= observed - 1e-9).sum()) / (1 + n_permutations)
    smallest = max(1 / (1 + n_permutations), math.exp(-log_orders))
    return OtherClipsTest(float(observed / n_clips), float(others / n_clips), float(p), smallest, int(n_clips), n_shots)


def _pairs(
    grey: list[np.ndarray], true: np.ndarray, orders: bool, pool: ThreadPoolExecutor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flow between pairs of a clip's frames: all pairs with `orders`, or each frame with its neighbours.

    Returns
    -------
    distances : array of shape (n_frames - 1, n_frames, n_frames)
        See `Motion`; not a number where a pair is not taken. Without `orders` each pair is compared with the true flow
        in its place alone.
    forwards, backwards : arrays of shape (n_frames - 1, h, w, 2)
        Flow of the film, and of the film shown backwards.
    """
    n = len(grey)
    pairs = [(a, b) for a, b in itertools.permutations(range(n), 2) if orders or abs(a - b) == 1]

    def compare(pair: tuple[int, int]) -> tuple[list[int], list[float], np.ndarray | None]:
        a, b = pair
        flow = flow_between(grey[a], grey[b])
        places = list(range(n - 1)) if orders else [a if a < b else n - 1 - a]
        return places, [epe(flow, true[t]) for t in places], flow if abs(a - b) == 1 else None

    distances, flow_of = np.full((n - 1, n, n), np.nan), {}
    for (a, b), (places, errors, flow) in zip(pairs, pool.map(compare, pairs), strict=True):
        distances[places, a, b], flow_of[a, b] = errors, flow
    forwards = np.stack([flow_of[t, t + 1] for t in range(n - 1)])
    return distances, forwards, np.stack([flow_of[t, t - 1] for t in range(n - 1, 0, -1)])


def _on_grid(flow: np.ndarray) -> np.ndarray:
    """Average a flow (n, h, w, 2) over cells, at most 64 on a side, as one vector of float32."""
    height, width = (min(size, _GRID) for size in flow.shape[1:3])
    if flow.shape[1:3] != (height, width):
        flow = np.stack([cv2.resize(of_frame, (width, height), interpolation=cv2.INTER_AREA) for of_frame in flow])
    return flow.astype(np.float32, copy=False).ravel()


def _cosines(
    grids: Sequence[np.ndarray], true: Sequence[np.ndarray], speeds: np.ndarray, true_speeds: np.ndarray
) -> np.ndarray:
    """Cosine of each of n vectors with each of m, 0 where either is of a clip that is still: (n, m)."""
    lengths, true_lengths = (np.array([np.sqrt(x @ x) for x in vectors], np.float64) for vectors in (grids, true))
    scale = np.outer(lengths, true_lengths)
    moves = _moves(speeds[:, None], true_speeds) & (scale > 0)
    products = np.empty(scale.shape)
    for i in range(0, len(grids), _CLIPS_AT_ONCE):
        X = np.stack(grids[i : i + _CLIPS_AT_ONCE])
        for j in range(0, len(true), _CLIPS_AT_ONCE):
            products[i : i + len(X), j : j + _CLIPS_AT_ONCE] = X @ np.stack(true[j : j + _CLIPS_AT_ONCE]).T
    return np.where(moves, (products / np.where(moves, scale, 1)).clip(-1, 1), 0).astype(np.float32)


def _moves(speeds: np.ndarray | float, true_speeds: np.ndarray | float) -> Any:
    return (true_speeds >= STILL) & (speeds >= np.maximum(STILL, STILL_SHARE * true_speeds))
