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

import baselines.ozcelik.needs
import baselines.semantic_brain_decoding.needs
import baselines.takagi.needs
import data.nsd_needs
import evaluation.concepts.needs
import evaluation.needs
import evaluation.pictures.needs
import feature_decoding.needs
import feature_extraction.needs
import reconstruction.needs
from data import fetching, god_needs, nsd, nsd_rois
from doctor import __main__ as doctor
from doctor import machine
from doctor.checklist import as_json, checklist
from minddiffuser.cli import Run, key_of
from minddiffuser.config import REPOSITORY, Config, load
from minddiffuser.config.method import Data
from minddiffuser.config.miniature import Miniature
from minddiffuser.needs import models, rows, speed
from minddiffuser.needs.findings import Findings, Problem, Room
from minddiffuser.needs.rows import Means, Models, Row, Speed, Subject
from minddiffuser.store import DataError, Shard
from miniature import nsd as miniature
from miniature.surfaces import write_surfaces

SIZE, DATA = Miniature(n_shared=4, n_own=10, sessions=3, roi_scale=0.02), Data(sessions=3)
BETAS = f"nsd/nsddata_betas/ppdata/subj01/{DATA.space}/{DATA.betas}"
ROIS = f"nsd/nsddata/ppdata/subj01/{DATA.space}/roi"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A small simulated NSD and the miniature's models."""
    folder = tmp_path_factory.mktemp("doctor")
    root = folder / "nsd"
    pictures = miniature.draw_pictures(SIZE.n_shared + SIZE.n_own, seed=0)
    design = miniature.make_design(SIZE, 1, seed=0)
    miniature.write_stimuli(root, pictures, design, seed=0)
    labels = miniature.write_rois(root, 1, SIZE.roi_scale, DATA.space, seed=0)
    write_surfaces(root, 1, DATA.space, labels.shape, seed=0)
    miniature.write_betas(root, 1, labels, pictures, design, SIZE, f"{DATA.space}/{DATA.betas}", 0, done=lambda: None)
    for name in ("stable-diffusion", "clip", "scoring_clip", "icgan", "instance_encoder"):
        shutil.copytree(REPOSITORY / "miniature" / "weights" / name, folder / name)
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


SPEED = Speed(0.1, 0.1, 0.1, 1e10, 1e10, 1e8, 1e8)


@pytest.fixture
def timed(monkeypatch):
    """The machine's speed is given: measuring takes seconds, and finds no fault of files."""
    monkeypatch.setattr(speed, "measure_speed", lambda *_: (SPEED, "given"))
    monkeypatch.setattr(evaluation.needs, "time_clip", lambda *_: (0.01, "given"))
    step = baselines.ozcelik.needs.Inversion(0.1, 100, 1000, 2e8)
    monkeypatch.setattr(baselines.ozcelik.needs, "time_inversion", lambda *_: (step, "given"))


def problems(folder, config):
    """What is wrong, as the list at the end has it."""
    with pytest.raises(SystemExit) as stopped:
        examine(folder, config)
    count, *lines = str(stopped.value.code).strip().splitlines()
    assert count == f"{len(lines)} problem{'s' if len(lines) > 1 else ''}:"
    return lines


def test_nothing_is_wrong_with_the_intact_miniature(folder, capsys):
    examine(folder, settings(folder))
    printed = capsys.readouterr().out
    assert "WRONG" not in printed
    assert "nothing is wrong" in printed
    rows = re.findall(r"subj01 ([\d-]+) [\w ]+? +[\d.]+ (?:s|min|h|days) +[\d.]+ GB +- +[\d.]+ GB +\w+", printed)
    assert rows == [
        "02", "11-13", "21", "22-24", "25", "26", "27", "28", "31", "32", "33", "34", "35", "36", "37", "38", "41",
        "42", "43",
    ]  # fmt: skip
    assert "26 search" in re.search(r".*optional, not in `make all`.*", printed)[0]
    assert re.search(
        r"timed now on cpu with \d+ threads, experiment.sampler.precision float32, in batches of 1", printed
    )
    assert "37 and denoise_steps 35 of 50 disagree" in printed


