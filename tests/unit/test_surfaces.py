"""From the volume to the surface: what is known of a map arrives where it must, and files come back as they were."""

import gzip
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2 import ScalarAxis
from nilearn.datasets import load_fsaverage

from data import surfaces
from data.cortex import N_SURFACE, Atlas, dense_scalars
from data.nsd_surfaces import NOWHERE, read_surfaces, transform_files
from data.surfaces import N_FSAVERAGE, N_FSAVERAGE5, NILEARN, Surface, labels_at, to_vertices
from minddiffuser.store import DataError
from miniature.surfaces import as_fine_as_fsaverage, fold, write_surfaces

SPACE, SHAPE, SUBJECT = "func1pt8mm", (30, 35, 33), "subj02"
CORNER = np.indices(SHAPE)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("nsd")
    write_surfaces(root, 2, SPACE, SHAPE, seed=42)
    return root


@pytest.fixture(scope="module")
def subject(root):
    return read_surfaces(root, SUBJECT, SPACE)


@pytest.fixture(scope="module")
def expected():
    """Where each vertex of fsaverage5 lies in the volume: its folds, drawn into the shell, not through the files."""
    white = load_fsaverage("fsaverage5")["white_matter"].parts
    drawn = fold({side: white[name].coordinates for side, name in NILEARN.items()})
    return {side: places * np.array(SHAPE) / 2 + (np.array(SHAPE) - 1) / 2 for side, places in drawn.items()}


def mean_place(surface):
    return surface.places.mean(axis=0)


def plane(i, j, k):
    return 2.0 * i - 0.5 * j + 0.25 * k + 3


@pytest.mark.parametrize("side", ["lh", "rh"])
def test_a_plane_arrives_exactly_where_there_are_data(subject, side):
    found, places = to_vertices(plane(*CORNER), subject[side]), mean_place(subject[side])
    known = np.isfinite(places).all(axis=1)
    assert 0.97 < known.mean() < 1
    np.testing.assert_array_equal(np.isfinite(found), known)
    np.testing.assert_allclose(found[known], plane(*places[known].T), atol=1e-9)


@pytest.mark.parametrize("side", ["lh", "rh"])
def test_a_plane_arrives_on_fsaverage_on_its_side_and_in_its_order(subject, expected, side):
    found = to_vertices(plane(*CORNER), subject[side])[subject[side].nearest[:N_FSAVERAGE5]]
    error = np.abs(found - plane(*expected[side].T))
    spread = np.ptp(plane(*expected[side].T))
    assert np.nanmedian(error) < 0.03 * spread  # of the nearest of a quarter of the vertices
    other = "rh" if side == "lh" else "lh"
    swapped = to_vertices(plane(*CORNER), subject[other])[subject[other].nearest[:N_FSAVERAGE5]]
    assert np.nanmedian(np.abs(swapped - plane(*expected[side].T))) > 0.3 * spread
    assert np.corrcoef(found[np.isfinite(found)], plane(*expected[side].T)[np.isfinite(found)])[0, 1] > 0.98


