"""Fetching NSD, from a server that breaks off, refuses, lies and forgets: what arrives is whole, or is not there."""

import hashlib
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml

from data import fetching, nsd, nsd_betas, nsd_rois
from data.fetching import Remote
from minddiffuser.config import REPOSITORY
from minddiffuser.config.method import Data
from minddiffuser.config.miniature import Miniature
from minddiffuser.store import DataError
from miniature import nsd as miniature
from miniature.surfaces import write_surfaces

get_nsd = importlib.import_module("data.00_get_nsd")
SIZE, DATA = Miniature(n_shared=4, n_own=10, sessions=2, roi_scale=0.02), Data(sessions=2)
CONTENT = np.random.default_rng(0).bytes(300_000)
NO_WAITS = (0, 0, 0)


class Server(ThreadingHTTPServer):
    """Serves `files` by path. `behave` is asked before each GET, and may answer itself; `asked` has all requests."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.etags, self.asked = {}, {}, []
        self.behave = lambda _: False
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def etag(self, path):
        return self.etags.get(path, f'"{hashlib.md5(self.files[path]).hexdigest()}"')

    def handle_error(self, *_):
        """Connections that are cut on purpose are no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def path_of(self):
        return re.sub(r"^http://[^/]+", "", self.path)  # as a proxy is asked

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.server.asked.append((self.path_of(), self.headers.get("Range")))
        if not self.server.behave(self):
            self.answer(with_body=True)

    def refuse(self, code):
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def answer(self, with_body, cut=None):
        path = self.path_of()
        if path not in self.server.files:
            return self.refuse(404)
        content, start = self.server.files[path], 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and self.headers.get("If-Range", self.server.etag(path)) == self.server.etag(path):
            start = int(wanted[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", self.server.etag(path))
        self.end_headers()
        if with_body:
            self.wfile.write(content[start : None if cut is None else start + cut])
            self.close_connection = cut is not None
        return True


@pytest.fixture
def server():
    server = Server()
    server.files["/a/file"] = CONTENT
    yield server
    server.shutdown()
    server.server_close()


def fetch(server, path, told=None):
    remote = fetching.look_up(f"{server.url}/a/file", NO_WAITS)
    fetching.fetch(remote, path, (told if told is not None else []).append, NO_WAITS)


def leavings(folder):
    return [path.name for path in folder.rglob("*") if path.is_file() and path.name.endswith(".partial")]


# ---- one file


def test_a_file_is_fetched_and_all_bytes_are_told_of(server, tmp_path):
    told = []
    fetch(server, tmp_path / "there" / "file", told)
    assert (tmp_path / "there" / "file").read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)
    assert leavings(tmp_path) == []


def test_a_connection_that_is_cut_is_gone_on_with(server, tmp_path):
    server.behave = lambda handler: len(server.asked) < 5 and handler.answer(True, cut=70_000)
    told = []
    fetch(server, tmp_path / "file", told)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, *(f"bytes={n}-" for n in (70_000, 140_000, 210_000, 280_000))]
    assert sum(told) == len(CONTENT)


def test_a_part_of_an_earlier_run_is_gone_on_with(server, tmp_path):
    remote = fetching.look_up(f"{server.url}/a/file")
    fetching.partial_of(remote, tmp_path / "file").write_bytes(CONTENT[:100_000])
    assert fetching.n_there(remote, tmp_path / "file") == 100_000
    fetch(server, tmp_path / "file")
    assert server.asked == [("/a/file", "bytes=100000-")]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_part_of_another_version_is_not_gone_on_with(server, tmp_path):
    old = fetching.look_up(f"{server.url}/a/file")
    fetching.partial_of(old, tmp_path / "file").write_bytes(CONTENT[:100_000])
    server.files["/a/file"] = CONTENT[::-1]
    fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]
    assert leavings(tmp_path) == []


def test_a_file_that_changes_on_the_way_is_not_pasted_together(server, tmp_path):
    def change(handler):
        if len(server.asked) == 1:
            handler.answer(True, cut=50_000)
            server.files["/a/file"] = CONTENT[::-1]
            return True
        return False

    server.behave = change
    with pytest.raises(DataError, match="has changed on the server"):
        fetch(server, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    def all_again(handler):
        if handler.headers.get("Range"):
            del handler.headers["Range"]
        return handler.answer(True, cut=100_000 if len(server.asked) == 1 else None)

    server.behave, told = all_again, []
    fetch(server, tmp_path / "file", told)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)


