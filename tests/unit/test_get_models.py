"""Downloading models: what is checked, and what is said when it cannot be done."""

import hashlib

import pytest

from minddiffuser import pretrained
from minddiffuser.config import Models
from minddiffuser.pretrained import MissingModelError, damaged_files, download


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
    assert all(options["allow_patterns"] == [pretrained._CLIP_FILE] for options in asked.values())


@pytest.mark.parametrize(("name", "said"), [("nobody/nothing", "hf auth login"), ("/no/such/sd-v1-4.ckpt", "neither")])
def test_what_cannot_be_downloaded_is_named(monkeypatch, tmp_path, name, said):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingModelError, match=said):
        list(download(Models(stable_diffusion=name)))
