"""Extract the detail target z: latents of the stimuli (specification section 2.2).

    python feature_extraction/12_detail.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5` (which images), the stimuli and the autoencoder. Writes `features/detail.h5`:

    z       (n_images, 4, height, width) float32  posterior mean (or a sample of it), times the model's factor
    nsd_id  (n_images,)

Peak memory: 256 images and one batch through the autoencoder.
"""

import numpy as np
import torch
from tqdm import tqdm

from data.nsd import Stimuli
from feature_extraction.latents import encode, to_model_range
from minddiffuser.cli import execute, parse
from minddiffuser.pretrained import open_vae
from minddiffuser.seeds import torch_generator
from minddiffuser.store import Artifact, open_arrays

ROWS_PER_PART = 256


def main(argv: list[str] | None = None) -> None:
    """Extract z for each subject's images."""
    run = parse(__doc__, argv)
    experiment = run.config.experiment
    models, detail = experiment.models, experiment.detail
    settings = {"detail": detail.model_dump(), "model": [models.stable_diffusion, models.stable_diffusion_revision]}
    shape = (4, detail.image_size // 8, detail.image_size // 8)
    for subject in run.subjects:
        folder = run.config.folder(subject)
        with open_arrays(folder / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
            nsd_id = prepared["nsd_id"][:]
        artifact = Artifact(folder / "features" / "detail.h5", subject, settings, [folder / "prepared.h5"])
        if artifact.is_done(run.overwrite):
            print(f"{artifact.path} is there already")
            continue
        stimuli = Stimuli(run.config.nsd)
        batch = run.config.execution.batch_size
        vae = open_vae(models.stable_diffusion, models.stable_diffusion_revision, run.device)
        for number, rows in artifact.parts_to_do(len(nsd_id), ROWS_PER_PART, run.shard):
            latents = []
            for start in tqdm(range(rows.start, rows.stop, batch), desc=f"{subject} latents, part {number}"):
                ids = nsd_id[start : min(start + batch, rows.stop)]
                pixels = to_model_range(stimuli.read(ids), detail.image_size).to(run.device)
                noise = None
                if detail.posterior == "sample":
                    generators = [torch_generator(experiment.seed, int(i), "posterior") for i in ids]
                    noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(run.device)
                with torch.no_grad():
                    latents.append(encode(vae, pixels, noise).cpu().numpy())
            artifact.write_part(number, {"z": np.concatenate(latents), "nsd_id": nsd_id[rows]})
        if artifact.has_all_parts(len(nsd_id), ROWS_PER_PART):
            artifact.join(len(nsd_id), {})
            print(f"wrote {artifact.path}")


if __name__ == "__main__":
    execute(main)
