"""Takagi & Nishimoto (CVPR 2023), first half: decode z and c as they do.

    python baselines/takagi/35_decode_takagi.py [--config configs/miniature.yaml] [--subject subj01]

z is of pictures of 320 pixels (4 x 40 x 40) and is decoded from the voxels of NSD's stream `early`, c has 77 tokens and
is decoded from `ventral`; rows are single trials; himalaya's RidgeCV chooses a penalty for each output. The form
"restored" gives back to what "corrected" decodes the variance that regression takes from it, output by output, by
5-fold predictions of training images (feature_decoding/variance.py). The form "minddiffuser" decodes the z and c of
this project from its voxels, with its decoders. `experiment.takagi` has the settings, and `TAKAGI_FORMS` in
minddiffuser/config/takagi.py what sets the forms apart.

Reads NSD's betas, stimuli and captions, `prepared.h5`, and for the form "minddiffuser" `features/`. Writes to
`runs/<name>/<subject>/takagi/`:

    trials.h5           see baselines/takagi/trials.py
    features.h5         stimulus_id; z_mean, z_sample (n_images, 4, height, width) and c (n_images, n_tokens, width),
                        float32
    decoders/           of the form "minddiffuser"
    decoded/<form>.h5   z (n_test, 4, height, width), c (n_test, n_tokens, width), stimulus_id

Sessions and parts of the features are divided among shards; a run without shards then does the rest.
Peak memory: 15 GB at the real size, by count: the trials twice, targets by trials of 20,000 outputs three times, and
their weights.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from baselines.takagi import recipes
from baselines.takagi.regression import fit_predict, held_out_predictions, mean_over_trials, restore
from baselines.takagi.trials import write_trials
from data.nsd import Stimuli, read_captions
from data.recipes import prepared
from feature_decoding.decoders import decode_family, load_voxels
from feature_decoding.recipes import FAMILIES
from feature_decoding.ridge import Gram
from feature_extraction.latents import encode, to_model_range
from feature_extraction.text import embed_captions
from minddiffuser.cli import Run, execute, parse
from minddiffuser.config.takagi import Takagi
from minddiffuser.pretrained.stable_diffusion import open_text_encoder, open_vae
from minddiffuser.progress import progress
from minddiffuser.seeds import torch_generator
from minddiffuser.store import Artifact, Shard, open_made

ROWS_PER_PART = 256
OUTPUTS_AT_ONCE = 20_000


def main(argv: list[str] | None = None) -> None:
    """Decode each subject's test images."""
    run = parse(__doc__, argv)
    forms = recipes.forms(run.config)
    if not forms:
        print("experiment.takagi is null: nothing to do")
        return
    models = functools.cache(lambda: open_models(run))
    for subject in run.subjects:
        streams = {name: form for name, form in forms.items() if form.decoder == "ridge_cv"}
        if streams:
            write_trials(run, subject)
            extract(run, subject, models)
            needed = [recipes.trials(run.config, subject), recipes.targets(run.config, subject)]
            if all(recipe.path.exists() for recipe in needed):  # no shard comes here: a run without shards joins
                decode_streams(run, subject, streams)
        for name, form in forms.items():
            if form.decoder == "voxel_selection":
                decode_as_bundled(run, subject, name, form)


def open_models(run: Run) -> tuple:
    """Open the autoencoder, the tokenizer and the text encoder."""
    models = run.config.experiment.models
    source = (models.stable_diffusion, models.stable_diffusion_revision)
    return open_vae(*source, run.device), *open_text_encoder(*source, run.device)


def extract(run: Run, subject: str, models: Callable[[], tuple]) -> None:
    """Extract z and c of all images, in the sizes that Takagi & Nishimoto use."""
    experiment, batch = run.config.experiment, run.config.execution.batch_size.encode
    takagi, n_captions = experiment.takagi, experiment.semantic.n_captions
    assert takagi
    size = round(experiment.detail.image_size * takagi.image_share)
    artifact = Artifact(recipes.targets(run.config, subject))
    if artifact.is_done(run.overwrite):
        return
    with open_made(prepared(run.config, subject)) as rows:
        ids, coco_ids = rows["stimulus_id"][:], rows["coco_id"][:]
    stimuli, captions = Stimuli(run.config.nsd), read_captions(run.config.nsd, coco_ids, n_captions)
    for number, rows in artifact.parts_to_do(len(ids), ROWS_PER_PART, run.shard):
        vae, tokenizer, encoder = models()
        length = takagi.max_length or encoder.config.max_position_embeddings
        found: dict[str, list[np.ndarray]] = {"z_mean": [], "z_sample": [], "c": []}
        for start in progress(range(rows.start, rows.stop, batch), desc=f"{subject} Takagi's features, part {number}"):
            here = slice(start, min(start + batch, rows.stop))
            pixels = to_model_range(stimuli.read(ids[here]), size, Image.Resampling.LANCZOS).to(run.device)
            with torch.no_grad():
                z = encode(vae, pixels)
                noise = [torch.randn(z.shape[1:], generator=torch_generator(experiment.seed, int(i), "posterior"))
                         for i in ids[here]]  # fmt: skip
                sample = encode(vae, pixels, torch.stack(noise).to(run.device))
            texts = [text for of_one_image in captions[here] for text in of_one_image]
            c = embed_captions(texts, tokenizer, encoder, length).unflatten(0, (len(z), -1)).mean(dim=1)
            for key, value in {"z_mean": z, "z_sample": sample, "c": c}.items():
                found[key].append(value.cpu().numpy())
        parts = {key: np.concatenate(values) for key, values in found.items()}
        artifact.write_part(number, {**parts, "stimulus_id": ids[rows]})
    artifact.join(len(ids), ROWS_PER_PART)