def test_a_range_that_cannot_be_had_begins_anew(server, tmp_path):
    def refuse_range(handler):
        if handler.headers.get("Range"):
            return handler.refuse(416)
        return handler.answer(True, cut=100_000 if len(server.asked) == 1 else None)

    server.behave, told = refuse_range, []
    fetch(server, tmp_path / "file", told)
    assert [asked for _, asked in server.asked] == [None, "bytes=100000-", None]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)


def test_the_right_bytes_from_the_wrong_place_are_refused(server, tmp_path):
    def shift(handler):
        if wanted := handler.headers.get("Range"):
            handler.headers.replace_header("Range", f"bytes={int(wanted[6:-1]) - 1}-")
            return handler.answer(True)
        return handler.answer(True, cut=100_000)

    server.behave = shift
    with pytest.raises(DataError, match="the server sent 'bytes 99999-"):
        fetch(server, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_an_overloaded_server_is_asked_again(server, tmp_path):
    server.behave = lambda handler: len(server.asked) < 3 and handler.refuse(503)
    fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    server.asked.clear()
    server.behave = lambda handler: handler.refuse(503)
    with pytest.raises(DataError, match="503") as error:
        fetch(server, tmp_path / "other")
    assert len(server.asked) == 1 + len(NO_WAITS)
    assert "what has arrived is kept" in error.value.remedy


@pytest.mark.parametrize("code", [403, 404, 410])
def test_what_is_refused_is_not_asked_for_again(server, tmp_path, code):
    server.behave = lambda handler: handler.refuse(code)
    with pytest.raises(DataError, match=str(code)) as error:
        fetch(server, tmp_path / "file")
    assert len(server.asked) == 1
    assert f"{server.url}/a/file" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("lie", ["more", "less"])
def test_a_server_that_lies_about_the_size_is_found_out(server, tmp_path, lie):
    remote = fetching.look_up(f"{server.url}/a/file")
    wrong = remote._replace(size=remote.size + (1000 if lie == "less" else -1000))
    with pytest.raises(DataError, match=f"had {wrong.size} bytes, and now the server sends {len(CONTENT)}"):
        fetching.fetch(wrong, tmp_path / "file", print, NO_WAITS)
    assert not (tmp_path / "file").exists()


def test_bytes_that_are_not_the_servers_are_thrown_away(server, tmp_path):
    server.etags["/a/file"] = f'"{"0" * 32}"'
    with pytest.raises(DataError, match="MD5"):
        fetch(server, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    server.etags["/a/file"] = f'"{"0" * 32}-17"'  # of an upload in 17 pieces: no MD5 of the whole
    fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_nobody_at_the_address_is_one_clear_line():
    with pytest.raises(DataError, match=r"http://127.0.0.1:9/x could not be fetched: .*refused"):
        fetching.look_up("http://127.0.0.1:9/x", NO_WAITS)


def test_a_proxy_of_the_environment_is_used(server, monkeypatch, tmp_path):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    remote = fetching.look_up("http://nowhere.invalid/a/file", NO_WAITS)
    fetching.fetch(remote, tmp_path / "file", print, NO_WAITS)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_two_processes_do_not_add_to_the_same_part(server, tmp_path):
    remote = fetching.look_up(f"{server.url}/a/file")
    alone, refused = fetching._alone(fetching.partial_of(remote, tmp_path / "file")), pytest.raises(DataError)
    with alone, refused as error:
        fetching.fetch(remote, tmp_path / "file", print)
    assert "another process" in str(error.value)


def test_an_empty_file_is_fetched(server, tmp_path):
    server.files["/a/file"] = b""
    fetch(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b""


# ---- the script, and the miniature served as NSD


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The files of a small simulated NSD by name, and COCO's annotations in a zip as COCO's."""
    root = tmp_path_factory.mktemp("served")
    pictures, design = miniature.draw_pictures(14, seed=0), miniature.make_design(SIZE, 1, seed=0)
    miniature.write_stimuli(root, pictures, design, seed=0)
    labels = miniature.write_rois(root, 1, SIZE.roi_scale, DATA.space, seed=0)
    write_surfaces(root, 1, DATA.space, labels.shape, seed=0)
    miniature.write_betas(root, 1, labels, pictures, design, SIZE, f"{DATA.space}/{DATA.betas}", 0, done=lambda: None)
    annotations = io.BytesIO()
    with zipfile.ZipFile(annotations, "w", zipfile.ZIP_DEFLATED) as file:
        for name in (*nsd.CAPTIONS, *nsd.INSTANCES):
            file.write(root / name, name.as_posix())
            (root / name).unlink()
        file.writestr("annotations/person_keypoints_val2017.json", "{}")
    files = {f"/{path.relative_to(root).as_posix()}": path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return files | {f"/{get_nsd.ANNOTATIONS.as_posix()}": annotations.getvalue()}


@pytest.fixture
def served(server, original):
    server.files |= original
    return server


def command(server, folder, *options):
    path = folder / "config.yaml"
    settings = {"data": {"sessions": 2}, "ozcelik": None}
    path.write_text(
        yaml.safe_dump({"name": "fetched", "experiment": settings, "execution": {"nsd": str(folder / "nsd")}})
    )
    return ["--config", str(path), "--nsd-url", server.url, "--coco-url", server.url, *options]


def test_everything_is_fetched_can_be_read_and_is_not_fetched_again(served, tmp_path, capsys):
    get_nsd.main(command(served, tmp_path, "--accept-terms"))
    root = tmp_path / "nsd"
    own = (get_nsd.ACCEPTED, fetching.RECORD)
    there = {path.relative_to(root) for path in root.rglob("*") if path.is_file() and path.name not in own}
    betas = [nsd_betas.session_file("subj01", DATA.space, DATA.betas, session) for session in (1, 2)]
    assert there >= {nsd.STIMULI, nsd.DESIGN, nsd.STIMULUS_INFO, *nsd.CAPTIONS, *nsd.INSTANCES, *betas}
    assert all(
        (root / name).read_bytes() == served.files[f"/{name}"] for name in there if name.parts[0] != "annotations"
    )
    assert nsd.read_design(root, "subj01").n_shared == 4
    assert nsd.read_captions(root, nsd.read_coco_ids(root), 5)
    voxels = nsd_rois.read_voxels(root, "subj01", DATA.space, ("V1",))
    assert nsd_betas.read_session(nsd_betas.session_path(root, "subj01", DATA.space, DATA.betas, 2), voxels).any()
    assert not (root / get_nsd.ANNOTATIONS).exists()
    assert leavings(root) == []
    record = fetching.read_record(root)
    assert all((root / name).stat().st_size == entry["bytes"] for name, entry in record.items() if "zip" not in name)
    assert nsd.CAPTIONS[0].as_posix() in record
    served.asked.clear()
    get_nsd.main(command(served, tmp_path))
    assert served.asked == []
    assert "files are there already" in capsys.readouterr().out


def test_a_dry_run_lists_sizes_and_fetches_nothing(served, tmp_path, capsys):
    get_nsd.main(command(served, tmp_path, "--dry-run"))
    printed = capsys.readouterr().out
    assert re.search(r"betas_session02\.hdf5\s+to fetch", printed)
    assert "betas_session03" not in printed
    assert "in all" in printed
    assert not (tmp_path / "nsd").exists()
    assert served.asked == []


def test_terms_are_asked_for_once(served, tmp_path, monkeypatch, capsys):
    with pytest.raises(DataError, match="not accepted") as error:  # nobody is there to be asked
        get_nsd.main(command(served, tmp_path))
    assert "--accept-terms" in error.value.remedy
    assert get_nsd.TERMS in capsys.readouterr().out
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    for said, is_accepted in (("no", False), ("yes", True)):
        monkeypatch.setattr("builtins.input", lambda _, said=said: said)
        if is_accepted:
            get_nsd.main(command(served, tmp_path))
        else:
            with pytest.raises(DataError, match="nothing was fetched"):
                get_nsd.main(command(served, tmp_path))
    assert get_nsd.TERMS in (tmp_path / "nsd" / get_nsd.ACCEPTED).read_text()


def test_a_file_of_the_wrong_size_is_fetched_again(served, tmp_path, capsys):
    get_nsd.main(command(served, tmp_path, "--accept-terms"))
    path = tmp_path / "nsd" / nsd.STIMULI
    path.write_bytes(path.read_bytes()[:-1])
    get_nsd.main(command(served, tmp_path))
    assert "to fetch again" in capsys.readouterr().out
    assert path.read_bytes() == served.files[f"/{nsd.STIMULI.as_posix()}"]


def test_sessions_that_are_there_as_nifti_are_not_fetched(served, tmp_path):
    name = nsd_betas.session_file("subj01", DATA.space, DATA.betas, 1)
    (tmp_path / "nsd" / name).parent.mkdir(parents=True)
    (tmp_path / "nsd" / name).with_suffix(".nii.gz").write_bytes(b"of somebody")
    get_nsd.main(command(served, tmp_path, "--accept-terms"))
    assert f"/{name.as_posix()}" not in [path for path, _ in served.asked]


def test_a_disk_without_room_is_said_before(served, tmp_path, monkeypatch):
    monkeypatch.setattr(get_nsd.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(DataError, match="has room for 10 B, and"):
        get_nsd.main(command(served, tmp_path, "--accept-terms"))
    assert served.asked == []


def test_a_run_that_is_killed_while_it_unpacks_goes_on(served, tmp_path, monkeypatch):
    unpack = fetching.unpack

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "unpack", die)
    with pytest.raises(KeyboardInterrupt):
        get_nsd.main(command(served, tmp_path, "--accept-terms"))
    root = tmp_path / "nsd"
    assert (root / get_nsd.ANNOTATIONS).is_file()
    monkeypatch.setattr(fetching, "unpack", unpack)
    served.asked.clear()
    get_nsd.main(command(served, tmp_path))
    assert served.asked == []
    assert nsd.read_captions(root, nsd.read_coco_ids(root), 5)
    assert not (root / get_nsd.ANNOTATIONS).exists()


def test_what_is_there_already_is_recorded(served, tmp_path):
    get_nsd.main(command(served, tmp_path, "--accept-terms"))
    record = fetching.read_record(tmp_path / "nsd")
    (tmp_path / "nsd" / fetching.RECORD).unlink()
    get_nsd.main(command(served, tmp_path))
    found = fetching.read_record(tmp_path / "nsd")
    assert found == {name: record[name] for name in found}
    assert nsd.STIMULI.as_posix() in found


def test_a_broken_zip_is_named(served, tmp_path):
    name = f"/{get_nsd.ANNOTATIONS.as_posix()}"
    served.files[name] = served.files[name][:-100]
    with pytest.raises(DataError, match=r"annotations_trainval2017\.zip cannot be read"):
        get_nsd.main(command(served, tmp_path, "--accept-terms"))


def test_a_run_that_is_killed_goes_on_and_ends_in_the_right_bytes(served, tmp_path):
    """The server holds back the end of the second session; the process is killed there, and started again."""
    name = f"/{nsd_betas.session_file('subj01', DATA.space, DATA.betas, 2).as_posix()}"
    n_bytes, is_held, go_on = len(served.files[name]), threading.Event(), threading.Event()

    def hold_back(handler):
        if handler.path_of() != name or is_held.is_set():
            return False
        handler.answer(True, cut=n_bytes // 2)
        handler.wfile.flush()
        is_held.set()
        go_on.wait(60)
        return True

    served.behave = hold_back
    line = [sys.executable, str(REPOSITORY / "data" / "00_get_nsd.py"), *command(served, tmp_path, "--accept-terms")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert is_held.wait(60)
    path = tmp_path / "nsd" / name[1:]
    parts, until = [], time.monotonic() + 30
    while not parts and time.monotonic() < until:  # until the half has been written
        parts = [part for part in path.parent.glob(".*.partial") if part.stat().st_size]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    go_on.set()
    assert parts
    assert not path.exists()
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == served.files[name]
    asked = [wanted for place, wanted in served.asked if place == name]
    assert len(asked) == 2
    assert asked[1].startswith("bytes=")
    assert json.loads((tmp_path / "nsd" / fetching.RECORD).read_text())["files"][name[1:]]["bytes"] == n_bytes
    assert leavings(tmp_path) == []


def test_a_failure_is_one_line_and_exit_code_1(served, tmp_path):
    served.behave = lambda handler: handler.path_of().endswith("Kastner2015.nii.gz") and handler.refuse(403)
    line = [sys.executable, str(REPOSITORY / "data" / "00_get_nsd.py"), *command(served, tmp_path, "--accept-terms")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Kastner2015.nii.gz: the server refuses it" in done.stderr


def test_remotes_are_named_by_their_address():
    assert fetching.partial_of(Remote("u", 3, '"ab-2"'), Path("x/y.hdf5")) == Path("x/.y.hdf5.ab-2.partial")