def test_a_transform_that_is_missing_leaves_out_the_maps_of_the_brain_alone(folder, capsys, timed):
    path = folder / "nsd/nsddata/ppdata/subj01/transforms/rh.white-to-fsaverage.mgz"
    path.unlink()
    (line,) = problems(folder, settings(folder))
    assert f"subj01 surface: a transform to the surface is missing: expected {path}" in line
    assert "(`make all` leaves it out: maps of the brain)" in line
    assert re.search(r"ok     subj01 ROIs", capsys.readouterr().out)


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


def same_session_twice(folder, _):
    shutil.copyfile(folder / BETAS / "betas_session01.hdf5", folder / BETAS / "betas_session03.hdf5")


def other_size_than_fetched(folder, _):
    fetching.add_to_record(folder / "nsd", {nsd.DESIGN.as_posix(): {"bytes": 7, "etag": "", "url": "https://x"}})


FAULTS = {
    "stimuli missing": (delete(f"nsd/{nsd.STIMULI}"), "nsd_stimuli.hdf5"),
    "stimuli cut short": (cut(f"nsd/{nsd.STIMULI}"), "nsd_stimuli.hdf5 cannot be read"),
    "design missing": (delete(f"nsd/{nsd.DESIGN}"), "nsd_expdesign.mat"),
    "design cut short": (cut(f"nsd/{nsd.DESIGN}"), "nsd_expdesign.mat cannot be read"),
    "a stimulus less in the table": (drop_a_row, "nsd_stim_info_merged.csv"),
    "session missing": (delete(f"{BETAS}/betas_session02.hdf5"), "betas_session02.hdf5"),
    "session cut short": (cut(f"{BETAS}/betas_session03.hdf5"), "betas_session03.hdf5 cannot be read"),
    "session with a trial less": (session(lambda b: b[:-1]), "betas_session02.hdf5 has"),
    "session without data": (session(lambda b: b * 0), "betas_session02.hdf5 has no data"),
    "session of another space": (session(lambda b: b[:, 1:]), "but the ROI volumes have"),
    "session that is another one": (same_session_twice, "betas_session03.hdf5 has the same betas as"),
    "file of another size": (other_size_than_fetched, "nsd_expdesign.mat has"),
    "ROI volume missing": (delete(f"{ROIS}/prf-visualrois.nii.gz"), "prf-visualrois.nii.gz"),
    "ROI volume cut short": (cut(f"{ROIS}/Kastner2015.nii.gz"), "Kastner2015.nii.gz cannot be read"),
    "ROI without voxels": (labels(lambda v: np.where(v == 7, 0, v)), "hV4 of subj01 has no voxel"),
    "captions missing": (delete(f"nsd/{nsd.CAPTIONS[0]}"), "captions_train2017.json"),
    "an image without captions": (uncaption, "images have fewer than 5 captions"),
    "U-Net missing": (lambda f, _: shutil.rmtree(f / "stable-diffusion/unet"), "Stable Diffusion's unet was not found"),
    "U-Net cut short": (cut("stable-diffusion/unet/diffusion_pytorch_model.safetensors"), "unet"),
    "text encoder missing": (lambda f, _: shutil.rmtree(f / "stable-diffusion/text_encoder"), "text_encoder"),
    "CLIP missing": (lambda f, _: shutil.rmtree(f / "clip"), "CLIP was not found"),
    "CLIP cut short": (cut("clip/open_clip_model.safetensors"), "open_clip_model.safetensors"),
    "streams missing": (delete(f"{ROIS}/streams.nii.gz"), "streams.nii.gz"),
    "IC-GAN missing": (lambda f, _: shutil.rmtree(f / "icgan"), "IC-GAN was not found"),
    "IC-GAN cut short": (cut("icgan/generator.safetensors"), "cannot be read as a checkpoint of IC-GAN"),
    "instance encoder cut short": (cut("instance_encoder/model.safetensors"), "instance_encoder"),
    "scoring CLIP missing": (lambda f, _: shutil.rmtree(f / "scoring_clip"), "CLIP that scores"),
    "more sessions than there are": (set_value("data", "sessions", 4), "betas_session04"),
    "a file where results go": (file_in_the_way, "runs"),
}


def test_sessions_that_differ_in_one_place_only_are_not_alike(folder):
    for number in (1, 2, 3):
        path = folder / BETAS / f"betas_session{number:02d}.hdf5"
        path.write_bytes(bytes(10**6) + bytes([number]) + bytes(10**6))
    (folder / "config.yaml").write_text(yaml.safe_dump(settings(folder)))
    config = load(folder / "config.yaml")
    assert data.nsd_needs.check_alike(config, ("subj01",)) == (True, "3 files, no two alike")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_named(folder, capsys, timed, fault):
    plant, named = FAULTS[fault]
    config = settings(folder)
    plant(folder, config)
    assert any(named in line for line in problems(folder, config))
    assert "WRONG" in capsys.readouterr().out


