"""All scores of a picture or of a folder of pictures, by all networks that are on this machine."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from evaluation.metrics import dialects
from evaluation.metrics.features import clip_embeddings_and_places, clip_similarity, identification
from evaluation.metrics.images import lpips, pixcorr, psnr, resize, ssim, ssim_columns
from minddiffuser.config import Config
from minddiffuser.correlation import correlate
from minddiffuser.pretrained.clip import Clip, open_clip_model
from minddiffuser.pretrained.scoring import (
    clip_features,
    feature_network,
    open_lpips,
    require_stand_ins,
    scoring_weights,
)
from minddiffuser.store import DataError
from reconstruction.folder import read, sample_folders

DIALECTS = (dialects.BRAIN_DIFFUSER, dialects.MINDEYE)


def absent_metrics(config: Config) -> dict[str, str]:
    """Name the metrics whose networks are not on this machine, with the reason."""
    absent = {}
    weights = scoring_weights(config.execution.torch_hub)
    is_real = config.experiment.evaluation.networks == "imagenet"
    why = "`make models` downloads it" if is_real else "it is not part of the miniature"
    missing = {name: f"{path.name} is not in torch.hub's folder; {why}" for name, path in weights.items()}
    missing = {name: reason for name, reason in missing.items() if not weights[name].is_file()}
    if "alexnet" in missing:
        absent["lpips"] = missing["alexnet"]
    if is_real:
        for dialect in DIALECTS:
            for metric, layer in dialect.layers.items():
                if layer.network in missing:
                    absent[f"{dialect.name}/{metric}"] = missing[layer.network]
    return absent


class Embedded(NamedTuple):
    """Pictures, as the CLIP that scores sees them.

    Attributes
    ----------
    stimulus_id : array of shape (n,)
        Stimulus that each is of.
    features : array of shape (n, n_features), float32
        As of `embed`.
    """

    stimulus_id: np.ndarray
    features: np.ndarray


def embed(clip: Clip, images: np.ndarray, device: torch.device, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Embed images with CLIP: embeddings of (n, n_dimensions), and features that also tell what is where.

    Features are embeddings and places of `clip_embeddings_and_places`, side by side, in float32.
    """
    parts = clip_embeddings_and_places(clip, images, device, batch_size)
    return parts[0], np.concatenate(parts, axis=1).astype(np.float32)


