"""Stage 2: refine z and c so that the picture's CLIP features match the decoded ones (specification section 5.3).

    python reconstruction/32_stage2.py [--config configs/miniature.yaml] [--subject subj01]

Reads `decoded/detail.h5`, `decoded/semantic.h5` and `decoded/structural.h5`. Writes
`reconstruction/minddiffuser/stage2/`: a picture for each of the first `experiment.guidance.n_images` test images, an
index, and in `trajectory/` the loss of every iteration and the picture of every `save_every`-th. With each of these
goes what is needed to continue the batch (`state/`): a run that was killed goes on from there, to the same bytes.

Peak memory: 11 GB on a CPU with all of Stable Diffusion, for one picture: the weights, and gradients of one
denoising step, of one block of the decoder, and of CLIP (`execution.checkpoint_steps`). If it does not suffice lower
`execution.batch_size.refine`.
"""

import functools

from minddiffuser.cli import execute, parse
from reconstruction import recipes
from reconstruction.refining import open_models, read_decoded, refine_images


def main(argv: list[str] | None = None) -> None:
    """Refine each subject's first test images."""
    run = parse(__doc__, argv)
    models = functools.cache(lambda: open_models(run))
    for subject in run.subjects:
        refine_images(run, read_decoded(run.config, subject), recipes.stage2(run.config, subject), models)


if __name__ == "__main__":
    execute(main)
