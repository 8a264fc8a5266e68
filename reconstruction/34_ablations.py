"""Ablations of stage 2: without the decoded z, without the decoded c (paper, Table 2), and without descent or targets.

    python reconstruction/34_ablations.py [--config configs/miniature.yaml] [--subject subj01]

Reads what 32_stage2.py reads. Writes, in the same form, under `reconstruction/ablation/`:

    without_z, without_c    stage 2 from random latents, or a random embedding, standard normal, of each image's own
    best_of_k               the best by stage 2's loss of as many noises as stage 2 has iterations: what looking at the
                            loss gives without descending it, for as many U-Net calls forward, and none backward
    other_targets           stage 2 with the decoded Z_CLIP of another test image: what descending any loss gives
    restored_other_targets  the same of `restored_stage2`, where that is made

What remains without CLIP's guidance is stage 1. They are of the first `experiment.controls.n_ablated` images that
stage 2 refines: of all of them each would take the time of 32_stage2.py.

Peak memory: 12 GB on a CPU with all of Stable Diffusion, for one picture.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools
from dataclasses import replace

import torch

from minddiffuser.cli import execute, parse
from minddiffuser.seeds import torch_generator
from reconstruction import recipes
from reconstruction.controls import other_images
from reconstruction.refining import Decoded, open_models, read_decoded, refine_images


def main(argv: list[str] | None = None) -> None:
    """Refine each subject's first test images, each time without a part of the method."""
    run = parse(__doc__, argv)
    config, experiment = run.config, run.config.experiment
    seed, models = experiment.seed, functools.cache(lambda: open_models(run))
    for subject in run.subjects:
        decoded, guidance = read_decoded(config, subject, experiment.guidance), experiment.guidance
        n = recipes.n_wanted(config, "ablation/without_z", len(decoded.stimulus_id))
        for left_out, target in (("z", decoded.z[:n]), ("c", decoded.c[:n])):
            draws = [torch_generator(seed, int(i), f"without {left_out}") for i in decoded.stimulus_id[:n]]
            random = torch.stack([torch.randn(target.shape[1:], generator=draw) for draw in draws])
            changed = replace(decoded.of(n), **{left_out: random})
            refine_images(run, changed, recipes.ablation(config, subject, f"without_{left_out}"), models, guidance)
        best = recipes.ablation(config, subject, "best_of_k")
        refine_images(run, decoded.of(n), best, models, guidance, among_noises=True)
        other = recipes.ablation(config, subject, "other_targets")
        refine_images(run, with_other_targets(decoded, seed).of(n), other, models, guidance)
        if experiment.decoding.restore_variance == "train" and experiment.restored.stage2:
            guidance = experiment.restored.guidance
            restored = with_other_targets(read_decoded(config, subject, guidance, is_restored=True), seed)
            other = recipes.ablation(config, subject, "restored_other_targets")
            refine_images(run, restored.of(n), other, models, guidance)


def with_other_targets(decoded: Decoded, seed: int) -> Decoded:
    """Give each image the targets of another test image."""
    return replace(decoded, targets=decoded.targets.of(other_images(len(decoded.stimulus_id), seed)))


if __name__ == "__main__":
    execute(main)
