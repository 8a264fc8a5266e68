"""Decode the structural target Z_CLIP from voxels, at the selected units (specification section 4).

    python feature_decoding/24_structural.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5`, `features/structural.h5` and `decoders/units.h5`. Fits `decoders/linear_02.h5` ... on the
training images and writes `decoded/structural.h5` of the test images:

    linear_02 ... linear_12  (n_test, n_kept) float32  at the units of `decoders/units.h5`
    linear_02_units ...      (n_kept,)                 those units, into the flattened layer
    embedding                (n_test, dimensions)      decoded only where experiment.guidance.embedding_weight > 0
    nsd_id                   (n_test,)

Peak memory: voxels of the training images twice in float64, one layer (1.4 GB at the real size), and a Gram matrix of
voxels (1.1 GB).
"""

import numpy as np

from feature_decoding.decoders import decode, fit_decoder, load_voxels
from feature_decoding.ridge import Gram
from minddiffuser.cli import execute, parse
from minddiffuser.config import EMBEDDING, layer_name
from minddiffuser.store import Artifact, DataError, open_arrays


def main(argv: list[str] | None = None) -> None:
    """Fit and apply the decoders of the CLIP layers for each subject."""
    run = parse(__doc__, argv)
    experiment = run.config.experiment
    decoding, layers = experiment.decoding, [layer_name(n) for n in experiment.structural.layers]
    if len(decoding.n_voxels_structural) != len(layers):
        raise DataError(f"experiment.decoding.n_voxels_structural needs {len(layers)} numbers, one for each layer")
    n_voxels = dict(zip(layers, decoding.n_voxels_structural, strict=True))
    if experiment.guidance.embedding_weight:
        n_voxels[EMBEDDING] = max(decoding.n_voxels_structural)
    for subject in run.subjects:
        folder = run.config.folder(subject)
        source, units_path = folder / "features" / "structural.h5", folder / "decoders" / "units.h5"
        inputs = [folder / "prepared.h5", source, units_path]
        paths = {name: folder / "decoders" / f"{name}.h5" for name in n_voxels}
        decoded_arrays, complete = {}, True
        with (
            open_arrays(source, "feature_extraction/13_structural.py", subject) as features,
            open_arrays(units_path, "feature_decoding/21_select_units.py", subject) as selection,
        ):
            X, X_test = load_voxels(folder, subject, features, decoding.test_scaling)
            gram = Gram(X, run.device)
            nsd_id = features["nsd_id"][: len(X_test)]
            for name in n_voxels:
                layer = features[name][len(X_test) :].reshape(len(X), -1)  # (n_train, n_tokens * width), token-major
                units = selection[f"{name}_units"][:] if name in layers else np.arange(layer.shape[1])
                fitting = {"alpha": decoding.alpha, "n_voxels": n_voxels[name]}
                artifact = Artifact(paths[name], subject, fitting, inputs)
                complete &= fit_decoder(run, artifact, gram, layer[:, units], n_voxels[name])
                decoded_arrays[f"{name}_units"] = units
        if not complete:
            continue
        settings = {"test_scaling": decoding.test_scaling}
        decoded = Artifact(folder / "decoded" / "structural.h5", subject, settings, list(paths.values()))
        if decoded.is_done(run.overwrite):
            continue
        for name, path in paths.items():
            decoded_arrays[name] = decode(path, subject, X_test)
        decoded.write({**decoded_arrays, "nsd_id": nsd_id})
        print(f"wrote {decoded.path}")


if __name__ == "__main__":
    execute(main)
