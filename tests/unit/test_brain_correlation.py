"""Brain correlation: an encoding model that finds planted weights, and scores that are what they say."""

import io
import json
from pathlib import Path

import h5py
import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from sklearn.linear_model import RidgeCV

from data.recipes import prepared
from evaluation.metrics import features
from evaluation.metrics.scorer import embed
from evaluation.pictures import brain, encoding
from minddiffuser.cli import Run
from minddiffuser.config import REPOSITORY, load
from minddiffuser.pretrained.clip import Clip, open_clip_model
from minddiffuser.store import Artifact, DataError, Shard

CPU = torch.device("cpu")
N_TEST, N_TRAIN, N_VOXELS, SIZE = 60, 200, 12, 64
SUBJECT = "subj01"


def correlation(a, b):
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(np.transpose(a), np.transpose(b), strict=True)])


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(60, 5)) * [1, 2, 3, 4, 5] + 7
    return (0.5 * y + rng.normal(size=(60, 5)) * 2).astype(np.float32), y.astype(np.float32)


ROIS = {"all": np.ones(5, bool), "V1": np.array([True, True, False, False, False])}


# Of arrays


def test_the_mean_over_images_is_the_correlation_of_each_roi(pairs):
    values, floors = brain.correlate(pairs[0], pairs[1], ROIS)
    r = correlation(pairs[0], pairs[1])
    assert values["all"].mean() == pytest.approx(r.mean())
    assert values["V1"].mean() == pytest.approx(r[:2].mean())
    assert values["all"].shape == (60,)
    assert 0 < floors["all"] < 0.2 < r.mean()


def test_an_image_has_the_influence_that_leaving_it_out_has(pairs):
    """Jackknife: n r - (n - 1) r without the image."""
    p, y = (np.repeat(part, 8, axis=0) for part in pairs)  # many images, for a closeness that grows with them
    values, _ = brain.correlate(p, y, ROIS)
    r, n = correlation(p, y).mean(), len(p)
    for i in (0, 100, 333):
        without = correlation(np.delete(p, i, 0), np.delete(y, i, 0)).mean()
        assert values["all"][i] - r == pytest.approx((n - 1) * (r - without), abs=0.03)


def test_its_interval_is_that_of_resampled_correlations(pairs):
    values, _ = brain.correlate(pairs[0], pairs[1], ROIS)
    rng = np.random.default_rng(1)
    drawn = [correlation(pairs[0][rows], pairs[1][rows]).mean() for rows in rng.integers(60, size=(1000, 60))]
    assert values["all"].std() / 60**0.5 == pytest.approx(np.std(drawn), rel=0.15)


def test_a_voxel_that_is_constant_has_no_correlation(pairs):
    p, y = pairs
    p[:, 0] = 3.0
    values, _ = brain.correlate(p, y, ROIS)
    assert values["V1"].mean() == pytest.approx(correlation(p[:, 1:2], y[:, 1:2])[0] / 2)
    values, floors = brain.correlate(np.ones_like(p), y, ROIS)
    assert not values["all"].any()
    assert floors["all"] == 0


def test_the_encoding_model_finds_planted_weights():
    rng = np.random.default_rng(0)
    X, W = rng.normal(3, 2, (300, 10)), rng.normal(size=(10, 7))
    W[:, 6] = 0
    found = encoding.fit(X, (X @ W + 5 + rng.normal(0, 1e-3, (300, 7))).astype(np.float32))
    new = rng.normal(3, 2, (20, 10))
    assert (correlation(found.predict(new)[:, :6], (new @ W)[:, :6]) > 0.999).all()
    np.testing.assert_allclose(found.predict(new)[:, :6], (new @ W + 5)[:, :6], atol=1)
    assert found.alpha[6] > 10 * found.alpha[:6].max()  # noise alone is predicted by little but the mean


