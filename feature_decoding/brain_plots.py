"""Pictures of maps: flat and inflated cortex of fsaverage5, with outlines of ROIs, and slices of the volume.

A view is worked out once: which vertex each of its pixels shows (`see`). Every map is then a lookup, and so is what the
page of results shows under the pointer. Meshes are those that nilearn ships: nothing is downloaded.
"""

import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import matplotlib as mpl
import nibabel as nib
import numpy as np
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from nilearn.datasets import fetch_surf_fsaverage
from nilearn.plotting import plot_img
from nilearn.surface import load_surf_data, load_surf_mesh
from PIL import Image
from scipy.ndimage import distance_transform_edt, label

from data.surfaces import HEMISPHERES, NILEARN
from minddiffuser.figures import as_png

SEQUENTIAL, DIVERGING = "YlOrRd", "RdBu_r"
_EDGE, _ON_NO_DATA = (0.25, 0.25, 0.3), (0.6, 0.82)  # colours: outlines; sulci and gyri without data
_MARGIN, _LEAST_SIZE = 3, 40  # mm of a flat map: around the ROIs, and from side to side at least
# What is to the right, above, and toward whom looks at a left hemisphere: "front", "up", "out" (away from the middle)
# or the opposite. Of a right hemisphere right and left are exchanged.
VIEWS = {"lateral": ("-front", "up", "out"), "medial": ("front", "up", "-out"), "ventral": ("-front", "out", "-up")}
_FLAT_WIDTH, _INFLATED_WIDTH = 145, 190  # pixels
_LEAST_PIXELS, _ROOM = 40, (26, 12)  # of an ROI that is named, and of a name
CEILING, DIFFERENCE = "noise_ceiling", "c_minus_z"
TITLES = {"semantic": "c", "detail": "z", CEILING: "noise ceiling, %", DIFFERENCE: "patterns of c less of z"}
MEASURES = {"weights": "weights (authors)", "patterns": "patterns (r)"}


class Shown(NamedTuple):
    """A map on both hemispheres of fsaverage5.

    Attributes
    ----------
    title : str
    values : dict of "lh" and "rh" to array of shape (10242,)
        NaN where there are no data.
    low, high : float
        Ends of the colours.
    colours : str
        Name of the colour map.
    """

    title: str
    values: Mapping[str, np.ndarray]
    low: float
    high: float
    colours: str = SEQUENTIAL


def shown(title: str, values: Mapping[str, np.ndarray], is_difference: bool = False) -> Shown:
    """Choose the ends of the colours: from 0 to the 99th percentile, or as far on both sides of 0."""
    both = np.concatenate([values[side] for side in HEMISPHERES])
    top = float(np.nanquantile(np.abs(both), 0.99)) if np.isfinite(both).any() else 0.0
    top = top or 1.0  # where all is 0, or nowhere are data
    return Shown(title, values, -top, top, DIVERGING) if is_difference else Shown(title, values, 0.0, top)


def shown_maps(maps: Mapping[str, Mapping[str, np.ndarray]]) -> list[list[Shown]]:
    """Choose titles and colours of a subject's maps, in pairs: of each family both recipes, then the two others.

    Those of all layers together are left out.
    """
    families = [name.rpartition("_")[0] for name in maps if name.endswith("_weights")]
    pairs = [[f"{family}_{measure}" for measure in MEASURES] for family in families if family != "structural"]
    return [
        [shown(title_of(name), maps[name], is_difference=name == DIFFERENCE) for name in pair]
        for pair in [*pairs, [CEILING, DIFFERENCE]]
    ]


def title_of(name: str) -> str:
    """Say what a map is, such as "layer 4: patterns (r)"."""
    if name in TITLES:
        return TITLES[name]
    family, _, measure = name.rpartition("_")
    what = TITLES.get(family) or f"layer {int(family.removeprefix('linear_'))}"
    return f"{what}: {MEASURES[measure]}"


