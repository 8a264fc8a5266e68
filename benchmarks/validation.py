"""What benchmarks share that try settings on validation images: training images held out; no test image is read.

`experiment.data.validation_rows` makes the last training images stand in for the test images, which are left out. So
the stage scripts decode them as they would decode test images, in `runs/miniature_validation/`.
"""

import subprocess
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from data.nsd import Stimuli
from evaluation.metrics import features
from evaluation.metrics.images import pixcorr, ssim
from evaluation.significance import bootstrap_intervals
from feature_extraction.clip_layers import ClipLayers
from feature_extraction.recipes import features as features_recipe
from minddiffuser.config import REPOSITORY, Config, load
from minddiffuser.config.method import Sampler
from minddiffuser.correlation import correlate
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.store import open_made
from reconstruction.folder import to_uint8
from reconstruction.sampler import ImageToImage, open_sampler

CPU, N_VALIDATION = torch.device("cpu"), 100
METRICS = ("pixcorr", "ssim", "two_way", "clip")
# Noise levels by the timestep that images are noised to; denoising begins there, in as few steps as were found to do.
LEVELS: dict[int, dict[str, Any]] = {
    101: {"n_steps": 10, "noise_index": 1, "denoise_steps": 2},
    251: {"n_steps": 4, "noise_index": 1, "denoise_steps": 2},
    501: {"n_steps": 4, "noise_index": 2, "denoise_steps": 3},
    751: {"n_steps": 4, "noise_index": 3, "denoise_steps": 4},
}
TARGETS = ("data/02_prepare_subject", "feature_extraction/11_semantic", "feature_extraction/12_detail",
           "feature_extraction/13_structural", "feature_decoding/21_select_units")  # fmt: skip
DECODED = ("feature_decoding/22_semantic", "feature_decoding/23_detail", "feature_decoding/24_structural")


def prepare(
    subjects: Sequence[str], scripts: Sequence[str], changes: Sequence[str] = (), name: str = "miniature_validation"
) -> Config:
    """Run scripts on validation images, but for what is done, and give the configuration that they ran with."""
    overrides = [f"name={name}", f"experiment.data.validation_rows={N_VALIDATION}", *changes]
    options = [word for override in overrides for word in ("--set", override)]
    for script in scripts:
        for subject in subjects:
            command = [sys.executable, str(REPOSITORY / f"{script}.py"), "--subject", subject, *options]
            subprocess.run(command, check=True, stdout=sys.stderr)
    return load(REPOSITORY / "configs" / "miniature.yaml", overrides)


def sampler_of(config: Config, settings: Sampler) -> ImageToImage:
    """Open the sampler with other settings."""
    return open_sampler(config, CPU, settings)


def open_encoder(config: Config) -> ClipLayers:
    """Open the CLIP that guides stage 2."""
    models, structural = config.experiment.models, config.experiment.structural
    clip = open_clip_model(models.clip, models.clip_weights, CPU)
    return ClipLayers(clip, structural.layers, structural.normalisation, structural.antialias)


def true_targets(config: Config, subject: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Read the true z and c of the validation images."""
    found = []
    for family, key in (("detail", "z"), ("semantic", "c")):
        with open_made(features_recipe(config, subject, family)) as file:
            found.append(torch.from_numpy(file[key][:N_VALIDATION]))  # validation images come first
    return found[0], found[1]


class Scores:
    """Scores of pictures of a subject's first validation images, each against all of them.

    Parameters
    ----------
    config : Config
    ids : array of shape (n,)
        stimulus_id of the validation images.
    """

    def __init__(self, config: Config, ids: np.ndarray) -> None:
        self.config, self.stimuli = config, Stimuli(config.nsd).read(ids)

    @cached_property
    def _scorer(self):
        models = self.config.experiment.models
        return open_clip_model(models.scoring_clip, models.scoring_clip_weights, CPU)

    @cached_property
    def _seen(self) -> np.ndarray:
        return features.clip_embeddings(self._scorer, self.stimuli, CPU, 50)

    def of(self, images: torch.Tensor) -> np.ndarray:
        """Score pictures (n, 3, height, width) in [0, 1] of the first n images: (n, 4), in the order of `METRICS`."""
        pictures, own = to_uint8(images), np.arange(len(images))
        made = features.clip_embeddings(self._scorer, pictures, CPU, 50)
        two_way = features.identification(correlate(made, self._seen), own, n_way=2)
        likeness = features.clip_similarity(self._seen[own], made)
        return np.stack([pixcorr(self.stimuli[own], pictures), ssim(self.stimuli[own], pictures), two_way, likeness], 1)


def rule(scores: np.ndarray) -> float:
    """Sum PixCorr and two-way identification, by which stage 1's settings are chosen."""
    return float(scores[:, 0].mean() + scores[:, 2].mean())


def interval(
    values: np.ndarray, seed: int = 42, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of columns, and their 95 % bootstrap intervals over images, or over groups of rows."""
    low, high = bootstrap_intervals(values, 5000, seed, groups)
    return values.mean(axis=0), low, high
