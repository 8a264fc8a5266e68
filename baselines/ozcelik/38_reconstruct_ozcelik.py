"""Ozcelik et al. (IJCNN 2022), second half: pictures from IC-GAN's generator.

    python baselines/ozcelik/38_reconstruct_ozcelik.py [--config configs/miniature.yaml] [--subject subj01]

Reads `ozcelik/decoded/<form>.h5`. Writes `reconstruction/ozcelik/<form>/`: a picture for each test image, of the
generator's size (256 pixels), and an index.
"""

import torch
from tqdm import tqdm

from baselines.ozcelik.generator import open_generator
from minddiffuser.cli import execute, parse
from minddiffuser.config import ozcelik_form
from minddiffuser.store import open_arrays
from reconstruction.folder import TEST_STATISTICS, ReconstructionFolder, to_uint8


def main(argv: list[str] | None = None) -> None:
    """Reconstruct each subject's test images, in each form."""
    run = parse(__doc__, argv)
    experiment, batch_size = run.config.experiment, run.config.execution.batch_size
    settings = experiment.ozcelik
    if settings is None:
        print("experiment.ozcelik is null: nothing to do")
        return
    generator = open_generator(settings.generator, run.device)
    for subject in run.subjects:
        for name in settings.forms:
            form, folder = ozcelik_form(settings, name), run.config.folder(subject)
            path = folder / "ozcelik" / "decoded" / f"{name}.h5"
            with open_arrays(path, "baselines/ozcelik/37_decode_ozcelik.py", subject) as file:
                decoded = {key: torch.from_numpy(values[:]) for key, values in file.items() if key != "nsd_id"}
                nsd_id, inputs = file["nsd_id"][:], {"decoded": file.attrs["fingerprint"]}
            flags = [TEST_STATISTICS] if "test" in (form.restore_variance, form.test_scaling) else []
            output = ReconstructionFolder(
                folder / "reconstruction" / "ozcelik" / name, subject, {"generator": settings.generator}, inputs,
                run.overwrite, flags,
            )  # fmt: skip
            todo = list(output.batches_to_do(nsd_id, batch_size, run.shard))
            for rows in tqdm(todo, desc=f"{subject} ozcelik/{name}"):
                here = {key: values[rows].to(run.device) for key, values in decoded.items()}
                with torch.no_grad():
                    pictures = generator(here["noise"], here["features"], here.get("dense"))
                output.save(nsd_id[rows], to_uint8(pictures / 2 + 0.5), experiment.seed)
            output.write_index()
            print(f"{output.path}: {len(nsd_id)} test images")


if __name__ == "__main__":
    execute(main)
