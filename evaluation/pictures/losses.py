"""Can descending the loss of stage 2 help? Its value for stage 1's picture, for the result, and for the stimulus.

Stage 2 makes the loss smaller than it is for stage 1's picture. Where the true stimulus has a larger loss than that
picture, the decoded targets point away from the stimulus, and descending leads away from it too. The stimulus is looked
at here, and nowhere in the method.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from evaluation.pictures.catalogue import BEST_OF_K, RESTORED_STAGE2, STAGE1, STAGE2
from evaluation.scores import place_of
from feature_decoding.recipes import decoded as decoded_recipe
from feature_extraction.clip_layers import ClipLayers
from feature_extraction.recipes import features
from minddiffuser.config import Config
from minddiffuser.config.method import EMBEDDING, Guidance
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.store import open_made
from reconstruction import folder
from reconstruction.guidance import Targets, feature_loss
from reconstruction.refining import read_decoded

_AT_ONCE = 64
OURS = (BEST_OF_K, RESTORED_STAGE2)
ABLATED_BEST_OF_K = "ablation/best_of_k"
DESCENDED = (STAGE2, ABLATED_BEST_OF_K, *OURS)  # systems with the loss of stage 1's picture and of the result


def score_losses(config: Config, subject: str, name: str, device: torch.device) -> dict[str, np.ndarray]:
    """Measure the loss of a system that looks at it, or of stage 1, for each of its images.

    Returns
    -------
    dict of str to array of shape (n,)
        "stimulus_id", "loss_stage1", "loss_result" (not of stage 1), "loss_truth", and "truth_is_lower": 1 where the
        true stimulus has a lower loss than stage 1's picture. Of stage 1 the loss is that of stage 2, without its
        latents. Without "loss_stage1" and "truth_is_lower" where stage 2 does not begin with stage 1's picture
        (`guidance.method`). Empty of other systems, and before Z_CLIP is decoded.
    """
    experiment, path = config.experiment, place_of(config, subject, name)
    if name not in (STAGE1, *DESCENDED) or not decoded_recipe(config, subject, "structural").path.is_file():
        return {}
    guidance = experiment.restored.guidance if name in OURS else experiment.guidance
    if name == STAGE1:
        guidance = guidance.model_copy(update={"latent_weight": 0.0})
    decoded = read_decoded(config, subject, guidance, is_restored=name in OURS)
    index = folder.read_index(path)
    row_of = {stimulus_id: row for row, stimulus_id in enumerate(decoded.stimulus_id.tolist())}
    rows = np.array([row_of[stimulus_id] for stimulus_id in index["stimulus_id"]])
    found = {"stimulus_id": index["stimulus_id"].to_numpy()}
    if name == STAGE1:
        found["loss_stage1"] = _loss_of_pictures(config, subject, decoded.targets.of(rows), guidance, device)
    else:
        ways = [
            pd.read_csv(path / "trajectory" / f"{stimulus_id:05d}.csv")["loss"] for stimulus_id in index["stimulus_id"]
        ]
        found["loss_result"] = index["loss"].to_numpy()
        if guidance.method == "descent" or name in (BEST_OF_K, ABLATED_BEST_OF_K):
            found["loss_stage1"] = np.array([way[0] for way in ways])
    found["loss_truth"] = _loss_of_stimuli(config, subject, decoded.targets, guidance, rows)
    if "loss_stage1" in found:
        found["truth_is_lower"] = (found["loss_truth"] < found["loss_stage1"]).astype(float)
    return found


def _loss_of_stimuli(
    config: Config, subject: str, targets: Targets, guidance: Guidance, rows: np.ndarray
) -> np.ndarray:
    """Loss of the true features, which are stored: (n_rows,)."""
    with (
        open_made(features(config, subject, "structural")) as file,
        open_made(features(config, subject, "detail")) as detail,
    ):

        def read(part: np.ndarray) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
            here, of_part = slice(part.min(), part.max() + 1), part - part.min()
            true = {name: torch.from_numpy(file[name][here][of_part]) for name in (*targets.values, EMBEDDING)}
            return true, torch.from_numpy(detail["z"][here][of_part])

        return _in_parts(targets, guidance, rows, read)


def _loss_of_pictures(
    config: Config, subject: str, targets: Targets, guidance: Guidance, device: torch.device
) -> np.ndarray:
    """Loss of stage 1's pictures as they are stored, by CLIP: (n_pictures,), in the order of their index."""
    models, structural = config.experiment.models, config.experiment.structural
    clip = open_clip_model(models.clip, models.clip_weights, device)
    encoder = ClipLayers(clip, structural.layers, structural.normalisation, structural.antialias)
    _, images = folder.read(place_of(config, subject, STAGE1))

    def read(part: np.ndarray) -> tuple[dict[str, torch.Tensor], None]:
        pixels = torch.from_numpy(images[part]).permute(0, 3, 1, 2).float().div(255).to(device)
        with torch.no_grad():
            made = encoder(pixels, structural.generated_resize)
        return {name: values.cpu() for name, values in made.items()}, None

    return _in_parts(targets, guidance, np.arange(len(images)), read)


def _in_parts(
    targets: Targets,
    guidance: Guidance,
    rows: np.ndarray,
    read: Callable[[np.ndarray], tuple[dict[str, torch.Tensor], torch.Tensor | None]],
) -> np.ndarray:
    """Loss of features that `read` gives, some images at a time."""
    parts = np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE))
    found = []
    for part in parts:
        generated, latents = read(part)
        found.append(feature_loss(generated, targets.of(part), guidance, latents))
    return torch.cat(found).numpy().astype(np.float64)