def see(right: np.ndarray, up: np.ndarray, toward: np.ndarray, triangles: np.ndarray, width: int) -> np.ndarray:
    """Work out which vertex each pixel of a view shows.

    Parameters
    ----------
    right, up, toward : arrays of shape (n_vertices,)
        Where vertices lie in the view, and how near to whom looks.
    triangles : array of shape (n_triangles, 3), int
        What is to be seen of the mesh.
    width : int
        Of the view, in pixels.

    Returns
    -------
    array of shape (height, width), int
        The nearest vertex of the triangle that is in front; -1 where there is none.
    """
    used = np.unique(triangles)
    scale = (width - 1) / np.ptp(right[used])
    x, y = (right - right[used].min()) * scale, (up[used].max() - up) * scale
    edges = triangles[:, [[0, 1], [1, 2], [2, 0]]]
    longest = np.hypot(np.ptp(x[edges], axis=-1), np.ptp(y[edges], axis=-1)).max(axis=1)
    finest = np.ceil(np.log2(np.maximum(1.5 * longest, 1))).astype(int)
    found = []
    for step in np.unique(finest):
        own, n = triangles[finest == step], 2**step  # points along an edge: less than a pixel apart
        i, j = np.nonzero(np.add.outer(np.arange(n + 1), np.arange(n + 1)) <= n)
        weights = np.stack([i, j, n - i - j], axis=1) / n  # (n_points, 3)
        column, row, depth = (values[own] @ weights.T for values in (x, y, toward))
        found.append([part.ravel() for part in (np.rint(column), np.rint(row), depth, own[:, weights.argmax(axis=1)])])
    column, row, depth, vertex = (np.concatenate(parts) for parts in zip(*found, strict=True))
    in_order = np.argsort(depth, kind="stable")  # the last is in front
    pixels = np.full((int(np.ceil(y[used].max())) + 1, width), -1)
    pixels[row[in_order].astype(int), column[in_order].astype(int)] = vertex[in_order]
    return pixels


@cache
def inflated(side: str, view: str, width: int = _INFLATED_WIDTH) -> np.ndarray:
    """See a hemisphere from one of VIEWS."""
    mesh = load_surf_mesh(fetch_surf_fsaverage("fsaverage5")[f"infl_{NILEARN[side]}"])
    (x, front, up), turned = np.asarray(mesh.coordinates, float).T, 1 if side == "lh" else -1
    along = {"front": front, "up": up, "out": -turned * x}
    right, above, toward = (-along[name[1:]] if name.startswith("-") else along[name] for name in VIEWS[view])
    return see(turned * right, above, toward, mesh.faces, width)


def flat(side: str, vertices: np.ndarray, width: int = _FLAT_WIDTH) -> np.ndarray:
    """See the flat map of a hemisphere, cut to some vertices and a margin around them, of 40 mm both ways at least.

    Parameters
    ----------
    side : "lh" or "rh"
    vertices : array of shape (10242,), bool
    width : int
    """
    mesh = load_surf_mesh(fetch_surf_fsaverage("fsaverage5")[f"flat_{NILEARN[side]}"])
    places, triangles = np.asarray(mesh.coordinates, float)[:, :2], mesh.faces
    used = vertices & np.isin(np.arange(len(places)), triangles)
    if used.any():
        low, high = places[used].min(axis=0) - _MARGIN, places[used].max(axis=0) + _MARGIN
        lacking = np.maximum(_LEAST_SIZE - (high - low), 0) / 2
        low, high = low - lacking, high + lacking
        triangles = triangles[((places >= low) & (places <= high)).all(axis=1)[triangles].all(axis=1)]
    return see(places[:, 0], places[:, 1], np.zeros(len(places)), triangles, width)


@cache
def is_sulcus(side: str) -> np.ndarray:
    """Tell which vertices of fsaverage5 lie in sulci."""
    return np.asarray(load_surf_data(fetch_surf_fsaverage("fsaverage5")[f"sulc_{NILEARN[side]}"])) > 0


