"""The field's eight metrics: inputs, weights and comparisons of the two dialects, with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import correlation
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from torchvision import models
from torchvision import transforms as vision

from evaluation.metrics import dialects, features
from evaluation.metrics.images import lpips, resize
from minddiffuser.config import REPOSITORY
from minddiffuser.correlation import correlate
from minddiffuser.pretrained.clip import open_clip_model, random_clip
from minddiffuser.pretrained.files import MissingModelError
from minddiffuser.pretrained.scoring import (
    FeatureNetwork,
    clip_features,
    feature_network,
    open_lpips,
    require_stand_ins,
    scoring_weights,
)
from minddiffuser.store import DataError

CPU = torch.device("cpu")
SSIM = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    """A folder of torch.hub with networks of random weights."""
    folder = tmp_path_factory.mktemp("hub")
    paths = scoring_weights(folder)
    paths["alexnet"].parent.mkdir()
    torch.manual_seed(0)
    for name, model in {
        "alexnet": models.alexnet(),
        "inception_v3": models.inception_v3(init_weights=False),
        "efficientnet_b1_v1": models.efficientnet_b1(),
        "efficientnet_b1_v2": models.efficientnet_b1(),
    }.items():
        torch.save(model.state_dict(), paths[name])
    state = models.resnet50().state_dict()
    state = {f"module.{key}": value for key, value in state.items() if not key.startswith("fc.")}
    torch.save({**state, "module.prototypes.weight": torch.zeros(2, 2)}, paths["swav_resnet50"])
    return folder


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Smooth pictures of 100 pixels, and noisy ones of 90 in place of reconstructions."""
    rng = np.random.default_rng(0)
    stimuli = resize(rng.integers(0, 256, (5, 12, 12, 3), dtype=np.uint8), 100)
    noisy = stimuli + rng.normal(0, 30, stimuli.shape)
    return stimuli, resize(noisy.clip(0, 255).astype(np.uint8), 90)


def as_brain_diffuser(image: np.ndarray, size: int) -> torch.Tensor:
    """Brain-Diffuser's input of a network, by torchvision on a PIL image."""
    normalise = vision.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return normalise(vision.functional.to_tensor(vision.functional.resize(Image.fromarray(image), [size, size])))


def as_mindeye(image: np.ndarray, size: int) -> torch.Tensor:
    """MindEye's, by torchvision on a tensor, with the antialiasing of its time: none."""
    pixels = vision.functional.to_tensor(image)
    pixels = vision.Resize((256, 256), antialias=False)(pixels)
    pixels = vision.Resize(size, vision.InterpolationMode.BILINEAR, antialias=False)(pixels)
    return vision.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])(pixels)


@pytest.mark.parametrize(
    ("dialect", "prepare"),
    [(dialects.BRAIN_DIFFUSER, as_brain_diffuser), pytest.param(dialects.MINDEYE, as_mindeye, marks=pytest.mark.slow)],
)
def test_the_eight_equal_a_plain_loop_as_papers_compute_them(hub, pictures, dialect, prepare):
    stimuli, made = pictures
    names = {layer.network for layer in dialect.layers.values()} - {"clip"}
    networks = {name: feature_network(name, hub, CPU) for name in names}
    seen, of_made = (dialects.features(dialect, networks, images, CPU, 2) for images in (stimuli, made))
    scores = dialects.feature_scores(seen, np.arange(5), of_made)
    assert set(scores) == set(dialect.layers) - {"clip"}

    for name, node, distance in (
        ("alexnet_2", "features.4", False), ("alexnet_5", "features.11", False), ("inception", "avgpool", False),
        ("efficientnet", "avgpool", True), ("swav", "avgpool", True),
    ):  # fmt: skip
        layer = dialect.layers[name]
        architecture = {"alexnet": models.alexnet, "inception_v3": models.inception_v3}.get(
            layer.network, models.resnet50 if "swav" in layer.network else models.efficientnet_b1
        )
        options = {"init_weights": False, "transform_input": True} if name == "inception" else {}
        model = architecture(**options)
        state = torch.load(scoring_weights(hub)[layer.network])
        model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()}, strict=False)
        found: list[torch.Tensor] = []
        model.get_submodule(node).register_forward_hook(
            lambda _m, _i, out, found=found: found.append(out.flatten(1).double())
        )
        with torch.no_grad():
            for images in (stimuli, made):
                model.eval()(torch.stack([prepare(image, layer.size) for image in images]))
        a, b = (features.numpy() for features in found)
        if distance:
            expected = [correlation(x, y) for x, y in zip(a, b, strict=True)]
            tolerance = 1e-5
        else:
            r = np.corrcoef(a, b)[:5, 5:]
            expected, tolerance = (r < np.diag(r)).sum(axis=0) / 4, 0.0
        np.testing.assert_allclose(scores[name], expected, atol=tolerance, err_msg=name)


