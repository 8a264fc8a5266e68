"""Ablations: stage 2 without the decoded z, and without the decoded c (paper, Table 2).

    python reconstruction/34_ablations.py [--config configs/miniature.yaml] [--subject subj01]

In place of the decoded latents, or embedding, there are random ones, standard normal, of each image's own; all else is
as in stage 2, so that both are refined from there. What remains without CLIP's guidance is stage 1.

Reads what 32_stage2.py reads. Writes, in the same form, `reconstruction/ablation/without_z/` and
`reconstruction/ablation/without_c/`, of the first `experiment.controls.n_ablated` images that stage 2 refines: of all
of them each would take the time of 32_stage2.py.

Peak memory: 12 GB on a CPU with all of Stable Diffusion, for one picture.
"""

import functools
from dataclasses import replace

import torch

from minddiffuser.cli import execute, parse
from minddiffuser.seeds import torch_generator
from reconstruction import recipes
from reconstruction.refining import open_models, read_decoded, refine_images


def main(argv: list[str] | None = None) -> None:
    """Refine each subject's first test images from random z, and from random c."""
    run = parse(__doc__, argv)
    seed, models = run.config.experiment.seed, functools.cache(lambda: open_models(run))
    for subject in run.subjects:
        decoded = read_decoded(run.config, subject, run.config.experiment.controls.n_ablated)
        for left_out, target in (("z", decoded.z), ("c", decoded.c)):
            draws = [torch_generator(seed, int(i), f"without {left_out}") for i in decoded.nsd_id]
            random = torch.stack([torch.randn(target.shape[1:], generator=draw) for draw in draws])
            changed = replace(decoded, **{left_out: random})
            refine_images(run, changed, recipes.ablation(run.config, subject, left_out), models)


if __name__ == "__main__":
    execute(main)
