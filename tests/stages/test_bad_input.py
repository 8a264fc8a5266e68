"""What the scripts say when something is wrong: one message, the right exit code, and nothing lost."""

import resource
import shutil
import signal
import subprocess

import numpy as np
import pandas as pd
from PIL import Image
from smallest import REPOSITORY, command, run, run_here, write_config


def test_an_unknown_key_exits_2_and_names_it(tmp_path):
    config = write_config(tmp_path)
    done = run_here("reconstruction/31_stage1.py", config, "--set", "experiment.guidance.iterations=5")
    assert done.returncode == 2
    assert "experiment.guidance.iterations: unknown key" in done.stderr
    assert "did you mean n_iterations?" in done.stderr


def test_an_unknown_subject_exits_2(tmp_path):
    done = run_here("data/02_prepare_subject.py", write_config(tmp_path), "--subject", "subj07")
    assert done.returncode == 2
    assert "subj01, subj02" in done.stderr


def test_features_of_another_subject_are_refused(whole_run, tmp_path):
    shutil.copytree(whole_run / "runs", tmp_path / "runs")
    config, folder = write_config(tmp_path), tmp_path / "runs" / "smallest"
    shutil.copy(folder / "subj02" / "features" / "detail.h5", folder / "subj01" / "features" / "detail.h5")
    (folder / "subj01" / "decoded" / "detail.h5").unlink()
    done = run_here("feature_decoding/23_detail.py", config, "--subject", "subj01")
    assert done.returncode == 1
    assert "belongs to subj02, not to subj01" in done.stderr
    assert "Traceback" not in done.stderr


def test_results_of_other_settings_stop_the_script_and_stay(whole_run, tmp_path):
    shutil.copytree(whole_run / "runs", tmp_path / "runs")
    config = write_config(tmp_path)
    path = tmp_path / "runs" / "smallest" / "subj01" / "decoders" / "detail.h5"
    before = path.read_bytes()
    change = ("--subject", "subj01", "--set", "experiment.decoding.alpha=7")
    done = run_here("feature_decoding/23_detail.py", config, *change)
    assert done.returncode == 1
    assert "experiment.decoding.alpha was 0.15, is 7.0" in done.stderr
    assert "--overwrite" in done.stderr
    assert path.read_bytes() == before
    assert run_here("feature_decoding/23_detail.py", config, *change, "--overwrite").returncode == 0
    assert path.read_bytes() != before


def test_a_missing_earlier_stage_is_named(tmp_path):
    done = run_here("feature_extraction/12_detail.py", write_config(tmp_path))
    assert done.returncode == 1
    assert "prepared.h5 is missing; make it with: python data/02_prepare_subject.py" in done.stderr


