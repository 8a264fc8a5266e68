"""Extract the detail target z: latents of the stimuli (the z of the paper's figure 2).

    python feature_extraction/12_detail.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5` (which images), the stimuli and the autoencoder. Writes `features/detail.h5`:

    z            (n_images, 4, height, width) float32  posterior mean (or a sample of it), times the model's factor
    stimulus_id  (n_images,)

Peak memory: 2.4 GB at the real size on a CPU, one picture at a time (`execution.batch_size.encode`).
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools

import numpy as np
import torch

from data.nsd import Stimuli
from data.recipes import prepared
from feature_extraction.latents import encode, to_model_range
from feature_extraction.recipes import features
from minddiffuser.cli import execute, parse
from minddiffuser.pretrained.stable_diffusion import open_vae
from minddiffuser.progress import progress
from minddiffuser.seeds import torch_generator
from minddiffuser.store import Artifact, open_made

ROWS_PER_PART = 256


def main(argv: list[str] | None = None) -> None:
    """Extract z for each subject's images."""
    run = parse(__doc__, argv)
    experiment, batch = run.config.experiment, run.config.execution.batch_size.encode
    models, detail = experiment.models, experiment.detail
    shape = (4, detail.image_size // 8, detail.image_size // 8)
    open_encoder = functools.cache(
        lambda: open_vae(models.stable_diffusion, models.stable_diffusion_revision, run.device)
    )
    for subject in run.subjects:
        with open_made(prepared(run.config, subject)) as rows_of:
            stimulus_id = rows_of["stimulus_id"][:]
        artifact = Artifact(features(run.config, subject, "detail"))
        if artifact.is_done(run.overwrite):
            print(f"{artifact.path} is there already")
            continue
        stimuli = Stimuli(run.config.nsd)
        for number, rows in artifact.parts_to_do(len(stimulus_id), ROWS_PER_PART, run.shard):
            vae, latents = open_encoder(), []
            for start in progress(range(rows.start, rows.stop, batch), desc=f"{subject} latents, part {number}"):
                ids = stimulus_id[start : min(start + batch, rows.stop)]
                pixels = to_model_range(stimuli.read(ids), detail.image_size).to(run.device)
                noise = None
                if detail.posterior == "sample":
                    generators = [torch_generator(experiment.seed, int(i), "posterior") for i in ids]
                    noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(run.device)
                with torch.no_grad():
                    latents.append(encode(vae, pixels, noise).cpu().numpy())
            artifact.write_part(number, {"z": np.concatenate(latents), "stimulus_id": stimulus_id[rows]})
        if artifact.join(len(stimulus_id), ROWS_PER_PART):
            print(f"{artifact.path}: {len(stimulus_id)} images")


if __name__ == "__main__":
    execute(main)
