"""Scores of reconstructed clips against the clips that were seen: pairs of videos, whatever made them.

Videos are arrays of shape (n, n_frames, h, w, 3), uint8, red, green, blue; pair `i` is video `i` of both, and scores
have shape (n,), a number a clip. Higher is better. What is of frames is averaged over all frames of a clip. Two arrays
of another shape are a ValueError.

Classes are compared as MinD-Video and Mind-Animator do: those that a classifier gives to the video that was seen
count as right, three of them, so that chance in `n_way` is 3 / (n + 2), not 1 / n.
"""

from collections.abc import Callable, Iterable

import cv2
import numpy as np

from evaluation.metrics import images
from evaluation.metrics.features import clip_similarity
from evaluation.metrics.images import by_pair, check_same_shape
from evaluation.videos.networks import FilmNetworks

N_CORRECT = 3  # classes of the video that was seen that count as right
N_WAYS = (2, 50)


def chance(n: int) -> float:
    """Give the expected `n_way` of random scores: .75 for 2-way and .0577 for 50-way."""
    return N_CORRECT / (n + N_CORRECT - 1)


def pixel_scores(seen: np.ndarray, made: np.ndarray) -> dict[str, np.ndarray]:
    """Scores that need no network.

    PixCorr, SSIM and PSNR are those of pictures (`evaluation/metrics/images.py`), of each pair of frames.

    Parameters
    ----------
    seen, made : arrays of shape (n, n_frames, h, w, 3), uint8

    Returns
    -------
    dict of str to array of shape (n,)
        "pixcorr", "ssim", "psnr", "hue".
    """
    return {
        "pixcorr": over_frames(images.pixcorr, seen, made),
        "ssim": over_frames(images.ssim, seen, made),
        "psnr": over_frames(images.psnr, seen, made),
        "hue": over_frames(hue_correlation, seen, made),
    }


def over_frames(score: Callable[..., np.ndarray], seen: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Score pairs of frames, and average over those of a clip: (n,)."""
    check_same_shape(seen, made)
    of_frames = score(seen.reshape(-1, *seen.shape[2:]), made.reshape(-1, *made.shape[2:]))
    return of_frames.reshape(seen.shape[:2]).mean(axis=1)


def hue_correlation(seen: np.ndarray, made: np.ndarray) -> np.ndarray:
    r"""Circular correlation of the hues of each pair of pictures (Fisher & Lee 1983, equation 2.4).

        r = \frac{\sum_{i<j} \sin(a_i - a_j) \sin(b_i - b_j)}
                 {\sqrt{\sum_{i<j} \sin^2(a_i - a_j) \sum_{i<j} \sin^2(b_i - b_j)}}

    Hue is an angle: red is at both ends of its scale. Like Pearson's r this one has 0 for unrelated pictures, whatever
    their colours, and does not see a shift of all hues. Pixels of the picture seen that are grey have no hue, and are
    left out; pixels that only the other picture has in grey count as unrelated. A picture of one hue has 0.

    Parameters
    ----------
    seen, made : arrays of shape (n, h, w, 3), uint8

    Returns
    -------
    array of shape (n,), in [-1, 1]

    References
    ----------
    Fisher, N. I. & Lee, A. J. (1983), Biometrika 70, 327. In place of the "Hue-pcc" of published tables, which is a
    cosine, and .75 for unrelated pictures (`evaluation/videos/dialects.py`).
    """
    check_same_shape(seen, made)
    return by_pair(_hue_correlation_of_pair, seen, made)


def _hue_correlation_of_pair(seen: np.ndarray, made: np.ndarray) -> float:
    (a, seen_coloured), (b, made_coloured) = _hues(seen), _hues(made)
    both = seen_coloured & made_coloured
    if not both.any():
        return 0.0
    a, b = a[both], b[both]
    n = len(a)
    sin_a, cos_a, sin_b, cos_b = np.sin(a), np.cos(a), np.sin(b), np.cos(b)
    # The sums over pairs of pixels, by sums over pixels (Fisher & Lee, equation 2.5).
    products = 4 * ((cos_a @ cos_b) * (sin_a @ sin_b) - (cos_a @ sin_b) * (sin_a @ cos_b))
    # of cos 2x = cos^2 x - sin^2 x, and sin 2x = 2 sin x cos x
    spread_a, spread_b = (
        n**2 - (cos @ cos - sin @ sin) ** 2 - (2 * sin @ cos) ** 2 for sin, cos in ((sin_a, cos_a), (sin_b, cos_b))
    )
    if min(spread_a, spread_b) <= 1e-9 * n**2:  # one hue, but for rounding
        return 0.0
    return products / np.sqrt(spread_a * spread_b) * n / seen_coloured.sum()


def _hues(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hues in radians, float64, and which pixels have one: (h w,) both."""
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV).reshape(-1, 3)
    return np.radians(hsv[:, 0].astype(np.float64)), hsv[:, 1] > 0


