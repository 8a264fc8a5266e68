"""A subject's maps in the volume, on their own cortical surface, and on fsaverage."""

import gzip
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from data.cortex import Atlas, dense_scalars, read_atlas
from data.nsd_surfaces import read_surfaces
from data.own import is_own
from data.recipes import prepared
from data.surfaces import (
    HEMISPHERES,
    N_FSAVERAGE5,
    Surface,
    as_gifti,
    as_labels,
    as_mgz,
    labels_at,
    read_gifti,
    to_fs_lr,
    to_vertices,
)
from feature_decoding import brain_plots
from minddiffuser.config import Config
from minddiffuser.store import DataError, open_made, reading, write_atomically

CORTEX, ROIS = "fsaverage.func.gii", "fsaverage_rois.label.gii"  # after "lh." and "rh."


class Anatomy(NamedTuple):
    """Where a subject's voxels lie.

    Attributes
    ----------
    index : array of shape (n_voxels,)
        Position in the C-order of the volume.
    names : list of str
        Of ROIs.
    roi : array of shape (n_voxels,), int
        Number in `names`.
    shape : tuple of three int
    affine : array of shape (4, 4)
    surfaces : mapping of "lh" and "rh" to Surface
        Empty for data other than NSD's, of which no transforms are known.
    """

    index: np.ndarray
    names: list[str]
    roi: np.ndarray
    shape: tuple[int, ...]
    affine: np.ndarray
    surfaces: Mapping[str, Surface]

    @property
    def has_places(self) -> bool:
        """Whether it is known where voxels lie: where it is not, `data/own.py` has put them in a line."""
        return self.shape[1:] != (1, 1)

    def volume(self, values: np.ndarray) -> np.ndarray:
        """Put values, (n_voxels,), into the volume, (X, Y, Z) float32; the rest is NaN."""
        volume = np.full(np.prod(self.shape), np.nan, np.float32)
        volume[self.index] = values
        return volume.reshape(self.shape)

    def places(self) -> np.ndarray:
        """Give where each voxel lies, in mm: (n_voxels, 3)."""
        return apply_affine(self.affine, np.stack(np.unravel_index(self.index, self.shape), axis=1))

    def labels(self) -> dict[str, np.ndarray]:
        """Give the number of the ROI of each vertex, by hemisphere: (n_vertices,), -1 where there is none."""
        return {side: labels_at(self.index, self.roi, self.shape, surface) for side, surface in self.surfaces.items()}


def read_anatomy(config: Config, subject: str) -> Anatomy:
    """Read where a subject's voxels lie, and NSD's transforms.

    Raises
    ------
    DataError
        A transform is missing or broken.
    """
    with open_made(prepared(config, subject)) as rows:
        index, shape, affine = (rows[name][:] for name in ("voxel_index", "volume_shape", "affine"))
        of_voxel = rows["roi"][:].astype(str)
    names = [str(name) for name in dict.fromkeys(of_voxel)]
    roi = np.array([names.index(name) for name in of_voxel])
    surfaces = {} if is_own(config) else read_surfaces(config.nsd, subject, config.experiment.data.space)
    return Anatomy(index, names, roi, tuple(shape.tolist()), affine, surfaces)


def read_volume(path: Path, anatomy: Anatomy) -> np.ndarray:
    """Read a map that somebody else made in a subject's space, (X, Y, Z)."""
    if not path.is_file():
        raise DataError(f"--map: {path} is missing")
    with reading(path, "a map of the brain (NIfTI)", "write it again"):
        image: Any = nib.load(path)
        values = np.asarray(image.dataobj, float)
        if values.shape != anatomy.shape:
            raise ValueError(f"it has shape {values.shape}, and the subject's volume has {anatomy.shape}")
    return values


def as_nifti(volume: np.ndarray, affine: np.ndarray) -> bytes:
    """Give a volume as compressed NIfTI: the same map is the same file."""
    return gzip.compress(nib.Nifti1Image(volume, affine).to_bytes(), mtime=0)


