"""The folder of reconstructions: complete or not there, and clear about what is wrong."""

import shutil

import numpy as np
import pytest

from minddiffuser.store import DataError, Shard
from reconstruction.folder import ReconstructionFolder, adopt, read, sample_folders, state, write_png


def folder(path, **settings):
    return ReconstructionFolder(path / "system", "subj01", settings, {"z": "abc"})


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


def test_pictures_of_other_settings_are_in_the_way(tmp_path):
    folder(tmp_path, steps=5)
    folder(tmp_path, steps=5)  # the same again is fine
    with pytest.raises(DataError, match="other settings"):
        folder(tmp_path, steps=6)


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


@pytest.fixture
def foreign(tmp_path):
    """Somebody else's pictures of the test images 5, 40 and 123."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, image in zip(("5", "00040", "123"), pictures(3), strict=True):
        write_png(folder / f"{name}.png", image)
    return folder


def test_a_foreign_folder_is_taken_in(tmp_path, foreign):
    assert adopt(foreign, tmp_path / "ours", "subj01", [123, 5, 40]) == 3
    ids, images = read(tmp_path / "ours")
    assert ids.tolist() == [5, 40, 123]
    np.testing.assert_array_equal(images, pictures(3))
    before = state(tmp_path / "ours")
    write_png(foreign / "5.png", pictures(3)[1])
    adopt(foreign, tmp_path / "ours", "subj01", [123, 5, 40])
    assert state(tmp_path / "ours") != before


def test_all_that_is_wrong_with_a_foreign_folder_is_listed_at_once(tmp_path, foreign):
    (foreign / "40.png").write_bytes((foreign / "00040.png").read_bytes()[:60])
    (foreign / "00040.png").unlink()
    write_png(foreign / "7.png", pictures(1)[0])
    write_png(foreign / "best.png", pictures(1)[0])
    write_png(foreign / "123.png", pictures(1, size=9)[0])
    with pytest.raises(DataError) as raised:
        adopt(foreign, tmp_path / "ours", "subj01", [123, 5, 40, 6])
    for said in (
        "not named by NSD id: best.png", "not test images of subj01: 7", "without a picture: 6",
        "cannot be read: 40.png", "of another size than",
    ):  # fmt: skip
        assert said in str(raised.value)
    assert not (tmp_path / "ours").exists()


def test_missing_pictures_are_allowed_only_when_asked(tmp_path, foreign):
    with pytest.raises(DataError, match="without a picture: 6; with --allow-missing"):
        adopt(foreign, tmp_path / "ours", "subj01", [123, 5, 40, 6])
    assert adopt(foreign, tmp_path / "ours", "subj01", [123, 5, 40, 6], allow_missing=True) == 3


def test_an_empty_or_absent_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="has no PNG, or is not a folder"):
        adopt(tmp_path / "nowhere", tmp_path / "ours", "subj01", [1])


def test_a_folder_without_a_finished_picture_is_not_scored_yet(tmp_path):
    output = ReconstructionFolder(tmp_path / "system", "subj01", {}, {})
    output.write_index()  # as a shard leaves it whose pictures other shards make
    assert state(tmp_path / "system") is None
    output.save([3], np.zeros((1, 4, 4, 3), np.uint8), seed=0)
    output.write_index()
    assert state(tmp_path / "system").endswith("1 pictures")


def sample(path, ids, **settings):
    output = ReconstructionFolder(path, "subj01", settings, {})
    output.save(np.array(ids), pictures(len(ids)), seed=1)
    output.write_index()
    return path


def test_samples_are_listed_by_number_and_only_those_with_pictures(tmp_path):
    system = sample(tmp_path / "system", [4, 8])
    assert sample_folders(system) == [system]
    for number in (10, 2, 3):
        sample(system / f"sample_{number}", [8, 4], noise=number)
    ReconstructionFolder(system / "sample_4", "subj01", {}, {}).write_index()  # as a shard leaves it without a picture
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
    ReconstructionFolder(system, "subj01", {"noise": 7}, {}, overwrite=True)
    assert not (system / "sample_2").exists()
