"""From a volume to a person's cortical surface, to fsaverage, and to files that other programs open.

A map of voxels has values in some ROIs, and no data elsewhere. Values and coverage (1 where there are data, else 0) are
interpolated alike, and divided: so a vertex at the border of an ROI has the mean of the voxels with data around it, and
is not pulled to 0 by those without. A vertex has a place at several cortical depths. A depth counts where at least
half of what is around its place has data; a vertex has the mean over the depths that count, and no data where none
does. ROIs follow the same rule, so that a vertex has an ROI exactly where it has a value.

As in NSD's own nsdcode (github.com/cvnlab/nsdcode, `interp_wrapper`), places beyond the centres of the outermost voxels
have no data. Earlier versions of its Python compare places that are counted from 0 with limits that are counted from
1: they leave out the first voxels, and read past the last; that is not done here. How maps are read is another thing:
nsdcode's default is cubic, it takes one depth at a time, and voxels without data for 0.
"""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiMetaData
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from data.cortex import N_SURFACE
from minddiffuser.store import DataError, reading

HEMISPHERES = ("lh", "rh")
NILEARN = {"lh": "left", "rh": "right"}  # what nilearn calls them
N_FSAVERAGE = 163_842  # vertices of a hemisphere
N_FSAVERAGE5 = 10_242  # of them the first are fsaverage5
LEAST_COVERAGE = 0.5
# In HCP's folder standard_mesh_atlases/resample_fsaverage: spheres in which fsaverage and fs_LR lie on each other.
_SPHERES = {
    "fsaverage_std_sphere.{0}.164k_fsavg_{0}.surf.gii": N_FSAVERAGE,
    "fs_LR-deformed_to-fsaverage.{0}.sphere.32k_fs_LR.surf.gii": N_SURFACE,
}


@dataclass(frozen=True)
class Surface:
    """A hemisphere of a person.

    Attributes
    ----------
    places : array of shape (n_layers, n_vertices, 3)
        In the volume, in voxels from 0; NaN where there is none.
    nearest : array of shape (163842,), int
        For each vertex of fsaverage the nearest of these, from 0.
    """

    places: np.ndarray
    nearest: np.ndarray


def to_vertices(volume: np.ndarray, surface: Surface) -> np.ndarray:
    """Read a volume at the vertices of a hemisphere: the mean over the layers that have data.

    Parameters
    ----------
    volume : array of shape (X, Y, Z)
        NaN where there are no data.
    surface : Surface

    Returns
    -------
    array of shape (n_vertices,)
        NaN where no layer has data.
    """
    has_data = np.isfinite(volume)
    weights = _weights(has_data, surface)
    total = (_read_at(np.where(has_data, volume, 0.0), surface) * weights).sum(axis=0)
    return np.where(weights.any(axis=0), total, np.nan)


def labels_at(voxel_index: np.ndarray, label: np.ndarray, shape: tuple[int, ...], surface: Surface) -> np.ndarray:
    """Label the vertices of a hemisphere: each gets what most of the voxels with a label around it have.

    Parameters
    ----------
    voxel_index : array of shape (n_voxels,)
        Position in the C-order of the volume.
    label : array of shape (n_voxels,), int
        From 0.
    shape : (X, Y, Z)
    surface : Surface

    Returns
    -------
    array of shape (n_vertices,), int
        -1 where a map of the labelled voxels has no data (`to_vertices`).
    """
    of_volume = np.full(shape, -1)
    of_volume.ravel()[voxel_index] = label
    weights = _weights(of_volume >= 0, surface)
    shares = [(_read_at(of_volume == number, surface) * weights).sum(axis=0) for number in range(label.max() + 1)]
    return np.where(weights.any(axis=0), np.argmax(shares, axis=0), -1)


def _weights(has_data: np.ndarray, surface: Surface) -> np.ndarray:
    """How much what is read at each place counts, (n_layers, n_vertices): 0 in layers without data."""
    coverage = _read_at(has_data, surface)
    counts = coverage >= LEAST_COVERAGE
    return counts / np.where(counts, coverage * counts.sum(axis=0), 1)