class Scorer:
    """Scores pictures against the test stimuli of a subject, whose features it computes once.

    Parameters
    ----------
    config : Config
    stimuli : array of shape (n_stimuli, height, width, 3), uint8
        All test stimuli of a subject.
    device : torch.device

    Attributes
    ----------
    dialects : tuple of two Dialect
        Those of the field, with stand-ins if the configuration says so.
    networks : dict of str to FeatureNetwork
        Those that are on this machine.
    features : array of shape (n, n_features), float32
        CLIP's, of the pictures that were scored last (`embed`).
    """

    def __init__(self, config: Config, stimuli: np.ndarray, device: torch.device) -> None:
        evaluation, models = config.experiment.evaluation, config.experiment.models
        self._size, self._n_way = evaluation.image_size, evaluation.n_way
        self._batch_size = config.execution.batch_size.score
        self._device, hub = device, config.execution.torch_hub
        self._clip = open_clip_model(models.scoring_clip, models.scoring_clip_weights, device)
        self.networks = {"clip": clip_features(self._clip)}
        if evaluation.networks == "scoring_clip":
            require_stand_ins(self._clip)
        adapt = dialects.with_clip_of if evaluation.networks == "imagenet" else dialects.with_stand_ins
        self.dialects = tuple(adapt(dialect, input_size(self._clip)) for dialect in DIALECTS)
        for name in {layer.network for dialect in self.dialects for layer in dialect.layers.values()} - {"clip"}:
            if scoring_weights(hub)[name].is_file():
                self.networks[name] = feature_network(name, hub, device)
        self._lpips = open_lpips(hub, device) if scoring_weights(hub)["alexnet"].is_file() else None
        self.see(stimuli)

    def see(self, stimuli: np.ndarray) -> None:
        """Take other stimuli."""
        self._native = stimuli
        self._stimuli = resize(stimuli, self._size)
        self._embeddings, self.features = embed(self._clip, stimuli, self._device, self._batch_size)
        self._features = [self._features_of(dialect, stimuli) for dialect in self.dialects]

    def score(self, rows: np.ndarray, images: np.ndarray, field: bool = True) -> dict[str, np.ndarray]:
        """Score pictures.

        Parameters
        ----------
        rows : array of shape (n,), int
            Stimulus that each is of.
        images : array of shape (n, height, width, 3), uint8
        field : bool
            Also by the field's eight metrics, in both dialects.

        Returns
        -------
        dict of metric to array of shape (n,)
        """
        resized, stimuli = resize(images, self._size), self._stimuli[rows]
        embeddings, self.features = embed(self._clip, images, self._device, self._batch_size)
        similarity = correlate(embeddings, self._embeddings)  # (n, n_stimuli)
        scores = {
            "pixcorr": pixcorr(stimuli, resized),
            "ssim": ssim(stimuli, resized),
            "clip_similarity": clip_similarity(self._embeddings[rows], embeddings),
            "clip_two_way": identification(similarity, rows, 2),
            "ssim_columns": ssim_columns(stimuli, resized),
            "psnr": psnr(stimuli, resized),
            "clip_top_1": identification(similarity, rows, min(self._n_way, len(self._stimuli))),
        }
        if len(rows) > 1:
            among_own = identification(similarity[:, rows].T, np.arange(len(rows)), 2)
            scores["clip_two_way_of_reconstruction"] = among_own
        if self._lpips is not None:
            scores["lpips"] = lpips(self._lpips, stimuli, resized, self._device, self._batch_size)
        for dialect, seen in zip(self.dialects, self._features, strict=True) if field else ():
            if dialect.through is None and self._size == dialects.PIXELS:  # just what was compared above
                of_dialect = {name: scores[name] for name in ("pixcorr", dialect.ssim)}
            else:
                of_dialect = dialects.pixel_scores(dialect, self._native[rows], images)
            of_dialect.update(dialects.feature_scores(seen, rows, self._features_of(dialect, images)))
            scores.update({f"{dialect.name}/{name}": values for name, values in of_dialect.items()})
        return scores

    def _features_of(self, dialect: dialects.Dialect, images: np.ndarray) -> dict[str, np.ndarray]:
        return dialects.features(dialect, self.networks, images, self._device, self._batch_size)


def score_folder(
    scorer: Scorer, path: Path, test_ids: np.ndarray, field: bool, embedded: list[Embedded] | None = None
) -> dict[str, np.ndarray]:
    """Score the pictures of a system; an image's score is the mean over the system's samples.

    Each sample is scored by itself, against candidates of its own where a metric has such, and is in memory alone.

    Parameters
    ----------
    scorer : Scorer
        That has seen the test stimuli.
    path : Path
        A reconstruction folder.
    test_ids : array of shape (n_test,)
        stimulus_id of these stimuli.
    field : bool
        Also by the field's eight metrics.
    embedded : list of Embedded, optional
        Is given the features of each sample.

    Returns
    -------
    dict of str to array of shape (n,)
        "stimulus_id", and metrics.

    Raises
    ------
    DataError
        The folder has images that are not test images, or its samples are of different images.
    """
    row_of = {stimulus_id: row for row, stimulus_id in enumerate(test_ids)}
    parts = []
    for sample in sample_folders(path):
        ids, images = read(sample)
        if strangers := sorted(set(ids) - set(row_of)):
            raise DataError(f"{sample} has images that are not test images, such as {strangers[0]}")
        rows = np.array([row_of[stimulus_id] for stimulus_id in ids])
        parts.append(pd.DataFrame(scorer.score(rows, images, field), index=ids))
        if embedded is not None:
            embedded.append(Embedded(ids, scorer.features))
    mean = sum(parts[1:], parts[0]) / len(parts)  # by stimulus_id, whatever the order in each sample
    return {"stimulus_id": mean.index.to_numpy(), **{name: mean[name].to_numpy() for name in mean}}


def input_size(clip: Clip) -> int:
    """Pixels of the square pictures that a CLIP takes."""
    size = clip.model.visual.image_size
    return size if isinstance(size, int) else size[0]
