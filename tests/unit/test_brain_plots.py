"""Pictures of the cortex: what is in front is seen, no hemisphere is mirrored, and colours end where they say."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from nilearn.datasets import load_fsaverage
from PIL import Image

from data.cortex import N_SURFACE, read_atlas
from data.surfaces import HEMISPHERES, N_FSAVERAGE, N_FSAVERAGE5, NILEARN, as_gifti
from feature_decoding import brain_plots, projection
from feature_decoding.brain_plots import Shown, flat, inflated, middles, paint, see, shown
from feature_decoding.projection import Anatomy
from minddiffuser.store import DataError


@pytest.fixture(scope="module")
def white():
    """x (to the right), y (to the front) and z (up) of each vertex, mm."""
    parts = load_fsaverage("fsaverage5")["white_matter"].parts
    return {side: np.asarray(parts[name].coordinates, float) for side, name in NILEARN.items()}


def test_the_nearer_of_two_triangles_is_seen():
    right, up = np.array([0.0, 10, 0, 0, 10, 0]), np.array([0.0, 0, 10, 0, 0, 10])
    toward = np.array([1.0, 1, 1, 2, 2, 2])
    pixels = see(right, up, toward, np.array([[0, 1, 2], [3, 4, 5]]), 21)
    assert set(np.unique(pixels)) == {-1, 3, 4, 5}
    assert set(np.unique(see(right, up, -toward, np.array([[0, 1, 2], [3, 4, 5]]), 21))) == {-1, 0, 1, 2}
    assert (pixels[-1, 0], pixels[-1, -1], pixels[0, 0]) == (3, 4, 5)  # up is up, right is right
    assert (pixels[5] >= 0).sum() == 6  # the triangle has no holes, and ends where it should


def gradient(pixels, values):
    """How values change to the right and upwards over a view."""
    rows, columns = np.nonzero(pixels >= 0)
    seen = values[pixels[rows, columns]]
    return np.corrcoef(columns, seen)[0, 1], np.corrcoef(-rows, seen)[0, 1]


@pytest.mark.parametrize(("view", "front_is_right"), [("lateral", -1), ("medial", 1), ("ventral", -1)])
def test_no_hemisphere_is_mirrored(white, view, front_is_right):
    for side, turned in zip(HEMISPHERES, (1, -1), strict=True):
        pixels, (x, y, z) = inflated(side, view), white[side].T
        assert gradient(pixels, y)[0] * front_is_right * turned > 0.9
        assert gradient(pixels, x if view == "ventral" else z)[1] * (-turned if view == "ventral" else 1) > 0.8
        lateral = np.abs(x[pixels[pixels >= 0]]).mean()  # mm from the middle
        assert (lateral > 30) == (view == "lateral") or view == "ventral"
    assert 0.35 < (inflated("lh", view) >= 0).mean() < 0.9
    assert z[inflated("rh", "ventral")[inflated("rh", "ventral") >= 0]].mean() < z.mean() - 10


def test_a_flat_map_shows_the_chosen_vertices_and_little_else(white):
    for side in HEMISPHERES:
        chosen = white[side][:, 1] < -60
        pixels = flat(side, chosen)
        seen = np.unique(pixels[pixels >= 0])
        assert np.isin(np.flatnonzero(chosen), seen).mean() > 0.8
        assert len(seen) < 0.6 * N_FSAVERAGE5
        assert pixels.shape[1] == flat(side, chosen, 145).shape[1] == 145


def test_a_region_however_small_or_narrow_gives_a_picture_of_some_size():
    for side in HEMISPHERES:
        shown_on_it = np.unique(flat(side, np.zeros(N_FSAVERAGE5, bool)))[1:]
        for vertex in shown_on_it[::500]:
            alone = np.arange(N_FSAVERAGE5) == vertex
            pixels = flat(side, alone)
            assert vertex in pixels
            assert 50 < len(pixels) < 300
    mesh = brain_plots.load_surf_mesh(brain_plots.fetch_surf_fsaverage("fsaverage5")["flat_left"])
    across, along = np.asarray(mesh.coordinates)[:, :2].T
    strip = (np.abs(across) < 2) & (np.abs(along) < 60)
    assert len(flat("lh", strip)) < 4 * 145


def test_colours_are_those_of_the_values(white):
    values = {side: np.where(places[:, 1] < 0, places[:, 2], np.nan) for side, places in white.items()}
    of, labels = Shown("z", values, -50, 50, "RdBu_r"), np.full(N_FSAVERAGE5, -1)
    pixels = inflated("lh", "lateral")
    picture = paint(pixels, "lh", of, labels)
    some = np.argwhere((pixels >= 0) & (values["lh"][pixels] > 0))[::500]
    for row, column in some:
        value = values["lh"][pixels[row, column]]
        np.testing.assert_allclose(picture[row, column], mpl.colormaps["RdBu_r"]((value + 50) / 100))
    without = picture[(pixels >= 0) & np.isnan(values["lh"][pixels])]
    assert (np.ptp(without[:, :3], axis=1) == 0).all()  # grey
    assert (picture[pixels < 0] == 0).all()


def test_colours_reach_from_0_or_as_far_on_both_sides():
    values = {side: np.r_[np.linspace(0, 1, 101), 50, np.nan] for side in HEMISPHERES}
    plain = shown("a", values)
    assert plain.low == 0
    assert 0.97 < plain.high < 1.5  # one value that stands apart does not pale the others
    both = shown("a", {side: -v for side, v in values.items()}, is_difference=True)
    assert (both.low, both.colours) == (-both.high, brain_plots.DIVERGING)
    empty = shown("a", {side: np.full(3, np.nan) for side in HEMISPHERES})
    assert (empty.low, empty.high) == (0, 1)


def test_names_stand_in_their_regions_and_not_on_each_other():
    pixels = np.tile(np.arange(90), (39, 1))
    labels = np.repeat([0, 1, 2, -1, 3], [40, 4, 30, 15, 1])
    found = middles(pixels, labels, ["wide", "thin", "middle", "small"])
    assert set(found) == {"wide", "middle"}  # the thin one is beside the name of another, the small one too small
    assert 0 <= found["wide"][0] < 40
    assert 44 <= found["middle"][0] < 74


def test_a_figure_has_a_panel_for_each_map():
    values = {side: np.linspace(0, 1, N_FSAVERAGE5) for side in HEMISPHERES}
    labels = {side: np.where(np.arange(N_FSAVERAGE5) < 3000, 0, -1) for side in HEMISPHERES}
    maps = [shown("first", values), shown("second", values)]
    for draw in (
        lambda rows: brain_plots.draw_flat(rows, labels, ["V1"], "title"),
        lambda rows: brain_plots.draw_inflated(rows, labels, "title"),
    ):
        one, two = (Image.open(io.BytesIO(draw(rows))).size for rows in ([maps[:1]], [maps, maps[:1]]))
        assert two[0] > 1.9 * one[0]
        assert two[1] > 1.7 * one[1]


def test_fs_lr_has_the_values_of_the_nearest_vertices_on_their_side(tmp_path, monkeypatch):
    rng, nearest = np.random.default_rng(0), {}
    for k, side in enumerate(HEMISPHERES):
        maps = {"c": np.arange(N_FSAVERAGE) + k * 1e6, "z": np.full(N_FSAVERAGE, float(k))}
        (tmp_path / f"{side}.{projection.CORTEX}").write_bytes(as_gifti(maps, side))
        nearest[side] = rng.integers(N_FSAVERAGE, size=N_SURFACE)
    monkeypatch.setattr(projection, "to_fs_lr", lambda _: nearest)
    path, atlas = tmp_path / "maps.dscalar.nii", read_atlas()
    path.write_bytes(projection.as_fs_lr(tmp_path, tmp_path, None))
    image = projection.nib.load(path)
    assert image.header.get_axis(0).name.tolist() == ["c", "z"]
    assert image.shape == (2, 59412)
    is_right = atlas.hemisphere == "R"
    np.testing.assert_array_equal(image.get_fdata()[1], is_right)
    expected = np.where(is_right, nearest["rh"][atlas.vertex] + 1e6, nearest["lh"][atlas.vertex])
    np.testing.assert_allclose(image.get_fdata()[0], expected)


def test_fs_lr_is_of_the_atlas_that_the_configuration_names(tmp_path):
    with pytest.raises(DataError, match=r"expected .*mine\.dlabel\.nii"):
        projection.as_fs_lr(tmp_path, tmp_path, tmp_path / "mine.dlabel.nii")


def make_anatomy(shape, surfaces):
    index = np.sort(np.random.default_rng(0).permutation(np.prod(shape))[:40])
    return Anatomy(index, ["V1", "V2"], np.arange(40) % 2, shape, np.eye(4), surfaces)


def test_maps_of_voxels_whose_places_are_unknown_have_no_files():
    maps = {"semantic_patterns": np.linspace(0, 1, 40), "noise_ceiling": np.full(40, np.nan)}
    assert projection.map_files(maps, make_anatomy((40, 1, 1), {}), "p01") == {}
    known = projection.map_files(maps, make_anatomy((5, 4, 8), {}), "p01")
    assert list(known) == ["semantic_patterns.nii.gz", "noise_ceiling.nii.gz", "maps.png"]
