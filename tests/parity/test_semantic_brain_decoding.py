"""Semantic Brain Decoding's parts against scikit-learn, torchvision and diffusers, and against known truths."""

import h5py
import numpy as np
import pytest
import torch
from diffusers import PNDMScheduler
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors
from torchvision import models as torchvision_models
from torchvision import transforms

from baselines.regression import fit_predict, fold_predictions, held_out_predictions
from baselines.semantic_brain_decoding.features import pooled_features, prepare, read_prepared
from baselines.semantic_brain_decoding.neighbours import nearest
from baselines.semantic_brain_decoding.pictures import open_text_to_image
from feature_decoding.ridge import Scaler
from feature_decoding.variance import restore_variance, spread_of_averages
from minddiffuser.config import REPOSITORY, load
from minddiffuser.config.method import Models
from minddiffuser.pretrained.files import MissingModelError
from minddiffuser.pretrained.pooled import RESNET50_URL, open_pooled_network, resnet50_weights
from minddiffuser.seeds import torch_generator
from minddiffuser.store import DataError

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)


# Neighbours


@pytest.mark.parametrize("rows_at_once", [1, 7, 100, 5000])
def test_neighbours_equal_brute_force(rows_at_once):
    bank, queries = RNG.random((1000, 40)).astype(np.float32), RNG.random((13, 40)).astype(np.float32)
    rows, distances = nearest(queries, bank, 5, rows_at_once=rows_at_once)
    reference = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(bank.astype(np.float64))
    expected_distances, expected = reference.kneighbors(queries.astype(np.float64))
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-12)


def test_neighbours_far_from_the_origin_are_not_lost_to_cancellation():
    # |q|^2 - 2 q f + |f|^2 of vectors whose length is a million times their distance.
    bank = 1e6 + RNG.random((500, 30))
    queries = 1e6 + RNG.random((5, 30))
    rows, _ = nearest(queries, bank, 3, rows_at_once=64)
    by_definition = np.linalg.norm(queries[:, None] - bank, axis=2)
    np.testing.assert_array_equal(rows, np.argsort(by_definition, axis=1, kind="stable")[:, :3])


@pytest.mark.parametrize("rows_at_once", [3, 10, 64])
def test_ties_go_to_the_earlier_row_however_the_bank_is_cut(rows_at_once):
    bank = np.repeat(RNG.random((4, 2048)).astype(np.float32), 8, axis=0)[RNG.permutation(32)]
    rows, distances = nearest(bank[:6], bank, 8, rows_at_once=rows_at_once)
    for row, query in zip(rows, bank[:6], strict=True):
        np.testing.assert_array_equal(row, np.flatnonzero((bank == query).all(axis=1)))
    np.testing.assert_array_equal(distances, 0)


def test_rows_left_out_are_no_neighbours_and_a_file_serves_as_well_as_an_array(tmp_path):
    bank, queries = RNG.random((200, 16)).astype(np.float32), RNG.random((4, 16)).astype(np.float32)
    excluded = RNG.random(200) < 0.9
    with h5py.File(tmp_path / "bank.h5", "w") as file:
        rows, _ = nearest(queries, file.create_dataset("features", data=bank), 5, excluded, rows_at_once=16)
    kept = np.flatnonzero(~excluded)
    among_kept, _ = nearest(queries, bank[kept], 5)
    np.testing.assert_array_equal(rows, kept[among_kept])


def test_a_bank_that_cannot_answer_is_refused():
    with pytest.raises(ValueError, match="of which 3 rows count"):
        nearest(np.zeros((2, 4)), np.zeros((5, 4)), 4, np.array([True, True, False, False, False]))
    with pytest.raises(ValueError, match=r"\(2, 3\) in a bank of shape \(5, 4\)"):
        nearest(np.zeros((2, 3)), np.zeros((5, 4)), 1)


# Regression