def on_surface(volumes: Mapping[str, np.ndarray], anatomy: Anatomy) -> dict[str, dict[str, np.ndarray]]:
    """Take maps of the volume to the subject's vertices: by hemisphere and name, (n_vertices,)."""
    return {
        side: {name: to_vertices(volume, surface) for name, volume in volumes.items()}
        for side, surface in anatomy.surfaces.items()
    }


def map_files(maps: Mapping[str, np.ndarray], anatomy: Anatomy, subject: str) -> dict[str, bytes]:
    """Give all files of a subject's maps: volumes and slices, and what is on surfaces, where there are transforms.

    Parameters
    ----------
    maps : mapping of str to array of shape (n_voxels,)
        As 27 makes them.
    anatomy : Anatomy
    subject : str

    Returns
    -------
    dict of str to bytes
        By the name of the file; empty where it is not known where voxels lie.
    """
    if not anatomy.has_places:
        return {}
    volumes = {name: anatomy.volume(values) for name, values in maps.items()}
    title = f"{subject}: where targets are decoded from"
    slices = {name: volumes[name] for name in volumes if name.startswith(("semantic", "detail", "structural"))}
    files = {f"{name}.nii.gz": as_nifti(volume, anatomy.affine) for name, volume in volumes.items()}
    files["maps.png"] = brain_plots.draw_slices(slices, anatomy.affine, f"{title} (axial slices, ROIs only)")
    if anatomy.surfaces:
        own, labels = on_surface(volumes, anatomy), anatomy.labels()
        files |= draw_maps(on_fsaverage5(own, labels, anatomy), title) | surface_files(own, labels, anatomy)
    return files


def surface_files(
    maps: Mapping[str, Mapping[str, np.ndarray]], labels: Mapping[str, np.ndarray], anatomy: Anatomy
) -> dict[str, bytes]:
    """Give files for other programs: maps and ROIs of both hemispheres, on the subject's surface and on fsaverage.

    Parameters
    ----------
    maps : mapping of str to mapping of str to array of shape (n_vertices,)
        Of `on_surface`.
    labels : mapping of str to array of shape (n_vertices,), int
        Of `Anatomy.labels`.
    anatomy : Anatomy
    """
    files = {}
    for side, own in maps.items():
        nearest = anatomy.surfaces[side].nearest
        there = {name: values[nearest] for name, values in own.items()}
        files[f"{side}.native.func.gii"], files[f"{side}.{CORTEX}"] = as_gifti(own, side), as_gifti(there, side)
        files[f"{side}.native.mgz"], files[f"{side}.fsaverage.mgz"] = as_mgz(own), as_mgz(there)
        files[f"{side}.native_rois.label.gii"] = as_labels(labels[side], anatomy.names, side)
        files[f"{side}.{ROIS}"] = as_labels(labels[side][nearest], anatomy.names, side)
    return files


def as_fs_lr(folder: Path, spheres: Path, dlabel: Path | None) -> bytes:
    """Give the maps on fsaverage in a folder as CIFTI-2 on fs_LR 32k.

    Parameters
    ----------
    folder : Path
        What 27 wrote.
    spheres : Path
        HCP's (`surfaces.to_fs_lr`).
    dlabel : Path, optional
        See `read_atlas`, whose vertices the maps are given at.
    """
    atlas, nearest = read_atlas(dlabel), to_fs_lr(spheres)
    found = {side: read_gifti(folder / f"{side}.{CORTEX}") for side in HEMISPHERES}
    at = {side: atlas.vertex[atlas.hemisphere == letter] for side, letter in zip(HEMISPHERES, "LR", strict=True)}
    letters = np.repeat(["L", "R"], [len(vertices) for vertices in at.values()])
    ordered = Atlas(letters, np.concatenate(list(at.values())), atlas.area)
    maps = {
        name: (ordered, np.concatenate([found[side][name][nearest[side][at[side]]] for side in HEMISPHERES]))
        for name in found["lh"]
    }
    return dense_scalars(maps, atlas)