def _read_at(volume: np.ndarray, surface: Surface) -> np.ndarray:
    """Interpolate a volume, 0 beyond it, linearly: (n_layers, n_vertices)."""
    last = np.array(volume.shape) - 1
    inside = np.all((surface.places >= 0) & (surface.places <= last), axis=-1)  # a place that is NaN is not
    at = np.where(inside[..., None], surface.places, 0).reshape(-1, 3).T  # (3, n_layers * n_vertices)
    found = map_coordinates(volume.astype(float), at, order=1, mode="nearest")
    return found.reshape(inside.shape) * inside


# Files ------------------------------------------------------------------------------------------------------------


def as_gifti(maps: Mapping[str, np.ndarray], side: str) -> bytes:
    """Give maps of a hemisphere as a GIFTI file (.func.gii): the name of each is in its metadata.

    Parameters
    ----------
    maps : mapping of str to array of shape (n_vertices,)
    side : "lh" or "rh"
    """
    arrays = [
        GiftiDataArray(
            values.astype(np.float32), "NIFTI_INTENT_NONE", "NIFTI_TYPE_FLOAT32", meta=GiftiMetaData(Name=name)
        )
        for name, values in maps.items()
    ]
    return GiftiImage(darrays=arrays, meta=_structure(side)).to_bytes()


def as_labels(labels: np.ndarray, names: list[str], side: str) -> bytes:
    """Give labels of a hemisphere as a GIFTI file (.label.gii), 0 where there is none.

    Parameters
    ----------
    labels : array of shape (n_vertices,), int
        From 0, and -1 where there is none.
    names : list of str
    side : "lh" or "rh"
    """
    array = GiftiDataArray((labels + 1).astype(np.int32), "NIFTI_INTENT_LABEL", "NIFTI_TYPE_INT32")
    image = GiftiImage(darrays=[array], meta=_structure(side))
    for number, name in enumerate(["???", *names]):
        shade = number / len(names)
        label: Any = GiftiLabel(number, shade, 0.5, 1 - shade, float(number > 0))
        label.label = name
        image.labeltable.labels.append(label)
    return image.to_bytes()


def _structure(side: str) -> GiftiMetaData:
    return GiftiMetaData(AnatomicalStructurePrimary="CortexLeft" if side == "lh" else "CortexRight")


def read_gifti(path: Path) -> dict[str, np.ndarray]:
    """Read the maps of a GIFTI file by name.

    Raises
    ------
    DataError
        The file is missing or broken.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing")
    with reading(path, "maps of a hemisphere", "make it again"):
        image: Any = nib.load(path)
        return {array.meta["Name"]: np.asarray(array.data) for array in image.darrays}


def as_mgz(maps: Mapping[str, np.ndarray]) -> bytes:
    """Give maps of a hemisphere as FreeSurfer's format, (n_vertices, 1, 1, n_maps), which has no names."""
    values: Any = np.stack(list(maps.values()), axis=-1).astype(np.float32)
    return gzip.compress(nib.MGHImage(values[:, None, None], np.eye(4)).to_bytes(), compresslevel=1, mtime=0)


def to_fs_lr(folder: Path) -> dict[str, np.ndarray]:
    """Find for each vertex of fs_LR 32k the nearest of fsaverage, by HCP's spheres.

    Parameters
    ----------
    folder : Path
        HCP's standard_mesh_atlases/resample_fsaverage.

    Returns
    -------
    dict of "lh" and "rh" to array of shape (32492,), int
    """
    found = {}
    for side, letter in zip(HEMISPHERES, "LR", strict=True):
        spheres = []
        for name, n_vertices in _SPHERES.items():
            path, what = folder / name.format(letter), "a sphere of HCP's standard_mesh_atlases/resample_fsaverage"
            if not path.is_file():
                raise DataError(f"{what} is missing: expected {path}", "", path)
            with reading(path, what):
                image: Any = nib.load(path)
                spheres.append(np.asarray(image.agg_data("pointset")))
                if len(spheres[-1]) != n_vertices:
                    raise ValueError(f"it has {len(spheres[-1])} vertices, not {n_vertices}")
        unit = [sphere / np.linalg.norm(sphere, axis=1, keepdims=True) for sphere in spheres]
        found[side] = cKDTree(unit[0]).query(unit[1])[1]
    return found
