"""Where in the brain each target is decoded from (paper, figures 9 to 11), in the volume and on the cortical surface.

    python feature_decoding/27_weight_maps.py [--config configs/miniature.yaml] [--subject subj01]
    python feature_decoding/27_weight_maps.py --subject subj01 --map FILE.nii.gz      # draws any map of their volume
    python feature_decoding/27_weight_maps.py --fs-lr FOLDER      # also for fs_LR, by HCP's resample_fsaverage

Reads `prepared.h5`, `decoders/` and NSD's transforms. Writes to `maps/`, for the target families semantic (c), detail
(z), each CLIP layer, and structural (the layers together):

    <family>_weights.nii.gz        the authors' recipe: |mean weight over outputs|, scaled to reach from 0 to 1
    <family>_patterns.nii.gz       root mean square correlation of the voxel with what is decoded (Haufe et al. 2014)
    noise_ceiling, c_minus_z       percent of variance; patterns of c less those of z, each over its mean of all voxels
    [lr]h.native.func.gii, .mgz    all maps on the subject's surface (n_vertices), [lr]h.native_rois.label.gii the ROIs
    [lr]h.fsaverage.func.gii, .mgz the same on fsaverage (163842), [lr]h.fsaverage_rois.label.gii the ROIs
    flat.png, inflated.png, maps.png    all on fsaverage5; in the volume, as slices
    maps.csv                       mean of each map by ROI
    shares.csv, c_against_z.csv    share of each ROI, and the index of c against z, with 95 % intervals over images
    hierarchy.json                 that index along the visual hierarchy (`shares.py`)

Voxels outside the ROIs are NaN. With --map, `<name>_flat.png` and the like are of that map alone; with --fs-lr, there
is `maps.dscalar.nii`. Data other than NSD's have no transforms: of those, only volumes; and where their rows do not say
where voxels lie, only tables, and no p. Peak memory: 3 GB at the real size, by count: voxels of the training images in
float64 and twice in float32, and a block of 1,024 outputs.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from data.own import is_own
from data.recipes import prepared
from feature_decoding import brain_plots, recipes, shares
from feature_decoding.decoders import read_blocks
from feature_decoding.maps import explained, mean_weights
from feature_decoding.projection import as_fs_lr, draw_map, map_files, read_anatomy
from feature_decoding.ridge import Scaler, predict
from minddiffuser import terminal
from minddiffuser.cli import Run, execute, parse
from minddiffuser.config import REPOSITORY
from minddiffuser.config.method import EMBEDDING
from minddiffuser.progress import progress
from minddiffuser.store import DataError, Files, open_made, write_atomically


def main(argv: list[str] | None = None) -> None:
    """Map each subject's decoders."""
    run = parse(__doc__, argv, add_arguments, divides=False)
    if run.own.map and len(run.subjects) != 1:
        raise DataError("--map: a map is of one subject: give --subject")
    if run.own.map and run.own.fs_lr:
        raise DataError("--fs-lr writes the maps of the decoders, which 27 without --map makes: give one of the two")
    if run.own.fs_lr and is_own(run.config):
        raise DataError("--fs-lr: there are no transforms to the surface for these data")
    for subject in run.subjects:
        output = Files(recipes.maps(run.config, subject))
        folder = output.recipe.path.parent
        if run.own.map:
            draw_map(run.own.map, read_anatomy(run.config, subject), folder)
        elif output.is_done(run.overwrite):
            print(f"{folder} is there already")
        else:
            make(run, subject, output)
        if run.own.fs_lr:
            dlabel = run.config.execution.dlabel
            scalars = as_fs_lr(folder, run.own.fs_lr, dlabel and REPOSITORY / dlabel)
            write_atomically(folder / "maps.dscalar.nii", scalars)
            print(f"{folder}/maps.dscalar.nii: for Connectome Workbench")


def make(run: Run, subject: str, output: Files) -> None:
    """Map all families, and say what the maps show."""
    anatomy = read_anatomy(run.config, subject)
    with open_made(prepared(run.config, subject)) as rows:
        betas, ceiling = rows["betas"][int(rows["is_test"][:].sum()) :], rows["noise_ceiling"][:]
    X = Scaler.of(betas).apply(betas)
    del betas
    layers = [name for name in recipes.names_of(run.config, "structural") if name != EMBEDDING]
    families, maps, single = {}, {}, X.astype(np.float32)
    for name in progress([*recipes.FAMILIES, *layers], desc=f"{subject} maps"):
        families[name] = explained((predict(X, d) for d in read_blocks(run.config, subject, name)), single, anatomy.roi)
        maps[f"{name}_weights"] = mean_weights(read_blocks(run.config, subject, name), X.shape[1])
        maps[f"{name}_patterns"] = np.sqrt(families[name].by_voxel)
    of_layers = [families[name] for name in layers]
    together = np.average([of.by_voxel for of in of_layers], axis=0, weights=[of.n_outputs for of in of_layers])
    maps["structural_weights"] = mean_weights(read_blocks(run.config, subject, *layers), X.shape[1])
    maps["structural_patterns"] = np.sqrt(together)
    c, z = maps["semantic_patterns"], maps["detail_patterns"]
    maps |= {brain_plots.CEILING: ceiling, brain_plots.DIFFERENCE: c / c.mean() - z / z.mean()}

    by = anatomy.names, anatomy.roi
    seeded = run.config.experiment.evaluation.n_bootstrap, run.config.experiment.seed
    index = shares.index_table(families["semantic"], families["detail"], *by, *seeded)
    places = anatomy.places() if anatomy.has_places else None
    rises = shares.hierarchy(families["semantic"], families["detail"], *by, places, *seeded)
    means = pd.DataFrame({"roi": np.array(anatomy.names)[anatomy.roi], **maps}).groupby("roi", sort=False).mean()
    output.write({
        **map_files(maps, anatomy, subject),
        "maps.csv": means.to_csv(float_format="%.4f"),
        "shares.csv": shares.share_table(families, *by, *seeded).to_csv(index=False, float_format="%.4f"),
        "c_against_z.csv": index.to_csv(index=False, float_format="%.4f"),
        "hierarchy.json": json.dumps(rises) + "\n",
    })  # fmt: skip
    print(f"{subject}: index of c against z in each ROI, with a 95 % interval over images")
    print(index.round(3).to_string(index=False, line_width=terminal.width()))
    if rises:
        text = "correlation of index and level in the visual hierarchy: {r:.3f} [{r_low:.3f}, {r_high:.3f}]"
        text += ", p {p:.3f}" if "p" in rises else ""
        print(f"{text.format(**rises)}\n")
    if not anatomy.has_places:
        print(f"{subject}: only tables, and no p, for prepared.h5 does not say where voxels lie (docs/own_data.md)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what draws other maps, and writes other files."""
    parser.add_argument(
        "--map", type=Path, metavar="FILE", help="draw this map of the subject's volume (NIfTI) instead"
    )
    parser.add_argument(
        "--fs-lr",
        type=Path,
        metavar="FOLDER",
        help="also write maps.dscalar.nii, by HCP's resample_fsaverage in FOLDER",
    )


if __name__ == "__main__":
    execute(main)
