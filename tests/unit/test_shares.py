"""Shares of ROIs and the hierarchy: recovered in a simulated brain, and reversed in one whose areas are exchanged."""

import numpy as np
import pytest

from data.nsd_rois import ROI_LABELS
from feature_decoding import shares
from feature_decoding.maps import Explained, explained
from feature_decoding.ridge import Scaler, fit, predict
from miniature.brain import AREAS, simulate_signal
from miniature.nsd import draw_pictures
from miniature.scenes import BACKGROUNDS, COLOURS, KINDS

N_IMAGES, SEED = 400, 3
ROIS = list(ROI_LABELS)
# Early areas in the place of higher ones of about their size, and the other way round; the labels stay.
EXCHANGED = dict(zip(ROIS, ROIS, strict=True)) | {
    "V1": "IPS", "V2": "VO", "V3": "LO", "hV4": "V3ab", "IPS": "V1", "VO": "V2", "LO": "V3", "PHC": "V1", "MT": "V2",
    "MST": "V1",
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures():
    return draw_pictures(N_IMAGES, SEED)


def meaning(scene):
    """What is in a scene, as a caption names it: kinds, colours and the place."""
    named = [item.kind for item in scene.objects] + [item.colour for item in scene.objects] + [scene.background]
    return [float(named.count(word)) for word in (*KINDS, *COLOURS, *BACKGROUNDS)]


def layout(images):
    """A picture in 8 x 8 pixels."""
    return images.reshape(len(images), 8, 8, 8, 8, 3).mean(axis=(2, 4)).reshape(len(images), -1)


def statement(pictures, role):
    """Decode meaning and layout from a brain in which each ROI does what `role` says, and look along the hierarchy."""
    n_voxels = [max(AREAS[name].n_voxels // 40, 6) for name in ROIS]
    roi, rng = np.repeat(np.arange(len(ROIS)), n_voxels), np.random.default_rng(SEED)
    does = np.array([role[ROIS[k]] for k in roi])
    # Names tell all of what higher areas are tuned to, so that few images suffice.
    signal = simulate_signal(pictures.images, pictures.scenes, pictures.visible, does, rng, named=1.0)
    X = signal + rng.normal(size=signal.shape)
    X = Scaler.of(X).apply(X)
    found = []
    for targets in (np.array([meaning(scene) for scene in pictures.scenes]), layout(pictures.images)):
        targets = targets[:, targets.std(axis=0) > 0]
        decoder = fit(X, Scaler.of(targets).apply(targets), 100.0, X.shape[1])
        found.append(explained([predict(X, decoder)], X, roi))
    places = np.c_[rng.uniform(-1, 1, len(roi)), np.arange(len(roi)) / 30, rng.uniform(-1, 1, len(roi))]
    index = shares.index_table(*found, ROIS, roi, 200, SEED)
    return index.set_index("roi"), shares.hierarchy(*found, ROIS, roi, places, 200, SEED)


def test_meaning_rises_along_the_simulated_hierarchy(pictures):
    index, rises = statement(pictures, dict(zip(ROIS, ROIS, strict=True)))
    assert rises["r"] > 0.7
    assert rises["r_low"] > 0.4
    assert rises["r_low"] < rises["r"] < rises["r_high"]
    assert rises["p"] < 0.05
    assert rises["n_rois"] == 11
    assert index["high"]["V1"] < 0 < index["low"]["IPS"]


def test_meaning_falls_where_early_and_higher_areas_are_exchanged(pictures):
    index, falls = statement(pictures, EXCHANGED)
    assert falls["r"] < -0.7
    assert falls["r_high"] < -0.4
    assert falls["p"] < 0.05
    assert index["high"]["IPS"] < 0 < index["low"]["V1"]


def made_up(rng, n_images=60, n_voxels=(30, 10, 20), scale=1.0):
    by_image = scale * rng.uniform(0.5, 1.5, size=(n_images, len(n_voxels)))
    return Explained(np.repeat(by_image.mean(axis=0), n_voxels), by_image, 5)


def test_shares_add_up_and_have_their_intervals():
    rng, roi = np.random.default_rng(0), np.repeat([0, 1, 2], [30, 10, 20])
    table = shares.share_table({"c": made_up(rng), "z": made_up(rng, scale=9)}, ["a", "b", "d"], roi, 300, 0)
    np.testing.assert_allclose(table.groupby("family")["share"].sum(), 1)
    assert (table["low"] < table["share"]).all()
    assert (table["share"] < table["high"]).all()
    of_z = table[table["family"] == "z"]
    np.testing.assert_allclose((of_z["relative"] * of_z["n_voxels"]).sum() / 60, 1)
    np.testing.assert_allclose(of_z["relative"] * of_z["n_voxels"] / 60, of_z["share"])


def test_an_index_does_not_change_with_how_well_a_family_is_decoded():
    rng, n_voxels = np.random.default_rng(1), np.array([30, 10])
    c, z = rng.uniform(1, 2, size=(2, 2))
    np.testing.assert_allclose(shares.index(5 * c, z, n_voxels), shares.index(c, 7 * z, n_voxels))
    np.testing.assert_allclose(shares.index(c, c, n_voxels), 0)
    assert shares.index(np.array([1.0, 3]), np.array([1.0, 1]), n_voxels)[1] > 0


def test_voxels_are_weights():
    a, weight = np.array([1.0, 2, 3, 4]), np.array([2, 1, 3, 1])
    b = np.array([[0.3, 0.1, 0.9, -5], [1, 2, 3, 4.5]])
    repeated = np.repeat(np.arange(4), weight)
    expected = [np.corrcoef(a[repeated], row[repeated])[0, 1] for row in b]
    np.testing.assert_allclose(shares.weighted_correlation(a, b, weight), expected)
    np.testing.assert_allclose(shares.weighted_correlation(a, b[0], weight), expected[0])


def test_too_few_regions_with_a_level_have_no_statement():
    rng, roi = np.random.default_rng(2), np.repeat([0, 1, 2], [30, 10, 20])
    found = shares.hierarchy(made_up(rng), made_up(rng), ["V1", "V2", "OFA"], roi, rng.normal(size=(60, 3)), 100, 0)
    assert found == {}


def test_without_places_there_is_no_test_but_the_same_correlation():
    rng, n_voxels = np.random.default_rng(5), (10,) * 6
    c, z, roi = made_up(rng, n_voxels=n_voxels), made_up(rng, n_voxels=n_voxels), np.repeat(np.arange(6), 10)
    known, unknown = (
        shares.hierarchy(c, z, ROIS[:6], roi, places, 100, 0) for places in (rng.normal(size=(60, 3)), None)
    )
    assert unknown.keys() == known.keys() - {"p", "n_permutations"}
    assert unknown == {key: known[key] for key in unknown}


def test_permuted_labels_keep_sizes_and_lie_together_on_both_sides():
    rng = np.random.default_rng(3)
    corner = np.stack(np.meshgrid(np.arange(20), np.arange(15), np.arange(10), indexing="ij"), axis=-1).reshape(-1, 3)
    # Six ROIs of different sizes, from back to front.
    label = np.digitize(np.argsort(np.argsort(corner[:, 1], kind="stable")), [100, 400, 1000, 1300, 2500])

    def extent(labels):
        folded = np.c_[np.abs(corner[:, 0] - 9.5), corner[:, 1:]]
        return np.array([folded[labels == k].std(axis=0).mean() for k in range(6)])

    drawn = [shares.permuted_labels(corner.astype(float), label, rng) for _ in range(20)]
    alone = np.mean([extent(rng.permutation(label)) for _ in range(20)], axis=0)
    for other in drawn:
        np.testing.assert_array_equal(np.bincount(other), np.bincount(label))
    assert (np.mean([extent(other) for other in drawn], axis=0) < 0.8 * alone)[:4].all()  # the last has half of all
    assert (np.abs(np.mean([extent(other) for other in drawn], axis=0) / extent(label) - 1) < 0.5).all()
    mirror = drawn[0].reshape(20, 15, 10)
    assert (mirror == mirror[::-1]).mean() > 0.95  # but where a cut goes through equal places
    assert len({other.tobytes() for other in drawn}) == 20
    assert np.mean([(other == label).mean() for other in drawn]) < 0.5


def test_chance_finds_no_hierarchy(monkeypatch):
    """Of brains whose maps have nothing to do with the labels, one in twenty has p below .05."""
    monkeypatch.setattr(shares, "N_PERMUTATIONS", 200)
    rng, n_voxels = np.random.default_rng(4), np.full(11, 20)
    roi, places = np.repeat(np.arange(11), n_voxels), rng.normal(size=(220, 3))
    below = 0
    for k in range(20):
        c, z = (rng.uniform(0.5, 1.5, size=220) for _ in range(2))
        found = [Explained(v, np.tile([v[roi == g].mean() for g in range(11)], (30, 1)), 1) for v in (c, z)]
        below += shares.hierarchy(*found, ROIS, roi, places, 100, k)["p"] < 0.05
    assert below <= 4