class OnFsaverage(NamedTuple):
    """What is drawn: maps and labels of fsaverage5.

    Attributes
    ----------
    maps : dict of str to dict of "lh" and "rh" to array of shape (10242,)
    labels : dict of "lh" and "rh" to array of shape (10242,), int
        Number in `names`; -1 where there is none.
    names : list of str
        Of ROIs.
    """

    maps: dict[str, dict[str, np.ndarray]]
    labels: dict[str, np.ndarray]
    names: list[str]


def on_fsaverage5(
    maps: Mapping[str, Mapping[str, np.ndarray]], labels: Mapping[str, np.ndarray], anatomy: Anatomy
) -> OnFsaverage:
    """Take maps and labels, as in `surface_files`, to fsaverage5."""
    nearest = {side: surface.nearest[:N_FSAVERAGE5] for side, surface in anatomy.surfaces.items()}
    found = {name: {side: maps[side][name][nearest[side]] for side in maps} for name in maps["lh"]}
    return OnFsaverage(found, {side: labels[side][nearest[side]] for side in labels}, anatomy.names)


def read_fsaverage5(folder: Path) -> OnFsaverage:
    """Read what `surface_files` wrote to a folder."""
    by_side, labels, names = {}, {}, []
    for side in HEMISPHERES:
        by_side[side] = read_gifti(folder / f"{side}.{CORTEX}")
        path = folder / f"{side}.{ROIS}"
        with reading(path, "labels of ROIs", "make it again"):
            image: Any = nib.load(path)
            labels[side] = image.darrays[0].data[:N_FSAVERAGE5] - 1
            names = list(image.labeltable.get_labels_as_dict().values())[1:]
    maps = {name: {side: by_side[side][name][:N_FSAVERAGE5] for side in by_side} for name in by_side["lh"]}
    return OnFsaverage(maps, labels, names)


def draw_maps(cortex: OnFsaverage, title: str) -> dict[str, bytes]:
    """Draw a subject's maps, flat and inflated: PNG by the name of the file."""
    pairs = brain_plots.shown_maps(cortex.maps)
    in_fours = [list(itertools.chain(*pairs[k : k + 2])) for k in range(0, len(pairs), 2)]
    return {
        "flat.png": brain_plots.draw_flat(in_fours, cortex.labels, cortex.names, title),
        "inflated.png": brain_plots.draw_inflated(pairs, cortex.labels, title),
    }


def draw_map(path: Path, anatomy: Anatomy, folder: Path) -> None:
    """Draw a map that somebody else made in a subject's space, and write it for fsaverage.

    Raises
    ------
    DataError
        The map is missing, broken, of another space, or the subject has no transforms.
    """
    if not anatomy.surfaces:
        raise DataError("--map: there are no transforms to the surface for these data")
    volume, name = read_volume(path, anatomy), path.name.removesuffix(".gz").removesuffix(".nii")
    maps = on_surface({name: volume}, anatomy)
    cortex = on_fsaverage5(maps, anatomy.labels(), anatomy)
    rows = [[brain_plots.shown(name, cortex.maps[name], is_difference=bool(np.nanmin(volume) < 0))]]
    contents = {
        f"{name}_flat.png": brain_plots.draw_flat(rows, cortex.labels, cortex.names, ""),
        f"{name}_inflated.png": brain_plots.draw_inflated(rows, cortex.labels, ""),
        **{
            f"{side}.{name}.{CORTEX}": as_gifti({name: own[name][anatomy.surfaces[side].nearest]}, side)
            for side, own in maps.items()
        },
    }
    for file, content in contents.items():
        write_atomically(folder / file, content)
        print(folder / file)
