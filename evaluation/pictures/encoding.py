"""An encoding model: the response of each voxel to a picture, predicted from CLIP's features of the picture.

For each voxel v, ridge regression on the standardised features X of the training images,

    w_v, b_v = argmin || X w + b - y_v ||^2 + alpha_v ||w||^2

alpha_v is that of `ALPHAS` with the least squared error in leave-one-out cross-validation on the training images. The
CLIP is the one that scores, which guides no reconstruction. No test image is used. The features are CLIP's embedding,
which tells what is in a picture, and numbers from the middle of the network that tell what is where in it
(`clip_embeddings_and_places`): without them voxels of early visual areas are hardly predicted.

Reference: scikit-learn's RidgeCV; Naselaris et al. (2011), Encoding and decoding in fMRI, NeuroImage 56.
"""

import functools
from typing import NamedTuple

import numpy as np

from data import nsd
from data.recipes import prepared
from evaluation.metrics.features import GRID, N_PLACES
from evaluation.metrics.scorer import embed
from feature_decoding.ridge import Scaler
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.pretrained.clip import Clip, open_clip_model
from minddiffuser.progress import progress
from minddiffuser.recipe import Recipe, pick
from minddiffuser.store import Artifact, open_made

SCRIPT = "evaluation/41_score.py"
ALPHAS = tuple(float(alpha) for alpha in np.logspace(1, 7, 7))  # of standardised features
_ROUNDING = 1e-3  # of the deviation of a feature
_ROWS_PER_PART = 1024
_VOXELS_AT_ONCE = 2048


class Encoder(NamedTuple):
    """Regression of voxels on features.

    Attributes
    ----------
    scaler : Scaler
        Of the features of the training images, (n_features,).
    weights : array of shape (n_features, n_voxels), float32
    intercept : array of shape (n_voxels,), float32
        In the units of the betas, as the weights.
    alpha : array of shape (n_voxels,), float64
    """

    scaler: Scaler
    weights: np.ndarray
    intercept: np.ndarray
    alpha: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predict betas of (n_images, n_voxels) from features of (n_images, n_features).

        Pictures that are all the same, such as grey, get the same betas, though their features differ by rounding.
        """
        if (np.ptp(features, axis=0) < _ROUNDING * self.scaler.std).all():
            features = np.broadcast_to(features[:1], features.shape)
        return self.scaler.apply(features) @ self.weights + self.intercept


def features(config: Config, subject: str) -> Recipe:
    """Recipe of the features of all images by the CLIP that scores, `encoding/features.h5`."""
    settings = pick(config.experiment, "models.scoring_clip", "models.scoring_clip_weights")
    settings |= {"encoder.grid": GRID, "encoder.n_places": N_PLACES}
    inputs = (prepared(config, subject),)
    return Recipe(config.folder(subject), "encoding/features.h5", subject, SCRIPT, settings, inputs, "all")


def encoder(config: Config, subject: str) -> Recipe:
    """Recipe of the encoding model, `encoding/encoder.h5`."""
    settings, inputs = {"encoder.alphas": list(ALPHAS)}, (features(config, subject),)
    return Recipe(config.folder(subject), "encoding/encoder.h5", subject, SCRIPT, settings, inputs)


def open_scoring_clip(run: Run) -> Clip:
    """Open the CLIP that scores."""
    models = run.config.experiment.models
    return open_clip_model(models.scoring_clip, models.scoring_clip_weights, run.device)


def fit(X: np.ndarray, Y: np.ndarray) -> Encoder:
    """Fit the encoding model.

    Parameters
    ----------
    X : array of shape (n_images, n_features)
        Features of the training images.
    Y : array of shape (n_images, n_voxels)
        Their betas.

    Raises
    ------
    ValueError
        X and Y have different numbers of rows, or values that are not finite.
    """
    from sklearn.linear_model import RidgeCV  # here, for it takes a second to import, and is mostly not needed

    scaler, n_voxels = Scaler.of(X), Y.shape[1]
    scaled, weights = scaler.apply(X), np.empty((X.shape[1], n_voxels), np.float32)
    intercept, alpha = np.empty(n_voxels, np.float32), np.empty(n_voxels)
    for start in range(0, n_voxels, _VOXELS_AT_ONCE):
        here = slice(start, start + _VOXELS_AT_ONCE)
        found = RidgeCV(ALPHAS, alpha_per_target=True).fit(scaled, Y[:, here].astype(np.float64))
        weights[:, here] = found.coef_.reshape(-1, X.shape[1]).T  # of one voxel it is flat
        intercept[here], alpha[here] = found.intercept_, found.alpha_
    return Encoder(scaler, weights, intercept, alpha)


def make(run: Run, subject: str) -> None:
    """Embed a subject's images and fit the encoding model, unless both are there.

    Peak memory at the real size: 2 GB, for the betas of the training images and some regressions at a time.

    Raises
    ------
    DataError
        Either is there, but was made with other settings.
    """
    embedded, fitted = Artifact(features(run.config, subject)), Artifact(encoder(run.config, subject))
    if not embedded.is_done(run.overwrite):
        _embed(run, subject, embedded)
    if fitted.is_done(run.overwrite):
        return
    with open_made(embedded.recipe) as images, open_made(prepared(run.config, subject)) as rows:
        n_test = int(rows["is_test"][:].sum())  # test images come first
        found = fit(images["features"][n_test:], rows["betas"][n_test:])
    arrays = {"mean": found.scaler.mean, "std": found.scaler.std}
    fitted.write({**arrays, "weights": found.weights, "intercept": found.intercept, "alpha": found.alpha})


def _embed(run: Run, subject: str, artifact: Artifact) -> None:
    """Embed all images of a subject, in parts that survive a kill."""
    with open_made(prepared(run.config, subject)) as rows:
        stimulus_id = rows["stimulus_id"][:]
    stimuli, open_clip = nsd.Stimuli(run.config.nsd), functools.cache(lambda: open_scoring_clip(run))
    batch = run.config.execution.batch_size.score
    for number, part in artifact.parts_to_do(len(stimulus_id), _ROWS_PER_PART):
        found = []
        for start in progress(range(part.start, part.stop, batch), desc=f"{subject} features of CLIP, part {number}"):
            images = stimuli.read(stimulus_id[start : min(start + batch, part.stop)])
            found.append(embed(open_clip(), images, run.device, batch)[1])
        artifact.write_part(number, {"features": np.concatenate(found), "stimulus_id": stimulus_id[part]})
    artifact.join(len(stimulus_id), _ROWS_PER_PART)


def read(config: Config, subject: str) -> Encoder:
    """Read the encoding model that `make` has made."""
    with open_made(encoder(config, subject)) as file:
        scaler = Scaler(file["mean"][:], file["std"][:])
        return Encoder(scaler, file["weights"][:], file["intercept"][:], file["alpha"][:])
