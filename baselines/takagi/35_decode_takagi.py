"""Takagi & Nishimoto (CVPR 2023), first half: decode z and c as they do.

    python baselines/takagi/35_decode_takagi.py [--config configs/miniature.yaml] [--subject subj01]

z is of pictures of 320 pixels (4 x 40 x 40) and is decoded from the voxels of NSD's stream `early`, c has 77 tokens and
is decoded from `ventral`; rows are single trials; himalaya's RidgeCV chooses a penalty for each output. The form
"minddiffuser" decodes the z and c of this project from its voxels, with its decoders. `experiment.takagi` has the
settings, and `TAKAGI_FORMS` in minddiffuser/config.py what sets the forms apart.

Reads NSD's betas, stimuli and captions, `prepared.h5`, and for the form "minddiffuser" `features/`. Writes to
`runs/<name>/<subject>/takagi/`:

    trials.h5           see baselines/takagi/trials.py
    features.h5         z_mean, z_sample (n_images, 4, height, width) and c (n_images, n_tokens, width), float32; nsd_id
    decoders/           of the form "minddiffuser"
    decoded/<form>.h5   z (n_test, 4, height, width), c (n_test, n_tokens, width), nsd_id

Sessions and parts of the features are divided among shards; the last of these to finish does the rest. Peak memory at
the real size, by count: the trials twice, targets by trials of 20,000 outputs three times, and their weights: 11 GB.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from baselines.takagi.regression import fit_predict, mean_over_trials
from baselines.takagi.trials import write_trials
from data.nsd import Stimuli, read_captions
from feature_decoding.decoders import decode, fit_decoder, load_voxels, with_first_token
from feature_decoding.ridge import Gram
from feature_extraction.latents import encode, to_model_range
from feature_extraction.text import embed_captions
from minddiffuser.cli import Run, execute, parse
from minddiffuser.config import Takagi, takagi_form
from minddiffuser.pretrained import open_text_encoder, open_vae
from minddiffuser.seeds import torch_generator
from minddiffuser.store import Artifact, Shard, check_same_rows, open_arrays

ROWS_PER_PART = 256
OUTPUTS_AT_ONCE = 20_000
SCRIPT = "baselines/takagi/35_decode_takagi.py"


def main(argv: list[str] | None = None) -> None:
    """Decode each subject's test images."""
    run = parse(__doc__, argv)
    settings = run.config.experiment.takagi
    if settings is None:
        print("experiment.takagi is null: nothing to do")
        return
    forms = {name: takagi_form(run.config.experiment, settings, name) for name in settings.forms}
    for subject in run.subjects:
        streams = {name: form for name, form in forms.items() if form.decoder == "ridge_cv"}
        if streams:
            trials, features = write_trials(run, subject), extract(run, subject, settings)
            if trials.path.exists() and features.path.exists():
                decode_streams(run, subject, streams, trials.path, features.path)
        for name, form in forms.items():
            if form.decoder == "voxel_selection":
                decode_as_bundled(run, subject, name, form)


def extract(run: Run, subject: str, takagi: Takagi) -> Artifact:
    """Extract z and c of all images, in the sizes that Takagi & Nishimoto use."""
    experiment, folder, batch = run.config.experiment, run.config.folder(subject), run.config.execution.batch_size
    models, size = experiment.models, round(experiment.detail.image_size * takagi.image_share)
    n_captions, source = experiment.semantic.n_captions, (models.stable_diffusion, models.stable_diffusion_revision)
    settings = {"image_size": size, "max_length": takagi.max_length, "n_captions": n_captions}
    settings |= {"model": source, "seed": experiment.seed}
    artifact = Artifact(folder / "takagi" / "features.h5", subject, settings, [folder / "prepared.h5"])
    if artifact.is_done(run.overwrite):
        return artifact
    with open_arrays(folder / "prepared.h5", "data/02_prepare_subject.py", subject) as prepared:
        ids, coco_ids = prepared["nsd_id"][:], prepared["coco_id"][:]
    stimuli, captions = Stimuli(run.config.nsd), read_captions(run.config.nsd, coco_ids, n_captions)
    vae = open_vae(*source, run.device)
    tokenizer, encoder = open_text_encoder(*source, run.device)
    length = takagi.max_length or encoder.config.max_position_embeddings
    for number, rows in artifact.parts_to_do(len(ids), ROWS_PER_PART, run.shard):
        found: dict[str, list[np.ndarray]] = {"z_mean": [], "z_sample": [], "c": []}
        for start in tqdm(range(rows.start, rows.stop, batch), desc=f"{subject} Takagi's features, part {number}"):
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
        artifact.write_part(number, {**parts, "nsd_id": ids[rows]})
    if artifact.has_all_parts(len(ids), ROWS_PER_PART):
        artifact.join(len(ids), {})
    return artifact