def decode_streams(run: Run, subject: str, forms: dict[str, Takagi]) -> None:
    """Decode by RidgeCV, some outputs at a time; those of all forms side by side, for they share the voxels.

    Forms that have the same targets share a regression, too: "restored" is made of what "corrected" decodes.
    """
    outputs = {name: Artifact(recipes.decoded(run.config, subject, name)) for name in forms}
    todo = [name for name, output in outputs.items() if not output.is_done(run.overwrite)]
    if not todo:
        return
    alphas, seed = next(iter(forms.values())).alphas, run.config.experiment.seed
    targets_of = {name: (form.center_targets, form.posterior) for name, form in forms.items()}
    fits = list(dict.fromkeys(targets_of.values()))
    fit_of = {name: fits.index(targets) for name, targets in targets_of.items()}
    restored_names = [name for name in todo if forms[name].restore_variance == "train"]
    decoded: dict[str, dict[str, np.ndarray]] = {name: {} for name in todo}
    with (
        open_made(recipes.trials(run.config, subject)) as trials,
        open_made(recipes.targets(run.config, subject)) as features,
    ):
        image_of_trial, stream, stimulus_id = trials["image_of_trial"][:], trials["stream"][:], trials["stimulus_id"][:]
        n_test = len(trials["test"])
        for key, region in (("z", b"early"), ("c", b"ventral")):
            X, X_test = (trials[part][:][:, stream == region] for part in ("train", "test"))
            print(f"{subject}: Takagi's {key} from {X.shape[1]} voxels ({region.decode()}), {len(X)} trials")
            sources = ["c" if key == "c" else f"z_{posterior}" for _, posterior in fits]
            _, n_slices, *rest = features[sources[0]].shape
            step = max(1, OUTPUTS_AT_ONCE // len(fits) // int(np.prod(rest)))
            found: dict[str, list[np.ndarray]] = {name: [] for name in todo}
            for start in progress(range(0, n_slices, step), desc=f"{subject} {key}"):
                parts = [features[source][n_test:, start : start + step] for source in sources]
                Ys = [part.reshape(len(part), -1) for part in parts]  # (training images, slices x ...)
                Y = np.concatenate(Ys, axis=1)
                centered = np.repeat([center for center, _ in fits], Ys[0].shape[1])
                mean = np.where(centered, mean_over_trials(Y, image_of_trial), 0)
                predicted = np.split(fit_predict(X, Y, image_of_trial, mean, X_test, alphas), len(fits), axis=1)
                of_block = {name: predicted[fit_of[name]] for name in todo}
                for name in restored_names:
                    own, center = Ys[fit_of[name]], forms[name].center_targets
                    held_out = held_out_predictions(X, own, image_of_trial, center, alphas, seed)
                    of_block[name] = restore(of_block[name], held_out, own)
                for name, values in of_block.items():
                    found[name].append(values.reshape(n_test, -1, *rest))  # (test images, slices, ...)
            for name in todo:
                decoded[name][key] = np.concatenate(found[name], axis=1)
    for name in todo:
        outputs[name].write({**decoded[name], "stimulus_id": stimulus_id[:n_test]})
        print(f"wrote {outputs[name].path}")


def decode_as_bundled(run: Run, subject: str, name: str, form: Takagi) -> None:
    """Decode the z and c of this project with its decoders, as MindDiffuser's authors did for their comparison."""
    output = Artifact(recipes.decoded(run.config, subject, name))
    if output.is_done(run.overwrite):
        return
    X, X_test = load_voxels(run.config, subject, form.test_scaling, f"takagi ({name})")
    gram, undivided = Gram(X, run.device), replace(run, shard=Shard())
    decoded = {}
    for family in FAMILIES:
        decoder = Artifact(recipes.decoder(run.config, subject, form, family))
        decoder.is_done(run.overwrite)  # deletes what is to be replaced
        n_voxels = getattr(form, f"n_voxels_{family}")
        arrays = decode_family(undivided, family, decoder, gram, X_test, n_voxels)
        assert arrays  # no other shard has a part of it
        decoded |= arrays
    output.write(decoded)
    print(f"wrote {output.path}")


if __name__ == "__main__":
    execute(main)