def test_an_unwritable_folder_is_one_clear_message(whole_run, tmp_path):
    config = write_config(tmp_path, nsd=str(whole_run / "nsd"), runs=str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way")
    done = run_here("data/02_prepare_subject.py", config)
    assert done.returncode == 1
    assert "Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_real_experiment_says_what_is_missing_and_how_to_get_it(tmp_path):
    nowhere = [f"execution.{name}={tmp_path / name}" for name in ("nsd", "runs")]
    options = [word for setting in nowhere for word in ("--set", setting)]
    config = REPOSITORY / "configs" / "nsd.yaml"
    done = run_here("data/02_prepare_subject.py", config, *options, "--device", "cpu")
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1
    assert "Traceback" not in done.stderr
    for word in ("nsd_expdesign.mat", "naturalscenesdataset.org", "execution.nsd"):
        assert word in done.stderr
    # `make demo` runs it for every configuration.
    done = run_here("miniature/01_make_miniature.py", config, *options)
    assert done.returncode == 0
    assert "no experiment.miniature" in done.stdout
    assert not (tmp_path / "nsd").exists()


def test_missing_real_weights_say_how_to_get_them(whole_run, tmp_path):
    shutil.copytree(whole_run / "runs", tmp_path / "runs")
    config = write_config(tmp_path)
    options = ("--set", "experiment.models.stable_diffusion=CompVis/stable-diffusion-v1-4", "--overwrite")
    done = run_here("feature_extraction/12_detail.py", config, "--set", f"execution.nsd={whole_run / 'nsd'}", *options)
    assert done.returncode == 1
    for word in ("data/00_get_models.py", "https://huggingface.co/CompVis/stable-diffusion-v1-4", "hf auth login"):
        assert word in done.stderr


def test_a_full_disk_ends_with_one_message_and_leaves_what_was_there(whole_run, tmp_path):
    """A limit on the size of files stands for the disk: pictures fit, the state to resume from does not."""
    shutil.copytree(whole_run, tmp_path, dirs_exist_ok=True)
    config = write_config(tmp_path)
    folder = tmp_path / "runs/smallest/subj01/reconstruction/minddiffuser"
    stage1 = {path: path.read_bytes() for path in (folder / "stage1").rglob("*") if path.is_file()}
    shutil.rmtree(folder / "stage2")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = subprocess.run(
        command("reconstruction/32_stage2.py", config, "--subject", "subj01"),
        capture_output=True, text=True, check=False, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "nothing that was complete is lost" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((folder / "stage2").rglob("*.partial"))
    assert not (folder / "stage2" / "index.csv").exists()
    assert {path: path.read_bytes() for path in stage1} == stage1
    assert run("reconstruction/32_stage2.py", config, "--subject", "subj01").returncode == 0
    for path in (whole_run / "runs/smallest/subj01/reconstruction/minddiffuser/stage2").glob("*.png"):
        assert (folder / "stage2" / path.name).read_bytes() == path.read_bytes()


def test_somebody_elses_folder_is_listed_fault_by_fault(whole_run, tmp_path):
    """Missing, corrupt, misnamed, strange and odd-sized pictures stop the scoring, and nothing is taken in."""
    shutil.copytree(whole_run, tmp_path, dirs_exist_ok=True)
    config, subject = write_config(tmp_path), tmp_path / "runs/smallest/subj01"
    pictures = tmp_path / "pictures"
    shutil.copytree(subject / "reconstruction/minddiffuser/stage1", pictures)
    files = sorted(pictures.glob("*.png"))
    options = ["--subject", "subj01", "--images", str(pictures), "--system", "theirs"]

    files[0].rename(pictures / "00099999.png")
    content = files[1].read_bytes()
    files[1].write_bytes(content[: len(content) // 2])
    Image.open(files[2]).resize((32, 32)).save(files[2])
    (pictures / "photo.png").write_bytes(content)
    done = run_here("evaluation/41_score.py", config, *options)
    assert done.returncode == 1
    for words in (
        "not named by NSD id: photo.png",
        "not test images of subj01: 99999",
        f"test images without a picture: {int(files[0].stem)}; with --allow-missing they are left out",
        f"cannot be read: {files[1].name}",
        f"of another size than 64 x 64: {files[2].name}",
    ):
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (subject / "reconstruction/others/theirs/index.csv").exists()

    for path in (pictures / "00099999.png", pictures / "photo.png", *files[1:3]):
        path.unlink()
    for path in files[3:]:  # all of another size is no fault: they are resized for scoring
        Image.open(path).resize((100, 100)).save(path)
    done = run_here("evaluation/41_score.py", config, *options, "--allow-missing")
    assert done.returncode == 0, done.stderr
    scores = pd.read_csv(tmp_path / "runs/smallest/evaluation/scores.csv").query("metric == 'pixcorr'")
    scores = scores[scores["subject"] == "subj01"].pivot_table(index="stimulus_id", columns="system", values="value")
    theirs = scores["others/theirs"].dropna()
    assert theirs.index.tolist() == [int(path.stem) for path in files[3:]]
    np.testing.assert_allclose(theirs, scores.loc[theirs.index, "minddiffuser/stage1"], atol=0.03)
