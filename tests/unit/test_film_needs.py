"""The doctor looks at films: it finds each of many planted faults, and is content with what is intact."""

import re
import runpy
import shutil

import cv2
import h5py
import nibabel as nib
import numpy as np
import pytest
import yaml
from nibabel.cifti2 import ScalarAxis, SeriesAxis

import baselines.mind_animator.needs
import evaluation.videos.needs
from baselines.mind_animator.needs import Sizes
from data import cc2017, film_needs
from doctor import __main__ as doctor
from doctor import machine
from minddiffuser.cli import key_of
from minddiffuser.config import REPOSITORY, load
from minddiffuser.needs import rows, speed
from minddiffuser.needs.findings import Findings
from minddiffuser.needs.rows import Means, Models, Speed

SUBJECT, OTHER_SUBJECT = "Subject01", "Subject02"
STIMULI = "cc2017/Stimuli/video_fmri_dataset/stimuli"
SIZE = {
    "n_segments": 3, "clips": 24, "n_tests": 1, "test_clips": 60, "test_repetitions": 3, "vertex_share": 0.08,
    "n_silent": 20, "direction": [True, True],
}  # fmt: skip


def settings(folder):
    with (REPOSITORY / "configs" / "miniature.yaml").open() as file:
        config = yaml.safe_load(file)
    experiment = config["experiment"]
    weights = REPOSITORY / "miniature" / "weights"
    experiment["models"].update(
        stable_diffusion=str(weights / "stable-diffusion"),
        clip=f"local-dir:{weights / 'clip'}",
        scoring_clip=f"local-dir:{weights / 'scoring_clip'}",
    )
    for key in ("miniature", "miniature_god", "semantic_brain_decoding", "takagi", "ozcelik"):
        experiment[key] = None
    experiment["subjects"] = []
    experiment["miniature_cc2017"] = SIZE
    experiment["mind_animator"].update(subjects=[SUBJECT, OTHER_SUBJECT], voxels={"n": 30, "exclude": {}})
    experiment["mind_animator"]["n_validation"] = 8
    config["name"] = "checked"
    places = {"cc2017": str(folder / "cc2017"), "runs": str(folder / "runs")}
    config["execution"] = {**places, "wordnet": config["execution"]["wordnet"], "batch_size": 2}
    return config


def write(folder, config):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A small simulated CC2017, made by its script."""
    folder = tmp_path_factory.mktemp("films")
    script = runpy.run_path(str(REPOSITORY / "miniature" / "04_make_cc2017.py"), run_name="make")
    script["main"](["--config", str(write(folder, settings(folder)))])
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "copy")


@pytest.fixture(autouse=True)
def timed(monkeypatch):
    """The machine's speed is given: measuring takes seconds, and finds no fault of files."""
    given = Speed(0.1, 0.1, 0.1, 1e10, 1e10, 1e8, 1e8)
    monkeypatch.setattr(speed, "measure_speed", lambda *_: (given, "given"))
    monkeypatch.setattr(baselines.mind_animator.needs, "check_training", lambda *_: ((1e-8, 4e-8), "given"))


def examine(folder, config, *scripts):
    more = ["--scripts", *scripts] if scripts else []
    doctor.main(["--config", str(write(folder, config)), "--subject", SUBJECT, *more])


def problems(folder, config, *scripts):
    """What is wrong, as the list at the end has it."""
    with pytest.raises(SystemExit) as stopped:
        examine(folder, config, *scripts)
    return str(stopped.value.code).strip().splitlines()[1:]


def run_path(folder, film, number, subject=SUBJECT):
    return cc2017.recording_path(folder / "cc2017", subject, film, number)


def rewrite(path, change, axis=lambda n: SeriesAxis(0, 2.0, n)):
    image = nib.load(path)
    volumes = change(np.asarray(image.dataobj).copy())
    nib.save(nib.Cifti2Image(volumes, (axis(len(volumes)), image.header.get_axis(1))), path)