def test_pixels_are_compared_as_each_dialect_does(pictures):
    stimuli, made = pictures
    scores = dialects.pixel_scores(dialects.BRAIN_DIFFUSER, stimuli, made)
    a, b = (np.asarray(Image.fromarray(images[3]).resize((425, 425))) / 255 for images in (stimuli, made))
    assert scores["pixcorr"][3] == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    by_columns = structural_similarity(rgb2gray(a), rgb2gray(b), channel_axis=-1, **SSIM)
    assert scores["ssim_columns"][3] == pytest.approx(by_columns)

    scores = dialects.pixel_scores(dialects.MINDEYE, stimuli, made)
    resize = vision.Compose([vision.Resize((256, 256), antialias=False), vision.Resize(425, antialias=False)])
    a, b = (resize(vision.functional.to_tensor(images[3])).permute(1, 2, 0).numpy() for images in (stimuli, made))
    assert scores["pixcorr"][3] == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-5)
    assert scores["ssim"][3] == pytest.approx(structural_similarity(rgb2gray(a), rgb2gray(b), **SSIM), abs=1e-5)


def test_the_detour_by_256_pixels_and_the_kind_of_ssim_move_the_numbers(pictures):
    """Why a table must not mix dialects."""
    stimuli, made = pictures
    by_columns = dialects.pixel_scores(dialects.BRAIN_DIFFUSER, stimuli, made)["ssim_columns"]
    flat = dialects.pixel_scores(dialects.MINDEYE, stimuli, made)["ssim"]
    assert abs(by_columns.mean() - flat.mean()) > 0.003


def test_a_constant_system_is_at_no_advantage(pictures):
    """The same picture for every stimulus: identification of the stimulus is at chance, of the reconstruction zero."""
    stimuli, made = pictures
    network = FeatureNetwork(lambda x: {"embedding": x.flatten(1)}, (0.5,) * 3, (1.0,) * 3)
    dialect = dialects.BRAIN_DIFFUSER._replace(layers={"clip": dialects.Layer("clip", "embedding", 32)})
    same = np.repeat(made[:1], 5, axis=0)
    seen, of_same = (dialects.features(dialect, {"clip": network}, images, CPU, 2) for images in (stimuli, same))
    scores = dialects.feature_scores(seen, np.arange(5), of_same)
    assert scores["clip"].mean() == pytest.approx(0.5)
    similarity = correlate(of_same["clip"], seen["clip"])
    assert (features.identification(similarity.T, np.arange(5), 2) == 0).all()


@pytest.mark.parametrize("dialect", [dialects.BRAIN_DIFFUSER, dialects.MINDEYE])
def test_grey_correlates_with_nothing_however_it_is_resized(pictures, dialect):
    grey = np.full((5, 64, 64, 3), 128, np.uint8)
    assert (dialects.pixel_scores(dialect, pictures[0], grey)["pixcorr"] == 0).all()


def test_features_do_not_depend_on_the_batch(hub, pictures):
    networks = {"alexnet": feature_network("alexnet", hub, CPU)}
    one, five = (dialects.features(dialects.MINDEYE, networks, pictures[0], CPU, size) for size in (1, 5))
    assert list(one) == ["alexnet_2", "alexnet_5"]
    for name, values in one.items():
        np.testing.assert_allclose(values, five[name], atol=1e-5)


def test_lpips_is_zero_for_equal_pictures_and_grows_with_noise(hub, pictures):
    network = open_lpips(hub, CPU)
    stimuli = pictures[0]
    noise = np.random.default_rng(1).normal(size=stimuli.shape)
    noisy = [(stimuli + deviation * noise).clip(0, 255).astype(np.uint8) for deviation in (10, 60)]
    distances = [lpips(network, stimuli, images, CPU, 2) for images in (stimuli, *noisy)]
    np.testing.assert_allclose(distances[0], 0, atol=1e-9)
    assert distances[0].mean() < distances[1].mean() < distances[2].mean()


def test_absent_and_broken_weights_are_named(tmp_path):
    with pytest.raises(MissingModelError, match=r"swav_800ep_pretrain.pth.tar is absent; .*00_get_models"):
        feature_network("swav_resnet50", tmp_path, CPU)
    with pytest.raises(MissingModelError, match="alexnet-owt"):
        open_lpips(tmp_path, CPU)
    path = scoring_weights(tmp_path)["alexnet"]
    path.parent.mkdir()
    path.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(MissingModelError, match="the weights of alexnet: it is truncated"):
        feature_network("alexnet", tmp_path, CPU)
    torch.save(models.squeezenet1_1().state_dict(), path)
    with pytest.raises(MissingModelError, match="does not have the weights of alexnet"):
        feature_network("alexnet", tmp_path, CPU)


def test_stand_ins_say_so():
    dialect = dialects.with_stand_ins(dialects.MINDEYE, 64)
    assert all(name.endswith("_stand_in") and layer.network == "clip" for name, layer in dialect.layers.items())
    assert len({layer.node for layer in dialect.layers.values()}) == 6


def test_only_a_clip_with_a_resnet_has_layers_that_stand_in():
    transformer = random_clip("ViT-B-32-quickgelu", CPU)
    network = clip_features(transformer)
    with torch.no_grad():
        nodes = network.forward(torch.rand(1, 3, 224, 224))
    assert set(nodes) == {"embedding"}
    with pytest.raises(DataError, match="set it to imagenet"):
        require_stand_ins(transformer)

    miniature = REPOSITORY / "miniature" / "weights" / "scoring_clip"
    resnet = open_clip_model(f"local-dir:{miniature}", None, CPU)
    require_stand_ins(resnet)
    dialect = dialects.with_stand_ins(dialects.MINDEYE, 64)
    found = dialects.features(dialect, {"clip": clip_features(resnet)}, np.zeros((2, 80, 80, 3), "u1"), CPU, 2)
    assert list(found) == list(dialect.layers)
