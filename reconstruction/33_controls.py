"""Controls: what the pictures are worth without the brain, and with perfect decoding.

    python reconstruction/33_controls.py [--config configs/miniature.yaml] [--subject subj01]

Writes, beside the reconstructions of the method and in the same form:

    control/ceiling     stage 1 from the true z and c of each test image: all that decoding could give
    control/shuffled    stage 1 from the z and c decoded from the voxels of another test image: the floor
    control/mean_image  the mean of the training images, for every test image

A decoder works row by row, so that decoding shuffled voxels is shuffling what was decoded.
"""

import numpy as np
import torch
from tqdm import tqdm

from data.nsd import Stimuli
from feature_extraction.latents import to_model_range
from minddiffuser.cli import execute, parse
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import check_same_rows, open_arrays
from reconstruction.folder import ReconstructionFolder, to_uint8
from reconstruction.sampler import draw_noise, open_sampler

SCRIPTS = {
    "features": ("feature_extraction/12_detail.py", "feature_extraction/11_semantic.py"),
    "decoded": ("feature_decoding/23_detail.py", "feature_decoding/22_semantic.py"),
}


def main(argv: list[str] | None = None) -> None:
    """Make the controls of each subject."""
    run = parse(__doc__, argv)
    experiment, batch_size = run.config.experiment, run.config.execution.batch_size
    settings = {"seed": experiment.seed, **experiment.model_dump(include={"sampler", "models"})}
    for subject in run.subjects:
        folder = run.config.folder(subject)
        arrays, inputs = {}, {}
        for kind, (script_z, script_c) in SCRIPTS.items():
            with (
                open_arrays(folder / kind / "detail.h5", script_z, subject) as detail,
                open_arrays(folder / kind / "semantic.h5", script_c, subject) as semantic,
            ):
                check_same_rows(detail, semantic)
                arrays[kind] = (
                    detail["nsd_id"][:],
                    torch.from_numpy(detail["z"][:]),
                    torch.from_numpy(semantic["c"][:]),
                )
                inputs[kind] = {"z": detail.attrs["fingerprint"], "c": semantic.attrs["fingerprint"]}
        ids, z, c = arrays["decoded"]
        n_test = len(ids)
        order = numpy_generator(experiment.seed, "shuffled").permutation(n_test)
        other = np.empty(n_test, dtype=np.int64)
        other[order] = np.roll(order, 1)  # a cycle: no image keeps its own voxels
        systems = {
            "ceiling": (arrays["features"][1][:n_test], arrays["features"][2][:n_test], inputs["features"]),
            "shuffled": (z[other], c[other], inputs["decoded"]),
        }
        sampler = None
        for name, (z_used, c_used, used) in systems.items():
            path = folder / "reconstruction" / "control" / name
            output = ReconstructionFolder(path, subject, settings, used, run.overwrite)
            for rows in tqdm(list(output.batches_to_do(ids, batch_size, run.shard)), desc=f"{subject} {name}"):
                sampler = sampler or open_sampler(run.config, run.device)
                noise = draw_noise(z.shape[1:], experiment.seed, ids[rows], run.device)
                with torch.no_grad():
                    images = sampler(z_used[rows].to(run.device), c_used[rows].to(run.device), noise)
                output.save(ids[rows], to_uint8(images), experiment.seed)
            output.write_index()

        path = folder / "reconstruction" / "control" / "mean_image"
        training = {"training images": len(arrays["features"][0]) - n_test}
        output = ReconstructionFolder(path, subject, training, inputs["features"], run.overwrite)
        for rows in output.batches_to_do(ids, n_test, run.shard):
            stimuli, train_ids = Stimuli(run.config.nsd), arrays["features"][0][n_test:]
            total = torch.zeros(3, experiment.detail.image_size, experiment.detail.image_size)
            for start in range(0, len(train_ids), 256):
                images = stimuli.read(train_ids[start : start + 256])
                total += (to_model_range(images, experiment.detail.image_size) / 2 + 0.5).sum(dim=0)
            mean = to_uint8((total / len(train_ids))[None])
            output.save(ids[rows], mean.repeat(n_test, axis=0), experiment.seed)
        output.write_index()
        print(f"{path.parent}: ceiling, shuffled and mean_image of {n_test} test images")


if __name__ == "__main__":
    execute(main)
