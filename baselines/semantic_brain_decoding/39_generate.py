"""Semantic Brain Decoding (Ferrante et al. 2022), second half: pictures by Stable Diffusion from the decoded labels.

    python baselines/semantic_brain_decoding/39_generate.py [--config configs/miniature.yaml] [--subject Subject1]

The prompt is "An image of a {label}" with the label as ImageNet has it, such as "tench, Tinca tinca"; nothing else of
the brain reaches the picture. Five labels, five pictures of each test image, each with noise of its own.

Reads `semantic_brain_decoding/decoded/<form>.h5`. Writes to `reconstruction/`:

    semantic_brain_decoding/<form>/  for each test image the picture of its first label, `<id>.png`, and an index, with
                                     a column `flagged` where the safety checker is on (what it flags is black); inside
                                     it `sample_2/` and so on, of the other labels
    control/constant_label/          pictures of the same label for all: of the class whose Wu-Palmer similarity to the
                                     training categories is highest; not made where WordNet is absent

Peak memory: 7.5 GB on a CPU with all of Stable Diffusion, one picture at a time (`execution.batch_size`).
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools
from collections.abc import Callable

import h5py
import numpy as np
from diffusers import StableDiffusionPipeline

from baselines.semantic_brain_decoding import recipes
from baselines.semantic_brain_decoding.labels import best_constant
from baselines.semantic_brain_decoding.pictures import open_text_to_image
from baselines.semantic_brain_decoding.wordnet import open_wordnet, wu_palmer
from minddiffuser.cli import Run, concept_subjects, execute, parse
from minddiffuser.config.semantic_brain_decoding import SemanticBrainDecoding, concept_form
from minddiffuser.recipe import Recipe
from minddiffuser.seeds import torch_generator
from minddiffuser.store import DataError, open_made
from reconstruction.folder import ReconstructionFolder, remove_samples, to_uint8


def main(argv: list[str] | None = None) -> None:
    """Generate pictures for each subject's test images, in each form."""
    run = parse(__doc__, argv, subjects_of=concept_subjects)
    experiment = run.config.experiment
    settings = experiment.semantic_brain_decoding
    if settings is None:
        print("experiment.semantic_brain_decoding is null: nothing to do")
        return
    open_once = functools.cache(lambda: open_text_to_image(experiment.models, settings.safety_checker, run.device))
    for subject in run.subjects:
        for name in settings.forms:
            form = concept_form(settings, name)
            with open_made(recipes.labels(run.config, subject, name)) as decoded:
                ids, classes = decoded["stimulus_id"][:], decoded["classes"][:]
                labels = decoded["class_label"].asstr()[:]
                constant = constant_class(run, decoded) if name == settings.forms[0] else None
            for rank in range(form.n_pictures):
                recipe = recipes.pictures(run.config, subject, name, rank)
                generate(run, open_once, recipe, form, ids, labels[classes[:, rank]], f"{subject} {name}", rank)
            remove_samples(recipes.pictures(run.config, subject, name).path, form.n_pictures)
            if constant is not None:
                recipe, label = recipes.constant(run.config, subject, *constant), constant[1]
                generate(
                    run, open_once, recipe, form, ids, np.full(len(ids), label), f"{subject} constant label {label!r}"
                )


def generate(
    run: Run,
    pipeline: Callable[[], StableDiffusionPipeline],
    recipe: Recipe,
    form: SemanticBrainDecoding,
    ids: np.ndarray,
    labels: np.ndarray,
    what: str,
    rank: int = 0,
) -> None:
    """Fill a folder with a picture for each test image, from its label."""
    seed = run.config.experiment.seed
    output = ReconstructionFolder(recipe, len(ids), run.overwrite)
    todo = output.batches_to_do(ids, run.config.execution.batch_size.generate, run.shard)
    for rows in output.each(todo, f"{what}, label {rank + 1}"):
        made = pipeline()(
            [form.prompt.format(label=label) for label in labels[rows]],
            num_inference_steps=form.n_steps,
            guidance_scale=form.guidance_scale,
            generator=[torch_generator(seed, int(i), "picture of label", rank) for i in ids[rows]],
            output_type="pt",
        )
        output.save(ids[rows], to_uint8(made.images), seed, flagged=made.nsfw_content_detected)  # type: ignore[union-attr]
    output.finish()
    if n := output.n_flagged():
        print(f"WARNING: {output.path}: the safety checker made {n} pictures black (column flagged of index.csv)")


def constant_class(run: Run, decoded: h5py.File) -> tuple[str, str] | None:
    """Choose the class that would be the best answer to all training images: its WordNet id and its label."""
    wnids, labels = decoded["class_wnid"].asstr()[:], decoded["class_label"].asstr()[:]
    try:
        wordnet = open_wordnet(run.config.wordnet)
    except DataError as error:
        print(f"WARNING: there will be no control with a constant label: {error}")
        return None
    best = best_constant(wu_palmer(wordnet, decoded["training_wnid"].asstr()[:], wnids))
    return str(wnids[best]), str(labels[best])


if __name__ == "__main__":
    execute(main)
