"""Artifacts: whole or absent, resumable, and never mixed."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from multiprocessing import get_context
from pathlib import Path
from threading import BrokenBarrierError
from types import SimpleNamespace

import numpy as np
import pytest

from minddiffuser import store
from minddiffuser.recipe import Recipe
from minddiffuser.store import (
    Artifact,
    DataError,
    Files,
    Shard,
    open_arrays,
    open_made,
    write_arrays,
    write_atomically,
)


def test_shards_cover_everything_once():
    held = [k for s in range(1, 5) for k in range(23) if Shard.parse(f"{s}-of-4").holds(k)]
    assert sorted(held) == list(range(23))


@pytest.mark.parametrize("text", ["0-of-4", "5-of-4", "2/4", "a-of-b", "1-of-0"])
def test_malformed_shards_are_refused(text):
    with pytest.raises(ValueError, match="K-OF-N"):
        Shard.parse(text)


def recipe(folder, subject="subj01", inputs=(), **settings):
    return Recipe(folder, "a.h5", subject, "some/script.py", settings, inputs)


def artifact(folder, **settings):
    return Artifact(recipe(folder, **settings))


def make(a, shard=Shard()):
    rows = np.arange(10.0)[:, None] * np.ones(3)
    for number, part in a.parts_to_do(10, 4, shard):
        a.write_part(number, {"x": rows[part], "stimulus_id": np.arange(10)[part]})
    return a.join(10, 4, lambda _: {"constant": np.ones(2)})


def test_parts_join_to_the_whole(tmp_path):
    a = artifact(tmp_path)
    assert make(a)
    assert a.is_done()
    with open_made(a.recipe) as file:
        np.testing.assert_array_equal(file["x"][:, 0], np.arange(10))
        np.testing.assert_array_equal(file["stimulus_id"], np.arange(10))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.json"]


def test_shards_in_any_order_make_parts_and_one_run_joins_them_to_the_same_bytes(tmp_path, capsys):
    make(artifact(tmp_path / "one"))
    assert [make(artifact(tmp_path / "many"), Shard(k, 3)) for k in (3, 1, 2)] == [False] * 3
    assert [line.split(" parts")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"a.h5: {n} of 3" for n in (1, 2, 3)
    ]
    assert not (tmp_path / "many" / "a.h5").exists()
    assert artifact(tmp_path / "many").parts_to_do(10, 4) == []
    assert make(artifact(tmp_path / "many"))
    assert (tmp_path / "one" / "a.h5").read_bytes() == (tmp_path / "many" / "a.h5").read_bytes()


def test_a_file_can_be_made_of_its_parts_otherwise_than_row_after_row(tmp_path):
    a = artifact(tmp_path)
    for number, _ in a.parts_to_do(3, 1):
        a.write_part(number, {"x": np.full(2, number)})
    assert a.reduce(3, lambda read_parts: {"sum": sum(part["x"][:] for part in read_parts())})
    with open_made(a.recipe) as file:
        assert file["sum"][:].tolist() == [3, 3]


def test_a_part_that_is_missing_is_not_passed_over(tmp_path, capsys):
    a = artifact(tmp_path)
    for number in (0, 2):
        a.write_part(number, {"x": np.full(2, number)})
    assert not a.reduce(3, lambda _: pytest.fail("made of two parts of three"))
    assert "1 of 3 parts are missing" in capsys.readouterr().out
    assert not a.path.exists()


class Meeting:
    """Lets two processes wait for each other at one step, once each; who never comes there is not waited for long."""

    def __init__(self, barrier):
        self.barrier, self.is_over = barrier, False

    def __call__(self):
        if not self.is_over:
            self.is_over = True
            with contextlib.suppress(BrokenBarrierError):
                self.barrier.wait(timeout=2)


def finish_beside_another(folder, barrier, step, kind):
    """What each of two processes does: its shard, then the whole, meeting the other at one step."""
    meeting = Meeting(barrier)
    replace, open_part, delete = os.replace, store._open_part, Artifact._delete_parts

    def replace_meeting(source, target):
        if step == "before the file takes its place" and Path(target).name == "a.h5":
            meeting()
        replace(source, target)
        if step == "once the file has its place" and Path(target).name == "a.h5":
            meeting()

    def open_meeting(path):
        if (step, path.name) in {("before the first part is read", "00000.h5"), ("between two parts", "00001.h5")}:
            meeting()
        return open_part(path)

    def delete_meeting(self):
        if step == "before parts are deleted" and self._parts.exists():
            meeting()
        delete(self)

    os.replace, store._open_part, Artifact._delete_parts = replace_meeting, open_meeting, delete_meeting
    a = artifact(folder)
    if kind == "join":
        done = make(a)
    else:
        for number, part in a.parts_to_do(10, 4):
            a.write_part(number, {"x": np.arange(10.0)[part]})
        done = a.reduce(3, lambda read: {"x": np.concatenate([part["x"][:] for part in [*_kept(read), *_kept(read)]])})
    sys.exit(0 if done else 1)


def _kept(read_parts):
    """Read twice over, as data/02_prepare_subject.py does."""
    return [{"x": part["x"][:]} for part in read_parts()]


STEPS = [
    "before the first part is read",
    "between two parts",
    "before the file takes its place",
    "once the file has its place",
    "before parts are deleted",
]


@pytest.mark.parametrize("kind", ["join", "reduce"])
@pytest.mark.parametrize("step", STEPS)
def test_two_processes_that_finish_at_the_same_time_both_end_well(tmp_path, step, kind):
    fork = get_context("fork")
    for folder, n in (("alone", 1), ("together", 2)):
        barrier = fork.Barrier(n)
        workers = [
            fork.Process(target=finish_beside_another, args=(tmp_path / folder, barrier, step, kind)) for _ in range(n)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0] * n
    assert (tmp_path / "together/a.h5").read_bytes() == (tmp_path / "alone/a.h5").read_bytes()
    assert sorted(p.name for p in (tmp_path / "together").iterdir()) == ["a.h5", "a.json"]


def test_parts_that_vanish_without_a_file_stop_it(tmp_path, monkeypatch):
    """Somebody deleted them: what is read then must not become a file."""
    a = artifact(tmp_path)
    for number, part in a.parts_to_do(10, 4):
        a.write_part(number, {"x": np.arange(10.0)[part]})
    open_part = store._open_part

    def vanishing(path):
        if path.name == "00001.h5":
            path.unlink()
        return open_part(path)

    monkeypatch.setattr(store, "_open_part", vanishing)
    with pytest.raises(DataError, match=r"00001\.h5 was deleted while"):
        a.join(10, 4)
    assert not a.path.exists()


def test_a_part_that_comes_late_leaves_no_litter(tmp_path):
    a, late = artifact(tmp_path), artifact(tmp_path)
    todo = late.parts_to_do(10, 4)
    make(a)
    late.write_part(todo[0][0], {"x": np.zeros((4, 3))})
    assert late.parts_to_do(10, 4) == []
    assert late.join(10, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.json"]


def test_a_resumed_run_makes_only_what_is_missing(tmp_path):
    a = artifact(tmp_path)
    a.write_part(1, {"x": np.zeros((4, 3))})
    assert [number for number, _ in a.parts_to_do(10, 4)] == [0, 2]


def test_other_settings_are_in_the_way_and_named(tmp_path):
    make(artifact(tmp_path, alpha=1))
    other = artifact(tmp_path, alpha=2)
    with pytest.raises(DataError, match=r"alpha was 1, is 2.*--overwrite"):
        other.is_done()
    assert not other.is_done(overwrite=True)
    assert not list(tmp_path.iterdir())
    make(other)
    assert other.is_done()


def test_overwriting_keeps_what_the_present_settings_have_made(tmp_path):
    """So that after a kill the same command goes on."""
    make(artifact(tmp_path, alpha=1))
    a = artifact(tmp_path, alpha=2)
    assert not a.is_done(overwrite=True)
    a.write_part(1, {"x": np.zeros((4, 3))})
    assert not a.is_done(overwrite=True)
    assert [number for number, _ in a.parts_to_do(10, 4)] == [0, 2]
    make(a)
    before = a.path.stat().st_mtime_ns
    assert a.is_done(overwrite=True)
    assert a.path.stat().st_mtime_ns == before


@pytest.mark.parametrize("content", [b"broken", None])
def test_a_file_that_is_broken_or_of_an_earlier_version_can_be_overwritten(tmp_path, content):
    a = artifact(tmp_path)
    a.path.write_bytes(content) if content else write_arrays(a.path, {"x": np.zeros(1)}, {"subject": "subj01"})
    with pytest.raises(DataError):
        a.is_done()
    assert not a.is_done(overwrite=True)
    assert not a.path.exists()


def test_parts_of_other_settings_are_not_taken_and_go_when_the_file_is_there(tmp_path):
    artifact(tmp_path, alpha=1).write_part(0, {"x": np.zeros((4, 3))})
    a = artifact(tmp_path, alpha=2)
    assert len(a.parts_to_do(10, 4)) == 3
    make(a)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "a.json"]


def test_partial_files_of_killed_runs_go_once_they_are_old(tmp_path):
    ours, young, foreign = f".a.h5.{'1' * 16}.partial", f".b.h5.{'2' * 16}.partial", ".film.mkv.partial"
    for name, age in ((ours, 2 * 86400), (young, 60), (foreign, 2 * 86400)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    artifact(tmp_path).is_done()
    assert {p.name for p in tmp_path.iterdir()} == {young, foreign}


def test_temporary_names_differ_between_machines_whose_processes_have_one_number(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr("os.getpid", lambda: 1)
    monkeypatch.setattr("os.replace", lambda source, _: names.append(Path(source).name))
    for _ in range(20):
        write_atomically(tmp_path / "a.txt", "x")
    assert len(set(names)) == 20


def test_another_subjects_file_is_refused(tmp_path):
    make(artifact(tmp_path))
    for act in (lambda r: open_made(r), lambda r: Artifact(r).is_done()):
        with pytest.raises(DataError, match="belongs to subj01, not to subj02"):
            act(recipe(tmp_path, subject="subj02"))


def test_a_file_is_opened_only_if_all_before_it_was_made_with_the_settings_of_now(tmp_path):
    def chain(alpha, sessions):
        first = Recipe(tmp_path, "first.h5", "subj01", "02.py", {"experiment.data.sessions": sessions})
        return Recipe(tmp_path, "second.h5", "subj01", "22.py", {"experiment.decoding.alpha": alpha}, (first,))

    Artifact(chain(1.0, 4)).write({"x": np.zeros(1)})
    open_made(chain(1.0, 4)).close()
    with pytest.raises(DataError, match=r"experiment\.decoding\.alpha was 1\.0, is 2\.0; .*python 22\.py --subject"):
        open_made(chain(2.0, 4))
    with pytest.raises(DataError, match=r"second\.h5 .* experiment\.data\.sessions was 4, is 5"):
        open_made(chain(1.0, 5))


def test_rows_of_other_images_than_prepared_are_refused(tmp_path):
    prepared = Recipe(tmp_path, "prepared.h5", "subj01", "02.py", {})
    Artifact(prepared).write({"stimulus_id": np.array([7, 3, 9, 4]), "is_test": np.array([True, True, False, False])})
    for images, ids in {"all": [7, 3, 9, 4], "test": [7, 3], "training": [9, 4]}.items():
        made = Recipe(tmp_path, "made.h5", "subj01", "x.py", {}, (prepared,), images)
        Artifact(made).write({"stimulus_id": np.array(ids)})
        open_made(made).close()
        Artifact(made).write({"stimulus_id": np.array(ids[::-1])})
        with pytest.raises(DataError, match="are different images"):
            open_made(made)


def test_a_file_that_does_not_say_what_made_it_is_refused(tmp_path):
    write_arrays(tmp_path / "a.h5", {"x": np.zeros(1)}, {"subject": "subj01", "fingerprint": "0123"})
    for act in (open_made, lambda r: Artifact(r).is_done()):
        with pytest.raises(DataError, match="does not say what it was made of"):
            act(recipe(tmp_path))


def test_missing_and_truncated_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.h5 is missing; make it with: python some/script\.py --subject subj01"):
        open_made(recipe(tmp_path))
    make(artifact(tmp_path))
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.h5 cannot be read as an HDF5 file: it is truncated"):
        open_made(recipe(tmp_path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\0" * 300, "nothing but zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "is a Git LFS pointer"),
        (b"<!doctype html><title>403</title>", "is a web page"),
        (b'{"error": "not authorised"}', "is JSON"),
        (b"\x89HDF\r\n\x1a\n", "is truncated or broken"),
    ],
)
def test_what_a_broken_file_looks_like_is_said_in_one_line(tmp_path, content, said):
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        open_made(recipe(tmp_path))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "a.h5") in str(caught.value)


def files(folder, **settings):
    return Files(Recipe(folder, "table.json", "subj01", "some/script.py", settings))


def test_files_that_belong_together_are_done_when_all_are_there(tmp_path):
    assert not files(tmp_path, alpha=1).is_done()
    files(tmp_path, alpha=1).write({"table.csv": "a,b\n", "figure.png": b"png"})
    assert files(tmp_path, alpha=1).is_done()
    assert files(tmp_path, alpha=1).is_done(overwrite=True)
    assert not files(tmp_path, alpha=2).is_done(overwrite=True)
    with pytest.raises(DataError, match=r"table\.json was made with other settings: alpha was 1, is 2; .*--overwrite"):
        files(tmp_path, alpha=2).is_done()
    (tmp_path / "figure.png").unlink()
    assert not files(tmp_path, alpha=1).is_done()


def test_files_say_why_they_are_absent(tmp_path):
    made_by = "python some/script.py --subject subj01"
    assert files(tmp_path, alpha=1).why_absent() == f"not made yet; made by: {made_by}"
    files(tmp_path, alpha=1).write({"table.csv": "a,b\n"})
    assert files(tmp_path, alpha=1).why_absent() == ""
    other = f"made with other settings: alpha was 1, is 2; made again by: {made_by} --overwrite"
    assert files(tmp_path, alpha=2).why_absent() == other
    (tmp_path / "table.csv").unlink()
    assert files(tmp_path, alpha=1).why_absent() == f"not made yet; made by: {made_by}"


def test_a_broken_record_is_named(tmp_path):
    files(tmp_path).write({"table.csv": "a"})
    (tmp_path / "table.json").write_text('{"subject": "subj01"')
    with pytest.raises(DataError, match=r"table\.json cannot be read"):
        files(tmp_path).is_done()
    assert not files(tmp_path).is_done(overwrite=True)


def test_files_whose_writing_was_killed_are_not_taken_for_those_of_the_record_before(tmp_path, monkeypatch):
    files(tmp_path, alpha=1).write({"table.csv": "of 1"})

    def killed_before_the_record(path, content):
        if path.suffix == ".json":
            raise KeyboardInterrupt
        write_atomically(path, content)

    monkeypatch.setattr(store, "write_atomically", killed_before_the_record)
    with pytest.raises(KeyboardInterrupt):
        files(tmp_path, alpha=2).write({"table.csv": "of 2"})
    assert (tmp_path / "table.csv").read_text() == "of 2"
    assert not files(tmp_path, alpha=1).is_done()


def test_a_failed_write_keeps_the_old_file_and_no_half_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def no_space(self, content):
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")  # as write() does, without a name

    monkeypatch.setattr("pathlib.Path.write_bytes", no_space)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(path, "new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_is_written_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    events, replace = [], os.replace

    def note(place):
        found = os.fstat(place) if isinstance(place, int) else Path(place).stat()
        events.append((found.st_ino, found.st_size))

    monkeypatch.setattr("os.fsync", note)
    monkeypatch.setattr("os.replace", lambda source, target: (note(source), replace(source, target)))
    write_atomically(tmp_path / "a.txt", "text")
    write_arrays(tmp_path / "a.h5", {"x": np.zeros(1000)}, {})
    assert len(events) == 4
    assert events[0] == events[1]
    assert events[2] == events[3]


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path, monkeypatch):
    a = artifact(tmp_path)
    for number, part in a.parts_to_do(10, 4):
        a.write_part(number, {"x": np.arange(10.0)[part]})
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=50))
    for write in (lambda: a.join(10, 4), lambda: write_arrays(tmp_path / "b.h5", {"x": np.zeros(10)}, {})):
        with pytest.raises(OSError, match="No space left on device: 0 MB are needed, 0 MB are free: ") as caught:
            write()
        assert caught.value.filename in {str(tmp_path / "a.h5"), str(tmp_path / "b.h5")}
    assert not list(tmp_path.glob("*.h5"))
    assert not list(tmp_path.glob("*.partial"))
    assert len(a.parts_to_do(10, 4)) == 0  # what was done is still there
    (tmp_path / f".a.h5.{'1' * 16}.partial").write_bytes(bytes(2_000_000))
    with pytest.raises(OSError, match=r"2 MB are in \.\*\.partial, which processes that were killed may have left"):
        a.join(10, 4)


def test_a_disk_that_fills_while_a_file_is_written_is_told_like_any_other(tmp_path, monkeypatch):
    def full(self, *_, **__):
        raise RuntimeError("Can't decrement id ref count (unable to extend file, errno = 28, error message = '...')")

    monkeypatch.setattr("h5py.File.create_dataset", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_arrays(tmp_path / "a.h5", {"x": np.zeros(10)}, {})
    assert caught.value.filename == str(tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


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