def test_ridge_in_its_dual_form_equals_the_primal_and_scikit_learn():
    X, Y, X_test = RNG.normal(size=(108, 460)), RNG.normal(1.0, 2.0, size=(108, 20)), RNG.normal(size=(5, 460))
    dual = fit_predict(X, Y, X_test, 1000.0)
    mean = X.mean(axis=0)
    weights = np.linalg.solve((X - mean).T @ (X - mean) + 1000 * np.eye(460), (X - mean).T @ (Y - Y.mean(axis=0)))
    np.testing.assert_allclose(dual, (X_test - mean) @ weights + Y.mean(axis=0), rtol=1e-5, atol=1e-6)
    reference = Ridge(alpha=1000, max_iter=5000).fit(X, Y).predict(X_test)
    np.testing.assert_allclose(dual, reference, rtol=1e-5, atol=1e-6)


def test_restandardised_features_have_the_training_targets_mean_and_deviation():
    decoded, targets = RNG.normal(size=(50, 30)), RNG.normal(3, 2, size=(108, 30))
    decoded[:, 4] = 1.5  # a feature that is decoded alike for all images
    restored = restore_variance(decoded, Scaler.of(decoded), Scaler.of(targets))
    rest = np.arange(30) != 4
    np.testing.assert_allclose(restored.mean(axis=0), targets.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(restored[:, rest].std(axis=0), targets[:, rest].std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(restored[:, 4], targets[:, 4].mean())


def test_only_the_transductive_option_lets_test_images_change_one_another():
    X, Y, X_test = RNG.normal(size=(60, 40)), RNG.normal(size=(60, 6)), RNG.normal(size=(9, 40))
    held_out = held_out_predictions(X, Y, 1000.0, seed=1)

    def decode(rows, transductive):
        raw = fit_predict(X, Y, X_test[rows], 1000.0)
        return restore_variance(raw, Scaler.of(raw if transductive else held_out), Scaler.of(Y))[0]

    few, all_rows = np.arange(3), np.arange(9)
    np.testing.assert_allclose(decode(few, False), decode(all_rows, False), rtol=1e-4)
    assert np.abs(decode(few, True) - decode(all_rows, True)).max() > 0.1


@pytest.mark.parametrize("noise", [10, 20, 40])
def test_averages_over_trials_regain_the_spread_of_the_targets_without_other_images(noise):
    """Averages have far less noise than the single trials that are fitted and held out."""
    rng = np.random.default_rng(5)
    mixing = rng.normal(size=(40, 200))
    Y, Y_test = rng.normal(size=(600, 40)), rng.normal(size=(50, 40))
    X = Y @ mixing + noise * rng.normal(size=(600, 200))
    image = np.repeat(np.arange(50), 35)
    X_trials = Y_test[image] @ mixing + noise * rng.normal(size=(len(image), 200))
    trials = fit_predict(X, Y, X_trials, 1000.0)
    raw = np.stack([trials[image == i].mean(axis=0) for i in range(50)])
    held_out, by_folds = fold_predictions(X, Y, X_trials, 1000.0, seed=0)
    np.testing.assert_array_equal(held_out, held_out_predictions(X, Y, 1000.0, seed=0))
    factor = spread_of_averages(held_out, by_folds, trials, image)

    def spread(features):
        return features.std(axis=0).mean() / Y.std(axis=0).mean()

    predictions, targets = Scaler.of(held_out), Scaler.of(Y)
    assert spread(restore_variance(raw, predictions, targets)) < 0.75  # as if single trials' spread were averages'
    assert spread(restore_variance(raw, predictions, targets, factor[:, None])) == pytest.approx(1, abs=0.15)
    few = image < 3  # an image's factor does not depend on the others
    np.testing.assert_allclose(spread_of_averages(held_out, by_folds[:, few], trials[few], image[few]), factor[:3])
    one = np.arange(0, len(image), 35)  # of one trial each nothing is averaged
    np.testing.assert_array_equal(spread_of_averages(held_out, by_folds[:, one], trials[one], image[one]), 1)


def test_labels_of_unseen_classes_are_found_from_planted_responses_and_not_from_shuffled_ones():
    # Classes have prototypes, voxels respond linearly; the 20 test classes are in the bank but not in training.
    prototypes = RNG.normal(size=(80, 64))

    def draw(classes):
        return prototypes[classes] + 0.3 * RNG.normal(size=(len(classes), 64))

    mixing = RNG.normal(size=(64, 300))
    training, test = np.repeat(np.arange(60), 8), np.arange(60, 80)
    Y, Y_test, bank = draw(training), draw(test), draw(np.repeat(np.arange(80), 20))
    X = Y @ mixing + 3 * RNG.normal(size=(len(Y), 300))  # one repetition
    X_test = Y_test @ mixing + 0.5 * RNG.normal(size=(len(test), 300))  # averaged over many

    def accuracy(X):
        raw = fit_predict(X, Y, X_test, 1000.0)
        features = restore_variance(raw, Scaler.of(held_out_predictions(X, Y, 1000.0, seed=0)), Scaler.of(Y))
        return (nearest(features, bank, 5)[0][:, 0] // 20 == test).mean()

    assert accuracy(X) > 0.8
    assert accuracy(X[RNG.permutation(len(X))]) < 0.2


# Features


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory):
    """torch.hub's folder with a ResNet-50 of random weights, and that network."""
    torch.manual_seed(0)
    network = torchvision_models.resnet50(weights=None)
    for module in network.modules():  # as after training: statistics that are not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    hub = tmp_path_factory.mktemp("hub")
    path = resnet50_weights(hub)
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    return hub, network


@pytest.fixture(scope="module")
def pictures():
    return [torch.from_numpy(RNG.integers(0, 256, (3, 64, 64), dtype=np.uint8)) for _ in range(5)]


def normalised(pictures):
    scale = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return torch.stack([scale(picture.float() / 255) for picture in pictures])


def assert_same(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * float(np.abs(a).mean()))


def test_the_first_weights_are_asked_for():
    assert torchvision_models.ResNet50_Weights.IMAGENET1K_V1.url == RESNET50_URL


def test_features_are_what_comes_before_the_last_layer(resnet50, pictures):
    hub, network = resnet50
    opened = open_pooled_network("resnet50", Models(), hub, CPU)
    features = pooled_features(opened, pictures, 2, CPU)
    assert features.shape == (5, 2048)
    network.eval()
    with torch.no_grad():
        before_last = torch.nn.Sequential(*list(network.children())[:-1])(normalised(pictures))[:, :, 0, 0]
        logits = network(normalised(pictures))
    assert_same(features, before_last.numpy())
    assert opened.head is not None
    weight, bias = opened.head
    assert_same(features @ weight.T + bias, logits.numpy())


def test_as_released_features_depend_on_the_batch_and_by_default_they_do_not(resnet50, pictures):
    hub, network = resnet50
    opened = open_pooled_network("resnet50", Models(), hub, CPU)
    default = pooled_features(opened, pictures, 5, CPU)
    assert_same(pooled_features(opened, pictures, 1, CPU), default)
    released = pooled_features(opened, pictures, 5, CPU, "training")
    assert np.abs(released - pooled_features(opened, pictures, 2, CPU, "training")).mean() > 0.05 * released.mean()
    # It is what a network that was never put into evaluation mode gives ...
    network.train()
    with torch.no_grad():
        expected = torch.nn.Sequential(*list(network.children())[:-1])(normalised(pictures))[:, :, 0, 0]
    network.load_state_dict(torch.load(resnet50_weights(hub), weights_only=True))
    assert_same(released, expected.numpy())
    # ... and it leaves no trace: those statistics are not learned.
    np.testing.assert_array_equal(pooled_features(opened, pictures, 5, CPU), default)


def test_the_miniature_has_features_of_its_own_network(pictures):
    models = load(REPOSITORY / "configs" / "miniature.yaml").experiment.models
    opened = open_pooled_network("scoring_clip", models, None, CPU)
    features = pooled_features(opened, pictures, 2, CPU)
    assert features.shape[0] == 5
    assert (features >= 0).all()
    assert features.std() > 0
    assert opened.head is None
    assert np.abs(pooled_features(opened, pictures, 5, CPU, "training") - features).max() > 0.01


def test_absent_and_broken_weights_are_named(tmp_path, resnet50):
    with pytest.raises(MissingModelError, match=r"resnet50-0676ba61\.pth is absent; python data/00_get_models\.py"):
        open_pooled_network("resnet50", Models(), tmp_path, CPU)
    path = resnet50_weights(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(resnet50_weights(resnet50[0]).read_bytes()[:1000])
    with pytest.raises(MissingModelError, match="the weights of resnet50: it is truncated"):
        open_pooled_network("resnet50", Models(), tmp_path, CPU)


def test_stimuli_are_resized_as_in_the_released_code():
    stimulus = Image.fromarray(RNG.integers(0, 256, (500, 500, 3), dtype=np.uint8))
    released = transforms.Compose([transforms.Resize(224), transforms.PILToTensor()])
    torch.testing.assert_close(prepare(stimulus, 224), released(stimulus))


def test_other_pictures_are_cropped_to_their_middle_and_grey_ones_get_three_channels():
    picture = Image.new("L", (120, 60), 0)
    picture.paste(255, (30, 0, 90, 60))
    prepared = prepare(picture, 30)
    assert prepared.shape == (3, 30, 30)
    assert (prepared[:, :, 1:-1] > 250).all()


def test_a_file_that_is_no_picture_is_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "whole.png")
    (tmp_path / "n01440764_1.JPEG").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"n01440764_1\.JPEG cannot be read as a picture"):
        list(read_prepared([tmp_path / "whole.png", tmp_path / "n01440764_1.JPEG"], 8))


# Pictures


@pytest.fixture(scope="module")
def pipeline():
    return open_text_to_image(load(REPOSITORY / "configs" / "miniature.yaml").experiment.models, False, CPU)


def test_the_sampler_is_the_one_that_stable_diffusion_was_released_with(pipeline):
    # The hub's scheduler_config.json of CompVis/stable-diffusion-v1-4, but for the miniature's half of the betas.
    released = PNDMScheduler(
        beta_start=0.00085 / 2, beta_end=0.012 / 2, beta_schedule="scaled_linear", num_train_timesteps=1000,
        skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1, trained_betas=None,
    )  # fmt: skip
    assert type(pipeline.scheduler) is PNDMScheduler
    relevant = [key for key in released.config if not key.startswith("_")]
    assert {key: pipeline.scheduler.config[key] for key in relevant} == {key: released.config[key] for key in relevant}
    pipeline.scheduler.set_timesteps(50)
    assert len(pipeline.scheduler.timesteps) == 51  # the authors' progress bars count 51


def draw(pipeline, labels, ranks, batch_size):
    made = []
    for start in range(0, len(labels), batch_size):
        rows = range(start, min(start + batch_size, len(labels)))
        made.append(
            pipeline(
                [f"An image of a {labels[i]}" for i in rows],
                num_inference_steps=4,
                guidance_scale=2.0,
                generator=[torch_generator(42, 7, "picture of label", ranks[i]) for i in rows],
                output_type="pt",
            ).images
        )
    return torch.cat(made)


def test_pictures_depend_on_label_and_rank_but_not_on_the_batch(pipeline):
    labels, ranks = ["red car", "red car", "blue fish", "red car"], [0, 1, 0, 0]
    together = draw(pipeline, labels, ranks, 4)
    assert together.shape == (4, 3, 64, 64)
    torch.testing.assert_close(together, draw(pipeline, labels, ranks, 1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(together[0], together[3], rtol=1e-3, atol=1e-3)
    assert (together[0] - together[1]).abs().mean() > 0.01  # the same label twice, two pictures
    assert (together[0] - together[2]).abs().mean() > 0.01


def test_a_model_without_a_safety_checker_says_so():
    models = load(REPOSITORY / "configs" / "miniature.yaml").experiment.models
    with pytest.raises(MissingModelError, match="safety_checker was not found"):
        open_text_to_image(models, True, CPU)