def decode_streams(run: Run, subject: str, forms: dict[str, Takagi], trials_path: Path, features_path: Path) -> None:
    """Decode by RidgeCV, some outputs at a time; those of all forms side by side, for they share the voxels."""
    folder, outputs = run.config.folder(subject) / "takagi" / "decoded", {}
    for name, form in forms.items():
        settings = form.model_dump(mode="json", include={"center_targets", "alphas", "posterior"})
        outputs[name] = Artifact(folder / f"{name}.h5", subject, settings, [trials_path, features_path])
    todo = [name for name, output in outputs.items() if not output.is_done(run.overwrite)]
    if not todo:
        return
    decoded: dict[str, dict[str, np.ndarray]] = {name: {} for name in forms}
    with open_arrays(trials_path, SCRIPT, subject) as trials, open_arrays(features_path, SCRIPT, subject) as features:
        check_same_rows(trials, features)
        image_of_trial, stream, nsd_id = trials["image_of_trial"][:], trials["stream"][:], trials["nsd_id"][:]
        n_test = len(trials["test"])
        for key, region in (("z", b"early"), ("c", b"ventral")):
            X, X_test = (trials[part][:][:, stream == region] for part in ("train", "test"))
            print(f"{subject}: Takagi's {key} from {X.shape[1]} voxels ({region.decode()}), {len(X)} trials")
            source_of = {name: "c" if key == "c" else f"z_{form.posterior}" for name, form in forms.items()}
            _, n_slices, *rest = features[source_of[next(iter(forms))]].shape
            step = max(1, OUTPUTS_AT_ONCE // len(forms) // int(np.prod(rest)))
            found = []
            for start in tqdm(range(0, n_slices, step), desc=f"{subject} {key}"):
                parts = [features[source_of[name]][n_test:, start : start + step] for name in forms]
                Y = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
                centered = np.repeat([form.center_targets for form in forms.values()], parts[0][0].size)
                mean = np.where(centered, mean_over_trials(Y, image_of_trial), 0)
                alphas = next(iter(forms.values())).alphas
                predicted = fit_predict(X, Y, image_of_trial, mean, X_test, alphas)
                found.append(predicted.reshape(n_test, len(forms), -1, *rest))  # (test images, forms, slices, ...)
            for place, name in enumerate(forms):
                decoded[name][key] = np.concatenate([part[:, place] for part in found], axis=1)
    for name in todo:
        outputs[name].write({**decoded[name], "nsd_id": nsd_id[:n_test]})
        print(f"wrote {outputs[name].path}")


def decode_as_bundled(run: Run, subject: str, name: str, form: Takagi) -> None:
    """Decode the z and c of this project with its decoders, as MindDiffuser's authors did for their comparison."""
    folder, decoding = run.config.folder(subject), run.config.experiment.decoding
    families = {"semantic": ("c", form.n_voxels_semantic, "11"), "detail": ("z", form.n_voxels_detail, "12")}
    sources = [folder / "features" / f"{family}.h5" for family in families]
    settings = {"alpha": decoding.alpha, **form.model_dump(include={"n_voxels_semantic", "n_voxels_detail"})}
    settings["test_scaling"] = form.test_scaling
    output = Artifact(
        folder / "takagi" / "decoded" / f"{name}.h5", subject, settings, [folder / "prepared.h5", *sources]
    )
    if output.is_done(run.overwrite):
        return
    decoded = {}
    for source, (family, (key, n_voxels, script)) in zip(sources, families.items(), strict=True):
        with open_arrays(source, f"feature_extraction/{script}_{family}.py", subject) as features:
            X, X_test = load_voxels(folder, subject, features, form.test_scaling, f"takagi ({name})")
            Y, nsd_id = features[key][len(X_test) :], features["nsd_id"][: len(X_test)]
        decoder_path = folder / "takagi" / "decoders" / f"{family}.h5"
        fitting = {"alpha": decoding.alpha, "n_voxels": n_voxels}
        artifact = Artifact(decoder_path, subject, fitting, [folder / "prepared.h5", source])
        targets = (Y[:, 1:] if key == "c" else Y).reshape(len(X), -1)  # begin of text is not decoded
        fit_decoder(replace(run, shard=Shard()), artifact, Gram(X, run.device), targets, n_voxels)  # not divided
        values = decode(decoder_path, subject, X_test)
        decoded[key] = with_first_token(values, Y) if key == "c" else values.reshape(len(values), *Y.shape[1:])
        decoded["nsd_id"] = nsd_id
    output.write(decoded)
    print(f"wrote {output.path}")


if __name__ == "__main__":
    execute(main)
