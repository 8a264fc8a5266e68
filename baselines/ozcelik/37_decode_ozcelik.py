"""Ozcelik et al. (IJCNN 2022), first half: decode what IC-GAN's generator makes a picture from.

    python baselines/ozcelik/37_decode_ozcelik.py [--config configs/miniature.yaml] [--subject subj01]

Three targets are regressed on the voxels that MindDiffuser uses: the instance features of a picture (SwAV's ResNet-50),
and the noise and dense vectors from which the generator makes it, found by inversion. `experiment.ozcelik` has the
settings, and `OZCELIK_FORMS` in minddiffuser/config/ozcelik.py what sets the forms apart. In the form "minddiffuser"
only the features are decoded, by ridge regression with voxel selection; its authors paired voxels of one subject with
features of another, which is refused here.

Reads `prepared.h5` and the stimuli. Writes to `runs/<name>/<subject>/ozcelik/`:

    instance.h5         features (n_images, n_features) float32, of length 1; stimulus_id
    inversion.h5        noise (n_train, n_noise) and dense (n_train, n_dense) float32; error (n_train,), mean absolute
                        difference of the pixels; stimulus_id
    decoders/           of the form "minddiffuser"
    decoded/<form>.h5   features (n_test, n_features), noise (n_test, n_noise), and dense (n_test, n_dense), which is
                        absent where noise is random; stimulus_id

Peak memory: 6.5 GB at the real size: gradients of the generator for `execution.batch_size.refine` pictures;
then the voxels four times in float64, a Gram matrix of images and the dense vectors of the training images.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import functools
from dataclasses import replace

import numpy as np
import torch

from baselines.ozcelik import recipes
from baselines.ozcelik.generator import open_generator
from baselines.ozcelik.targets import extract_instances, invert_training_images, open_models
from baselines.regression import fit_predict, held_out_predictions
from feature_decoding.decoders import decode, fit_decoder, load_voxels
from feature_decoding.ridge import Gram, Scaler
from feature_decoding.variance import restore_variance
from minddiffuser.cli import Run, execute, parse
from minddiffuser.config.ozcelik import Ozcelik
from minddiffuser.seeds import torch_generator
from minddiffuser.store import Artifact, Shard, open_made


def main(argv: list[str] | None = None) -> None:
    """Decode each subject's test images."""
    run = parse(__doc__, argv)
    settings = run.config.experiment.ozcelik
    if settings is None:
        print("experiment.ozcelik is null: nothing to do")
        return
    forms = recipes.forms(run.config)
    models = functools.cache(lambda: open_models(run, settings))
    for subject in run.subjects:
        extract_instances(run, subject, models)
        needed = [recipes.instances(run.config, subject)]
        if any(form.noise == "decoded" for form in forms.values()):
            invert_training_images(run, subject, models)
            needed.append(recipes.inversion(run.config, subject))
        if all(recipe.path.exists() for recipe in needed):  # no shard comes here: a run without shards joins
            for name, form in forms.items():
                decode_images(run, subject, name, form)


def decode_images(run: Run, subject: str, name: str, form: Ozcelik) -> None:
    """Decode a subject's test images in one form."""
    config = run.config
    output = Artifact(recipes.decoded(config, subject, name))
    if output.is_done(run.overwrite):
        print(f"{output.path} is there already")
        return
    X, X_test = load_voxels(config, subject, form.test_scaling, f"ozcelik ({name})")
    n_test, fitted = len(X_test), slice(form.n_training)
    with open_made(recipes.instances(config, subject)) as file:
        stimulus_id, Y = file["stimulus_id"][:n_test], file["features"][n_test:][fitted]
    X = X[fitted]
    if form.decoder == "voxel_selection":
        decoder = Artifact(recipes.decoder(config, subject, name))
        if not decoder.is_done(run.overwrite):
            fit_decoder(replace(run, shard=Shard()), decoder, Gram(X, run.device), Y, form.n_voxels)  # not divided
        features = decode(decoder.recipe, X_test)
    else:
        features = fit_predict(X, Y, X_test, form.alpha_instance)
    if form.restore_variance == "train":
        predictions = held_out_predictions(X, Y, form.alpha_instance, config.experiment.seed)
        features = restore_variance(features, Scaler.of(predictions), Scaler.of(Y))
    elif form.restore_variance == "test":
        features = restore_variance(features, Scaler.of(features), Scaler.of(Y))
    if form.unit_length:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    arrays = {"features": features.astype(np.float32), "stimulus_id": stimulus_id}
    if form.noise == "decoded":
        with open_made(recipes.inversion(config, subject)) as file:
            for key, alpha in (("noise", form.alpha_noise), ("dense", form.alpha_dense)):
                arrays[key] = fit_predict(X, file[key][:][fitted], X_test, alpha)
            print(f"{subject}: what is inverted differs by {file['error'][:].mean():.3f} a pixel from the picture")
    else:
        n_noise = open_generator(form.generator, torch.device("cpu")).n_noise
        draws = [torch_generator(config.experiment.seed, int(i), "noise of the generator") for i in stimulus_id]
        arrays["noise"] = np.stack([torch.randn(n_noise, generator=draw).numpy() for draw in draws])
    output.write(arrays)
    print(f"wrote {output.path}")


if __name__ == "__main__":
    execute(main)
