"""Where in the brain each target is decoded from (paper, figures 9 to 11).

    python feature_decoding/27_weight_maps.py [--config configs/miniature.yaml] [--subject subj01]

Reads `prepared.h5` and `decoders/`. Writes, for the target families semantic, detail and structural (its six layers
together), in the subject's own space:

    maps/<family>_weights.nii.gz   the authors' recipe: |mean weight over outputs|, scaled to reach from 0 to 1
    maps/<family>_patterns.nii.gz  root mean square correlation of the voxel with what is decoded (Haufe et al. 2014)
    maps/maps.csv                  mean of both by ROI
    maps/maps.png                  both, as slices

Voxels outside the ROIs are NaN. Peak memory: 3 GB at the real size, by count: voxels of the training
images in float64, and a block of 1,024 outputs.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import gzip
from collections.abc import Iterator

import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from nilearn.plotting import plot_img

from data.recipes import prepared
from feature_decoding import recipes
from feature_decoding.decoders import UNITS_PER_PART
from feature_decoding.maps import mean_weights, pattern_strength
from feature_decoding.ridge import Decoder, Scaler, predict
from minddiffuser import terminal
from minddiffuser.cli import execute, parse
from minddiffuser.config.method import EMBEDDING
from minddiffuser.figures import as_png
from minddiffuser.progress import progress
from minddiffuser.recipe import Recipe
from minddiffuser.store import Files, open_made


def main(argv: list[str] | None = None) -> None:
    """Map each subject's decoders."""
    run = parse(__doc__, argv, divides=False)
    for subject in run.subjects:
        output = Files(recipes.maps(run.config, subject))
        if output.is_done(run.overwrite):
            print(f"{output.recipe.path.parent} is there already")
            continue
        with open_made(prepared(run.config, subject)) as rows:
            betas, roi_of = rows["betas"][int(rows["is_test"][:].sum()) :], rows["roi"][:].astype(str)
            shape, affine, index = (rows[name][:] for name in ("volume_shape", "affine", "voxel_index"))
        X = Scaler.of(betas).apply(betas)
        del betas
        maps, table, files, images = {}, pd.DataFrame({"roi": roi_of}), {}, {}
        for family in progress(recipes.SCRIPTS, desc=f"{subject} maps"):
            decoders = [recipes.decoder(run.config, subject, name) for name in recipes.names_of(run.config, family)]
            decoders = [decoder for decoder in decoders if EMBEDDING not in decoder.name]
            maps[f"{family}_weights"] = mean_weights(read_blocks(decoders), X.shape[1])
            maps[f"{family}_patterns"] = pattern_strength((predict(X, d) for d in read_blocks(decoders)), X)
        for name, values in maps.items():
            volume = np.full(np.prod(shape), np.nan, np.float32)
            volume[index] = values
            images[name] = nib.Nifti1Image(volume.reshape(shape), affine)
            files[f"{name}.nii.gz"] = gzip.compress(images[name].to_bytes(), mtime=0)  # the same map is the same file
            table[name] = values
        means = table.groupby("roi", sort=False).mean()
        output.write({**files, "maps.csv": means.to_csv(float_format="%.4f"), "maps.png": draw(images, subject)})
        print(f"{subject}: mean over the voxels of each ROI\n{means.round(3).to_string(line_width=terminal.width())}\n")


def read_blocks(decoders: list[Recipe]) -> Iterator[Decoder]:
    """Yield stored decoders, at most 1,024 outputs at a time."""
    for decoder in decoders:
        with open_made(decoder) as file:
            for start in range(0, len(file["bias"]), UNITS_PER_PART):
                here = slice(start, start + UNITS_PER_PART)
                yield Decoder(file["voxels"][here], file["weights"][here], file["bias"][here])


def draw(images: dict[str, nib.Nifti1Image], subject: str) -> bytes:
    """Draw slices of every map: families from top to bottom, the two measures side by side."""
    figure = plt.figure(figsize=(12, 5.4))
    figure.suptitle(f"{subject}: where targets are decoded from (axial slices, ROIs only)", fontsize=11)
    for k, (name, image) in enumerate(images.items()):
        values = image.get_fdata()
        box = tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(np.isfinite(values)))
        shown = image.slicer[box]
        family, measure = name.split("_")
        left, bottom = 0.02 + 0.5 * (k % 2), 0.64 - 0.3 * (k // 2)
        label = "|mean weight|, 0 to 1" if measure == "weights" else "correlation with what is decoded"
        figure.text(left, bottom + 0.235, f"{family}: {label}", fontsize=9)
        axis = figure.add_axes((left, bottom, 0.41, 0.22))
        top = float(np.nanmax(values))
        plain = nib.Nifti1Image(np.nan_to_num(shown.get_fdata()), shown.affine)
        cuts = {"display_mode": "z", "cut_coords": 5, "annotate": False, "colorbar": False}
        plot_img(plain, axes=axis, cmap="inferno", vmin=0, vmax=top, **cuts)
        colours = ScalarMappable(Normalize(0, top), "inferno")
        bar = figure.colorbar(colours, cax=figure.add_axes((left + 0.42, bottom, 0.008, 0.22)), ticks=[0, top])
        bar.ax.set_yticklabels(["0", f"{top:.2f}"], fontsize=8)
    return as_png(figure)


if __name__ == "__main__":
    execute(main)
