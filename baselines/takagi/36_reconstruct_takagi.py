"""Takagi & Nishimoto (CVPR 2023), second half: pictures from the decoded z and c.

    python baselines/takagi/36_reconstruct_takagi.py [--config configs/miniature.yaml] [--subject subj01]

The decoded z is decoded by the autoencoder to a small picture, which is enlarged and encoded again; what comes of it
goes through image to image with the decoded c. Five samples an image. The form "restored" does so with the z and c
whose variance was restored.

Reads `takagi/decoded/<form>.h5`. Writes `reconstruction/takagi/<form>/`: a picture for each test image and an index,
and inside it `sample_2/` and so on, the same with other noise.
Peak memory: 7.5 GB on a CPU with all of Stable Diffusion, one picture at a time (`execution.batch_size`).
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools

import torch

from baselines.takagi import recipes
from baselines.takagi.pictures import encode_again
from minddiffuser.cli import Run, execute, parse
from minddiffuser.config.takagi import Takagi
from minddiffuser.seeds import torch_generator
from minddiffuser.store import open_made
from reconstruction.folder import ReconstructionFolder, remove_samples, to_uint8
from reconstruction.sampler import draw_noise, open_sampler


def main(argv: list[str] | None = None) -> None:
    """Reconstruct each subject's test images, in each form."""
    run = parse(__doc__, argv)
    forms = recipes.forms(run.config)
    if not forms:
        print("experiment.takagi is null: nothing to do")
    for name, form in forms.items():
        reconstruct(run, name, form)


def reconstruct(run: Run, name: str, form: Takagi) -> None:
    """Reconstruct the test images of all subjects in one form, which has settings of the sampler of its own."""
    experiment, batch_size = run.config.experiment, run.config.execution.batch_size.generate
    open_once = functools.cache(functools.partial(open_sampler, run.config, run.device, form.sampler))
    for subject in run.subjects:
        with open_made(recipes.decoded(run.config, subject, name)) as decoded:
            stimulus_id, z, c = (decoded[key][:] for key in ("stimulus_id", "z", "c"))
        z, c, starts = torch.from_numpy(z), torch.from_numpy(c), {}  # of each batch, the same for all samples
        for sample in range(1, form.n_samples + 1):
            seed, recipe = experiment.seed + sample - 1, recipes.pictures(run.config, subject, name, sample)
            output = ReconstructionFolder(recipe, len(stimulus_id), run.overwrite)
            todo = output.batches_to_do(stimulus_id, batch_size, run.shard)
            if todo:
                sampler = open_once(c.shape[1])
            for rows in output.each(todo, f"{subject} takagi/{name}, sample {sample}"):
                with torch.no_grad():
                    if rows[0] not in starts:
                        draws = [
                            torch_generator(experiment.seed, int(i), "posterior, again") for i in stimulus_id[rows]
                        ]
                        starts[rows[0]] = encode_again(
                            sampler.vae, z[rows].to(run.device), experiment.detail.image_size, form.encoded_range,
                            draws if form.posterior == "sample" else None,
                        )  # fmt: skip
                    start = starts[rows[0]]
                    noise = draw_noise(start.shape[1:], seed, stimulus_id[rows], run.device)
                    images = sampler(start, c[rows].to(run.device), noise)
                output.save(stimulus_id[rows], to_uint8(images), seed)
            output.finish()
        remove_samples(recipes.pictures(run.config, subject, name).path, form.n_samples)


if __name__ == "__main__":
    execute(main)