def test_nothing_is_wrong_with_intact_films(folder, capsys):
    examine(folder, settings(folder))
    printed = capsys.readouterr().out
    assert "WRONG" not in printed
    assert "note " not in printed
    assert "nothing is wrong" in printed
    assert "films: 4, 72 training and 60 test clips, 4 frames a second" in printed
    assert "Subject01 recordings: 9 runs at the same time of their films, " in printed
    found = re.findall(r"^(?:Subject01 )?(\d\d) [\w ]+? +\d+ (?:s|min) +[\d.]+ GB +- +[\d.]+ GB +\w+", printed, re.M)
    assert found[:2] == ["11", "05"]
    assert set(found) >= {"11", "05", "21", "22", "23", "24", "25", "44"}


def cut(name, share=2 / 3):
    def plant(folder, _):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return plant


def film(number_of_frames, fps=4):
    def plant(folder, _):
        path = str(folder / STIMULI / "seg2.mp4")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 64))
        for _ in range(number_of_frames):
            writer.write(np.zeros((64, 64, 3), np.uint8))
        writer.release()

    return plant


def run(change, axis=lambda n: SeriesAxis(0, 2.0, n), film="seg2", number=2):
    return lambda folder, _: rewrite(run_path(folder, film, number), change, axis)


def without_data(volumes):
    volumes[:, 5], volumes[3, 6] = 0, np.nan
    return volumes


def captions(change):
    def plant(folder, _):
        path = folder / "cc2017" / "captions" / "Train_captions_new.h5"
        with h5py.File(path, "r+") as file:
            texts = change([text.decode() for text in file["Train_captions"][:]])
            del file["Train_captions"]
            file["Train_captions"] = np.array(texts, dtype=h5py.string_dtype())

    return plant


def change_setting(section, **values):
    def plant(_, config):
        own = config["experiment"]["mind_animator"]
        (own if section is None else own[section]).update(values)

    return plant


def execution(key, value):
    return lambda folder, config: config["execution"].update({key: str(folder / value)})


