"""Extract Mind-Animator's targets from films and captions; no subject is needed, and all share them.

    python baselines/mind_animator/11_features.py [--config configs/miniature.yaml]

Reads films and captions under `execution.cc2017`, the autoencoder, the text encoder and the CLIP that guides. Writes
`runs/<name>/films/features/clips.h5`, of all clips in the order of `prepared.h5`:

    stimulus_id   (n_clips,)  3017 for clip 17 of seg3, 102005 for clip 5 of test2
    z_mean        (n_clips, n_frames, 4, height, width) float16  latents; z_sample where a form samples the posterior
    velocity      (n_clips, 2) float32  mean optical flow to the right and down, pixels a frame, of what moves
    shot          (n_clips,)  number of the shot, as found by data/shots.py: clips of one shot are alike
    c             (n_clips, n_tokens, width) float16  last hidden state of the text encoder
    clip_text, clip_image  (n_clips, d) float32  of the caption and of the middle frame, not normalised
    caption       (n_clips,)  number of the caption: the same for clips with equal ones

and `varied.h5`, of the training clips, what training takes in their place, in `semantic.n_variations` variations:

    stimulus_id   (n_training,)
    c, clip_text  (n_training, n_variations, ...)  of captions varied as `semantic.eda` says
    per_image, per_epoch  (n_training, n_variations, d) float32  clip_image of crops, for the forms that need them

Clips are kept in parts of 120, which shards can share. Reference: Lu et al. 2025 (arXiv 2405.03280); the authors'
content_feature_extraction.py, train_semantic_decoder.py. Peak memory: 4 GB at the real size, by count: the models and
120 clips' middle frames.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools
from typing import Any, NamedTuple

import numpy as np
import torch

from baselines.mind_animator import recipes
from baselines.mind_animator.targets import (
    ROWS_PER_PART,
    embed_images,
    embed_texts,
    frames_of,
    latents,
    vary_caption,
    vary_frames,
    velocity_of,
    width_of,
)
from baselines.semantic_brain_decoding.wordnet import open_wordnet
from data import cc2017
from data.film_averaging import label_clips
from data.shots import shots_of
from feature_extraction.text import embed_captions
from minddiffuser.cli import Run, execute, film_subjects, parse
from minddiffuser.pretrained.clip import Clip, open_clip_model
from minddiffuser.pretrained.stable_diffusion import open_text_encoder, open_vae
from minddiffuser.progress import progress
from minddiffuser.seeds import torch_generator
from minddiffuser.store import Artifact


class Models(NamedTuple):
    """What the targets are computed with."""

    vae: Any
    tokenizer: Any
    text_encoder: Any
    clip: Clip


def main(argv: list[str] | None = None) -> None:
    """Extract the targets of all clips, and the variations of those of training."""
    run = parse(__doc__, argv, subjects_of=film_subjects)
    if run.config.experiment.mind_animator is None:
        print("experiment.mind_animator is null: nothing to do")
        return
    films = sorted(cc2017.films(run.config.cc2017).values(), key=lambda film: not film.is_test)
    root, n_test = run.config.cc2017, sum(film.n_clips for film in films if film.is_test)
    n_training = sum(film.n_clips for film in films) - n_test
    captions = cc2017.read_captions(root, "test", n_test) + cc2017.read_captions(root, "training", n_training)
    models = functools.cache(lambda: open_models(run))
    extract(run, films, captions, models)
    training = [film for film in films if not film.is_test]
    vary(run, training, captions[n_test:], models)


def open_models(run: Run) -> Models:
    """Open the models."""
    names = run.config.experiment.models
    diffusion = names.stable_diffusion, names.stable_diffusion_revision, run.device
    tokenizer, text_encoder = open_text_encoder(*diffusion)
    clip = open_clip_model(names.clip, names.clip_weights, run.device)
    return Models(open_vae(*diffusion), tokenizer, text_encoder, clip)


def extract(run: Run, films: list[cc2017.Film], captions: list[str], models: Any) -> None:
    """Write `clips.h5`."""
    artifact, settings = Artifact(recipes.clips(run.config)), recipes.settings_of(run.config)
    if artifact.is_done(run.overwrite):
        print(f"{artifact.path} is there already")
        return
    ids, clips, seed = label_clips(films)["stimulus_id"], settings.clips, run.config.experiment.seed
    batch = run.config.execution.batch_size.encode
    posteriors, shot_of = recipes.posteriors(run.config), shots_of(films, clips).loc[ids].to_numpy()
    number_of = np.unique(captions, return_inverse=True)[1]
    shape = (clips.n_frames, 4, clips.size // 8, clips.size // 8)
    for number, rows in artifact.parts_to_do(len(ids), ROWS_PER_PART, run.shard):
        part: dict[str, list[np.ndarray]] = {f"z_{name}": [] for name in posteriors} | {
            "clip_image": [],
            "velocity": [],
        }
        read = zip(ids[rows], frames_of(films, rows, clips), strict=True)
        for clip_id, frames in progress(read, desc=f"latents, part {number}", total=rows.stop - rows.start):
            noise = torch.randn(shape, generator=torch_generator(seed, int(clip_id), "posterior"))
            mean, sample = latents(models().vae, frames, run.device, batch, noise)
            for name in posteriors:
                part[f"z_{name}"].append(mean if name == "mean" else sample)
            part["velocity"].append(velocity_of(frames))
            part["clip_image"].append(embed_images(as_pixels(frames[[clips.middle_frame]]), models().clip)[0])
        c, clip_text = text_targets(captions[rows], models(), settings.max_length, run.device, batch)
        arrays = {name: np.stack(values) for name, values in part.items()}
        arrays |= {
            "c": c,
            "clip_text": clip_text,
            "stimulus_id": ids[rows],
            "caption": number_of[rows],
            "shot": shot_of[rows],
        }
        artifact.write_part(number, arrays)
    if artifact.join(len(ids), ROWS_PER_PART):
        print(f"{artifact.path}: {len(ids)} clips")


def vary(run: Run, films: list[cc2017.Film], captions: list[str], models: Any) -> None:
    """Write `varied.h5`."""
    artifact, settings = Artifact(recipes.varied(run.config)), recipes.settings_of(run.config)
    if artifact.is_done(run.overwrite):
        print(f"{artifact.path} is there already")
        return
    ids, clips, seed = label_clips(films)["stimulus_id"], settings.clips, run.config.experiment.seed
    batch = run.config.execution.batch_size.encode
    kinds = recipes.crops(run.config)
    n, eda = settings.semantic.n_variations, settings.semantic.eda
    wordnet = open_wordnet(run.config.wordnet) if eda == "synonyms" else None
    for number, rows in artifact.parts_to_do(len(ids), ROWS_PER_PART, run.shard):
        middle = np.stack([frames[clips.middle_frame] for frames in frames_of(films, rows, clips)])
        clip, part = models().clip, {key: [] for key in ("c", "clip_text", *kinds)}
        c, clip_text = text_targets(captions[rows], models(), settings.max_length, run.device, batch)
        for k in progress(range(n), desc=f"variations, part {number}"):
            if eda != "none":
                own = zip(captions[rows], ids[rows], strict=True)
                texts = [vary_caption(text, int(i), k, wordnet, seed) for text, i in own]
                c, clip_text = text_targets(texts, models(), settings.max_length, run.device, batch)
            part["c"].append(c)
            part["clip_text"].append(clip_text)
            for kind in kinds:
                found = []
                for start in range(0, len(middle), batch):
                    pixels, own = as_pixels(middle[start : start + batch]), ids[rows][start : start + batch]
                    found.append(embed_images(vary_frames(pixels, own, k, kind, width_of(clip), seed), clip))
                part[kind].append(np.concatenate(found))
        artifact.write_part(number, {key: np.stack(part[key], axis=1) for key in part} | {"stimulus_id": ids[rows]})
    if artifact.join(len(ids), ROWS_PER_PART):
        print(f"{artifact.path}: {len(ids)} training clips, {n} variations")


def as_pixels(images: np.ndarray) -> torch.Tensor:
    """Turn (n, height, width, 3) uint8 into (n, 3, height, width) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def text_targets(
    texts: list[str], models: Models, max_length: int, device: torch.device, batch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Give c (n, n_tokens, width) float16 and clip_text (n, d) float32 of texts."""
    c, clip_text = [], []
    for start in range(0, len(texts), batch):
        here = texts[start : start + batch]
        c.append(embed_captions(here, models.tokenizer, models.text_encoder, max_length).half().cpu().numpy())
        clip_text.append(embed_texts(here, models.clip, models.tokenizer, device))
    return np.concatenate(c), np.concatenate(clip_text)


if __name__ == "__main__":
    execute(main)
