"""The checklist finds each of many planted faults, one at a time, and is content with the intact miniature."""

import json
import re
import shutil

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from data import nsd
from data.miniature import dataset
from minddiffuser import doctor
from minddiffuser.config import REPOSITORY, Data, Miniature

SIZE, DATA = Miniature(n_shared=4, n_own=10, sessions=3, roi_scale=0.02), Data(sessions=3)
BETAS = f"nsd/nsddata_betas/ppdata/subj01/{DATA.space}/{DATA.betas}"
ROIS = f"nsd/nsddata/ppdata/subj01/{DATA.space}/roi"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A small simulated NSD and the miniature's models."""
    folder = tmp_path_factory.mktemp("doctor")
    root = folder / "nsd"
    pictures = dataset.draw_pictures(SIZE.n_shared + SIZE.n_own, seed=0)
    design = dataset.make_design(SIZE, 1, seed=0)
    dataset.write_stimuli(root, pictures, design, seed=0)
    labels = dataset.write_rois(root, 1, SIZE.roi_scale, DATA.space, seed=0)
    dataset.write_betas(root, 1, labels, pictures, design, SIZE, f"{DATA.space}/{DATA.betas}", 0, progress=iter)
    for name in ("stable-diffusion", "clip", "scoring_clip", "icgan", "instance_encoder"):
        shutil.copytree(REPOSITORY / "data" / "miniature" / "weights" / name, folder / name)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy")


def settings(folder):
    return {
        "name": "checked",
        "experiment": {
            "data": {"sessions": 3},
            "models": {
                "stable_diffusion": str(folder / "stable-diffusion"),
                "clip": f"local-dir:{folder / 'clip'}",
                "clip_weights": None,
                "scoring_clip": f"local-dir:{folder / 'scoring_clip'}",
                "scoring_clip_weights": None,
            },
            "detail": {"image_size": 64},
            "ozcelik": {"generator": str(folder / "icgan"), "instance_encoder": str(folder / "instance_encoder")},
            "decoding": {},
            "guidance": {},
        },
        "execution": {"nsd": str(folder / "nsd"), "runs": str(folder / "runs"), "batch_size": 1},
    }


def examine(folder, config):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    doctor.main(["--config", str(path)])


def test_nothing_is_wrong_with_the_intact_miniature(folder, capsys):
    examine(folder, settings(folder))
    printed = capsys.readouterr().out
    assert "WRONG" not in printed
    assert "nothing is wrong" in printed
    for stage in (
        "02 prepare",
        "11-13 features",
        "22-24 decoders",
        "31 stage 1",
        "32 stage 2",
        "34 ablations",
        "36 Takagi",
    ):
        assert re.search(rf"subj01 {stage} +[\d.]+ (s|min|h|days) +(-|[\d.]+ GB) +[\d.]+ GB +\w+", printed), stage
    assert "37 and denoise_steps 35 disagree" in printed


def delete(name):
    return lambda folder, _: (folder / name).unlink()


def cut(name):
    """Keep the first two thirds of a file."""

    def plant(folder, _):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) * 2 // 3])

    return plant


def session(change):
    def plant(folder, _):
        with h5py.File(folder / BETAS / "betas_session02.hdf5", "r+") as file:
            betas = file["betas"][:]
            del file["betas"]
            file["betas"] = change(betas)

    return plant


def labels(change):
    def plant(folder, _):
        for name in ("Kastner2015", "prf-visualrois"):
            path = folder / ROIS / f"{name}.nii.gz"
            image = nib.load(path)
            nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine), path)

    return plant


def uncaption(folder, _):
    path = folder / "nsd" / nsd.CAPTIONS[0]
    table = json.loads(path.read_text())
    first = table["annotations"][0]["image_id"]
    table["annotations"] = [a for a in table["annotations"] if a["image_id"] != first]
    path.write_text(json.dumps(table))


def drop_a_row(folder, _):
    path = folder / "nsd" / nsd.STIMULUS_INFO
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def set_value(section, key, value):
    def plant(_, config):
        config["experiment"][section][key] = value

    return plant


def file_in_the_way(folder, _):
    (folder / "runs").write_text("")


