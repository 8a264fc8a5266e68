"""Stage 1: reconstruct test images from the decoded z and c (stage 1 of the paper's algorithm 1).

    python reconstruction/31_stage1.py [--config configs/miniature.yaml] [--subject subj01]

Reads `decoded/detail.h5` and `decoded/semantic.h5`. Writes `reconstruction/minddiffuser/stage1/`: a picture for each
test image, and an index. Each image has its own noise, so that batches, shards and restarts do not change it.
With `decoding.restore_variance: train` it also writes `reconstruction/minddiffuser/restored/`, the same from
`decoded/restored/`.

Peak memory: 7 GB on a CPU with all of Stable Diffusion, one picture at a time (`execution.batch_size`).
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools
import itertools

import torch

from feature_decoding.recipes import decoded, restored
from minddiffuser.cli import execute, parse
from minddiffuser.store import open_made
from reconstruction import recipes
from reconstruction.folder import ReconstructionFolder, to_uint8
from reconstruction.sampler import draw_noise, open_sampler


def main(argv: list[str] | None = None) -> None:
    """Reconstruct each subject's test images."""
    run = parse(__doc__, argv)
    config, batch_size = run.config, run.config.execution.batch_size.generate
    seed, open_once = config.experiment.seed, functools.cache(lambda: open_sampler(config, run.device))
    forms = [(decoded, recipes.stage1)]
    if config.experiment.decoding.restore_variance == "train":
        forms.append((restored, recipes.restored))
    for subject, (source, recipe) in itertools.product(run.subjects, forms):
        with (
            open_made(source(config, subject, "detail")) as detail,
            open_made(source(config, subject, "semantic")) as semantic,
        ):
            stimulus_id, z, c = (
                detail["stimulus_id"][:],
                torch.from_numpy(detail["z"][:]),
                torch.from_numpy(semantic["c"][:]),
            )
        output = ReconstructionFolder(recipe(config, subject), len(stimulus_id), run.overwrite)
        todo = output.batches_to_do(stimulus_id, batch_size, run.shard)
        if todo:
            sampler = open_once()
        for rows in output.each(todo, f"{subject} {output.path.name}"):
            noise = draw_noise(z.shape[1:], seed, stimulus_id[rows], run.device)
            with torch.no_grad():
                images = sampler(z[rows].to(run.device), c[rows].to(run.device), noise)
            output.save(stimulus_id[rows], to_uint8(images), seed)
        output.finish()


if __name__ == "__main__":
    execute(main)