def n_way(seen: np.ndarray, made: np.ndarray, n: int) -> np.ndarray:
    """Probability that a classifier prefers a class of what was seen to n - 1 others, drawn from all that are not.

    Of what was seen the three classes with the largest outputs are right. One of them must have a larger output for
    the reconstruction than all n - 1 others. With k of the other classes below the best of the three, of N - 3, that
    has the probability C(k, n - 1) / C(N - 3, n - 1): the score is the exact expectation of what published scores draw
    20 or 100 times. Chance is `chance(n)`. An equal output is lost.

    Parameters
    ----------
    seen, made : arrays of shape (..., n_classes)
        Outputs of a classifier for what was seen and for the reconstruction, before or after its softmax.
    n : int
        From 2 to n_classes - 2.

    Returns
    -------
    array of shape (...,)

    Raises
    ------
    ValueError
        There are too few classes.

    References
    ----------
    Chen et al. 2023 (MinD-Video, arXiv 2305.11675).
    """
    check_same_shape(seen, made)
    n_others = seen.shape[-1] - N_CORRECT
    if not 2 <= n <= n_others + 1:
        raise ValueError(f"{n}-way classification needs {n + 2} classes or more, not {seen.shape[-1]}")
    is_right = right_classes(seen)
    best = np.where(is_right, made, -np.inf).max(axis=-1, keepdims=True)
    k = ((made < best) & ~is_right).sum(axis=-1)
    m = np.arange(n - 1)
    return np.prod(np.maximum(k[..., None] - m, 0) / (n_others - m), axis=-1)


def ways(n_classes: int) -> list[int]:
    """List those of `N_WAYS` that there are classes enough for: a stand-in that saw few films has few."""
    return [n for n in N_WAYS if n <= n_classes - N_CORRECT + 1]


def right_classes(seen: np.ndarray) -> np.ndarray:
    """Which classes count as right: (..., n_classes) bool, the three with the largest outputs; of equal ones the first.

    Parameters
    ----------
    seen : array of shape (..., n_classes)
    """
    first = np.argsort(-seen, axis=-1, kind="stable")[..., :N_CORRECT]
    is_right = np.zeros(seen.shape, bool)
    np.put_along_axis(is_right, first, True, axis=-1)
    return is_right


def consistency(embeddings: np.ndarray) -> np.ndarray:
    """Mean cosine of CLIP's embeddings of neighbouring frames: "CLIP-pcc", without the gate of Mind-Animator.

    A film that does not move has 1, the most there is: this says how smooth a film is, and nothing of what was seen.

    Parameters
    ----------
    embeddings : array of shape (n, n_frames, n_dimensions)

    Returns
    -------
    array of shape (n,)
    """
    n, n_frames, n_dimensions = embeddings.shape
    first, second = (part.reshape(-1, n_dimensions) for part in (embeddings[:, :-1], embeddings[:, 1:]))
    return clip_similarity(first, second).reshape(n, n_frames - 1).mean(axis=1)


def gated(values: np.ndarray, vifi: np.ndarray, gate: float) -> np.ndarray:
    """Set the consistency of clips to 0 where the VIFI score is not above the gate: "CLIP-pcc" of Mind-Animator."""
    return np.where(vifi > gate, values, 0.0)


def network_scores(seen: dict[str, np.ndarray], made: dict[str, np.ndarray], gate: float) -> dict[str, np.ndarray]:
    """Scores by what networks say of videos; those of absent networks are absent.

    Parameters
    ----------
    seen, made : dict of str to array
        "image" (n, n_frames, n_classes) and "video" (n, n_classes), outputs of classifiers; "vifi" (n, n_dimensions);
        "clip" (n, n_frames, n_dimensions): as `networks.look` gives them.
    gate : float
        VIFI score up to which the gated consistency is 0.

    Returns
    -------
    dict of str to array of shape (n,)
        "image_2_way", "image_50_way", "video_2_way", "video_50_way", "vifi", "clip_consistency",
        "clip_consistency_gated".
    """
    scores = {}
    for name in ("image", "video"):
        for n in ways(seen[name].shape[-1]) if name in seen else ():
            of_name = n_way(seen[name], made[name], n)
            scores[f"{name}_{n}_way"] = of_name.mean(axis=1) if name == "image" else of_name
    if "vifi" in seen:
        scores["vifi"] = clip_similarity(seen["vifi"], made["vifi"])
    if "clip" in made:
        scores["clip_consistency"] = consistency(made["clip"])
    if "clip" in made and "vifi" in seen:
        scores["clip_consistency_gated"] = gated(scores["clip_consistency"], scores["vifi"], gate)
    return scores


def score(
    networks: FilmNetworks, pairs: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], gate: float
) -> dict[str, np.ndarray]:
    """Score clips, a batch at a time. Peak memory: a batch, so that it does not grow with the number of clips.

    Parameters
    ----------
    networks : FilmNetworks
    pairs : iterable of (stimulus_ids, seen, made)
        Batches of arrays of shape (n,), (n, n_frames, h, w, 3) and (n, n_frames, h', w', 3), uint8. Pixels are
        compared at the size of what was seen; networks see both as they are.
    gate : float
        As of `network_scores`.

    Returns
    -------
    dict of str to array of shape (n_clips,)
        "stimulus_id" and the scores of `pixel_scores` and `network_scores`, whose names end in networks.suffix.

    Raises
    ------
    ValueError
        There is no batch, or clips differ in their frames.
    """
    parts = []
    for stimulus_ids, seen, made in pairs:
        of_networks = network_scores(networks.look(seen), networks.look(made), gate)
        parts.append(
            {
                "stimulus_id": np.asarray(stimulus_ids),
                **pixel_scores(seen, resized(made, seen.shape[2])),
                **{name + networks.suffix: values for name, values in of_networks.items()},
            }
        )
    if not parts:
        raise ValueError("no clips to score")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def resized(videos: np.ndarray, size: int) -> np.ndarray:
    """Resize videos (n, n_frames, h, w, 3) to squares as pictures are; those of that size are given as they are."""
    frames = images.resize(videos.reshape(-1, *videos.shape[2:]), size)
    return frames.reshape(*videos.shape[:2], *frames.shape[1:])
