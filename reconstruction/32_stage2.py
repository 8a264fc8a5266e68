"""Stage 2: refine z and c so that the picture's CLIP features match the decoded ones (paper, algorithm 1).

    python reconstruction/32_stage2.py [--config configs/miniature.yaml] [--subject subj01]

Reads `decoded/detail.h5`, `decoded/semantic.h5` and `decoded/structural.h5`. Writes
`reconstruction/minddiffuser/stage2/`: a picture for each of the first `experiment.guidance.n_images` test images, an
index, and in `trajectory/` the loss of every iteration and the picture of every `save_every`-th. With each of these
goes what is needed to continue the batch (`state/`): a run that was killed goes on from there, to the same bytes.

By default stage 2 is the paper's descent through the whole sampler. `experiment.guidance.method: in_sampler` steers one
pass of the sampler instead, and `before_sampler` descends through the autoencoder's decoder alone; `gradient_steps`,
`patience` and `experiment.sampler.solver` make a descent cheaper. docs/frontier.md has what each costs and gives.

With `decoding.restore_variance: train` it also writes, in the same form and from `decoded/restored/`,
`reconstruction/minddiffuser/best_of_k/`: for each image the best by `experiment.restored.guidance.loss` of as many
noises as that has iterations; and, with `restored.stage2`, `restored_stage2/`, which descends that loss.

Peak memory: 11 GB on a CPU with all of Stable Diffusion, for one picture: the weights, and gradients of one
denoising step, of one block of the decoder, and of CLIP (`execution.checkpoint_steps`). If it does not suffice lower
`execution.batch_size.refine`.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools

from minddiffuser.cli import execute, parse
from reconstruction import recipes
from reconstruction.refining import open_models, read_decoded, refine_images


def main(argv: list[str] | None = None) -> None:
    """Refine each subject's first test images."""
    run = parse(__doc__, argv)
    config, models = run.config, functools.cache(lambda: open_models(run))
    guidance, ours = config.experiment.guidance, config.experiment.restored
    for subject in run.subjects:
        decoded = read_decoded(config, subject, guidance)
        n = guidance.n_images or len(decoded.stimulus_id)
        refine_images(run, decoded.of(n), recipes.stage2(config, subject), models, guidance)
        if config.experiment.decoding.restore_variance == "train":
            restored = read_decoded(config, subject, ours.guidance, is_restored=True)
            n = ours.guidance.n_images or len(restored.stimulus_id)
            best, descended = recipes.best_of_k(config, subject), recipes.restored_stage2(config, subject)
            refine_images(run, restored.of(n), best, models, ours.guidance, among_noises=True)
            if ours.stage2:
                refine_images(run, restored.of(n), descended, models, ours.guidance)


if __name__ == "__main__":
    execute(main)
