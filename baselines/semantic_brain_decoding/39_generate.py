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

Peak memory: that of 31_stage1.py.
"""

import shutil

import h5py
import numpy as np
from diffusers import StableDiffusionPipeline
from tqdm import tqdm

from baselines.semantic_brain_decoding.labels import best_constant
from baselines.semantic_brain_decoding.pictures import open_text_to_image
from baselines.semantic_brain_decoding.wordnet import open_wordnet, wu_palmer
from minddiffuser.cli import Run, concept_subjects, execute, parse
from minddiffuser.config import SemanticBrainDecoding, concept_form
from minddiffuser.seeds import torch_generator
from minddiffuser.store import DataError, open_arrays
from reconstruction.folder import TEST_STATISTICS, ReconstructionFolder, to_uint8

DECODE = "baselines/semantic_brain_decoding/29_decode_labels.py"


def main(argv: list[str] | None = None) -> None:
    """Generate pictures for each subject's test images, in each form."""
    run = parse(__doc__, argv, subjects_of=concept_subjects)
    experiment = run.config.experiment
    settings = experiment.semantic_brain_decoding
    if settings is None:
        print("experiment.semantic_brain_decoding is null: nothing to do")
        return
    pipeline = open_text_to_image(experiment.models, settings.safety_checker, run.device)
    for subject in run.subjects:
        place = run.config.folder(subject) / "reconstruction"
        for name in settings.forms:
            form, inputs = concept_form(settings, name), {}
            path = run.config.folder(subject) / "semantic_brain_decoding" / "decoded" / f"{name}.h5"
            with open_arrays(path, f"{DECODE} --subject {subject}", subject) as decoded:
                ids, classes = decoded["nsd_id"][:], decoded["classes"][:]
                labels = decoded["class_label"].asstr()[:]
                inputs["decoded"] = decoded.attrs["fingerprint"]
                constant = constant_class(run, decoded) if name == settings.forms[0] else None
            flags = [TEST_STATISTICS] if form.restore_variance == "test" else []
            folder = place / "semantic_brain_decoding" / name
            for rank in range(form.n_pictures):
                output = ReconstructionFolder(
                    folder / f"sample_{rank + 1}" if rank else folder,
                    subject, {"rank": rank, **shared(run, form)}, inputs, run.overwrite, flags,
                )  # fmt: skip
                generate(run, pipeline, output, form, ids, labels[classes[:, rank]], rank, f"{subject} {name}")
            for path in folder.glob("sample_*"):  # of a time when more were asked for: an image's score is the mean
                if int(path.name.removeprefix("sample_")) > form.n_pictures:
                    shutil.rmtree(path)
            print(f"{folder}: {len(ids)} test images, {form.n_pictures} of each")
            if constant is not None:
                wnid, label = constant
                output = ReconstructionFolder(
                    place / "control" / "constant_label",
                    subject, {"wnid": wnid, "label": label, **shared(run, form)}, {}, run.overwrite,
                )  # fmt: skip
                generate(run, pipeline, output, form, ids, np.full(len(ids), label), 0, f"{subject} constant label")
                print(f"{output.path}: {label!r} for all")


def generate(
    run: Run,
    pipeline: StableDiffusionPipeline,
    output: ReconstructionFolder,
    form: SemanticBrainDecoding,
    ids: np.ndarray,
    labels: np.ndarray,
    rank: int,
    what: str,
) -> None:
    """Fill a folder with a picture for each test image, from its label."""
    seed = run.config.experiment.seed
    todo = list(output.batches_to_do(ids, run.config.execution.batch_size, run.shard))
    for rows in tqdm(todo, desc=f"{what}, label {rank + 1}"):
        made = pipeline(
            [form.prompt.format(label=label) for label in labels[rows]],
            num_inference_steps=form.n_steps,
            guidance_scale=form.guidance_scale,
            generator=[torch_generator(seed, int(i), "picture of label", rank) for i in ids[rows]],
            output_type="pt",
        )
        output.save(ids[rows], to_uint8(made.images), seed, flagged=made.nsfw_content_detected)  # type: ignore[union-attr]
    output.write_index()
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


def shared(run: Run, form: SemanticBrainDecoding) -> dict:
    """Give the settings that pictures of any label depend on."""
    used = {"prompt", "n_steps", "guidance_scale", "safety_checker"}
    models = run.config.experiment.models.model_dump(include={"stable_diffusion", "stable_diffusion_revision"})
    return {"seed": run.config.experiment.seed, **form.model_dump(include=used), **models}


if __name__ == "__main__":
    execute(main)