def test_each_bad_session_is_listed(folder, timed):
    for number, content in ((1, b"<html>not allowed</html>"), (2, None), (3, b"")):
        path = folder / BETAS / f"betas_session{number:02d}.hdf5"
        if content is None:
            session(lambda b: b * 0)(folder, None)
        else:
            path.write_bytes(content)
    found = problems(folder, settings(folder))
    assert ["session01" in found[0], "session03" in found[1] or "session02" in found[1], len(found)] == [True, True, 3]
    for number, symptom in ((1, "is a web page"), (2, "has no data"), (3, "is empty")):
        assert any(f"betas_session{number:02d}.hdf5" in line and symptom in line for line in found), found


CONTENTS = {
    "cut short": lambda content: content[: len(content) // 2],
    "pointer": lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n",
    "web page": lambda _: b"<!DOCTYPE html><html><body>Please log in</body></html>",
    "JSON": lambda _: b'{"error": "Access denied"}',
    "a list": lambda _: b"[]",
    "empty": lambda _: b"",
    "zeros": lambda content: bytes(len(content)),
    "bytes": lambda content: bytes(range(256)) * (len(content) // 256 + 1),
}


def needed_files(folder):
    """Every file that the doctor opens; of sessions one."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "runs" not in path.parts]
    unused = ("miniature.json", "merges.txt", "special_tokens_map.json", "config.yaml")
    unused += ("nsdgeneral", "floc-", "HCP_MMP1", "Kastner2015.mgz.ctab", "prf-visualrois.mgz.ctab")
    return [
        path
        for path in files
        if not any(name in path.name for name in (*unused, "session02", "session03", "LICENSE", ".md"))
    ]


@pytest.mark.parametrize("kind", CONTENTS)
def test_files_of_any_content_end_in_a_line_each_and_later_checks_run(folder, capsys, timed, kind):
    """All are broken at once: a check that ended the doctor would hide the others."""
    for path in needed_files(folder):
        path.write_bytes(CONTENTS[kind](path.read_bytes()))
    found = problems(folder, settings(folder))
    printed = capsys.readouterr().out
    for what in (
        "stimuli", "subj01 design", "subj01 ROIs", "subj01 streams", "Stable Diffusion", "CLIP that guides",
        "CLIP that scores", "IC-GAN",
    ):  # fmt: skip
        assert any(re.match(rf" +\d+\. {what}: ", line) for line in found), (what, found)
    assert "ok     device" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("kind", ["cut short", "zeros"])
def test_each_file_of_nsd_is_found_by_itself(folder, timed, monkeypatch, kind):
    for module, name in (
        (models, "open_stable_diffusion"),
        (feature_extraction.needs, "check_clip"),
        (evaluation.needs, "check_scoring_clip"),
        (evaluation.needs, "check_networks"),
        (baselines.ozcelik.needs, "check_icgan"),
    ):
        monkeypatch.setattr(module, name, lambda *_: (None, "not opened"))
    config = settings(folder)
    for path in needed_files(folder / "nsd"):
        content = path.read_bytes()
        path.write_bytes(CONTENTS[kind](content))
        found = problems(folder, config)
        assert any(path.name in line for line in found), (path, found)
        path.write_bytes(content)


def test_what_no_check_expected_is_a_line_too(folder, timed, monkeypatch):
    def fail(*_):
        raise KeyError("surprise\nand more")

    monkeypatch.setattr(data.nsd_needs, "check_captions", fail)
    (line,) = problems(folder, settings(folder))
    assert "subj01 captions: KeyError: 'surprise" in line


def test_a_rivals_troubles_are_marked_and_the_others_are_not(folder, timed):
    shutil.rmtree(folder / "icgan")
    (folder / ROIS / "streams.nii.gz").unlink()
    shutil.rmtree(folder / "clip")
    found = problems(folder, settings(folder))
    aside = {line.split(":")[0].split(". ")[1]: "`make all` leaves it out" in line for line in found}
    assert aside == {"subj01 streams": True, "CLIP that guides": False, "IC-GAN": True}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_found(folder, capsys):
    config = settings(folder)
    config["execution"]["device"] = "cuda"
    assert any("sees no GPU, but cuda was asked for" in line for line in problems(folder, config))
    out = capsys.readouterr().out
    assert estimates(out)["subj01 31 stage 1"][0] == "?"
    assert re.search(r"subj01 32 stage 2 +\? +[\d.]+ GB +[\d.]+ GB +[\d.]+ GB", out), "RAM, the GPU's memory, and disk"


# What is estimated whatever is wrong


def estimates(printed):
    """The table at the end: time, RAM and disk of each row."""
    lines = printed.split("\nstage  ")[1].split("\n\n")[0].splitlines()[1:]
    found = {}
    for line in lines:
        time, ram, _, disk = re.fullmatch(
            r"(\S+(?: \S+)?|\?) +([\d.]+) GB +(- |[\d.]+ GB) *([\d.]+) GB   .*", line[30:].strip()
        ).groups()
        found[line[:30].strip()] = time, float(ram), float(disk)
    return found


def test_estimates_are_printed_for_real_sizes_where_everything_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    config = {
        "name": "nothing",
        "experiment": {"models": {"stable_diffusion": str(tmp_path / "a"), "clip": f"local-dir:{tmp_path / 'b'}",
                                  "clip_weights": None, "scoring_clip": f"local-dir:{tmp_path / 'c'}",
                                  "scoring_clip_weights": None},
                       "ozcelik": None, "takagi": None},
        "execution": {"nsd": str(tmp_path / "nsd"), "runs": str(tmp_path / "runs")},
    }  # fmt: skip
    found = problems(tmp_path, config)
    wrong = {line.split(". ", 1)[1].split(":")[0] for line in found}
    assert {"stimuli", "subj01 design", "subj01 ROIs", "Stable Diffusion", "CLIP that guides"} <= wrong
    assert not any("GB of RAM" in line or "GB free" in line for line in found)  # that would be of assumed sizes
    printed = capsys.readouterr().out
    assert "size of subj01's data: estimates are for 8,859 training and 982 test images, 11,694 voxels" in printed
    assert printed.count("estimates are for") == 5
    table = estimates(printed)
    assert table["subj01 31 stage 1"][0] == "?"
    assert table["subj01 02 prepare"][0].endswith("min")
    assert table["subj01 22-24 decoders"][1] > 1
    assert table["subj01 22-24 decoders"][2] > 0.3


def test_what_a_run_can_do_without_is_a_warning(findings, capsys):
    def fail():
        raise DataError("words are missing", "get them")

    assert findings.check("words", fail, without="nothing is said") is None
    assert findings.check("words", fail, without="nothing is said") is None
    assert findings.problems == []
    assert findings.n_warnings == 1
    assert capsys.readouterr().out == "warn   words: words are missing; without it nothing is said -> get them\n"


def test_the_miniature_asks_for_no_wordnet_but_its_own():
    config = load(REPOSITORY / "configs" / "miniature.yaml")
    assert baselines.semantic_brain_decoding.needs.check_wordnet(config)[1].endswith("miniature/wordnet")


def test_too_little_disk_is_found(folder, monkeypatch, timed):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    (line,) = problems(folder, settings(folder))
    assert "0.0 GB free" in line
    assert "set execution.runs" in line


def test_stages_that_do_not_fit_are_problems_with_a_lever(folder, monkeypatch, timed, capsys):
    monkeypatch.setattr(machine, "available_memory", lambda: rows.PROCESS + 2e8)
    config = settings(folder)
    config["execution"].update(batch_size={"generate": 4, "refine": 1}, checkpoint_steps=False)
    config["experiment"]["evaluation"] = {"networks": "scoring_clip", "image_size": 64}
    monkeypatch.setattr(speed, "measure_speed", lambda *_: (SPEED._replace(refine_memory=3e9), "given"))
    found = problems(folder, config)
    (stage2,) = [line for line in found if "subj01 32 stage 2" in line]
    assert re.search(
        r"needs 3\.\d GB of RAM, of which 0\.8 GB are free -> set execution.checkpoint_steps to true", stage2
    )
    assert "batch_size" not in stage2, "it is 1 already"
    assert "or take a machine with more memory" in stage2
    assert not any("31 stage 1" in line for line in found)
    monkeypatch.setattr(speed, "measure_speed", lambda *_: (SPEED._replace(generate_memory=3e9), "given"))
    (stage1, *_) = [line for line in problems(folder, config) if "31 stage 1" in line]
    assert "lower execution.batch_size.generate (now 4)" in stage1
    assert any("36 Takagi" in line and "`make all` leaves it out" in line for line in problems(folder, config))


def test_an_optional_script_that_does_not_fit_is_a_note(folder, monkeypatch, timed, capsys):
    row = Row("subj01", "26", "search", 1, 1e15, 0, 0, "counts", ("lower it",), is_optional=True)
    monkeypatch.setattr(feature_decoding.needs, "ROWS", (lambda *_: row,))
    examine(folder, settings(folder))
    assert re.search(r"note   subj01 26 search needs 1000000.6 GB of RAM.*it is optional", capsys.readouterr().out)


def test_a_batch_that_a_gpu_has_no_room_for_names_its_batch_size(monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr(speed, "time_unet", fail)
    config = Config(name="x", execution={"batch_size": 3})
    with pytest.raises(DataError, match=r"no room for one batch .*lower execution.batch_size.generate \(now 3\)") as e:
        speed.measure_speed(config, torch.device("cpu"), {}, None)
    assert "\n" not in str(e.value)


@pytest.fixture
def of_nsd_size(folder, monkeypatch):
    voxels = nsd_rois.read_voxels(folder / "nsd", "subj01", DATA.space, DATA.rois)
    monkeypatch.setitem(nsd.VOLUMES, "subj01", voxels.shape)
    return voxels


def test_voxel_counts_far_from_the_authors_are_found(folder, monkeypatch, timed, of_nsd_size):
    monkeypatch.setitem(nsd_rois.KNOWN_VOXELS, "subj01", {"all": len(of_nsd_size.index)})
    examine(folder, settings(folder))
    monkeypatch.setitem(nsd_rois.KNOWN_VOXELS, "subj01", {"V1": 2392})
    (line,) = problems(folder, settings(folder))
    assert "voxels in V1, but the authors had 2392" in line


@pytest.mark.parametrize("rois", [["V1"], ["LO", "V2"], ["V1", "V2", "V3", "hV4"]])
def test_some_rois_are_compared_with_what_can_be_compared(folder, monkeypatch, timed, of_nsd_size, rois):
    n_v1 = int((of_nsd_size.roi == "V1").sum())
    config = settings(folder)
    config["experiment"]["data"]["rois"] = rois
    monkeypatch.setitem(nsd_rois.KNOWN_VOXELS, "subj01", {"V1": n_v1, "all": len(of_nsd_size.index)})
    examine(folder, config)
    monkeypatch.setitem(nsd_rois.KNOWN_VOXELS, "subj01", {"V1": 2 * n_v1, "all": 1})
    if "V1" in rois:
        (line,) = problems(folder, config)
        assert "V1" in line
    else:
        examine(folder, config)


def test_a_region_that_shares_voxels_with_an_earlier_roi_is_not_compared(folder, monkeypatch, timed, of_nsd_size):
    config = settings(folder)
    config["experiment"]["data"]["rois"] = ["prf-visualrois/V1v", "V1"]
    monkeypatch.setitem(nsd_rois.KNOWN_VOXELS, "subj01", {"V1": int((of_nsd_size.roi == "V1").sum())})
    examine(folder, config)


def test_nsdgeneral_of_another_size_is_found(folder, monkeypatch, timed, of_nsd_size):
    config = settings(folder)
    config["experiment"]["data"]["rois"] = "nsdgeneral"
    n = len(nsd_rois.read_voxels(folder / "nsd", "subj01", DATA.space, ["nsdgeneral"]).index)
    monkeypatch.setitem(nsd_rois.NSDGENERAL, "subj01", n)
    examine(folder, config)
    monkeypatch.setitem(nsd_rois.NSDGENERAL, "subj01", n + 1)
    (line,) = problems(folder, config)
    assert f"nsdgeneral of subj01 has {n:,} voxels, but NSD's has {n + 1:,}" in line
    config["experiment"]["data"]["rois"] = ["V1", "nsdgeneral"]
    examine(folder, config)


def test_a_mask_that_is_not_there_is_one_problem(folder, timed):
    config = settings(folder)
    config["experiment"]["data"]["rois"] = ["V1", str(folder / "none.nii.gz")]
    assert all("none.nii.gz" in line for line in problems(folder, config))


# Estimates at the real size


def at_real_size(**settings):
    """Subject 1 of NSD with Stable Diffusion, on some machine."""
    sizes = Models(4, 768, 77, unet=3.44e9, vae=3.35e8, text_encoder=4.9e8)
    given = Speed(0.02, 0.04, 0.08, 1e13, 1e11, 1e10, 1e10)
    layers = {f"linear_{k:02d}": 38400 for k in range(2, 14, 2)}
    means = Means(Config(name="nsd", experiment=settings), sizes, given, 16, layers, 6e8)
    return Subject("subj01", 8859, 982, 27750, 11694, 2500, int(39e9)), means


STREAMS, STEP = (5917, 7604), baselines.ozcelik.needs.Inversion(0.05, 119, 24576, 2e8)


def rows_at_real_size(**settings):
    """Every row of every room, by the numbers of its scripts."""
    subject, means = at_real_size(semantic_brain_decoding={}, **settings)
    takagi, ozcelik, labels = (baselines.takagi.needs, baselines.ozcelik.needs, baselines.semantic_brain_decoding.needs)
    recording = god_needs.Counts("Subject1", 3450, 4466, 50)
    found = [
        data.nsd_needs.prepare(subject),
        feature_extraction.needs.features(subject, means),
        *(row(subject, means) for row in (*feature_decoding.needs.ROWS, *reconstruction.needs.ROWS)),
        feature_decoding.needs.maps(subject, means),
        takagi.decoding(subject, means, STREAMS),
        takagi.pictures(subject, means),
        ozcelik.decoding(subject, means, STEP),
        ozcelik.pictures(subject, means, STEP),
        labels.bank(means.config, 1000),
        labels.labels(recording, means),
        labels.label_pictures(recording, means),
        evaluation.concepts.needs.scores(means.config, recording, 0.005, 1.7e9),
        evaluation.pictures.needs.scores(subject, means, 0.005, 1.7e9),
        evaluation.pictures.needs.comparison(subject),
        evaluation.pictures.needs.page(subject, means),
    ]
    return {row.scripts: row for row in found}


def numbers_of(scripts):
    first, _, last = scripts.partition("-")
    return range(int(first), int(last or first) + 1)


def test_every_script_has_one_row():
    """All but those that get or simulate what the doctor looks at, and those of films (test_film_needs.py)."""
    paths = [path for path in REPOSITORY.glob("*/**/[0-9][0-9]_*.py") if not {".venv", "runs"} & set(path.parts)]
    left_out = {"data/00", "miniature/01", "miniature/03", "miniature/04", "data/05"}
    of_films = {key_of(path) for path in paths if path.parent.name == "mind_animator" or path.name.startswith("44")}
    scripts = [int(path.name[:2]) for path in paths if key_of(path) not in left_out | of_films]
    assert sorted(scripts) == sorted(n for row in rows_at_real_size() for n in numbers_of(row))


@pytest.mark.parametrize("scripts", rows_at_real_size())
def test_a_real_subject_fits_a_machine_of_32_gb_and_takes_less_than_a_month(scripts):
    found = rows_at_real_size()[scripts]
    assert 0 < found.seconds < 30 * 86400
    assert found.memory + rows.PROCESS < 32e9
    assert found.on_device < 24e9
    assert 0 < found.disk < 2e10


def test_rows_follow_the_settings():
    few, some = ({"guidance": {"n_images": n}} for n in (10, 100))
    assert rows_at_real_size(**some)["32"].seconds == pytest.approx(10 * rows_at_real_size(**few)["32"].seconds)
    memory = feature_decoding.needs.fitting_memory
    assert memory(*at_real_size(), [(10, 30)])[1] < memory(*at_real_size(), [(10, 3000)])[1]
    folds = [rows_at_real_size(units={"n_folds": n})["21"].memory for n in (2, 10)]
    assert folds[1] > folds[0]


# What rooms and the doctor say to each other


@pytest.fixture
def findings():
    return Findings(Run(Config(name="x"), (), Shard(), "cpu", False))


def test_what_was_looked_at_is_not_looked_at_again(findings, capsys):
    looked = []
    for _ in range(2):
        assert findings.check("it", lambda: (looked.append(1), "fine")) is None  # append gives None
        assert findings.check("other", lambda: (7, "fine")) == 7
    assert looked == [1]
    assert capsys.readouterr().out == "ok     it: fine\nok     other: fine\n"


def test_a_problem_is_of_all_that_need_it(findings):
    def fail():
        raise DataError("broken")

    for part in ("one", "two", "two"):
        findings.part = part
        findings.check("it", fail)
    (problem,) = findings.problems
    assert (problem.parts, problem.is_needed) == (["one", "two"], False)
    findings.part = ""
    findings.check("it", fail)
    assert problem.is_needed


def test_a_remedy_of_several_problems_is_said_once(findings, capsys):
    def fail(text):
        raise DataError(text)

    findings.check("first", fail, "a.h5 is missing: expected /x. Get it there; or here.")
    findings.check("second", fail, "b.h5 is missing: expected /y. Get it there; or here.")
    findings.check("third", fail, "c.h5 is broken; get it again")
    assert capsys.readouterr().out.splitlines() == [
        "WRONG  first: see 1 below",
        "WRONG  second: see 2 below",
        "WRONG  third: see 3 below",
    ]
    assert checklist(findings.problems).splitlines()[2:] == [
        "  1. first: a.h5 is missing: expected /x -> Get it there; or here.",
        "  2. second: b.h5 is missing: expected /y -> as 1",
        "  3. third: c.h5 is broken; get it again",
    ]


def test_a_part_is_left_out_with_the_scripts_of_all_its_rooms():
    def room(part, *scripts):
        return Room(lambda _: (), lambda *_: [], part=part, scripts=scripts)

    rooms = [room(""), room("rival", "baselines/rival/"), room("rival", "evaluation/50_"), room("other", "o/")]
    problems = [Problem("a", "x", "", ["rival", "words"]), Problem("b", "y", "", ["rival", ""])]
    assert [item["leave_out"] for item in as_json(problems, rooms)] == [
        {"rival": ["baselines/rival/", "evaluation/50_"], "words": []},
        {},
    ]


def test_problems_are_written_for_programs(folder, timed):
    shutil.rmtree(folder / "icgan")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings(folder)))
    with pytest.raises(SystemExit):
        doctor.main(["--config", str(path), "--json", str(folder / "problems.json")])
    (problem,) = json.loads((folder / "problems.json").read_text())
    assert problem["text"].startswith("IC-GAN: IC-GAN was not found")
    assert problem["leave_out"] == {"Ozcelik et al.": ["baselines/ozcelik/"]}


def test_only_what_the_given_scripts_need_is_looked_at(folder, timed, capsys):
    shutil.rmtree(folder / "icgan")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings(folder)))
    asked = ["data/02_prepare_subject.py", "reconstruction/33_controls.py --only ceiling"]
    doctor.main(["--config", str(path), "--scripts", *asked])
    assert "IC-GAN" not in (said := capsys.readouterr().out)
    assert "nothing is wrong" in said
    with pytest.raises(SystemExit, match="IC-GAN was not found"):
        doctor.main(["--config", str(path), "--scripts", "baselines/ozcelik/38_reconstruct_ozcelik.py"])
    with pytest.raises(DataError, match=r"there is no 38_ozcelik.py"):
        doctor.main(["--config", str(path), "--scripts", "38_ozcelik.py"])


@pytest.mark.parametrize("grouping", ["by_type", "as_released"])
def test_runs_that_a_form_refuses_are_found(monkeypatch, grouping):
    n = 40
    recording = god_needs.god.Recording(
        X=np.random.default_rng(0).normal(size=(n, 3)),
        data_type=np.repeat([1, 2], n // 2),
        run=np.repeat([1, 2, 3, 4], n // 4),  # does not start again
        image=np.zeros(n, int),
        training_images=god_needs.god.Images(np.zeros(1, int), ("a",), ("b",)),
        test_images=god_needs.god.Images(np.zeros(1, int), ("a",), ("b",)),
        rois={},
        release="unknown",
    )
    monkeypatch.setattr(god_needs.god, "read_subject", lambda *_: recording)
    if grouping == "by_type":
        god_needs.check_recording(Config(name="x"), "Subject1", "ROI_VC", ["by_type"])
    else:
        with pytest.raises(DataError, match="leave the form out"):
            god_needs.check_recording(Config(name="x"), "Subject1", "ROI_VC", ["by_type", "as_released"])