def test_blocks_of_voxels_are_fitted_as_all_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(50, 6)), rng.normal(size=(50, 5))
    Y[:, :3] += X[:, :3]
    whole = encoding.fit(X, Y)
    monkeypatch.setattr(encoding, "_VOXELS_AT_ONCE", 2)
    for a, b in zip(whole[1:], encoding.fit(X, Y)[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    alone = RidgeCV(encoding.ALPHAS).fit(whole.scaler.apply(X), Y[:, 1])  # one penalty for one voxel
    assert whole.alpha[1] == alone.alpha_
    np.testing.assert_allclose(whole.weights[:, 1], alone.coef_, rtol=1e-4)


# Of CLIP


@pytest.fixture(scope="module")
def clips():
    """The miniature's ResNet, and a vision transformer."""
    models = load(REPOSITORY / "configs" / "miniature.yaml").experiment.models
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 4, "width": 64, "patch_size": 8, "head_width": 32}
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    transformer = open_clip.CLIP(32, vision, text).eval()
    return {
        "resnet": open_clip_model(models.scoring_clip, models.scoring_clip_weights, CPU),
        "transformer": Clip(transformer, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    }


@pytest.mark.parametrize("kind", ["resnet", "transformer"])
def test_places_come_with_the_embeddings_that_scores_use(clips, kind):
    images = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), dtype=np.uint8)
    embeddings, places = features.clip_embeddings_and_places(clips[kind], images, CPU, 2)
    np.testing.assert_array_equal(embeddings, features.clip_embeddings(clips[kind], images, CPU, 2))
    assert places.shape == (5, features.N_PLACES)
    one = features.clip_embeddings_and_places(clips[kind], images[3:4], CPU, 1)[1]
    np.testing.assert_allclose(one[0], places[3], atol=1e-4)
    assert embed(clips[kind], images, CPU, 2)[1].shape == (5, embeddings.shape[1] + features.N_PLACES)
    network = clips[kind].model.visual
    assert not any(module._forward_hooks for module in network.modules())


def test_of_a_transformer_places_are_those_of_the_tokens(clips, monkeypatch):
    """Random numbers that keep one channel: its mean in each part of the grid, in order."""
    one_channel = torch.zeros(64 * 16, features.N_PLACES)
    one_channel[7 * 16 : 8 * 16, :16] = torch.eye(16)  # of channel 7
    monkeypatch.setattr(features, "_projection", lambda _: one_channel)
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    clip, seen = clips["transformer"], []
    hook = clip.model.visual.transformer.resblocks[1].register_forward_hook(lambda *found: seen.append(found[2]))
    places = features.clip_embeddings_and_places(clip, images, CPU, 1)[1]
    hook.remove()
    np.testing.assert_allclose(places[0, :16], seen[0][0, 1:, 7].detach(), atol=1e-5)  # 4 x 4 patches


# Of a subject


