"""What stands in for the networks that score films, on the miniature: the CLIP that scores, and what is made of it.

The classifier of pictures is CLIP's zero-shot one, over the miniature's colours and kinds of objects. The classifier
of videos is a regression on CLIP's embedding of a film and on its optical flow, fitted on training films, whose class
is the kind of the object that the caption names first, and the direction of its motion.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from feature_extraction.optical_flow import mean_velocity
from minddiffuser.pretrained.clip import Clip
from minddiffuser.store import DataError

# The miniature's words. Evaluation does not know the miniature: a test holds them to be its own.
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
KINDS = ("ball", "box", "star", "heart", "house", "tree", "car", "fish", "ring", "kite")
_KIND = re.compile(rf"\b({'|'.join(KINDS)})\b")
N_DIRECTIONS = 8
STILL = 0.5  # pixels a frame below which a film does not move. The miniature's slowest moves 1.5


def prompts() -> list[str]:
    """Give a text for each class of pictures, 90 of them, kind after kind: "a red ball"."""
    return [f"{'an' if colour == 'orange' else 'a'} {colour} {kind}" for kind in KINDS for colour in COLOURS]


@torch.no_grad()
def class_weights(clip: Clip, ids: torch.Tensor) -> np.ndarray:
    """Embed prompts by CLIP, of length CLIP's scale each: (n_classes, n_dimensions), float64.

    Parameters
    ----------
    clip : Clip
    ids : tensor of shape (n_classes, n_tokens), int
        Tokens of the prompts.
    """
    texts = clip.model.encode_text(ids.to(next(clip.model.parameters()).device)).double().cpu().numpy()
    return float(clip.model.logit_scale.exp()) * _unit(texts)


def zero_shot(weights: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Give scaled cosines of embeddings (n, n_dimensions) with prompts, of `class_weights`: (n, n_classes)."""
    return _unit(embeddings) @ weights.T


class VideoClassifier(NamedTuple):
    """Two softmax regressions on the features of films: of what is there, and of where it moves.

    Attributes
    ----------
    mean, deviation : arrays of shape (n_features,)
        Of training films.
    of_kind, of_motion : fitted LogisticRegression
    """

    mean: np.ndarray
    deviation: np.ndarray
    of_kind: LogisticRegression
    of_motion: LogisticRegression

    def classify(self, features: np.ndarray) -> np.ndarray:
        """Give the logarithm of the probability of each class, kinds x motions of the training films: (n, n_classes).

        Parameters
        ----------
        features : array of shape (n, n_features)
            `features_of` films.
        """
        scaled = (features - self.mean) / self.deviation
        kinds, motions = self.of_kind.predict_log_proba(scaled), self.of_motion.predict_log_proba(scaled)
        return (kinds[:, :, None] + motions[:, None, :]).reshape(len(features), -1)


def features_of(embeddings: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Describe a film: the mean of CLIP's embeddings of its frames, of length 1, and how far it moves where.

    Parameters
    ----------
    embeddings : array of shape (n_frames, n_dimensions)
    flow : array of shape (n_frames - 1, h, w, 2)
        `optical_flow.flows` of the film.

    Returns
    -------
    array of shape (n_dimensions + 9,)
        The last nine: motion in each of eight directions, in pixels a frame, mean over all pixels and transitions; and
        the speed of `mean_velocity`.
    """
    vectors = flow.reshape(-1, 2).astype(np.float64)
    moved = np.bincount(_direction(vectors), np.hypot(*vectors.T), N_DIRECTIONS) / len(vectors)
    speed = np.hypot(*mean_velocity(flow))
    return np.concatenate([_unit(embeddings.mean(axis=0)), np.sqrt(moved), [speed]])


def labels_of(caption: str, flow: np.ndarray) -> tuple[int, int]:
    """Give the classes of a training film: number of the kind that its caption names first, and of its motion.

    Motions are eight directions, and 8 where it is still.

    Raises
    ------
    DataError
        The caption names no kind.
    """
    named = _KIND.search(caption)
    if named is None:
        raise DataError(
            f"the caption {caption!r} names none of the miniature's objects: experiment.mind_animator.metrics.networks "
            "scoring_clip is for its films; set it to published"
        )
    velocity = mean_velocity(flow)
    is_still = np.hypot(*velocity) < STILL
    return KINDS.index(named[1]), N_DIRECTIONS if is_still else int(_direction(velocity[None])[0])


def fit_video_classifier(features: Iterable[np.ndarray], labels: Sequence[tuple[int, int]]) -> VideoClassifier:
    """Fit the classifier of videos.

    Parameters
    ----------
    features : iterable of arrays of shape (n_features,)
        `features_of` training films.
    labels : sequence of pairs of int
        `labels_of` them.
    """
    X, (kind, motion) = np.stack(list(features)), np.array(labels).T
    mean, deviation = X.mean(axis=0), X.std(axis=0) + 1e-9
    scaled = (X - mean) / deviation
    of_kind, of_motion = (LogisticRegression(C=0.1, max_iter=1000).fit(scaled, classes) for classes in (kind, motion))
    return VideoClassifier(mean, deviation, of_kind, of_motion)


def _direction(vectors: np.ndarray) -> np.ndarray:
    """Give the number of the direction of vectors (n, 2), of eight; 0 is around the right."""
    turns = np.arctan2(vectors[:, 1], vectors[:, 0]) / (2 * np.pi)
    return np.round(turns * N_DIRECTIONS).astype(int) % N_DIRECTIONS


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
