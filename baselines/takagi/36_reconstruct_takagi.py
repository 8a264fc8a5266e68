"""Takagi & Nishimoto (CVPR 2023), second half: pictures from the decoded z and c.

    python baselines/takagi/36_reconstruct_takagi.py [--config configs/miniature.yaml] [--subject subj01]

The decoded z is decoded by the autoencoder to a small picture, which is enlarged and encoded again; what comes of it
goes through image to image with the decoded c. Five samples an image.

Reads `takagi/decoded/<form>.h5`. Writes `reconstruction/takagi/<form>/`: a picture for each test image and an index,
and inside it `sample_2/` and so on, the same with other noise. Peak memory: that of 31_stage1.py.
"""

import shutil

import torch
from tqdm import tqdm

from baselines.takagi.pictures import encode_again
from minddiffuser.cli import execute, parse
from minddiffuser.config import takagi_form
from minddiffuser.seeds import torch_generator
from minddiffuser.store import open_arrays
from reconstruction.folder import TEST_STATISTICS, ReconstructionFolder, to_uint8
from reconstruction.sampler import draw_noise, open_sampler


def main(argv: list[str] | None = None) -> None:
    """Reconstruct each subject's test images, in each form."""
    run = parse(__doc__, argv)
    experiment, batch_size = run.config.experiment, run.config.execution.batch_size
    if experiment.takagi is None:
        print("experiment.takagi is null: nothing to do")
        return
    forms = {name: takagi_form(experiment, experiment.takagi, name) for name in experiment.takagi.forms}
    for subject in run.subjects:
        for name, form in forms.items():
            path = run.config.folder(subject) / "takagi" / "decoded" / f"{name}.h5"
            with open_arrays(path, f"baselines/takagi/35_decode_takagi.py --subject {subject}", subject) as decoded:
                nsd_id, z, c = (
                    decoded["nsd_id"][:],
                    torch.from_numpy(decoded["z"][:]),
                    torch.from_numpy(decoded["c"][:]),
                )
                inputs = {"decoded": decoded.attrs["fingerprint"]}
            settings = {
                **form.model_dump(mode="json", include={"sampler", "encoded_range", "posterior"}),
                **experiment.model_dump(mode="json", include={"models"}),
                "image_size": experiment.detail.image_size,
            }
            flags = [TEST_STATISTICS] if form.decoder == "voxel_selection" and form.test_scaling == "test" else []
            sampler, starts = None, {}  # of each batch, the same for all samples
            for sample in range(1, form.n_samples + 1):
                seed = experiment.seed + sample - 1
                place = run.config.folder(subject) / "reconstruction" / "takagi" / name
                output = ReconstructionFolder(
                    place if sample == 1 else place / f"sample_{sample}",
                    subject, {"seed": seed, **settings}, inputs, run.overwrite, flags,
                )  # fmt: skip
                todo = list(output.batches_to_do(nsd_id, batch_size, run.shard))
                for rows in tqdm(todo, desc=f"{subject} takagi/{name}, sample {sample}"):
                    sampler = sampler or open_sampler(run.config, run.device, form.sampler, c.shape[1])
                    with torch.no_grad():
                        if rows[0] not in starts:
                            draws = [torch_generator(experiment.seed, int(i), "posterior, again") for i in nsd_id[rows]]
                            starts[rows[0]] = encode_again(
                                sampler.vae, z[rows].to(run.device), experiment.detail.image_size, form.encoded_range,
                                draws if form.posterior == "sample" else None,
                            )  # fmt: skip
                        start = starts[rows[0]]
                        noise = draw_noise(start.shape[1:], seed, nsd_id[rows], run.device)
                        images = sampler(start, c[rows].to(run.device), noise)
                    output.save(nsd_id[rows], to_uint8(images), seed)
                output.write_index()
            for path in place.glob("sample_*"):  # of a time when more were asked for: an image's score is the mean
                if int(path.name.removeprefix("sample_")) > form.n_samples:
                    shutil.rmtree(path)
            print(f"{place}: {len(nsd_id)} test images, {form.n_samples} of each")


if __name__ == "__main__":
    execute(main)
