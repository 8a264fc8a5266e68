"""Write the transforms of a simulated subject from their volume to a cortical surface, as NSD writes them.

The subject's surface is a folded sheet through the shell that has the ROIs: fsaverage's own folds, drawn into that
shell, with 2,562 places of a hemisphere less some, in an order of its own, so that a wrong order or side shows.
"""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nilearn.datasets import load_fsaverage
from scipy.spatial import cKDTree

from data.nsd_surfaces import NOWHERE, transform_files
from data.surfaces import N_FSAVERAGE, NILEARN
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import write_atomically

N_NATIVE = 2562  # as fsaverage4 has
_KEPT, _LOST = 0.97, 0.01  # of these the share that a subject has, and of those the share without a place
_DEPTHS = (-0.02, 0.0, 0.02)  # of the three layers, in radii of the brain
_INNER, _OUTER = 0.65, 0.85  # radii that the sheet folds between, in the middle of the shell of `nsd.write_rois`


def write_surfaces(root: Path, subject: int, space: str, shape: tuple[int, ...], seed: int) -> None:
    """Write the transforms of both hemispheres of a subject with a volume of this shape."""
    white, sphere = (load_fsaverage("fsaverage5")[kind].parts for kind in ("white_matter", "sphere"))
    folded = fold({side: white[name].coordinates[:N_NATIVE] for side, name in NILEARN.items()})
    for side, files in transform_files(f"subj{subject:02d}", space).items():
        places, mesh = folded[side], sphere[NILEARN[side]]
        rng = numpy_generator(seed, "surface", subject, side)
        own = rng.permutation(N_NATIVE)
        own = own[rng.uniform(size=N_NATIVE) < _KEPT]
        is_lost = rng.uniform(size=len(own)) < _LOST
        for file, depth in zip(files, _DEPTHS, strict=False):
            radius = np.linalg.norm(places[own], axis=1, keepdims=True)
            centred = places[own] * (radius + depth) / radius
            voxels = centred * np.array(shape) / 2 + (np.array(shape) - 1) / 2 + 1  # counted from 1
            voxels[is_lost] = NOWHERE
            write_atomically(root / file, _mgz(voxels.astype(np.float32)))
        nearest = cKDTree(mesh.coordinates[own]).query(as_fine_as_fsaverage(mesh.coordinates, mesh.faces))[1]
        write_atomically(root / files[-1], _mgz((nearest[:, None] + 1).astype(np.int32)))


def are_there(root: Path, subjects: Sequence[str], space: str) -> bool:
    """Tell whether all transforms of some subjects are there."""
    files = [file for name in subjects for of_side in transform_files(name, space).values() for file in of_side]
    return all((root / file).is_file() for file in files)


def fold(white: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Draw white surfaces, each (n_vertices, 3) in mm, left to right, into the shell of an ellipsoid of radius 1."""
    both = np.concatenate(list(white.values()))
    low, high = both.min(axis=0), both.max(axis=0)
    middle = (low + high) / 2 * [0, 1, 1]  # the hemispheres meet at x = 0
    scaled = {side: (places - middle) / ((high - low) / 2) for side, places in white.items()}
    radii = {side: np.linalg.norm(places, axis=1, keepdims=True) for side, places in scaled.items()}
    top = max(radius.max() for radius in radii.values())
    return {
        side: places / radii[side] * (_INNER + (_OUTER - _INNER) * radii[side] / top) for side, places in scaled.items()
    }


def as_fine_as_fsaverage(places: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Divide the sphere of fsaverage5 until it has fsaverage's 163,842 vertices; those of fsaverage5 come first.

    The order of the others is ours: FreeSurfer's is in a file of its own.
    """
    while len(places) < N_FSAVERAGE:
        edges, of_triangle = np.unique(
            np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)), axis=0, return_inverse=True
        )
        ab, bc, ca = (of_triangle.reshape(-1, 3) + len(places)).T
        a, b, c = triangles.T
        places = np.concatenate([places, places[edges].mean(axis=1)])
        quarters = (a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)
        triangles = np.concatenate([np.stack(corners, axis=1) for corners in quarters])
    return places * np.linalg.norm(places[0]) / np.linalg.norm(places, axis=1, keepdims=True)


def _mgz(values: Any) -> bytes:
    """Compressed MGH with the same bytes for the same values, an array of shape (n_vertices, n)."""
    return gzip.compress(nib.MGHImage(values[:, :, None], np.eye(4)).to_bytes(), compresslevel=1, mtime=0)
