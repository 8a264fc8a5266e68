"""Downloading models: what is checked, and what is said when it cannot be done."""

import hashlib
import re
from pathlib import Path

import pytest
import torch

from minddiffuser.config.method import Models
from minddiffuser.config.mind_animator import FilmMetrics
from minddiffuser.pretrained import downloading
from minddiffuser.pretrained.clip import CLIP_FILE
from minddiffuser.pretrained.downloading import (
    damaged_files,
    download,
    download_film_networks,
    download_resnet50,
    download_scoring_weights,
)
from minddiffuser.pretrained.files import MissingModelError
from minddiffuser.pretrained.scoring import scoring_weights


@pytest.fixture
def snapshot(tmp_path):
    """A model in the layout of the hub's cache: large files are links to blobs that are named by their SHA-256."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshots" / "unet").mkdir(parents=True)
    content = b"weights"
    blob = tmp_path / "blobs" / hashlib.sha256(content).hexdigest()
    blob.write_bytes(content)
    (tmp_path / "snapshots" / "unet" / "model.safetensors").symlink_to(blob)
    (tmp_path / "snapshots" / "unet" / "config.json").write_text("{}")
    return tmp_path / "snapshots"


def test_a_damaged_file_is_found_by_its_checksum(snapshot):
    assert damaged_files(snapshot) == []
    path = snapshot / "unet" / "model.safetensors"
    path.resolve().write_bytes(b"weightz")
    assert damaged_files(snapshot) == [path]


def test_a_damaged_small_file_is_found_by_gits_checksum(snapshot):
    path = snapshot / "unet" / "config.json"
    blob = (
        snapshot.parent / "blobs" / "9e26dfeeb6e641a33dae4961196235bdb965b21b"
    )  # `printf "{}" | git hash-object --stdin`
    path.unlink()
    path.symlink_to(blob)
    blob.write_text("{}")
    assert damaged_files(snapshot) == []
    blob.write_text("<html>")
    assert damaged_files(snapshot) == [path]


def test_local_models_are_not_downloaded(tmp_path):
    models = Models(
        stable_diffusion=str(tmp_path), clip="local-dir:a", clip_weights=None, scoring_clip="local-dir:b",
        scoring_clip_weights=None,
    )  # fmt: skip
    assert list(download(models)) == []


def test_what_is_downloaded_is_the_pinned_revision_and_both_clips(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **options: asked.update({name: options}) or "folder"
    )
    assert len(list(download(Models()))) == 3
    assert asked.pop("CompVis/stable-diffusion-v1-4")["revision"] == Models().stable_diffusion_revision
    assert all(options["allow_patterns"] == [CLIP_FILE] for options in asked.values())


def test_of_what_scores_films_the_pinned_revisions_are_downloaded_and_nothing_where_it_is_there(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **options: asked.update({name: options}) or "folder"
    )
    metrics = FilmMetrics()
    assert len(list(download_film_networks(metrics))) == 3
    assert asked[metrics.image_classifier]["revision"] == metrics.image_classifier_revision
    assert asked[metrics.video_classifier]["revision"] == metrics.video_classifier_revision
    assert "model.safetensors" in asked[metrics.video_classifier]["allow_patterns"]
    local = FilmMetrics(
        image_classifier=str(tmp_path), video_classifier=str(tmp_path), clip="local-dir:a", clip_weights=None
    )
    assert list(download_film_networks(local)) == []
    assert list(download_film_networks(FilmMetrics(networks="scoring_clip"))) == []


@pytest.mark.parametrize(("name", "said"), [("nobody/nothing", "hf auth login"), ("/no/such/sd-v1-4.ckpt", "neither")])
def test_what_cannot_be_downloaded_is_named(monkeypatch, tmp_path, name, said):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingModelError, match=said) as error:
        list(download(Models(stable_diffusion=name)))
    assert "\n" not in str(error.value)


def test_whatever_the_network_raises_is_one_line(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise EOFError("cut off\nin the middle")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    for fetch in (lambda: list(download(Models())), lambda: download_resnet50(tmp_path)):
        with pytest.raises(MissingModelError, match="could not be downloaded: cut off") as error:
            fetch()
        assert "\n" not in str(error.value)


def test_networks_that_score_are_downloaded_once_and_checked_by_their_names(monkeypatch, tmp_path):
    asked = {}

    def fetch(url, path, checksum):
        asked[url.rsplit("/", 1)[1]] = checksum
        torch.save({"weight": torch.ones(1)}, path)

    monkeypatch.setattr("torch.hub.download_url_to_file", fetch)
    monkeypatch.setattr(downloading, "_sha256", lambda path: re.findall("[0-9a-f]{8}", path.name)[-1] + "0" * 56)
    paths = list(download_scoring_weights(tmp_path))
    assert paths == list(scoring_weights(tmp_path).values())
    assert all(path.is_file() for path in paths)
    assert asked.pop("swav_800ep_pretrain.pth.tar") is None  # its name has no checksum
    assert all(len(checksum) == 8 and checksum in name for name, checksum in asked.items())
    asked.clear()
    list(download_scoring_weights(tmp_path))
    assert asked == {}  # all are there
    monkeypatch.setattr(downloading, "_sha256", lambda _: "f" * 64)  # all are broken
    list(download_scoring_weights(tmp_path))
    assert len(asked) == 4


def test_a_network_that_cannot_be_downloaded_is_named(monkeypatch, tmp_path):
    def fail(*_):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    with pytest.raises(MissingModelError, match=r"alexnet-owt-7be5be79.pth could not be downloaded: no route"):
        list(download_scoring_weights(tmp_path))


def test_a_web_page_in_place_of_a_network_whose_name_has_no_checksum_is_refused(monkeypatch, tmp_path):
    path = scoring_weights(tmp_path)["swav_resnet50"]
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda _url, path, _checksum: Path(path).write_text("<html>"))
    monkeypatch.setattr(downloading, "_sha256", lambda path: re.findall("[0-9a-f]{8}", path.name)[-1] + "0" * 56)
    with pytest.raises(MissingModelError, match=r"swav_800ep_pretrain\.pth\.tar .* is a web page.*delete it"):
        list(download_scoring_weights(tmp_path))
    assert path.is_file()
