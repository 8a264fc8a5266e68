"""Ozcelik et al. (IJCNN 2022), second half: pictures from IC-GAN's generator.

    python baselines/ozcelik/38_reconstruct_ozcelik.py [--config configs/miniature.yaml] [--subject subj01]

Reads `ozcelik/decoded/<form>.h5`. Writes `reconstruction/ozcelik/<form>/`: a picture for each test image, of the
generator's size (256 pixels), and an index.

Peak memory: 2 GB on a CPU, one picture at a time (`execution.batch_size`).
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools

import torch

from baselines.ozcelik import recipes
from baselines.ozcelik.generator import open_generator
from minddiffuser.cli import execute, parse
from minddiffuser.store import open_made
from reconstruction.folder import ReconstructionFolder, to_uint8


def main(argv: list[str] | None = None) -> None:
    """Reconstruct each subject's test images, in each form."""
    run = parse(__doc__, argv)
    settings, batch_size = run.config.experiment.ozcelik, run.config.execution.batch_size.generate
    if settings is None:
        print("experiment.ozcelik is null: nothing to do")
        return
    open_once = functools.cache(lambda: open_generator(settings.generator, run.device))
    for subject in run.subjects:
        for name in recipes.forms(run.config):
            with open_made(recipes.decoded(run.config, subject, name)) as file:
                decoded = {key: torch.from_numpy(values[:]) for key, values in file.items() if key != "stimulus_id"}
                stimulus_id = file["stimulus_id"][:]
            output = ReconstructionFolder(recipes.pictures(run.config, subject, name), len(stimulus_id), run.overwrite)
            todo = output.batches_to_do(stimulus_id, batch_size, run.shard)
            for rows in output.each(todo, f"{subject} ozcelik/{name}"):
                here = {key: values[rows].to(run.device) for key, values in decoded.items()}
                with torch.no_grad():
                    pictures = open_once()(here["noise"], here["features"], here.get("dense"))
                output.save(stimulus_id[rows], to_uint8(pictures / 2 + 0.5), run.config.experiment.seed)
            output.finish()


if __name__ == "__main__":
    execute(main)
