"""The folder of reconstructions: complete or not there, and clear about what is wrong."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from minddiffuser.config import REPOSITORY
from minddiffuser.recipe import Recipe
from minddiffuser.store import DataError, Shard
from reconstruction import export
from reconstruction import folder as folder_module
from reconstruction.folder import (
    PICKED,
    TEST_STATISTICS,
    ReconstructionFolder,
    check_samples,
    flags_of,
    read,
    read_done,
    read_videos,
    remove_samples,
    sample_folders,
    shortfall,
    state,
    to_uint8,
)


def open_folder(path, n_images=3, overwrite=False, **settings):
    return ReconstructionFolder(
        Recipe(path.parent, path.name, "subj01", "some/script.py", settings), n_images, overwrite
    )


def folder(path, **settings):
    return open_folder(path / "system", **settings)


def pictures(n, size=8):
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_what_is_saved_is_read_back(tmp_path):
    ids, images = np.array([30, 2, 71]), pictures(3)
    f = folder(tmp_path)
    f.save(ids, images, seed=1, losses=[0.5, 0.25, 1.0], iterations=[3, 0, 9])
    f.write_index()
    found_ids, found = read(f.path)
    assert found_ids.tolist() == [2, 30, 71]
    np.testing.assert_array_equal(found, images[[1, 0, 2]])


def test_a_picture_that_is_not_finite_is_no_picture():
    """As uint8 it would be black, and count as done."""
    images = torch.rand(2, 3, 4, 4)
    assert (to_uint8(images) == (images * 255).round().byte().movedim(1, -1).numpy()).all()
    images[1, 0, 2, 2] = torch.nan
    with pytest.raises(FloatingPointError, match="precision"):
        to_uint8(images)


def test_batches_are_cut_before_it_is_known_what_is_done(tmp_path):
    ids = np.arange(10)
    f = folder(tmp_path)
    f.save(ids[4:6], pictures(2), seed=1)
    f.save(ids[8:9], pictures(1), seed=1)
    assert [rows.tolist() for rows in f.batches_to_do(ids, 3, Shard())] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    f.save(ids[3:4], pictures(1), seed=1)
    assert [rows.tolist() for rows in f.batches_to_do(ids, 3, Shard())] == [[0, 1, 2], [6, 7, 8], [9]]
    shards = [row for k in (1, 2) for rows in f.batches_to_do(ids, 3, Shard(k, 2)) for row in rows.tolist()]
    assert sorted(shards) == [0, 1, 2, 6, 7, 8, 9]


def test_a_picture_that_somebody_deleted_is_made_again(tmp_path):
    system = sample(tmp_path / "system", [4, 8])
    (system / "00008.png").unlink()
    assert [rows.tolist() for rows in open_folder(system).batches_to_do(np.array([4, 8]), 1, Shard())] == [[1]]


def test_pictures_of_other_settings_are_in_the_way(tmp_path):
    folder(tmp_path, steps=5)
    folder(tmp_path, steps=5)  # the same again is fine
    with pytest.raises(DataError, match=r"steps was 5, is 6; .* python some/script\.py --subject subj01 --overwrite"):
        folder(tmp_path, steps=6)
    with pytest.raises(DataError, match="belongs to subj01, not to subj02"):
        ReconstructionFolder(Recipe(tmp_path, "system", "subj02", "some/script.py", {"steps": 5}), 3)


def test_missing_unreadable_and_uneven_pictures_are_named(tmp_path):
    f = folder(tmp_path)
    with pytest.raises(DataError, match=r"no index\.csv"):
        read(f.path)
    f.write_index()
    with pytest.raises(DataError, match="none is done"):
        read(f.path)
    f.save(np.array([1, 2]), pictures(2), seed=1)
    f.write_index()
    f.save(np.array([3]), pictures(1, size=9), seed=1)
    f.write_index()
    with pytest.raises(DataError, match="different sizes"):
        read(f.path)
    (f.path / "00002.png").write_bytes((f.path / "00002.png").read_bytes()[:30])
    with pytest.raises(DataError, match=r"00002\.png"):
        read(f.path)
    (f.path / "00002.png").unlink()
    with pytest.raises(DataError, match=r"00002\.png"):
        read(f.path)


def test_a_folder_without_a_finished_picture_is_not_scored_yet(tmp_path):
    output = open_folder(tmp_path / "system")
    output.write_index()  # as a shard leaves it whose pictures other shards make
    assert state(tmp_path / "system") is None
    output.save([3], np.zeros((1, 4, 4, 3), np.uint8), seed=0)
    output.write_index()
    assert state(tmp_path / "system").endswith("1 pictures")


def sample(path, ids, **settings):
    output = open_folder(path, **settings)
    output.save(np.array(ids), pictures(len(ids)), seed=1)
    output.write_index()
    return path


def test_samples_are_listed_by_number_and_only_those_with_pictures(tmp_path):
    system = sample(tmp_path / "system", [4, 8])
    assert sample_folders(system) == [system]
    for number in (10, 2, 3):
        sample(system / f"sample_{number}", [8, 4], noise=number)
    open_folder(system / "sample_4").write_index()  # as a shard leaves it without a picture
    (system / "sample_5").mkdir()
    (system / "trajectory").mkdir()
    assert [path.name for path in sample_folders(system)] == ["system", "sample_2", "sample_3", "sample_10"]


def test_samples_of_other_images_are_refused_with_their_names(tmp_path):
    system = sample(tmp_path / "system", [4, 8, 15])
    sample(system / "sample_2", [4, 8, 15], noise=2)
    sample(system / "sample_3", [4, 16], noise=3)
    with pytest.raises(DataError, match=r"system and its sample_3 have different images: .* 8, 15, 16; finish"):
        sample_folders(system)


def test_another_sample_is_another_state(tmp_path):
    """What is scored again is what has another state."""
    system = sample(tmp_path / "system", [4, 8])
    states = [state(system)]
    sample(system / "sample_2", [4], noise=2)
    states.append(state(system))
    sample(system / "sample_2", [8], noise=2)  # the rest of it
    states.append(state(system))
    shutil.rmtree(system / "sample_2")
    sample(system / "sample_2", [4, 8], noise=3)
    states.append(state(system))
    assert len(set(states)) == 4
    assert all(text.startswith(states[0]) for text in states)


def test_replacing_a_system_replaces_its_samples(tmp_path):
    system = sample(tmp_path / "system", [4, 8])
    sample(system / "sample_2", [4, 8], noise=2)
    open_folder(system, overwrite=True, noise=7)
    assert not (system / "sample_2").exists()


def test_a_process_of_other_settings_adds_nothing_to_a_folder_that_was_given_away(tmp_path):
    ids = np.array([4, 8])
    old = folder(tmp_path, steps=5)
    new = open_folder(tmp_path / "system", overwrite=True, steps=6)
    with pytest.raises(DataError, match="was deleted, or given to other settings, while this ran"):
        old.save(ids, pictures(2), seed=1)
    assert not list(old.path.glob("*.png"))
    old.check = lambda: None  # as if the folder was given away a moment later
    old.save(ids, pictures(2), seed=1)
    assert [rows.tolist() for rows in new.batches_to_do(ids, 1, Shard())] == [[0], [1]]
    assert not new.is_whole(ids)
    new.save(ids[:1], pictures(1), seed=2)
    assert new.write_index() == 1
    assert pd.read_csv(new.path / "index.csv")[["stimulus_id", "seed"]].to_numpy().tolist() == [[4, 2]]


def test_a_process_whose_folder_was_deleted_stops(tmp_path):
    output = folder(tmp_path)
    shutil.rmtree(output.path)
    with pytest.raises(DataError, match="was deleted"):
        output.save([4], pictures(1), seed=1)
    assert not output.path.exists()


def test_records_of_an_earlier_version_count(tmp_path):
    system = sample(tmp_path / "system", [4])
    record = system / "records" / "00004.json"
    content = json.loads(record.read_text())
    del content["fingerprint"]
    record.write_text(json.dumps(content))
    assert open_folder(system).is_whole(np.array([4]))


def test_the_same_command_goes_on_after_a_kill_though_it_replaces(tmp_path):
    """Of a script that makes two systems, and was killed in the first."""
    for name in ("stage2", "best_of_k"):
        sample(tmp_path / name, [4, 8], seed=1)
    for _ in range(2):
        output = open_folder(tmp_path / "stage2", overwrite=True, seed=2)
        output.save([4], pictures(1), seed=2)
    assert [rows.tolist() for rows in output.batches_to_do(np.array([4, 8]), 1, Shard())] == [[1]]
    open_folder(tmp_path / "best_of_k", overwrite=True, seed=1)
    assert len(read(tmp_path / "best_of_k")[0]) == 2


@pytest.mark.parametrize("content", ["{", '{"fingerprint": "0"}'])
def test_settings_that_are_broken_or_of_an_earlier_version_can_be_replaced(tmp_path, content):
    system = sample(tmp_path / "system", [4])
    (system / "settings.json").write_text(content)
    with pytest.raises(DataError, match="system"):
        open_folder(system)
    assert not open_folder(system, overwrite=True).is_whole(np.array([4]))


def test_versions_are_those_that_made_the_pictures(tmp_path, monkeypatch):
    def versions(path, n_images):
        open_folder(path, n_images)
        record = json.loads((path / "settings.json").read_text())
        assert record["n_images"] == n_images
        return record["versions"]["torch"]

    made_with = versions(sample(tmp_path / "system", [4]), 3)
    monkeypatch.setattr("minddiffuser.store._versions", lambda: {"torch": "99"})
    assert versions(tmp_path / "system", 3) == versions(tmp_path / "system", 4) == made_with
    (tmp_path / "system" / "00004.png").unlink()
    assert versions(tmp_path / "system", 4) == "99"


def test_what_is_done_is_listed_once_whatever_the_number_of_pictures(tmp_path, monkeypatch):
    """A network file system shows what is new in a folder that is listed, and may not where a file is asked for."""
    system = sample(tmp_path / "system", list(range(20)))
    output = open_folder(system)
    monkeypatch.setattr("pathlib.Path.exists", lambda path: pytest.fail(f"{path} was asked for"))
    assert output.batches_to_do(np.arange(20), 1, Shard()) == []


def test_what_a_kill_left_half_written_goes_once_it_is_old(tmp_path):
    system = sample(tmp_path / "system", [4])
    halves = [system / part / f".x.{'1' * 16}.partial" for part in (".", "records", "trajectory/00004", "state")]
    for half in halves:
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(b"half")
        os.utime(half, (time.time() - 2 * 86400,) * 2)
    open_folder(system, overwrite=True, noise=7)
    assert [path.name for path in system.iterdir()] == ["settings.json"]


def test_replacing_leaves_what_this_project_did_not_make(tmp_path):
    system = sample(tmp_path / "system", [4, 8])
    sample(system / "sample_2", [4, 8], noise=2)
    mine = {system / "notes.txt": "mine", system / "raw" / "4.png": "mine", system / "sample_2" / "5.png": "mine"}
    for path, text in mine.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    open_folder(system, overwrite=True, noise=7)
    assert {
        path: path.read_text() for path in system.rglob("*") if path.name != "settings.json" and path.is_file()
    } == mine


def test_pictures_of_somebody_else_are_in_the_way(tmp_path):
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "00004.png").write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"pictures that this project did not make, such as 00004\.png"):
            open_folder(tmp_path / "system", overwrite=overwrite)
    assert (tmp_path / "system" / "00004.png").read_bytes() == b"mine"


def test_samples_beyond_those_asked_for_go_but_nobody_elses(tmp_path):
    system = sample(tmp_path / "system", [4])
    for number in (2, 3):
        sample(system / f"sample_{number}", [4], noise=number)
    (system / "sample_9").mkdir()
    (system / "sample_9" / "4.png").write_bytes(b"mine")
    remove_samples(system, 2)
    assert [path.name for path in sample_folders(system)] == ["system", "sample_2"]
    assert (system / "sample_9" / "4.png").exists()


def test_a_sample_of_other_settings_or_too_many_of_them_are_refused(tmp_path):
    recipes = [
        Recipe(tmp_path, name, "subj01", "some/script.py", settings)
        for name, settings in (("system", {}), ("system/sample_2", {"noise": 2}))
    ]
    for recipe in recipes:
        output = ReconstructionFolder(recipe, 1)
        output.save(np.array([4]), pictures(1), seed=1)
        output.write_index()
    check_samples(recipes)
    with pytest.raises(DataError, match="sample_2 is one sample more than the 1"):
        check_samples(recipes[:1])
    other = Recipe(tmp_path, "system/sample_2", "subj01", "some/script.py", {"noise": 3})
    with pytest.raises(DataError, match="noise was 2, is 3"):
        check_samples([recipes[0], other])


def test_what_is_missing_is_told(tmp_path, capsys):
    system = sample(tmp_path / "system", [4, 8])
    assert shortfall(system, 2) == ""
    assert shortfall(system, 3) == "2 of 3 pictures"
    assert shortfall(system, 2, n_samples=2) == "1 of 2 samples"
    sample(system / "sample_2", [4], noise=2)
    assert shortfall(system, 2, n_samples=2) == "1 of 2 pictures"
    open_folder(system).finish()
    assert "2 of 3 pictures; 1 are left" in capsys.readouterr().out


def test_each_picture_has_the_seconds_of_its_own_batch(tmp_path):
    output, ids = folder(tmp_path), np.arange(6)
    for rows in output.each(output.batches_to_do(ids, 2, Shard()), "pictures"):
        time.sleep(0.2)
        output.save(ids[rows], pictures(2), seed=1)
    output.write_index()
    seconds = pd.read_csv(output.path / "index.csv")["seconds"]
    assert seconds.between(0.1, 0.19).all(), seconds.tolist()


def write_index_late(path, ids, barrier):
    """Save some pictures, and write the index while another process has saved more in the meantime."""
    output = open_folder(path)
    output.save(np.array(ids), pictures(len(ids)), seed=1)
    write = folder_module.write_atomically

    def write_meeting(target, content):
        if target.name == "index.csv" and not barrier.broken:
            barrier.wait(timeout=10)  # this index was made of what was there before
            barrier.abort()
        write(target, content)

    folder_module.write_atomically = write_meeting
    output.write_index()


def write_index_in_between(path, ids, barrier):
    """Save the rest and write the whole index, while the other holds an old one in its hands."""
    output = open_folder(path)
    output.save(np.array(ids), pictures(len(ids)), seed=1)
    output.write_index()
    barrier.wait(timeout=10)


def test_an_index_that_is_written_last_by_who_knew_less_is_whole_all_the_same(tmp_path):
    fork = get_context("fork")
    barrier = fork.Barrier(2)
    late = fork.Process(target=write_index_late, args=(tmp_path / "system", [1, 2], barrier))
    late.start()
    while not (tmp_path / "system/records/00002.json").exists():
        time.sleep(0.01)
    other = fork.Process(target=write_index_in_between, args=(tmp_path / "system", [3], barrier))
    other.start()
    for worker in (late, other):
        worker.join(30)
        assert worker.exitcode == 0
    assert read(tmp_path / "system")[0].tolist() == [1, 2, 3]


def test_flags_come_from_all_that_a_folder_is_made_of(tmp_path):
    decoded = Recipe(tmp_path, "decoded.h5", "subj01", "x.py", {"experiment.decoding.test_scaling": "test"})
    output = ReconstructionFolder(Recipe(tmp_path, "system", "subj01", "x.py", {}, (decoded,)), 1)
    assert json.loads((output.path / "settings.json").read_text())["flags"] == [TEST_STATISTICS]
    for settings in ({"experiment.decoding.test_scaling": "train"}, {"experiment.ozcelik.restore_variance": "none"}):
        assert flags_of(Recipe(tmp_path, "system", "subj01", "x.py", settings)) == []


def test_flags_that_people_can_give_are_those_that_are_written():
    script = runpy.run_path(str(REPOSITORY / "evaluation" / "41_score.py"), run_name="score")
    assert script["FLAGS"] == (TEST_STATISTICS, PICKED)


@pytest.mark.parametrize("name", ["settings.json", "index.csv", "records/00004.json"])
@pytest.mark.parametrize("content", ["", "{", "<html>", "version https://git-lfs"])
def test_a_broken_file_of_the_folder_is_named(tmp_path, name, content):
    system = sample(tmp_path / "system", [4])
    (system / name).write_text(content)
    with pytest.raises(DataError, match=name.rpartition("/")[2]):
        open_folder(system).write_index() if "index" not in name else state(system)


def films(n, n_frames=3, height=6, width=8):
    return np.random.default_rng(1).integers(0, 256, (n, n_frames, height, width, 3), dtype=np.uint8)


def folder_of_films(path, n_frames=3):
    recipe = Recipe(path, "system", "Subject01", "some/script.py", {})
    return ReconstructionFolder(recipe, 3, n_frames=n_frames)


def test_films_are_kept_as_strips_without_loss_and_read_back_one_by_one(tmp_path):
    made, output = films(3), folder_of_films(tmp_path)
    output.save(np.array([102005, 102001, 102030]), made, seed=1)
    output.write_index()
    strip = np.asarray(Image.open(output.path / "102005.png"))
    np.testing.assert_array_equal(strip, np.concatenate(list(made[0])))
    assert json.loads((output.path / "settings.json").read_text())["n_frames"] == 3
    found = list(read_videos(output.path))
    assert [stimulus_id for stimulus_id, _ in found] == [102001, 102005, 102030]
    np.testing.assert_array_equal(np.stack([film for _, film in found]), made[[1, 0, 2]])
    chosen = read_videos(output.path, [102030, 102030])
    assert isinstance(chosen, Iterator)
    np.testing.assert_array_equal(next(chosen)[1], made[2])


def test_pictures_and_films_are_not_taken_for_each_other(tmp_path):
    system = sample(tmp_path / "pictures", [4, 8])
    assert "n_frames" not in json.loads((system / "settings.json").read_text())
    with pytest.raises(DataError, match="has pictures; what is asked for are films"):
        read_videos(system)
    output = folder_of_films(tmp_path)
    for wrong in (pictures(2), films(2, n_frames=4)):
        with pytest.raises(ValueError, match="folder of films of 3 frames, not of arrays of shape"):
            output.save([4, 8], wrong, seed=1)
    with pytest.raises(ValueError, match="folder of pictures, not"):
        open_folder(system).save([4, 8], films(2), seed=1)
    output.save([4, 8], films(2), seed=1)
    output.write_index()
    with pytest.raises(DataError, match="has films, of 3 frames each; what is asked for are pictures"):
        read(output.path)


def test_films_that_are_missing_or_of_another_size_are_named(tmp_path):
    output = folder_of_films(tmp_path)
    with pytest.raises(DataError, match=r"no index\.csv"):
        read_videos(output.path)
    output.save([4, 8], films(2), seed=1)
    output.write_index()
    with pytest.raises(DataError, match="lacks 2 of 3 films: 5, 9"):
        read_videos(output.path, [9, 4, 5])
    Image.fromarray(films(1)[0].reshape(-1, 8, 3)[:-2]).save(output.path / "00008.png")
    with pytest.raises(DataError, match=r"00008\.png has 8 x 16 pixels: expected is a strip of 3 frames"):
        list(read_videos(output.path))
    Image.fromarray(films(1, height=5)[0].reshape(-1, 8, 3)).save(output.path / "00008.png")
    with pytest.raises(DataError, match=r"00008\.png has 8 x 15 pixels"):
        list(read_videos(output.path))


def test_films_of_a_process_of_other_settings_are_not_copied(tmp_path):
    output, ids = folder_of_films(tmp_path), np.array([4, 8])
    output.save(ids, films(2), seed=1)
    found = read_done(output.path, ids)
    assert found is not None
    np.testing.assert_array_equal(found, films(2))
    record = output.path / "records" / "00008.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"fingerprint": "other"}))
    assert read_done(output.path, ids) is None


def test_exported_films_play_at_the_speed_and_in_the_order_of_their_frames(tmp_path):
    output = folder_of_films(tmp_path)
    moving = np.repeat(np.array([40, 120, 200], np.uint8)[:, None, None, None], 32, 1).repeat(32, 2).repeat(3, 3)
    moving[..., 1:] //= 2  # red, so that swapped channels would be seen
    output.save([4, 8], np.stack([moving, moving[[1, 1, 1]]]), seed=1)
    output.write_index()
    for kind in ("gif", "mp4"):
        export.main([str(output.path), "--to", str(tmp_path / "played"), "--format", kind, "--fps", "5"])
    gif: Any
    with Image.open(tmp_path / "played" / "00004.gif") as gif:
        assert gif.n_frames == 3
        for k in range(3):
            gif.seek(k)
            assert gif.info["duration"] == 200
            np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), moving[k])
    with Image.open(tmp_path / "played" / "00008.gif") as gif:  # still: one frame, as long as all
        assert gif.n_frames == 1
        assert gif.info["duration"] == 600
    capture = cv2.VideoCapture(str(tmp_path / "played" / "00004.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 5
    for frame in moving:
        is_read, found = capture.read()
        assert is_read
        assert np.abs(found[..., ::-1].astype(int) - frame).max() < 12
    assert not capture.read()[0]


def test_an_export_of_pictures_or_of_films_that_are_not_there_ends_with_a_message(tmp_path):
    system = sample(tmp_path / "pictures", [4, 8])
    with pytest.raises(DataError, match=r"pictures has pictures; what is asked for are films"):
        export.main([str(system), "--to", str(tmp_path / "played")])
    assert not (tmp_path / "played").exists()


def test_an_export_to_a_place_that_cannot_be_written_ends_in_one_line(tmp_path):
    output = folder_of_films(tmp_path)
    output.save([4], films(1), seed=1)
    output.write_index()
    (tmp_path / "file").touch()
    line = [sys.executable, "-m", "reconstruction.export", str(output.path), "--to", str(tmp_path / "file" / "played")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: Not a directory: ")
    assert "Traceback" not in done.stderr
