"""Stage 2: refine z and c so that the picture's CLIP features match the decoded ones (specification section 5.3).

    python reconstruction/32_stage2.py [--config configs/miniature.yaml] [--subject subj01]

Reads `decoded/detail.h5`, `decoded/semantic.h5` and `decoded/structural.h5`. Writes
`reconstruction/minddiffuser/stage2/`: a picture for each of the first `experiment.guidance.n_images` test images, an
index, and in `trajectory/` the loss of every iteration and the picture of every `save_every`-th. With each of these
goes what is needed to continue the batch (`state/`): a run that was killed goes on from there, to the same bytes.

Memory: gradients of one denoising step, of one block of the decoder, and of CLIP, for a batch
(`execution.checkpoint_steps`). If it does not suffice lower `execution.batch_size`.
"""

import hashlib
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save
from tqdm import tqdm

from feature_extraction.clip_layers import ClipLayers
from minddiffuser.cli import execute, parse
from minddiffuser.config import EMBEDDING, layer_name
from minddiffuser.pretrained import open_clip_model
from minddiffuser.store import Shard, check_same_rows, open_arrays, write_atomically
from reconstruction.folder import ReconstructionFolder, flags, to_uint8, write_png
from reconstruction.guidance import Targets, learning_rate, refine
from reconstruction.sampler import draw_noise, open_sampler


def main(argv: list[str] | None = None) -> None:
    """Refine each subject's first test images."""
    run = parse(__doc__, argv)
    experiment, batch_size = run.config.experiment, run.config.execution.batch_size
    guidance, structural, models = experiment.guidance, experiment.structural, experiment.models
    layers = [layer_name(number) for number in structural.layers]
    settings = {"seed": experiment.seed, **experiment.model_dump(include={"sampler", "models", "structural"})}
    settings["guidance"] = guidance.model_dump(exclude={"n_images"})
    for subject in run.subjects:
        folder = run.config.folder(subject)
        decoded = folder / "decoded"
        with (
            open_arrays(decoded / "detail.h5", "feature_decoding/23_detail.py", subject) as detail,
            open_arrays(decoded / "semantic.h5", "feature_decoding/22_semantic.py", subject) as semantic,
            open_arrays(decoded / "structural.h5", "feature_decoding/24_structural.py", subject) as structure,
        ):
            check_same_rows(detail, semantic)
            check_same_rows(detail, structure)
            nsd_id = detail["nsd_id"][: guidance.n_images]
            z, c = torch.from_numpy(detail["z"][:]), torch.from_numpy(semantic["c"][:])
            features = {
                name: torch.from_numpy(structure[name][:]) for name in [*layers, EMBEDDING] if name in structure
            }
            units = {name: torch.from_numpy(structure[f"{name}_units"][:]).to(run.device) for name in layers}
            files = {"z": detail, "c": semantic, "features": structure}
            inputs = {name: file.attrs["fingerprint"] for name, file in files.items()}
        path = folder / "reconstruction" / "minddiffuser" / "stage2"
        output = ReconstructionFolder(path, subject, settings, inputs, run.overwrite, flags(experiment))
        todo = list(output.batches_to_do(nsd_id, batch_size, run.shard))
        if todo:
            sampler = open_sampler(run.config, run.device)
            clip = open_clip_model(models.clip, models.clip_weights, run.device)
            encoder = ClipLayers(clip, structural.layers, structural.normalisation, structural.antialias)
        for rows in tqdm(todo, desc=f"{subject} stage 2"):
            ids = nsd_id[rows]
            state_path = path / "state" / f"{hashlib.sha256(ids.tobytes()).hexdigest()[:16]}.safetensors"
            here = {name: values[rows].to(run.device) for name, values in features.items()}
            result = refine(
                z[rows].to(run.device),
                c[rows].to(run.device),
                sample=sampler,
                extract=partial(encoder, resize=structural.generated_resize),
                noise=partial(draw_noise, z.shape[1:], experiment.seed, ids, run.device, guidance.noise),
                targets=Targets({name: here[name] for name in layers}, units, here.get(EMBEDDING)),
                settings=guidance,
                state=load_file(state_path) if state_path.exists() else None,
                keep=partial(keep, path, state_path, ids),
            )
            losses, iterations = result.losses.cpu(), result.iteration.cpu()
            rates = [learning_rate(k, guidance) for k in range(len(losses))]
            for column, i in enumerate(ids):
                curve = pd.DataFrame({"loss": losses[:, column], "learning_rate": rates})
                write_atomically(path / "trajectory" / f"{i:05d}.csv", curve.to_csv(index_label="iteration"))
            final = losses.gather(0, iterations[None])[0]
            output.save(ids, to_uint8(result.images), experiment.seed, final.tolist(), iterations.tolist())
            state_path.unlink(missing_ok=True)
        output.write_index()
        if not list(output.batches_to_do(nsd_id, 1, Shard())):
            shutil.rmtree(path / "state", ignore_errors=True)  # of a kill in the last moment, or of other batches
        print(f"{path}: {len(nsd_id)} test images")


def keep(
    path: Path, state_path: Path, ids: np.ndarray, k: int, images: torch.Tensor, state: dict[str, torch.Tensor]
) -> None:
    """Write the pictures of iteration k, and then all that is needed to go on from there after a kill."""
    for i, picture in zip(ids, to_uint8(images), strict=True):
        write_png(path / "trajectory" / f"{i:05d}" / f"{k:04d}.png", picture)
    write_atomically(state_path, save(state))


if __name__ == "__main__":
    execute(main)