@pytest.mark.parametrize("side", ["lh", "rh"])
def test_a_checkerboard_arrives_by_its_fields(subject, side):
    """Fields of five voxels: within them values are whole, and between them in between."""
    board = (CORNER // 5).sum(axis=0) % 2
    found, places = to_vertices(board.astype(float), subject[side]), subject[side].places
    inside = ((places % 5 >= 0) & (places % 5 <= 4)).all(axis=(0, 2))  # all corners of all layers are of one field
    one_field = inside & (np.ptp(places // 5, axis=0) == 0).all(axis=1)
    assert one_field.sum() > 500
    middle = places[:, one_field].mean(axis=0).astype(int).T
    np.testing.assert_allclose(found[one_field], board[tuple(middle)], atol=1e-12)
    assert (found[~one_field & np.isfinite(found)] != np.round(found[~one_field & np.isfinite(found)])).mean() > 0.5


@pytest.mark.parametrize("side", ["lh", "rh"])
def test_a_single_voxel_arrives_around_itself_and_nowhere_else(subject, side):
    places = mean_place(subject[side])
    vertex = np.nanargmin(np.abs(places - np.round(places)).max(axis=1))  # one that lies on a voxel's centre
    voxel = np.round(places[vertex]).astype(int)
    volume = np.zeros(SHAPE)
    volume[tuple(voxel)] = 1
    found = to_vertices(volume, subject[side])
    expected = np.prod(np.maximum(1 - np.abs(subject[side].places - voxel), 0), axis=-1).mean(axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found[vertex] > 0.4
    other = "rh" if side == "lh" else "lh"
    if abs(voxel[0] - (SHAPE[0] - 1) / 2) > 2:
        assert np.nanmax(to_vertices(volume, subject[other])) == 0


def test_no_data_is_not_zero():
    """Half of a vertex's surroundings have the value 4, the others none: it is 4, and not 2."""
    volume = np.full((3, 3, 3), np.nan)
    volume[:2] = 4
    at = np.array([[[1.25, 1, 1], [1.75, 1, 1], [0.5, 0.5, 0.5], [np.nan] * 3]])
    surface = Surface(at, np.zeros(N_FSAVERAGE, int))
    np.testing.assert_allclose(to_vertices(volume, surface), [4, np.nan, 4, np.nan])


def test_layers_without_data_are_left_out_of_the_mean():
    volume = np.full((4, 4, 4), np.nan)
    volume[0], volume[1] = 2, 6
    places = np.array([[[0.0, 1, 1]], [[1.0, 1, 1]], [[3.0, 1, 1]]])
    np.testing.assert_allclose(to_vertices(volume, Surface(places, np.zeros(1, int))), [4])


def test_the_first_and_the_last_voxel_are_in_the_volume_and_nothing_beyond():
    volume = np.arange(4.0)[:, None, None] * np.ones((4, 4, 4))
    at = np.array([[[0, 0, 0], [3, 3, 3], [3.01, 1, 1], [-0.01, 1, 1], [0.5, 3, 0]]])
    np.testing.assert_allclose(to_vertices(volume, Surface(at, np.zeros(1, int))), [0, 3, np.nan, np.nan, 0.5])


def test_labels_are_those_of_most_of_what_is_around():
    index, label = np.arange(8), np.array([0, 0, 0, 0, 1, 1, 1, 1])  # x = 0 and x = 1 of a cube
    at = np.array([[[0.4, 0, 0], [0.6, 1, 1], [np.nan] * 3]])
    assert labels_at(index, label, (2, 2, 2), Surface(at, np.zeros(1, int))).tolist() == [0, 1, -1]
    assert labels_at(index[:4], label[:4], (2, 2, 2), Surface(at, np.zeros(1, int))).tolist() == [0, -1, -1]


def test_a_vertex_has_a_label_exactly_where_a_map_has_a_value():
    """Also where only one of its three places has data: the label is that of the layers that a value comes from."""
    rng, shape = np.random.default_rng(0), (6, 6, 6)
    index = rng.permutation(216)[:100]
    label, values = rng.integers(3, size=100), np.full(216, np.nan)
    values[index] = label == 1
    surface = Surface(rng.uniform(0, 5, size=(3, 2000, 3)), np.zeros(1, int))
    labels, of_one = labels_at(index, label, shape, surface), to_vertices(values.reshape(shape), surface)
    np.testing.assert_array_equal(labels >= 0, np.isfinite(of_one))
    assert 0.5 < (labels >= 0).mean() < 0.95
    assert (labels[of_one > 0.51] == 1).all()
    assert (labels[of_one < 0.33] != 1).all()


def test_hemispheres_have_vertices_of_their_own(subject):
    assert len({len(mean_place(surface)) for surface in subject.values()}) == 2
    middle = (SHAPE[0] - 1) / 2
    assert np.nanmean(mean_place(subject["lh"])[:, 0] < middle) > 0.98
    assert np.nanmean(mean_place(subject["rh"])[:, 0] > middle) > 0.98


def test_a_divided_sphere_is_as_fine_as_fsaverage():
    sphere = load_fsaverage("fsaverage5")["sphere"].parts["left"]
    fine = as_fine_as_fsaverage(sphere.coordinates, sphere.faces)
    assert fine.shape == (N_FSAVERAGE, 3)
    assert len(np.unique(fine.round(4), axis=0)) == N_FSAVERAGE
    np.testing.assert_allclose(np.linalg.norm(fine, axis=1), 100, rtol=1e-4)
    np.testing.assert_allclose(fine[:N_FSAVERAGE5], sphere.coordinates, rtol=1e-3, atol=0.01)


# Files ------------------------------------------------------------------------------------------------------------


def test_transforms_are_written_as_nsd_writes_them(root):
    for side, files in transform_files(SUBJECT, SPACE).items():
        assert files[1].name == f"{side}.func1pt8-to-layerB2.mgz"
        assert files[3].name == f"{side}.white-to-fsaverage.mgz"
        places = np.squeeze(nib.load(root / files[0]).dataobj)
        nearest = np.squeeze(nib.load(root / files[3]).dataobj)
        assert places.shape[1] == 3
        assert (places == NOWHERE).all(axis=1).sum() == (places == NOWHERE).any(axis=1).sum() > 5
        assert (places.min(), nearest.shape) > (0, (0,))
        assert (nearest.min(), nearest.max()) == (1, len(places))
    assert transform_files(SUBJECT, "func1mm")["lh"][0].name == "lh.func1pt0-to-layerB1.mgz"


def replace(path, values):
    path.write_bytes(gzip.compress(nib.MGHImage(values, np.eye(4)).to_bytes()))


DAMAGES = {
    "missing": (2, lambda path: path.unlink(), "a transform to the surface is missing: expected {path}"),
    "cut": (3, lambda path: path.write_bytes(path.read_bytes()[:5000]), "{path} cannot be read .*truncated or broken"),
    "two columns": (1, lambda path: replace(path, np.ones((9, 2, 1), np.float32)), r"{path}.*shape \(9, 2\), not"),
    "fewer": (1, lambda path: replace(path, np.ones((9, 3, 1), np.float32)), "layers of lh have .*, 9, .* vertices"),
    "another fsaverage": (3, lambda path: replace(path, np.ones((642, 1, 1), np.int32)), "{path}.*642 vertices"),
    "too large": (
        3, lambda path: replace(path, np.full((N_FSAVERAGE, 1, 1), 9999, np.int32)), "{path}.*points to vertices 9999",
    ),
    "from 0": (3, lambda path: replace(path, np.zeros((N_FSAVERAGE, 1, 1), np.int32)), "{path}.*points to vertices 0"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_wrong_transform_ends_in_one_line(root, tmp_path, damage):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    place, spoil, message = DAMAGES[damage]
    path = tmp_path / transform_files(SUBJECT, SPACE)["lh"][place]
    spoil(path)
    with pytest.raises(DataError, match=message.format(path=re.escape(str(path)))) as error:
        read_surfaces(tmp_path, SUBJECT, SPACE)
    assert "\n" not in str(error.value)


MAPS = {"first": np.array([1.5, np.nan, 3]), "second one": np.array([0.0, -2, np.nan])}


@pytest.mark.parametrize(("side", "structure"), [("lh", "CortexLeft"), ("rh", "CortexRight")])
def test_gifti_comes_back_with_its_names_and_its_side(tmp_path, side, structure):
    path = tmp_path / "maps.func.gii"
    path.write_bytes(surfaces.as_gifti(MAPS, side))
    image = nib.load(path)
    assert dict(image.meta)["AnatomicalStructurePrimary"] == structure
    found = surfaces.read_gifti(path)
    assert list(found) == list(MAPS)
    for name, values in MAPS.items():
        np.testing.assert_array_equal(found[name], values.astype(np.float32))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="cannot be read"):
        surfaces.read_gifti(path)


def test_labels_come_back_with_their_names(tmp_path):
    path = tmp_path / "rois.label.gii"
    path.write_bytes(surfaces.as_labels(np.array([-1, 1, 0]), ["V1", "hV4"], "rh"))
    image = nib.load(path)
    assert image.labeltable.get_labels_as_dict() == {0: "???", 1: "V1", 2: "hV4"}
    assert dict(image.meta)["AnatomicalStructurePrimary"] == "CortexRight"
    assert image.darrays[0].data.tolist() == [0, 2, 1]
    assert image.darrays[0].intent == 1002  # of labels


def test_mgz_comes_back_map_by_map(tmp_path):
    path = tmp_path / "maps.mgz"
    path.write_bytes(surfaces.as_mgz(MAPS))
    image = nib.load(path)
    assert image.shape == (3, 1, 1, 2)
    np.testing.assert_array_equal(np.squeeze(image.dataobj).T, np.stack(list(MAPS.values())).astype(np.float32))


def write_sphere(path, places):
    array = nib.gifti.GiftiDataArray(places.astype(np.float32), "NIFTI_INTENT_POINTSET")
    path.write_bytes(nib.GiftiImage(darrays=[array]).to_bytes())


def test_fs_lr_takes_the_nearest_vertex_of_fsaverage_on_hcps_spheres(tmp_path):
    rng = np.random.default_rng(0)
    fine = {letter: rng.normal(size=(N_FSAVERAGE, 3)) for letter in "LR"}
    taken = {letter: rng.integers(N_FSAVERAGE, size=N_SURFACE) for letter in "LR"}
    with pytest.raises(DataError, match=r"sphere of HCP's .* is missing"):
        surfaces.to_fs_lr(tmp_path)
    for letter, places in fine.items():
        write_sphere(tmp_path / f"fsaverage_std_sphere.{letter}.164k_fsavg_{letter}.surf.gii", places)
        name = f"fs_LR-deformed_to-fsaverage.{letter}.sphere.32k_fs_LR.surf.gii"
        write_sphere(tmp_path / name, 100 * places[taken[letter]])  # of another radius
    found = surfaces.to_fs_lr(tmp_path)
    np.testing.assert_array_equal(found["lh"], taken["L"])
    np.testing.assert_array_equal(found["rh"], taken["R"])


def test_scalars_of_fs_lr_come_back_through_nibabel(tmp_path):
    atlas = Atlas(np.array(["L", "L", "R"]), np.array([0, 7, 3]), np.array(["", "V1", "MT"]))
    path = tmp_path / "maps.dscalar.nii"
    path.write_bytes(dense_scalars({"c": (atlas, np.array([1.0, 2, 3]))}, atlas))
    image = nib.load(path)
    assert isinstance(image.header.get_axis(0), ScalarAxis)
    assert image.header.get_axis(0).name.tolist() == ["c"]
    assert image.get_fdata().tolist() == [[1, 2, 3]]
