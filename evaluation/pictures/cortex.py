"""The flat maps of the page: pictures whose pixels are numbers, which the script colours and reads under the pointer.

A picture has both hemispheres. Its grey values are 0 beside the cortex or without data, and otherwise 1 to 255, from
the low end of the map's colours to the high one; in the picture of ROIs they are 1 (a gyrus), 2 (a sulcus), and from 3
on the ROIs.
"""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from PIL import Image

from data.surfaces import HEMISPHERES
from evaluation.page.album import Album
from feature_decoding import brain_plots
from feature_decoding.projection import read_fsaverage5
from feature_decoding.recipes import maps
from minddiffuser.config import Config
from minddiffuser.store import Files

WIDTH, _GAP = 220, 8  # pixels: of a hemisphere, and between them
COLOURS = {
    name: [to_hex(mpl.colormaps[name](k / 254)) for k in range(255)]
    for name in (brain_plots.SEQUENTIAL, brain_plots.DIVERGING)
}


class FlatMaps(NamedTuple):
    """A subject's maps.

    Attributes
    ----------
    rois : bytes
        Picture of ROIs.
    names : list of str
        Of ROIs.
    middles : list of (str, column, row)
        Where names are written.
    pairs : list of (str, list of (str, bytes, low, high, colours))
        A family, and for each of its maps the title, picture, ends and colour map.
    index : DataFrame
        c_against_z.csv of 27.
    hierarchy : dict
        hierarchy.json of 27.
    """

    rois: bytes
    names: list[str]
    middles: list[tuple[str, int, int]]
    pairs: list[tuple[str, list[tuple[str, bytes, float, float, str]]]]
    index: pd.DataFrame
    hierarchy: dict[str, float]


def why_no_flat_maps(config: Config, subject: str) -> str:
    """Say why there are no maps of a subject's present decoders on the cortex; empty where there are."""
    recipe = maps(config, subject)
    has_surface = recipe.path.with_name("flat.png").is_file()
    return Files(recipe).why_absent() or ("" if has_surface else "there are no transforms to the surface")


def read_flat_maps(config: Config, subject: str) -> FlatMaps:
    """Draw the maps that 27 made of a subject."""
    folder = maps(config, subject).path.parent
    hierarchy = json.loads((folder / "hierarchy.json").read_text())
    return flat_maps(folder, pd.read_csv(folder / "c_against_z.csv"), hierarchy)


def flat_maps(folder: Path, index: pd.DataFrame, hierarchy: dict[str, float]) -> FlatMaps:
    """Draw the maps in a folder."""
    cortex = read_fsaverage5(folder)
    views = {side: brain_plots.flat(side, cortex.labels[side] >= 0, WIDTH) for side in HEMISPHERES}
    rois, middles = {}, []
    for side, left in zip(HEMISPHERES, (0, WIDTH + _GAP), strict=True):
        plain = np.where(brain_plots.is_sulcus(side), 2, 1)
        rois[side] = np.where(cortex.labels[side] >= 0, cortex.labels[side] + 3, plain)
        at = brain_plots.middles(views[side], cortex.labels[side], cortex.names)
        middles += [(name, left + x, y) for name, (x, y) in at.items()]
    pairs = []
    for pair in brain_plots.shown_maps(cortex.maps):
        family = pair[0].title.partition(":")[0]
        if ":" in pair[0].title:
            pairs.append((family, [_map(of, of.title.partition(": ")[2], views) for of in pair]))
        else:
            pairs += [(of.title, [_map(of, "", views)]) for of in pair]
    return FlatMaps(_picture(rois, views), cortex.names, middles, pairs, index, hierarchy)


def _map(of: brain_plots.Shown, title: str, views: dict[str, np.ndarray]) -> tuple[str, bytes, float, float, str]:
    grey = {}
    for side, values in of.values.items():
        share = np.clip((values - of.low) / (of.high - of.low), 0, 1)
        grey[side] = np.where(np.isfinite(values), 1 + np.rint(254 * np.nan_to_num(share)), 0)
    return title, _picture(grey, views), float(f"{of.low:.4g}"), float(f"{of.high:.4g}"), of.colours


def _picture(values: dict[str, np.ndarray], views: dict[str, np.ndarray]) -> bytes:
    """Give numbers of vertices, 0 to 255, as a picture of both hemispheres."""
    grey = np.zeros((max(len(pixels) for pixels in views.values()), 2 * WIDTH + _GAP), np.uint8)
    for side, left in zip(HEMISPHERES, (0, WIDTH + _GAP), strict=True):
        pixels = views[side]
        grey[: len(pixels), left : left + WIDTH] = np.where(pixels < 0, 0, values[side][pixels])
    content = io.BytesIO()
    Image.fromarray(grey).save(content, "webp", lossless=True, method=4)
    return content.getvalue()


def as_data(name: str, of: FlatMaps, album: Album) -> dict[str, Any]:
    """Put the pictures of a subject into the album, and give what the script needs."""
    block = f"{name} cortex"
    return {
        "rois": album.add(block, of.rois),
        "names": of.names,
        "middles": of.middles,
        "families": [
            {
                "name": family,
                "maps": [
                    {"title": title, "picture": album.add(block, picture), "low": low, "high": high, "colours": colours}
                    for title, picture, low, high, colours in found
                ],
            }
            for family, found in of.pairs
        ],
    }
