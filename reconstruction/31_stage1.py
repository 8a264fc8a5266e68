"""Stage 1: reconstruct test images from the decoded z and c (specification section 5.2).

    python reconstruction/31_stage1.py [--config configs/miniature.yaml] [--subject subj01]

Reads `decoded/detail.h5` and `decoded/semantic.h5`. Writes `reconstruction/minddiffuser/stage1/`: a picture for each
test image, and an index. Each image has its own noise, so that batches, shards and restarts do not change it.

Peak memory: 7 GB on a CPU with all of Stable Diffusion, one picture at a time (`execution.batch_size`).
"""

import functools

import torch

from feature_decoding.recipes import decoded
from minddiffuser.cli import execute, parse
from minddiffuser.store import open_made
from reconstruction import recipes
from reconstruction.folder import ReconstructionFolder, to_uint8
from reconstruction.sampler import draw_noise, open_sampler


def main(argv: list[str] | None = None) -> None:
    """Reconstruct each subject's test images."""
    run = parse(__doc__, argv)
    seed, batch_size = run.config.experiment.seed, run.config.execution.batch_size.generate
    open_once = functools.cache(lambda: open_sampler(run.config, run.device))
    for subject in run.subjects:
        with (
            open_made(decoded(run.config, subject, "detail")) as detail,
            open_made(decoded(run.config, subject, "semantic")) as semantic,
        ):
            nsd_id, z, c = detail["nsd_id"][:], torch.from_numpy(detail["z"][:]), torch.from_numpy(semantic["c"][:])
        output = ReconstructionFolder(recipes.stage1(run.config, subject), len(nsd_id), run.overwrite)
        todo = output.batches_to_do(nsd_id, batch_size, run.shard)
        if todo:
            sampler = open_once()
        for rows in output.each(todo, f"{subject} stage 1"):
            noise = draw_noise(z.shape[1:], seed, nsd_id[rows], run.device)
            with torch.no_grad():
                images = sampler(z[rows].to(run.device), c[rows].to(run.device), noise)
            output.save(nsd_id[rows], to_uint8(images), seed)
        output.finish()


if __name__ == "__main__":
    execute(main)
