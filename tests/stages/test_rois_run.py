"""Other voxels than the authors' regions go from betas to scores, and the doctor passes them."""

from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from smallest import run_here

SCRIPTS = (
    "data/02_prepare_subject.py", "feature_extraction/11_semantic.py", "feature_extraction/12_detail.py",
    "feature_extraction/13_structural.py", "feature_decoding/21_select_units.py", "feature_decoding/22_semantic.py",
    "feature_decoding/23_detail.py", "feature_decoding/24_structural.py", "feature_decoding/25_accuracy.py",
    "reconstruction/31_stage1.py", "evaluation/41_score.py",
)  # fmt: skip
MASK = "mask"


@pytest.mark.parametrize(
    ("rois", "names"),
    [
        ("nsdgeneral", ["nsdgeneral"]),
        pytest.param("[V1,V2]", ["V1", "V2"], marks=pytest.mark.slow),
        pytest.param("[streams/early,streams/ventral]", ["streams/early", "streams/ventral"], marks=pytest.mark.slow),
        pytest.param(MASK, ["own"], marks=pytest.mark.slow),
    ],
)
def test_other_voxels_go_from_betas_to_scores(whole_run, tmp_path, rois, names):
    config = whole_run / "smallest.yaml"
    folder = next(whole_run.rglob("nsdgeneral.nii.gz")).parent
    if rois == MASK:
        image: Any = nib.load(folder / "nsdgeneral.nii.gz")
        values = (np.asarray(image.dataobj) == 1).astype(np.uint8)
        values[: len(values) // 2] = 0
        rois = str(tmp_path / "own.nii.gz")
        nib.save(nib.Nifti1Image(values, image.affine), rois)
    changes = [f"execution.runs={tmp_path}", f"experiment.data.rois={rois}"]
    options = [word for change in changes for word in ("--set", change)]
    done = run_here("doctor/__main__.py", config, "--subject", "subj01", "--scripts", SCRIPTS[0], *options)
    assert done.returncode == 0, done.stdout
    for script in SCRIPTS:
        done = run_here(script, config, "--subject", "subj01", *options)
        assert done.returncode == 0, f"{script}:\n{done.stdout}\n{done.stderr}"
    with h5py.File(next(tmp_path.rglob("subj01/prepared.h5"))) as file:
        assert list(dict.fromkeys(file["roi"][:].astype(str))) == names
    scores = pd.read_csv(next(tmp_path.rglob("evaluation/scores.csv")))
    assert set(scores["system"]) >= {"minddiffuser/stage1"}
    accuracy = pd.read_csv(next(tmp_path.rglob("decoded/accuracy.csv")))
    assert {"all", *names} == set(accuracy["roi"])
