"""NSD's transforms from a subject's volume to their cortical surface, and from there to fsaverage.

With `nsd`, `nsd_betas` and `nsd_rois` what knows the names of NSD's files. `nsddata/ppdata/<subject>/transforms/` has,
for each hemisphere (lh, rh):

    lh.func1pt8-to-layerB1.mgz  (and B2, B3)  (n_vertices, 3) places in the volume, in voxels, counted from 1; 9999
                                where there is none. The layers lie at 25, 50 and 75 % of the cortical depth
    lh.white-to-fsaverage.mgz   (163842,) for each vertex of fsaverage the nearest one of the subject, counted from 1

What is done with them is in `data/surfaces.py`.

Reference: Allen et al. 2022, doi 10.1038/s41593-021-00962-x, and the NSD data manual.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from data.nsd import require_file
from data.surfaces import HEMISPHERES, N_FSAVERAGE, Surface
from minddiffuser.store import DataError, reading

LAYERS = ("layerB1", "layerB2", "layerB3")
NOWHERE = 9999  # stands for a place that is not known
_SPACES = {"func1pt8mm": "func1pt8", "func1mm": "func1pt0"}
_WHAT, _AGAIN = "a transform to the surface", "fetch it again"


def transform_files(subject: str, space: str) -> dict[str, list[Path]]:
    """Name the files of each hemisphere in NSD's folder: three layers, then the one to fsaverage."""
    folder = Path("nsddata/ppdata", subject, "transforms")
    names = [*(f"{_SPACES.get(space, space)}-to-{layer}" for layer in LAYERS), "white-to-fsaverage"]
    return {side: [folder / f"{side}.{name}.mgz" for name in names] for side in HEMISPHERES}


def read_surfaces(root: Path, subject: str, space: str) -> Mapping[str, Surface]:
    """Read both hemispheres of a subject, "lh" and "rh".

    Raises
    ------
    DataError
        A file is missing or broken, layers have different numbers of vertices, or one points to a vertex that there is
        not.
    """
    found = {}
    for side, names in transform_files(subject, space).items():
        *layers, to_fsaverage = (require_file(root / name, _WHAT) for name in names)
        places = [_read_places(path) for path in layers]
        if len({len(of_layer) for of_layer in places}) > 1:
            counts = ", ".join(f"{len(of_layer)}" for of_layer in places)
            raise DataError(f"{layers[0].parent}: the layers of {side} have {counts} vertices", _AGAIN, layers[0])
        found[side] = Surface(np.stack(places), _read_nearest(to_fsaverage, len(places[0])))
    return found


def _read_places(path: Path) -> np.ndarray:
    """Places in the volume, counted from 0: (n_vertices, 3), NaN where there is none."""
    with reading(path, _WHAT, _AGAIN):
        image: Any = nib.load(path)
        values = np.asarray(image.dataobj, np.float64).squeeze()
        if values.ndim != 2 or values.shape[1] != 3:
            raise ValueError(f"it has shape {values.shape}, not (n_vertices, 3)")
    return np.where((values == NOWHERE) | ~np.isfinite(values), np.nan, values - 1)


def _read_nearest(path: Path, n_vertices: int) -> np.ndarray:
    """Nearest vertex of the subject, counted from 0: (163842,)."""
    with reading(path, _WHAT, _AGAIN):
        image: Any = nib.load(path)
        values = np.asarray(image.dataobj).ravel()
        if len(values) != N_FSAVERAGE:
            raise ValueError(f"it has {len(values)} vertices, and fsaverage has {N_FSAVERAGE}")
        nearest = values.astype(np.int64) - 1
        if nearest.min() < 0 or nearest.max() >= n_vertices:
            raise ValueError(f"it points to vertices {nearest.min() + 1} to {nearest.max() + 1} of {n_vertices}")
    return nearest
