"""Extract the structural target Z_CLIP: low-level CLIP features of the stimuli (paper, algorithm 1).

    python feature_extraction/13_structural.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5` (which images), the stimuli and the guiding CLIP. Writes `features/structural.h5`:

    linear_02 ... linear_12  (n_images, n_tokens, width) float32  MLP outputs, class token first
    embedding                (n_images, dimensions) float32
    stimulus_id              (n_images,)

At the real size (50 x 768 in six layers, 9,841 images) the file has 9 GB.
Peak memory: 2.2 GB, for one part of 256 images, one at a time (`execution.batch_size.encode`).
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools

import numpy as np
import torch

from data.nsd import Stimuli
from data.recipes import prepared
from feature_extraction.clip_layers import ClipLayers
from feature_extraction.recipes import features
from minddiffuser.cli import execute, parse
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.progress import progress
from minddiffuser.store import Artifact, open_made

ROWS_PER_PART = 256


def main(argv: list[str] | None = None) -> None:
    """Extract Z_CLIP for each subject's images."""
    run = parse(__doc__, argv)
    models, structural = run.config.experiment.models, run.config.experiment.structural
    batch = run.config.execution.batch_size.encode
    open_encoder = functools.cache(
        lambda: ClipLayers(
            open_clip_model(models.clip, models.clip_weights, run.device),
            structural.layers, structural.normalisation, structural.antialias,
        )
    )  # fmt: skip
    for subject in run.subjects:
        with open_made(prepared(run.config, subject)) as rows_of:
            stimulus_id = rows_of["stimulus_id"][:]
        artifact = Artifact(features(run.config, subject, "structural"))
        if artifact.is_done(run.overwrite):
            print(f"{artifact.path} is there already")
            continue
        stimuli = Stimuli(run.config.nsd)
        for number, rows in artifact.parts_to_do(len(stimulus_id), ROWS_PER_PART, run.shard):
            encoder, found = open_encoder(), []
            for start in progress(range(rows.start, rows.stop, batch), desc=f"{subject} CLIP, part {number}"):
                images = stimuli.read(stimulus_id[start : min(start + batch, rows.stop)])
                pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().to(run.device) / 255
                with torch.no_grad():
                    found.append({k: v.cpu().numpy() for k, v in encoder(pixels, structural.stimulus_resize).items()})
            layers = {name: np.concatenate([of_batch[name] for of_batch in found]) for name in found[0]}
            artifact.write_part(number, {**layers, "stimulus_id": stimulus_id[rows]})
        if artifact.join(len(stimulus_id), ROWS_PER_PART):
            print(f"{artifact.path}: {len(stimulus_id)} images")


if __name__ == "__main__":
    execute(main)
