"""Artifacts: whole or absent, resumable, and never mixed."""

import signal
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

from minddiffuser.store import Artifact, DataError, Shard, check_same_rows, open_arrays, write_arrays, write_atomically


def test_shards_cover_everything_once():
    held = [k for s in range(1, 5) for k in range(23) if Shard.parse(f"{s}-of-4").holds(k)]
    assert sorted(held) == list(range(23))


@pytest.mark.parametrize("text", ["0-of-4", "5-of-4", "2/4", "a-of-b", "1-of-0"])
def test_malformed_shards_are_refused(text):
    with pytest.raises(ValueError, match="k-of-n"):
        Shard.parse(text)


def artifact(tmp_path, **settings):
    return Artifact(tmp_path / "a.h5", "subj01", settings)


def make(a, shard=Shard()):
    rows = np.arange(10.0)[:, None] * np.ones(3)
    for number, part in a.parts_to_do(10, 4, shard):
        a.write_part(number, {"x": rows[part], "nsd_id": np.arange(10)[part]})
    if a.has_all_parts(10, 4):
        a.join(10, {"constant": np.ones(2)})


def test_parts_join_to_the_whole(tmp_path):
    a = artifact(tmp_path)
    make(a)
    assert a.is_done()
    with open_arrays(a.path, "x", "subj01") as file:
        np.testing.assert_array_equal(file["x"][:, 0], np.arange(10))
        np.testing.assert_array_equal(file["nsd_id"], np.arange(10))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.json"]


def test_shards_in_any_order_make_the_same_bytes_as_one_run(tmp_path):
    (tmp_path / "one").mkdir()
    make(artifact(tmp_path / "one"))
    for k in (3, 1, 2):
        make(artifact(tmp_path / "many"), Shard(k, 3))
    assert (tmp_path / "one" / "a.h5").read_bytes() == (tmp_path / "many" / "a.h5").read_bytes()


@pytest.mark.parametrize("n_read", [0, 1])
def test_two_shards_that_finish_together_both_end_well(tmp_path, monkeypatch, n_read):
    """The other one joins, and deletes the parts, while this one reads them."""
    make(artifact(tmp_path / "whole"))
    a = artifact(tmp_path)
    for number, part in a.parts_to_do(10, 4):
        a.write_part(number, {"x": np.ones((10, 3))[part] * np.arange(10)[part, None], "nsd_id": np.arange(10)[part]})
    read_parts = a.read_parts

    def overtaken():
        for _ in range(n_read):
            yield next(parts)
        with monkeypatch.context() as other:
            other.setattr("os.getpid", lambda: 1)
            make(artifact(tmp_path))
        yield from parts

    parts = read_parts()
    monkeypatch.setattr(a, "read_parts", overtaken)
    a.join(10, {"constant": np.ones(2)})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "whole" / "a.h5").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_a_resumed_run_makes_only_what_is_missing(tmp_path):
    a = artifact(tmp_path)
    a.write_part(1, {"x": np.zeros((4, 3))})
    assert [number for number, _ in a.parts_to_do(10, 4)] == [0, 2]


def test_other_settings_are_in_the_way_and_named(tmp_path):
    make(artifact(tmp_path, alpha=1))
    other = artifact(tmp_path, alpha=2)
    with pytest.raises(DataError, match=r"settings\.alpha was 1, is 2.*--overwrite"):
        other.is_done()
    assert not other.is_done(overwrite=True)
    make(other)
    assert other.is_done()


def test_parts_of_other_settings_are_not_taken(tmp_path):
    artifact(tmp_path, alpha=1).write_part(0, {"x": np.zeros((4, 3))})
    assert len(list(artifact(tmp_path, alpha=2).parts_to_do(10, 4))) == 3


def test_the_fingerprint_follows_the_inputs(tmp_path):
    def after(value):
        a = Artifact(tmp_path / "in.h5", "subj01", {"value": value})
        a.write({"x": np.zeros(1)})
        return Artifact(tmp_path / "out.h5", "subj01", {}, [tmp_path / "in.h5"]).fingerprint

    assert after(1) == after(1) != after(2)


def test_another_subjects_file_is_refused(tmp_path):
    make(artifact(tmp_path))
    with pytest.raises(DataError, match="belongs to subj01, not to subj02"):
        open_arrays(tmp_path / "a.h5", "x", "subj02")


@pytest.mark.parametrize(("subject", "ids"), [("subj02", [1, 2]), ("subj01", [2, 1])])
def test_rows_of_other_images_or_people_never_join(tmp_path, subject, ids):
    write_arrays(tmp_path / "a.h5", {"nsd_id": np.array([1, 2])}, {"subject": "subj01"})
    write_arrays(tmp_path / "b.h5", {"nsd_id": np.array(ids)}, {"subject": subject})
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b, pytest.raises(DataError):
        check_same_rows(a, b)


def test_missing_and_truncated_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.h5 is missing; make it with: python some/script\.py"):
        open_arrays(tmp_path / "a.h5", "some/script.py")
    make(artifact(tmp_path))
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="truncated"):
        open_arrays(tmp_path / "a.h5", "some/script.py")


def test_a_failed_write_keeps_the_old_file_and_no_half_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def no_space(self, content):
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr("pathlib.Path.write_bytes", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_kill_during_a_write_leaves_no_file_that_looks_whole(tmp_path):
    script = textwrap.dedent(
        """
        import sys, numpy as np
        from pathlib import Path
        from minddiffuser.store import write_arrays
        print("writing", flush=True)
        while True:
            write_arrays(Path(sys.argv[1]) / "a.h5", {"x": np.zeros((500, 20000))}, {"subject": "subj01"})
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    while not (tmp_path / "a.h5").exists():
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with open_arrays(tmp_path / "a.h5", "x") as file:
        assert file["x"].shape == (500, 20000)