RUN = "Subject01/video_fmri_dataset/subject1/fmri/seg2/cifti/seg2_2_Atlas.dtseries.nii"
FAULTS = {
    "film missing": (lambda f, _: (f / STIMULI / "seg2.mp4").unlink(), "films: a film is missing: expected .*seg2.mp4"),
    "film truncated": (cut(f"{STIMULI}/seg2.mp4"), "films: .*seg2.mp4 cannot be read as a film"),
    "film of no frames": (film(0), "films: .*seg2.mp4 (cannot be read as a film|has 0 frames)"),
    "film of odd length": (film(100), "films: .*seg2.mp4 .* not a whole number of clips"),
    "film too slow": (film(24 * 4, fps=2), "films: .*seg2.mp4 has 4 frames in a clip"),
    "film shorter than its recordings": (film(22 * 8), "recordings: .*seg2_1_Atlas.*29 volumes .* 22 clips"),
    "film without recordings": (
        lambda f, _: shutil.copy(f / STIMULI / "seg2.mp4", f / STIMULI / "seg4.mp4"),
        "recordings: Subject01 has 0 runs of seg4, and 2 are needed",
    ),
    "recordings without film": (
        lambda f, _: (f / STIMULI / "seg3.mp4").unlink(),
        "recordings: .*recordings of seg3 of Subject01, but no such film",
    ),
    "run missing": (lambda f, _: run_path(f, "seg2", 2).unlink(), "recordings: .*1 runs of seg2, and 2 are needed"),
    "run truncated": (cut(f"cc2017/{RUN}"), "recordings: .*seg2_2_Atlas.* is truncated"),
    "run with a volume less": (run(lambda X: X[:-1]), "recordings: .*seg2_2_Atlas.*28 volumes were recorded"),
    "run of another TR": (run(lambda X: X, lambda n: SeriesAxis(0, 1.0, n)), "seg2_2_Atlas.* a volume each 1 second"),
    "dscalar": (run(lambda X: X, lambda n: ScalarAxis([str(k) for k in range(n)])), "not a dense time series"),
    "run without data": (run(without_data), "seg2_2_Atlas.* no data in 2 of"),
    "run recorded late": (run(lambda X: np.roll(X, -3, axis=0), film="test1"), r"test1_2 by \+3 volumes"),
    "all runs missing": (
        lambda f, _: shutil.rmtree(f / "cc2017" / "Subject01"), "recordings: Subject01 has 0 runs of seg1"
    ),
    "captions missing": (
        lambda f, _: (f / "cc2017/captions/Test_captions_new.h5").unlink(), "captions of films: .*Test_captions_new.h5"
    ),
    "captions of fewer clips": (captions(lambda texts: texts[:-1]), "captions of films: .*but training films have 72"),
    "an empty caption": (captions(lambda texts: ["", *texts[1:]]), "captions of films: .*caption 1 is empty"),
    "labels missing": (execution("dlabel", "x.dlabel.nii"), "areas of the cortex: .*x.dlabel.nii"),
    "more vertices than there are": (change_setting("voxels", n=5000), r"recordings: 5000 vertices .* of the \d+"),
    "more tokens than the encoder has": (change_setting(None, max_length=16), "text of films: .*is 16, .* 15 tokens"),
    "f of another width": (change_setting("semantic", width=64), "CLIP of films: .*is 64, but .* 96 numbers"),
    "WordNet missing": (
        lambda f, c: (change_setting("semantic", eda="synonyms")(f, c), execution("wordnet", "nowhere")(f, c)),
        "WordNet of captions: .*nowhere",
    ),
    "Stable Diffusion missing": (
        lambda f, c: c["experiment"]["models"].update(stable_diffusion=str(f / "none")), "Stable Diffusion's unet was"
    ),
    "CLIP missing": (
        lambda f, c: c["experiment"]["models"].update(clip=f"local-dir:{f / 'none'}"), "CLIP of films: .*not found"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_named(folder, fault):
    plant, named = FAULTS[fault]
    config = settings(folder)
    plant(folder, config)
    found = problems(folder, config)
    assert any(re.search(named, line) for line in found), found


def test_each_bad_run_is_listed_and_later_checks_run(folder, capsys):
    for number, content in ((1, b"<html>no</html>"), (2, b"")):
        run_path(folder, "seg1", number).write_bytes(content)
    run_path(folder, "seg3", 1).unlink()
    found = problems(folder, settings(folder))
    assert len(found) == 3
    for name in ("seg1_1_Atlas", "seg1_2_Atlas", "seg3_1_Atlas"):
        assert any(name in line for line in found), found
    assert "ok     CLIP of films" in capsys.readouterr().out


def test_a_run_of_another_subject_is_a_note(folder, capsys):
    shutil.copy(run_path(folder, "test1", 2, OTHER_SUBJECT), run_path(folder, "test1", 2))
    examine(folder, settings(folder))
    assert re.search(r"note   Subject01 recordings: test1_2 agrees .* is it of Subject01\?", capsys.readouterr().out)


def test_a_late_run_that_is_left_out_is_said_and_one_in_time_is_a_note(folder, capsys):
    rewrite(run_path(folder, "test1", 2), lambda X: np.roll(X, -3, axis=0))
    config = settings(folder)
    config["experiment"]["mind_animator"]["voxels"]["exclude"] = {SUBJECT: ["test1_2", "test1_3"]}
    examine(folder, config)
    printed = capsys.readouterr().out
    assert re.search(r"ok     Subject01 recordings: 7 runs .*; test1_2 is left out, lag \+3", printed)
    assert "note   Subject01 recordings: test1_3 is left out, and was recorded at the same time" in printed


def test_a_broken_run_that_is_left_out_stops_nothing(folder):
    run_path(folder, "test1", 2).write_bytes(b"")
    config = settings(folder)
    config["experiment"]["mind_animator"]["voxels"]["exclude"] = {SUBJECT: ["test1_2"]}
    examine(folder, config)


def test_only_what_the_given_scripts_need_is_looked_at(folder, capsys):
    config = settings(folder)
    config["experiment"]["models"]["clip"] = "local-dir:nowhere"
    examine(folder, config, "data/05_prepare_films.py")
    assert "CLIP" not in capsys.readouterr().out


def test_films_that_cannot_run_leave_the_rest_of_a_run_alone(folder):
    """Beside another dataset what is wrong with films is marked as what can be left out."""
    config = settings(folder)
    config["experiment"]["subjects"] = ["subj01"]
    config["execution"]["nsd"] = str(folder / "nsd")
    (folder / STIMULI / "seg2.mp4").unlink()
    with pytest.raises(SystemExit) as stopped:
        doctor.main(["--config", str(write(folder, config))])
    aside = {line.split(": ")[0].split(". ")[1]: "leaves it out: Mind-Animator" in line
             for line in str(stopped.value.code).strip().splitlines()[1:]}  # fmt: skip
    assert aside["films"]
    assert not aside["stimuli"]


def test_configurations_without_films_are_not_bothered():
    run = parsed(REPOSITORY / "configs" / "nsd.yaml")
    for room in (film_needs.ROOM, baselines.mind_animator.needs.ROOM):
        assert room.subjects(run) == ()


def parsed(path, *arguments):
    return doctor.parse("", ["--config", str(path), *arguments], subjects_of=doctor.all_subjects)


# ---- estimates at the real size


def at_real_size(*changes):
    config = load(REPOSITORY / "configs" / "cc2017_subject01.yaml", list(changes))
    recorded = film_needs.usual_counts(config, SUBJECT)
    means = Means(
        config, Models(4, 768, 77, 3.44e9, 3.35e8, 4.9e8), Speed(0.02, 0.04, 0.08, 1e13, 1e11, 1e10, 1e10), 16
    )
    sizes = Sizes(72_336_641, 23_503_872, 335_758_336, 19 * 768, 16_384, 4500, 1e-10, 3e-10)
    needs = baselines.mind_animator.needs
    found = [film_needs.prepare(config, recorded), needs.features(recorded, means, sizes)]
    found += [row(recorded, means, sizes) for row in (needs.semantic, needs.structure, needs.motion, needs.maps)]
    found += [row(recorded, means) for row in (needs.retrieval, needs.films, needs.controls)]
    found.append(evaluation.videos.needs.scores(config, recorded, means))
    return {row.scripts: row for row in found}


def test_networks_of_real_size_are_counted_without_being_made(monkeypatch):
    run = parsed(REPOSITORY / "configs" / "cc2017_subject01.yaml", "--device", "cpu")
    means = Means(run.config, Models(4, 768, 77, 0, 0, 0), Speed(*[0.0] * 7), 1)
    monkeypatch.setattr(baselines.mind_animator.needs.models, "means", lambda _: means)
    found = baselines.mind_animator.needs.sizes(Findings(run))
    assert found[:6] == (72_336_641, 23_503_872, 335_758_336, 19 * 768, 16_384, 4500)


@pytest.mark.parametrize("scripts", at_real_size())
def test_real_films_fit_a_machine_of_32_gb_with_a_gpu_of_24_gb(scripts):
    found = at_real_size()[scripts]
    assert 0 < found.seconds < 30 * 86400
    assert 0 <= found.on_device < 24e9
    assert 0.1e9 < found.memory + rows.PROCESS < 32e9
    assert 0 < found.disk < 60e9


def test_the_generators_state_is_counted():
    """Weights, gradients and Adam's two moments on the device; weights, moments and the best in the file."""
    state = 4 * 335_758_336 * 4
    found = at_real_size()["23"]
    assert found.on_device > state
    assert found.disk > 2 * state
    assert found.memory > 2 * state
    assert "a state of 5.4 GB" in found.how
    few, many = (at_real_size(f"experiment.mind_animator.motion.epochs={n}")["23"].seconds for n in (10, 100))
    assert many > 5 * few


def test_a_gpu_that_is_too_small_is_a_problem(folder, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: rows.PROCESS + 1e7)
    found = problems(folder, settings(folder))
    assert any(re.search(r"Subject01 23 motion generator: needs .* of RAM.*motion\.inner", line) for line in found)


def test_every_script_of_films_has_a_row():
    scripts = [REPOSITORY / "data" / "05_prepare_films.py"]
    scripts += (REPOSITORY / "baselines" / "mind_animator").glob("[0-9][0-9]_*.py")
    scripts.append(REPOSITORY / "evaluation" / "44_score_films.py")
    assert sorted(key_of(path)[-2:] for path in scripts) == sorted(at_real_size())