def planted(folder: Path, invalid: int = 0) -> Run:
    """A subject whose voxels see a colour in a quarter of a picture; of `invalid` test images betas are lacking."""
    overrides = [f"execution.runs={folder / 'runs'}", f"execution.nsd={folder / 'nsd'}", "experiment.subjects=[subj01]"]
    config = load(REPOSITORY / "configs" / "miniature.yaml", [*overrides, "experiment.evaluation.n_bootstrap=500"])
    rng, n = np.random.default_rng(0), N_TEST + N_TRAIN
    coarse = rng.integers(0, 256, (n, 2, 2, 3), dtype=np.uint8)
    images = coarse.repeat(SIZE // 2, axis=1).repeat(SIZE // 2, axis=2)
    stimuli = folder / "nsd" / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"
    stimuli.parent.mkdir(parents=True)
    with h5py.File(stimuli, "w") as file:
        file["imgBrick"] = images
    seen = coarse.reshape(n, N_VOXELS) / 255 - 0.5
    betas = 3 * seen + rng.normal(0, 0.5, seen.shape)
    betas[:invalid] = np.nan
    Artifact(prepared(config, SUBJECT)).write(
        {
            "betas": betas.astype(np.float32),
            "stimulus_id": np.arange(n),
            "is_test": np.arange(n) < N_TEST,
            "roi": np.array(["V1"] * 5 + ["hV4"] * 7).astype("S"),
        }
    )
    return Run(config, (SUBJECT,), Shard(), "cpu", overwrite=False)


@pytest.fixture
def run(tmp_path):
    return planted(tmp_path)


def scored(run, monkeypatch, pictures):
    """The table of pictures that are there as somebody else's, by name."""
    read = dict(pictures)
    monkeypatch.setattr(brain.systems, "states_of", lambda *_: dict.fromkeys(read, "there"))
    monkeypatch.setattr(brain.folder, "sample_folders", lambda path: [path])
    monkeypatch.setattr(brain.folder, "read", lambda path: read[f"others/{path.name}"])
    return brain.update(run, {}).set_index(["system", "roi"])


def stimuli_of(run):
    with h5py.File(next(run.config.nsd.rglob("*.hdf5"))) as file:
        return file["imgBrick"][:N_TEST]


def test_the_stimuli_are_the_highest_and_shuffled_is_at_zero(run, monkeypatch, capsys):
    images, ids = stimuli_of(run), np.arange(N_TEST)
    noise = np.random.default_rng(3).normal(0, 60, images.shape)
    noisy = (images + noise).clip(0, 255).astype(np.uint8)
    others = {
        "others/same": (ids[::-1], images[::-1].copy()),  # in another order
        "others/noisy": (ids, (0.3 * noisy + 0.7 * np.roll(noisy, 1, axis=0)).astype(np.uint8)),
        "others/grey": (ids, np.full_like(images, 128)),
        "others/some": (ids[:20], images[:20]),
    }
    table = scored(run, monkeypatch, others)
    assert list(table.columns) == ["subject", "r", "ci_low", "ci_high", "floor", "n"]
    assert list(dict.fromkeys(table.index.get_level_values("roi"))) == ["all", "V1", "hV4"]
    for roi in ("all", "V1", "hV4"):
        stimulus, shuffled = (table.loc[(name, roi)] for name in (brain.STIMULUS, brain.SHUFFLED_STIMULUS))
        assert stimulus.r > 0.4 > table.loc[("others/noisy", roi)].r > stimulus.floor
        assert stimulus.ci_low < stimulus.r < stimulus.ci_high
        assert shuffled.ci_low < 0 < shuffled.ci_high
        assert table.loc[("others/same", roi)].r == pytest.approx(stimulus.r, abs=1e-4)
        assert table.loc[("others/grey", roi)].r == 0
    assert table.loc[("others/some", "all")].n == 20
    written = pd.read_csv(brain.BRAIN.output(run.config) / "brain_correlation.csv")
    assert list(written) == ["subject", "system", "roi", "r", "ci_low", "ci_high", "floor", "n"]
    said = capsys.readouterr().out
    assert "same" in said
    assert "shares its training images" in said


def test_what_is_there_is_kept_and_the_model_is_not_fitted_again(run, monkeypatch):
    ids, images = np.arange(N_TEST), stimuli_of(run)
    first = scored(run, monkeypatch, {"others/a": (ids, images)})
    before = encoding.encoder(run.config, SUBJECT).path.stat().st_mtime_ns

    def never(*_):
        raise AssertionError("it is there already")

    monkeypatch.setattr(encoding, "fit", never)
    pd.testing.assert_frame_equal(first, scored(run, monkeypatch, {"others/a": (ids, images)}))
    second = scored(run, monkeypatch, {"others/a": (ids, images), "others/b": (ids, images[::-1].copy())})
    assert encoding.encoder(run.config, SUBJECT).path.stat().st_mtime_ns == before
    pd.testing.assert_frame_equal(first, second.drop("others/b", level="system"))


@pytest.mark.parametrize("damage", ["missing", "edited"])
def test_floors_are_made_again_where_their_table_is_not_as_it_was_written(run, monkeypatch, damage):
    pictures = {"others/a": (np.arange(N_TEST), stimuli_of(run))}
    first = scored(run, monkeypatch, pictures)
    path = brain.BRAIN.output(run.config) / "brain_correlation.csv"
    before = path.read_text()
    path.unlink()
    if damage == "edited":
        pd.read_csv(io.StringIO(before)).assign(floor=0.9).to_csv(path, index=False)
    pd.testing.assert_frame_equal(first, scored(run, monkeypatch, pictures), atol=1e-6)
    assert path.read_text() == before


def test_images_without_betas_are_left_out_and_a_subject_without_any_is_named(tmp_path, monkeypatch, capsys):
    few = planted(tmp_path / "few", invalid=4)
    table = scored(few, monkeypatch, {"others/a": (np.arange(N_TEST), stimuli_of(few))})
    assert set(table["n"]) == {N_TEST - 4}
    none = planted(tmp_path / "none", invalid=N_TEST)
    capsys.readouterr()
    assert scored(none, monkeypatch, {"others/a": (np.arange(N_TEST), stimuli_of(none))}).empty
    path = prepared(none.config, SUBJECT).path
    said = " ".join(capsys.readouterr().out.split())
    assert f"absent: brain correlation of subj01 ({path} has betas of 0 test images, and 3 are needed)" in said
    record = json.loads((brain.BRAIN.output(none.config) / "scores.json").read_text())
    assert list(record["absent"]) == [SUBJECT]


def test_a_model_of_other_settings_is_refused(run, monkeypatch):
    encoding.make(run, SUBJECT)
    monkeypatch.setattr(encoding, "ALPHAS", (1.0, 2.0))
    with pytest.raises(DataError, match=r"encoder.alphas was \[10.0"):
        encoding.make(run, SUBJECT)
