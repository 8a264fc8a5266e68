"""The rivals' parts: what each form does, which pictures Takagi's starts from, what Ozcelik's decoders give back."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_predict
from transformers import ResNetConfig, ResNetModel

from baselines.ozcelik.features import instance_features, invert
from baselines.ozcelik.generator import Generator, generator_of, open_generator
from baselines.regression import fit_predict, held_out_predictions
from baselines.takagi import recipes
from baselines.takagi.pictures import encode_again
from feature_decoding.ridge import Scaler
from feature_decoding.variance import restore_variance
from feature_extraction.latents import decode, encode, to_model_range
from minddiffuser.config import Config, Experiment
from minddiffuser.config.method import Sampler
from minddiffuser.config.ozcelik import Ozcelik, ozcelik_form
from minddiffuser.config.takagi import TAKAGI_FORMS, Takagi, takagi_form
from minddiffuser.pretrained.files import MissingModelError
from minddiffuser.pretrained.icgan import InstanceEncoder, icgan_state, open_instance_encoder
from minddiffuser.store import DataError
from miniature import networks
from reconstruction.folder import to_uint8
from reconstruction.sampler import ImageToImage

CPU = torch.device("cpu")


def timesteps_of(settings: Sampler) -> list[int]:
    """Timestep of the noise, and those of denoising."""
    sampler = ImageToImage(None, None, networks.build_scheduler(), torch.zeros(1), settings, False)  # type: ignore[arg-type]
    return [int(sampler.noise_timestep), *sampler.timesteps.tolist()]


def test_timesteps_of_takagis_forms():
    experiment = Experiment()
    of = {name: takagi_form(experiment.sampler, Takagi(), name) for name in Takagi().forms}
    assert timesteps_of(of["corrected"].sampler)[:3] == [781, 781, 761]  # as diffusers does at strength .8
    assert timesteps_of(of["original"].sampler)[:3] == [801, 781, 761]  # as CompVis' script does
    assert timesteps_of(of["minddiffuser"].sampler)[:3] == [741, 681, 661]
    assert [len(timesteps_of(form.sampler)) - 1 for form in of.values()] == [40, 40, 40, 35]


def test_forms_differ_in_what_they_are_said_to_differ_in():
    experiment = Experiment()
    assert Takagi().forms == tuple(TAKAGI_FORMS)
    original, corrected, restored, bundled = (takagi_form(experiment.sampler, Takagi(), name) for name in TAKAGI_FORMS)
    assert restored == corrected.model_copy(update={"restore_variance": "train"})
    assert (original.center_targets, corrected.center_targets) == (False, True)
    assert (bundled.decoder, bundled.encoded_range, bundled.n_samples) == ("voxel_selection", "unit", 1)
    assert {original.n_samples, corrected.n_samples} == {5}
    assert round(corrected.image_share * experiment.detail.image_size) == 320
    original, corrected, bundled = (ozcelik_form(Ozcelik(), name) for name in Ozcelik().forms)
    assert (original.restore_variance, corrected.restore_variance, bundled.restore_variance) == (
        "test",
        "train",
        "none",
    )
    assert (original.alpha_instance, original.alpha_noise, original.alpha_dense) == (500, 1, 100)
    assert (original.unit_length, corrected.unit_length, bundled.noise) == (False, True, "random")
    miniature = takagi_form(experiment.sampler, Takagi(alphas=(7.0,), n_samples=2), "original")
    assert (miniature.alphas, miniature.n_samples) == ((7.0,), 2)  # what is no matter of forms is as configured


def test_only_a_form_that_decodes_trials_is_restored():
    with pytest.raises(ValueError, match=r"restore_variance: train is of decoder: ridge_cv"):
        Takagi(decoder="voxel_selection", restore_variance="train")
    everywhere, sampler = Takagi(restore_variance="train"), Experiment().sampler
    assert takagi_form(sampler, everywhere, "minddiffuser").restore_variance == "none"
    restored = takagi_form(sampler, Takagi(decoder="voxel_selection"), "restored")
    assert (restored.decoder, restored.restore_variance) == ("ridge_cv", "train")


def test_only_a_restored_form_depends_on_the_folds():
    def settings_of(name, seed):
        config = Config(name="x", experiment=Experiment(seed=seed))
        return recipes.decoded(config, "subj01", name).settings

    ridge = ["decoder", "center_targets", "alphas", "posterior"]
    for name in ("original", "corrected"):
        assert list(settings_of(name, 0)) == [f"experiment.takagi.{key}" for key in ridge]
    assert settings_of("minddiffuser", 0) == settings_of("minddiffuser", 1)
    own = {"experiment.takagi.restore_variance": "train", "experiment.seed": 1}
    assert settings_of("restored", 1) == settings_of("corrected", 1) | own


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return networks.build_vae().eval().requires_grad_(False)


def test_small_latents_become_pictures_that_are_enlarged_and_encoded(vae):
    z = torch.randn(2, 4, 5, 5)
    again = encode_again(vae, z, 64, "model")
    assert again.shape == (2, 4, 8, 8)
    pictures = to_uint8(decode(vae, z))
    assert pictures.shape == (2, 40, 40, 3)
    torch.testing.assert_close(again, encode(vae, to_model_range(pictures, 64)))
    draws = [torch.Generator().manual_seed(k) for k in (1, 2)]
    sampled = encode_again(vae, z, 64, "model", draws)
    alone = encode_again(vae, z[1:], 64, "model", [torch.Generator().manual_seed(2)])
    assert not torch.equal(sampled, again)
    # An image does not depend on its batch, but for a pixel that is rounded to the next of 256 values.
    torch.testing.assert_close(sampled[1:], alone, atol=1e-3, rtol=0)


def test_as_bundled_what_is_encoded_again_is_washed_out(vae):
    """Pictures in [0, 1] look to the autoencoder like pictures of half the contrast, and none of them is dark."""
    z = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(encode_again(vae, z, 64, "unit"), encode(vae, decode(vae, z)))
    washed = (decode(vae, z) + 1) / 2  # what those would be, in [0, 1], to an autoencoder that expects [-1, 1]
    rounded = to_model_range(to_uint8(washed), 64)
    torch.testing.assert_close(encode_again(vae, z, 64, "unit"), encode(vae, rounded), atol=0.02, rtol=0)


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    X, X_test = rng.normal(size=(150, 60)), rng.normal(size=(30, 60))
    W = rng.normal(size=(60, 5))
    return X, 3 + X @ W + 4 * rng.normal(size=(150, 5)), X_test


def test_variance_is_restored_to_that_of_the_training_targets(problem):
    X, Y, X_test = problem
    decoded = Ridge(500).fit(X, Y).predict(X_test)
    np.testing.assert_allclose(fit_predict(X, Y, X_test, 500), decoded, rtol=1e-5)
    held_out = cross_val_predict(Ridge(500), X, Y, cv=KFold(5, shuffle=True, random_state=0))
    np.testing.assert_allclose(held_out_predictions(X, Y, 500, seed=0), held_out, rtol=1e-4)
    assert (decoded.std(axis=0) < 0.6 * Y.std(axis=0)).all()  # what ridge takes away
    transductive = restore_variance(decoded, Scaler.of(decoded), Scaler.of(Y))
    np.testing.assert_allclose(transductive.std(axis=0), Y.std(axis=0))
    np.testing.assert_allclose(transductive.mean(axis=0), Y.mean(axis=0))
    by_training = restore_variance(decoded, Scaler.of(held_out_predictions(X, Y, 500, seed=0)), Scaler.of(Y))
    np.testing.assert_allclose(by_training.std(axis=0), Y.std(axis=0), rtol=0.4)
    of_fitted = Scaler.of(Ridge(500).fit(X, Y).predict(X))
    fitted = restore_variance(decoded, of_fitted, Scaler.of(Y))
    assert (fitted.std(axis=0) < by_training.std(axis=0)).all()


def test_by_training_statistics_an_image_does_not_depend_on_the_others(problem):
    X, Y, X_test = problem
    model, held_out = Ridge(500).fit(X, Y), held_out_predictions(X, Y, 500, seed=0)
    batch = restore_variance(model.predict(X_test), Scaler.of(held_out), Scaler.of(Y))
    alone = restore_variance(model.predict(X_test[:1]), Scaler.of(held_out), Scaler.of(Y))
    np.testing.assert_allclose(alone[0], batch[0])
    some, all_ = model.predict(X_test[:5]), model.predict(X_test)
    few, every = (restore_variance(rows, Scaler.of(rows), Scaler.of(Y)) for rows in (some, all_))
    assert np.abs(few[0] - every[0]).max() > 0.1


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    model = Generator([16, 16, 8], attention_after=None, n_features=12, n_condition=8, n_chunk=5, classes=(4, 3))
    for name, parameter in model.named_parameters():
        if "bn" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 12, 5, stride=3), torch.nn.ReLU(), torch.nn.Flatten(2))
    network.requires_grad_(False)
    return InstanceEncoder(lambda x: network(x).mean(dim=2), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 16)


def test_instance_features_have_unit_length_and_see_normalised_pixels(encoder):
    pictures = torch.rand(3, 3, 16, 16)
    features = instance_features(encoder, pictures)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))
    pixels = (pictures - torch.tensor(encoder.mean)[:, None, None]) / torch.tensor(encoder.std)[:, None, None]
    raw = encoder.forward(pixels)
    torch.testing.assert_close(features, raw / raw.norm(dim=1, keepdim=True))
    assert instance_features(encoder, torch.rand(2, 3, 40, 40)).shape == (2, 12)  # resized to what the network expects


def test_inversion_finds_what_makes_a_picture_of_the_generators_own(generator, encoder):
    torch.manual_seed(2)
    blind = encoder._replace(forward=lambda x: torch.ones(len(x), 12) + 0 * x.mean())  # to it all pictures are alike
    z, features = torch.randn(3, generator.n_noise), torch.full((3, 12), 12**-0.5)
    pictures = generator(z, features) / 2 + 0.5
    _, _, before = invert(generator, blind, pictures, features, 1, 1e-9)
    noise, dense, error = invert(generator, blind, pictures, features, 150, 0.1)
    assert (error < 0.4 * before).all()
    assert noise.shape == (3, generator.n_noise)
    assert (noise[:, : generator.n_chunk] == 0).all()
    made = generator(noise, features, dense) / 2 + 0.5
    torch.testing.assert_close((made - pictures).abs().mean(dim=(1, 2, 3)), error, atol=2e-3, rtol=0)
    alone = invert(generator, encoder, pictures[1:2], features[1:2], 20, 0.1)
    batch = invert(generator, encoder, pictures, features, 20, 0.1)
    torch.testing.assert_close(alone[1], batch[1][1:2], atol=1e-3, rtol=1e-3)  # each picture by itself


def with_old_names(archive):
    """A torch file as NumPy 1 would have written it."""
    renamed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(renamed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            new.writestr(name, content)
    return renamed.getvalue()


def public_checkpoint(folder, generator, fids, old_numpy=False):
    folder.mkdir()
    for number, fid in enumerate(fids):
        state = {key: value * 2**number for key, value in generator.state_dict().items()}
        torch.save({f"module.{key}": value for key, value in state.items()}, folder / f"G_ema_best{number}.pth")
        record = {"itr": 7, "best_FID": np.float64(fid), "config": {"G_activation": torch.nn.ReLU(inplace=False)}}
        content = io.BytesIO()
        torch.save(record, content)
        (folder / f"state_dict_best{number}.pth").write_bytes(
            with_old_names(content.getvalue()) if old_numpy else content.getvalue()
        )
    return folder


@pytest.mark.parametrize("old_numpy", [True, False])
@pytest.mark.parametrize("fids", [(7.5, 8.0), (8.0, 7.5)])
def test_of_a_public_checkpoint_the_generator_with_the_lower_fid_is_opened(tmp_path, generator, fids, old_numpy):
    folder = public_checkpoint(tmp_path / "icgan", generator, fids, old_numpy)
    best = int(np.argmin(fids))
    opened = generator_of(icgan_state(str(folder)))
    key = "linear.weight"
    assert torch.equal(opened.state_dict()[key], generator.state_dict()[key] * 2**best)
    other = generator_of(icgan_state(str(folder / f"G_ema_best{1 - best}.pth")))
    assert torch.equal(other.state_dict()[key], generator.state_dict()[key] * 2 ** (1 - best))


def test_a_missing_or_broken_generator_says_what_to_do(tmp_path, generator):
    with pytest.raises(MissingModelError, match=r"(?s)curl -L https://.*experiment\.ozcelik=null"):
        icgan_state(str(tmp_path / "absent"))
    folder = public_checkpoint(tmp_path / "icgan", generator, (7.5,))
    folder2 = public_checkpoint(tmp_path / "two", generator, (7.5, 8.0))
    (folder2 / "state_dict_best1.pth").write_bytes(b"not a record")
    with pytest.raises(MissingModelError, match=r"(?s)state_dict_best1.pth.*set experiment.ozcelik.generator to one"):
        icgan_state(str(folder2))
    torch.save({"linear.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"other.pth: not the state of an IC-GAN generator: shared_feat.weight"):
        open_generator(str(tmp_path / "other.pth"), CPU)
    file = folder / "G_ema_best0.pth"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(MissingModelError, match="cannot be read as a checkpoint of IC-GAN: it is truncated"):
        icgan_state(str(folder))


def test_an_instance_encoder_is_opened_from_a_folder(tmp_path):
    torch.manual_seed(0)
    shape = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    model = ResNetModel(ResNetConfig(**shape)).eval()
    with pytest.raises(MissingModelError, match=r"neither swav_resnet50 nor"):
        open_instance_encoder(str(tmp_path), None, CPU)
    model.save_pretrained(tmp_path)
    processing = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "size": {"height": 24, "width": 24}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processing))
    opened = open_instance_encoder(str(tmp_path), None, CPU)
    assert (opened.mean, opened.size) == ((0.1, 0.2, 0.3), 24)
    x = torch.rand(2, 3, 24, 24)
    torch.testing.assert_close(opened.forward(x), model(x).pooler_output.flatten(1))
    assert opened.forward(x).shape == (2, 16)
    assert issubclass(MissingModelError, DataError)
