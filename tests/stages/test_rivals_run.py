"""Takagi's, Ozcelik's and the ablations' scripts on the smallest miniature."""

import json
import shutil

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import loadmat
from smallest import run_here, write_config

from data.nsd import DESIGN
from minddiffuser.store import open_arrays
from reconstruction.folder import TEST_STATISTICS, read, sample_folders

FORMS = ("original", "corrected", "minddiffuser")
DECODE_TAKAGI, DECODE_OZCELIK = "baselines/takagi/35_decode_takagi.py", "baselines/ozcelik/37_decode_ozcelik.py"


def arrays_of(path, subject="subj01"):
    with open_arrays(path, "", subject) as file:
        return {key: values[:] for key, values in file.items()}


@pytest.fixture(scope="module")
def folder(whole_run):
    return whole_run / "runs" / "smallest" / "subj01"


def test_every_script_leaves_what_its_docstring_says(folder):
    prepared = arrays_of(folder / "prepared.h5")
    n_images, n_test = len(prepared["stimulus_id"]), int(prepared["is_test"].sum())
    features = arrays_of(folder / "takagi" / "features.h5")
    assert features["z_mean"].shape == features["z_sample"].shape == (n_images, 4, 5, 5)  # of 40 pixels of 64
    assert features["c"].shape == (n_images, 15, 128)
    for form, size in zip((*FORMS, "restored"), (5, 5, 8, 5), strict=True):
        decoded = arrays_of(folder / "takagi" / "decoded" / f"{form}.h5")
        assert (decoded["z"].shape, decoded["c"].shape) == ((n_test, 4, size, size), (n_test, 15, 128))
        place = folder / "reconstruction" / "takagi" / form
        assert len(sample_folders(place)) == (1 if form == "minddiffuser" else 2)
        pictures = [read(sample)[1] for sample in sample_folders(place)]
        assert all(picture.shape == (n_test, 64, 64, 3) for picture in pictures)
        assert len(pictures) == 1 or (pictures[0] != pictures[1]).any()
    inversion = arrays_of(folder / "ozcelik" / "inversion.h5")
    assert len(inversion["noise"]) == len(inversion["dense"]) == n_images - n_test
    for form in FORMS:
        decoded = arrays_of(folder / "ozcelik" / "decoded" / f"{form}.h5")
        assert ("dense" in decoded) == (form != "minddiffuser")
        assert decoded["noise"].shape == (n_test, inversion["noise"].shape[1])
        length = np.linalg.norm(decoded["features"], axis=1)
        assert np.allclose(length, 1, atol=1e-5) == (form == "corrected")
        assert read(folder / "reconstruction" / "ozcelik" / form)[1].shape == (n_test, 32, 32, 3)


def test_what_uses_statistics_of_the_test_set_says_so(folder):
    flags = {
        f"{system}/{form}": json.loads((folder / "reconstruction" / system / form / "settings.json").read_text())[
            "flags"
        ]
        for system, forms in (("takagi", (*FORMS, "restored")), ("ozcelik", FORMS))
        for form in forms
    }
    flagged = {"takagi/minddiffuser", "ozcelik/original", "ozcelik/minddiffuser"}
    assert flags == {name: [TEST_STATISTICS] if name in flagged else [] for name in flags}


def test_trials_are_those_of_nsds_files(whole_run, folder):
    """Read the betas of one session by hand."""
    design = loadmat(whole_run / "nsd" / DESIGN)
    ordering, stimuli = design["masterordering"][0] - 1, design["subjectim"][0] - 1
    path = whole_run / "nsd/nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session02.hdf5"
    with h5py.File(path) as file:
        betas = file["betas"][:].transpose(0, 3, 2, 1) / 300  # (trials, X, Y, Z)
    streams = np.asarray(nib.load(whole_run / "nsd/nsddata/ppdata/subj01/func1pt8mm/roi/streams.nii.gz").dataobj)
    trials, prepared = arrays_of(folder / "takagi" / "trials.h5"), arrays_of(folder / "prepared.h5")
    assert (np.unique(trials["stream"]) == [b"early", b"ventral"]).all()
    train_ids = prepared["stimulus_id"][~prepared["is_test"]]
    seen = train_ids[trials["image_of_trial"]]
    n_test = int(prepared["is_test"].sum())
    assert len(trials["test"]) == n_test
    assert len(trials["train"]) + np.isin(
        stimuli[ordering[: 4 * len(betas)]], prepared["stimulus_id"][:n_test]
    ).sum() == (4 * len(betas))
    found = 0
    for k, stimulus_id in enumerate(stimuli[ordering[len(betas) : 2 * len(betas)]]):
        expected = np.concatenate([betas[k][streams == 1], betas[k][streams == 5]])
        rows = trials["train"][seen == stimulus_id]
        if len(rows):
            assert min(np.abs(rows - expected).max(axis=1)) < 1e-5
            found += 1
    assert found > 5


