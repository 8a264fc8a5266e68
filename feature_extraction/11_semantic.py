"""Extract the semantic target c: text embeddings of the captions (the c of the paper's figure 2).

    python feature_extraction/11_semantic.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5` (which images), COCO's captions and the text encoder. Writes `features/semantic.h5`:

    c            (n_images, 15, width) float32  mean over the first five captions of an image
    stimulus_id  (n_images,)

Peak memory: 1.8 GB at the real size: COCO's captions while they are read, and the text encoder.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools

import numpy as np

from data.nsd import read_captions
from data.recipes import prepared
from feature_extraction.recipes import features
from feature_extraction.text import embed_captions
from minddiffuser.cli import execute, parse
from minddiffuser.pretrained.stable_diffusion import open_text_encoder
from minddiffuser.progress import progress
from minddiffuser.store import Artifact, open_made

ROWS_PER_PART = 512


def main(argv: list[str] | None = None) -> None:
    """Extract c for each subject's images."""
    run = parse(__doc__, argv)
    models, semantic = run.config.experiment.models, run.config.experiment.semantic
    batch = run.config.execution.batch_size.encode
    open_encoder = functools.cache(
        lambda: open_text_encoder(models.stable_diffusion, models.stable_diffusion_revision, run.device)
    )
    for subject in run.subjects:
        with open_made(prepared(run.config, subject)) as rows_of:
            stimulus_id, coco_id = rows_of["stimulus_id"][:], rows_of["coco_id"][:]
        artifact = Artifact(features(run.config, subject, "semantic"))
        if artifact.is_done(run.overwrite):
            print(f"{artifact.path} is there already")
            continue
        captions = read_captions(run.config.nsd, coco_id, semantic.n_captions)
        for number, rows in artifact.parts_to_do(len(stimulus_id), ROWS_PER_PART, run.shard):
            tokenizer, encoder = open_encoder()
            embedded = []
            for start in progress(range(rows.start, rows.stop, batch), desc=f"{subject} captions, part {number}"):
                several = captions[start : min(start + batch, rows.stop)]
                texts = [text for of_one_image in several for text in of_one_image]
                c = embed_captions(texts, tokenizer, encoder, semantic.max_length)
                embedded.append(c.unflatten(0, (len(several), -1)).mean(dim=1).cpu().numpy())
            artifact.write_part(number, {"c": np.concatenate(embedded), "stimulus_id": stimulus_id[rows]})
        if artifact.join(len(stimulus_id), ROWS_PER_PART):
            print(f"{artifact.path}: {len(stimulus_id)} images")


if __name__ == "__main__":
    execute(main)