def outlined(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tell which pixels are on the border of an ROI: (height, width), bool.

    Parameters
    ----------
    pixels : array of shape (height, width)
        Of `see`.
    labels : array of shape (n_vertices,), int
        -1 where there is none.
    """
    of_pixel = np.where(pixels < 0, -1, labels[pixels])
    border = np.zeros(pixels.shape, bool)
    border[:, :-1] |= of_pixel[:, 1:] != of_pixel[:, :-1]
    border[:-1] |= of_pixel[1:] != of_pixel[:-1]
    return border & (pixels >= 0)


def paint(pixels: np.ndarray, side: str, of: Shown, labels: np.ndarray) -> np.ndarray:
    """Colour a view: (height, width, 4), from 0 to 1; transparent beside the cortex."""
    values = of.values[side]
    grey = np.where(is_sulcus(side), *_ON_NO_DATA)
    coloured = mpl.colormaps[of.colours]((values - of.low) / (of.high - of.low))
    coloured[~np.isfinite(values)] = np.stack([grey, grey, grey, np.ones_like(grey)], axis=1)[~np.isfinite(values)]
    picture = coloured[pixels]
    picture[outlined(pixels, labels), :3] = _EDGE
    picture[pixels < 0] = 0
    return picture


def middles(pixels: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Find where the names of ROIs are written in a view, (column, row): where each is widest.

    The larger comes first; one that would lie on the name of another is left out, as one that is too small.
    """
    of_pixel, places = np.where(pixels < 0, -1, labels[pixels]), []
    for number, name in enumerate(names):
        pieces, n = label(of_pixel == number)
        if n and (sizes := np.bincount(pieces.ravel())[1:]).max() >= _LEAST_PIXELS:
            depth = distance_transform_edt(pieces == 1 + sizes.argmax())
            row, column = np.unravel_index(np.argmax(depth), depth.shape)
            places.append((sizes.max(), name, int(column), int(row)))
    found: dict[str, tuple[int, int]] = {}
    for _, name, column, row in sorted(places, reverse=True):
        if all(abs(column - x) >= _ROOM[0] or abs(row - y) >= _ROOM[1] for x, y in found.values()):
            found[name] = column, row
    return found


def draw_flat(
    rows: Sequence[Sequence[Shown]], labels: Mapping[str, np.ndarray], names: Sequence[str], title: str
) -> bytes:
    """Draw rows of flat maps, each left and right, with the names of ROIs."""
    views = {side: flat(side, labels[side] >= 0) for side in HEMISPHERES}
    starts = {side: k * (_FLAT_WIDTH + 4) for k, side in enumerate(HEMISPHERES)}
    shape = max(len(pixels) for pixels in views.values()), 2 * _FLAT_WIDTH + 4
    written = [
        (name, starts[side] + x, y)
        for side, pixels in views.items()
        for name, (x, y) in middles(pixels, labels[side], names).items()
    ]
    placed = [(side, pixels, 0, starts[side]) for side, pixels in views.items()]
    return _lay_out(rows, placed, labels, shape, written, title)


def draw_inflated(rows: Sequence[Sequence[Shown]], labels: Mapping[str, np.ndarray], title: str) -> bytes:
    """Draw rows of inflated hemispheres, the left one above the right one, from the side, the middle and below."""
    views = {(side, view): inflated(side, view) for side in HEMISPHERES for view in VIEWS}
    height = max(len(pixels) for pixels in views.values()) + 4
    placed = []
    for (side, view), pixels in views.items():
        top = HEMISPHERES.index(side) * height + (height - len(pixels)) // 2
        placed.append((side, pixels, top, list(VIEWS).index(view) * _INFLATED_WIDTH))
    return _lay_out(rows, placed, labels, (2 * height, len(VIEWS) * _INFLATED_WIDTH), [], title)


def _lay_out(
    rows: Sequence[Sequence[Shown]],
    placed: Sequence[tuple[str, np.ndarray, int, int]],
    labels: Mapping[str, np.ndarray],
    shape: tuple[int, int],
    written: Sequence[tuple[str, int, int]],
    title: str,
) -> bytes:
    """Draw rows of panels of one shape, (height, width), each with its title and a bar of its colours.

    Parameters
    ----------
    placed : sequence of (side, pixels, top, left)
        The views of a panel, and where they are in it.
    written : sequence of (text, column, row)
        What is written in each panel.
    """
    dpi, head, gap, edge = 110, 40, 32, 12  # pixels; dpi of `as_png`
    n_columns = max(map(len, rows))
    height, width = head + len(rows) * (shape[0] + gap), n_columns * (shape[1] + edge) + edge
    picture = np.ones((height, width, 4))
    figure = plt.figure(figsize=(width / dpi, height / dpi))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.axis("off")
    axis.text(edge, head / 2, title, fontsize=11, va="center")
    halo = [patheffects.withStroke(linewidth=2, foreground="white")]
    for k, row in enumerate(rows):
        for j, of in enumerate(row):
            top, left = head + k * (shape[0] + gap) + gap - 8, edge + j * (shape[1] + edge)
            for side, pixels, y, x in placed:
                painted, there = paint(pixels, side, of, labels[side]), pixels >= 0
                picture[top + y : top + y + len(pixels), left + x : left + x + pixels.shape[1]][there] = painted[there]
            bar = slice(top - 14, top - 7), slice(left + shape[1] - 78, left + shape[1] - 38)
            picture[bar] = mpl.colormaps[of.colours](np.linspace(0, 1, 40))
            axis.text(left, top - 10, of.title, fontsize=8, va="center")
            for place, align, value in ((-81, "right", of.low), (-35, "left", of.high)):
                text = f"{value:.2g}".replace("-", "−")
                axis.text(left + shape[1] + place, top - 10, text, fontsize=7, ha=align, va="center")
            for text, x, y in written:
                axis.text(left + x, top + y, text, fontsize=6, ha="center", va="center", path_effects=halo)
    axis.imshow(picture, interpolation="nearest")
    return of_256_colours(as_png(figure))


def of_256_colours(png: bytes) -> bytes:
    """Give a PNG of few colours a palette: a third of the size."""
    content = io.BytesIO()
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(content, "png", optimize=True)
    return content.getvalue()


def draw_slices(maps: Mapping[str, np.ndarray], affine: np.ndarray, title: str) -> bytes:
    """Draw axial slices of maps of the volume, each (X, Y, Z) from 0, two in a row."""
    n_rows = -(-len(maps) // 2)
    figure = plt.figure(figsize=(12, height := 0.6 + 1.6 * n_rows))
    figure.text(0.02, 1 - 0.3 / height, title, fontsize=11)
    for k, (name, values) in enumerate(maps.items()):
        box = tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(np.isfinite(values)))
        high = float(np.nanmax(values))
        left, bottom = 0.02 + 0.5 * (k % 2), 1 - (0.55 + 1.6 * (1 + k // 2)) / height
        figure.text(left, bottom + 1.28 / height, name.replace("_", ": "), fontsize=9)
        shown = nib.Nifti1Image(np.nan_to_num(values), affine).slicer[box]
        axis = figure.add_axes((left, bottom, 0.41, 1.2 / height))
        cuts = {"display_mode": "z", "cut_coords": 5, "annotate": False, "colorbar": False}
        plot_img(shown, axes=axis, cmap="inferno", vmin=0, vmax=high, **cuts)
        bar = figure.add_axes((left + 0.42, bottom, 0.008, 1.2 / height))
        figure.colorbar(ScalarMappable(Normalize(0, high), "inferno"), cax=bar, ticks=[0, high])
        bar.set_yticklabels(["0", f"{high:.2f}"], fontsize=8)
    return as_png(figure)