FAULTS = {
    "stimuli missing": (delete(f"nsd/{nsd.STIMULI}"), "nsd_stimuli.hdf5"),
    "stimuli cut short": (cut(f"nsd/{nsd.STIMULI}"), "nsd_stimuli.hdf5 is truncated"),
    "design missing": (delete(f"nsd/{nsd.DESIGN}"), "nsd_expdesign.mat"),
    "design cut short": (cut(f"nsd/{nsd.DESIGN}"), "nsd_expdesign.mat cannot be read"),
    "a stimulus less in the table": (drop_a_row, "nsd_stim_info_merged.csv"),
    "session missing": (delete(f"{BETAS}/betas_session02.hdf5"), "betas_session02.hdf5"),
    "session cut short": (cut(f"{BETAS}/betas_session03.hdf5"), "betas_session03.hdf5 is truncated"),
    "session with a trial less": (session(lambda b: b[:-1]), "betas_session02.hdf5 has"),
    "session of another space": (session(lambda b: b[:, 1:]), "but the ROI volumes have"),
    "ROI volume missing": (delete(f"{ROIS}/prf-visualrois.nii.gz"), "prf-visualrois.nii.gz"),
    "ROI volume cut short": (cut(f"{ROIS}/Kastner2015.nii.gz"), "Kastner2015.nii.gz is truncated"),
    "ROI without voxels": (labels(lambda v: np.where(v == 7, 0, v)), "no voxel of hV4"),
    "captions missing": (delete(f"nsd/{nsd.CAPTIONS[0]}"), "captions_train2017.json"),
    "an image without captions": (uncaption, "images have fewer than 5 captions"),
    "U-Net missing": (lambda f, _: shutil.rmtree(f / "stable-diffusion/unet"), "Stable Diffusion's unet was not found"),
    "U-Net cut short": (cut("stable-diffusion/unet/diffusion_pytorch_model.safetensors"), "unet"),
    "text encoder missing": (lambda f, _: shutil.rmtree(f / "stable-diffusion/text_encoder"), "text_encoder"),
    "CLIP missing": (lambda f, _: shutil.rmtree(f / "clip"), "CLIP was not found"),
    "CLIP cut short": (cut("clip/open_clip_model.safetensors"), "open_clip_model.safetensors"),
    "streams missing": (delete(f"{ROIS}/streams.nii.gz"), "streams.nii.gz"),
    "IC-GAN missing": (lambda f, _: shutil.rmtree(f / "icgan"), "IC-GAN was not found"),
    "IC-GAN cut short": (cut("icgan/generator.safetensors"), "not a whole checkpoint of IC-GAN"),
    "instance encoder cut short": (cut("instance_encoder/model.safetensors"), "instance_encoder"),
    "scoring CLIP missing": (lambda f, _: shutil.rmtree(f / "scoring_clip"), "CLIP that scores"),
    "layer weights for five layers": (set_value("guidance", "layer_weights", [1] * 5), "guidance.layer_weights has 5"),
    "voxels for five layers": (set_value("decoding", "n_voxels_structural", [9] * 5), "n_voxels_structural has 5"),
    "more sessions than there are": (set_value("data", "sessions", 4), "betas_session04"),
    "a file where results go": (file_in_the_way, "runs"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_named(folder, capsys, fault):
    plant, named = FAULTS[fault]
    config = settings(folder)
    plant(folder, config)
    with pytest.raises(SystemExit) as stopped:
        examine(folder, config)
    assert named in str(stopped.value.code)
    assert "problem" in str(stopped.value.code)
    assert "WRONG" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_found(folder):
    config = settings(folder)
    config["execution"]["device"] = "cuda"
    with pytest.raises(SystemExit, match="sees no GPU, but cuda was asked for"):
        examine(folder, config)


def test_too_little_disk_is_found(folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(SystemExit, match="0 GB free"):
        examine(folder, settings(folder))


def test_voxel_counts_far_from_the_authors_are_found(folder, monkeypatch):
    voxels = nsd.read_voxels(folder / "nsd", "subj01", DATA.space, DATA.rois)
    monkeypatch.setitem(nsd.VOLUMES, "subj01", voxels.shape)
    monkeypatch.setitem(nsd.KNOWN_VOXELS, "subj01", {"all": len(voxels.index)})
    examine(folder, settings(folder))
    monkeypatch.setitem(nsd.KNOWN_VOXELS, "subj01", {"V1": 2392})
    with pytest.raises(SystemExit, match="voxels in V1, but the authors had 2392"):
        examine(folder, settings(folder))