def test_as_released_the_first_token_is_lost_and_corrected_it_is_exact(folder):
    c = arrays_of(folder / "takagi" / "features.h5")["c"]
    original, corrected = (arrays_of(folder / "takagi" / "decoded" / f"{form}.h5")["c"] for form in FORMS[:2])
    constant = (c == c[0]).all(axis=0)[0]
    assert constant.mean() > 0.5  # batches of captions may differ in the last bit
    np.testing.assert_array_equal(
        corrected[:, 0, constant], np.broadcast_to(c[0, 0, constant], (len(corrected), constant.sum()))
    )
    assert np.abs(c[0, 0]).mean() > 0.1
    assert np.abs(original[:, 0]).mean() < 0.2 * np.abs(c[0, 0]).mean()
    restored = arrays_of(folder / "takagi" / "decoded" / "restored.h5")["c"]
    np.testing.assert_array_equal(restored[:, 0, constant], corrected[:, 0, constant])
    assert restored[:, 1:].std(axis=0).mean() > 1.1 * corrected[:, 1:].std(axis=0).mean()


def test_ablations_start_elsewhere_and_are_otherwise_stage_2(folder):
    stage2 = folder / "reconstruction" / "minddiffuser" / "stage2"
    settings = json.loads((stage2 / "settings.json").read_text())
    starts, refined = set(), list(pd.read_csv(stage2 / "index.csv")["stimulus_id"])
    for left_out in "zc":
        ablation = folder / "reconstruction" / "ablation" / f"without_{left_out}"
        here = json.loads((ablation / "settings.json").read_text())
        own = here["lineage"].pop(f"reconstruction/ablation/without_{left_out}")
        assert {**here["lineage"], "reconstruction/minddiffuser/stage2": own} == settings["lineage"]
        assert list(pd.read_csv(ablation / "index.csv")["stimulus_id"]) == refined[:3]  # controls.n_ablated
        for picture in sorted((ablation / "trajectory").glob("*/0000.png")):
            first = np.asarray(Image.open(picture))
            assert (first != np.asarray(Image.open(stage2 / picture.relative_to(ablation)))).any()
            starts.add(first.tobytes())
    assert len(starts) == 2 * 3  # each image has random targets of its own


PLANTED = [
    (DECODE_TAKAGI, "features/detail.h5", "takagi/decoded"),
    (DECODE_TAKAGI, "takagi/trials.h5", "takagi/decoded"),
    (DECODE_TAKAGI, "takagi/features.h5", "takagi/decoded"),
    (DECODE_OZCELIK, "ozcelik/instance.h5", "ozcelik/decoded"),
    (DECODE_OZCELIK, "ozcelik/inversion.h5", "ozcelik/decoded"),
    ("baselines/takagi/36_reconstruct_takagi.py", "takagi/decoded/original.h5", "reconstruction/takagi"),
    ("baselines/ozcelik/38_reconstruct_ozcelik.py", "ozcelik/decoded/original.h5", "reconstruction/ozcelik"),
    ("reconstruction/34_ablations.py", "decoded/detail.h5", "reconstruction/ablation"),
]


def test_voxels_of_one_person_and_features_of_another_are_refused(whole_run, tmp_path):
    """As in the released comparison, whose voxels were subject 7's and whose features subject 1's."""

    def attempt(k):
        script, planted, made = PLANTED[k]
        shutil.copytree(whole_run / "runs", tmp_path / str(k) / "runs")
        config = write_config(tmp_path / str(k), nsd=str(whole_run / "nsd"))
        root = tmp_path / str(k) / "runs" / "smallest"
        shutil.rmtree(root / "subj01" / made)
        (root / "subj01" / made).parent.mkdir(exist_ok=True)
        if not (root / "subj01" / planted).parent.exists():
            (root / "subj01" / planted).parent.mkdir(parents=True)
        shutil.copy(root / "subj02" / planted, root / "subj01" / planted)
        return run_here(script, config, "--subject", "subj01")

    for k, (script, planted, _) in enumerate(PLANTED):
        done = attempt(k)
        assert done.returncode == 1, (script, planted, done.stdout, done.stderr)
        assert "belongs to subj02, not to subj01" in done.stderr, (script, planted, done.stderr)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("script", "changed"), [(DECODE_TAKAGI, "takagi/features.h5"), (DECODE_OZCELIK, "ozcelik/inversion.h5")]
)
def test_rows_of_other_images_are_refused(whole_run, tmp_path, script, changed):
    shutil.copytree(whole_run / "runs", tmp_path / "runs")
    config = write_config(tmp_path, nsd=str(whole_run / "nsd"))
    root = tmp_path / "runs" / "smallest" / "subj01"
    shutil.rmtree(root / changed.split("/")[0] / "decoded")
    with h5py.File(root / changed, "r+") as file:
        file["stimulus_id"][:] = file["stimulus_id"][:][::-1]
    done = run_here(script, config, "--subject", "subj01")
    assert done.returncode == 1
    assert "are different images" in done.stderr


def test_a_rival_can_be_left_out_and_a_missing_generator_says_what_to_do(whole_run, tmp_path):
    config = write_config(tmp_path, nsd=str(whole_run / "nsd"))
    shutil.copytree(whole_run / "runs", tmp_path / "runs")
    for script, setting in ((DECODE_TAKAGI, "takagi"), (DECODE_OZCELIK, "ozcelik")):
        done = run_here(script, config, "--set", f"experiment.{setting}=null")
        assert (done.returncode, done.stdout.strip()) == (0, f"experiment.{setting} is null: nothing to do")
    options = ("--set", "experiment.ozcelik.generator=models/absent", "--overwrite")
    done = run_here(DECODE_OZCELIK, config, *options)
    assert done.returncode == 1
    assert "curl -L https://dl.fbaipublicfiles.com/ic_gan/" in done.stderr
