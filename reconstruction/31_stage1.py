"""Stage 1: reconstruct test images from the decoded z and c (specification section 5.2).

    python reconstruction/31_stage1.py [--config configs/miniature.yaml] [--subject subj01]

Reads `decoded/detail.h5` and `decoded/semantic.h5`. Writes `reconstruction/minddiffuser/stage1/`: a picture for each
test image, and an index. Each image has its own noise, so that batches, shards and restarts do not change it.
"""

import torch
from tqdm import tqdm

from minddiffuser.cli import execute, parse
from minddiffuser.store import check_same_rows, open_arrays
from reconstruction.folder import ReconstructionFolder, flags, to_uint8
from reconstruction.sampler import draw_noise, open_sampler


def main(argv: list[str] | None = None) -> None:
    """Reconstruct each subject's test images."""
    run = parse(__doc__, argv)
    experiment, batch_size = run.config.experiment, run.config.execution.batch_size
    settings = {"seed": experiment.seed, **experiment.model_dump(include={"sampler", "models"})}
    for subject in run.subjects:
        folder = run.config.folder(subject)
        with (
            open_arrays(folder / "decoded" / "detail.h5", "feature_decoding/23_detail.py", subject) as detail,
            open_arrays(folder / "decoded" / "semantic.h5", "feature_decoding/22_semantic.py", subject) as semantic,
        ):
            check_same_rows(detail, semantic)
            nsd_id, z, c = detail["nsd_id"][:], torch.from_numpy(detail["z"][:]), torch.from_numpy(semantic["c"][:])
            inputs = {"z": detail.attrs["fingerprint"], "c": semantic.attrs["fingerprint"]}
        path = folder / "reconstruction" / "minddiffuser" / "stage1"
        output = ReconstructionFolder(path, subject, settings, inputs, run.overwrite, flags(experiment))
        todo = list(output.batches_to_do(nsd_id, batch_size, run.shard))
        if todo:
            sampler = open_sampler(run.config, run.device)
        for rows in tqdm(todo, desc=f"{subject} stage 1"):
            noise = draw_noise(z.shape[1:], experiment.seed, nsd_id[rows], run.device)
            with torch.no_grad():
                images = sampler(z[rows].to(run.device), c[rows].to(run.device), noise)
            output.save(nsd_id[rows], to_uint8(images), experiment.seed)
        output.write_index()
        print(f"{path}: {len(nsd_id)} test images")


if __name__ == "__main__":
    execute(main)
