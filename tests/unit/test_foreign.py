"""Somebody else's pictures: taken as a viewer shows them, or refused by name, and never touched."""

import io
import json
import os
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from minddiffuser import store
from minddiffuser.store import DataError
from reconstruction import foreign
from reconstruction.folder import read, sample_folders, state, write_png
from reconstruction.foreign import adopt, as_shown

IDS = [123, 5, 40]


def pictures(n, size=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def fill(folder, names=("5", "00040", "123"), seed=0):
    for name, image in zip(names, pictures(len(names), seed=seed), strict=True):
        write_png(folder / f"{name}.png", image)
    return folder


def contents(folder):
    """All files of a folder, by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def theirs(tmp_path):
    """Somebody else's pictures of the test images 5, 40 and 123."""
    return fill(tmp_path / "theirs")


@pytest.fixture
def ours(tmp_path):
    return tmp_path / "others" / "mine"


def refusal(source, path, **options):
    """What is said when a folder is refused; nothing may change by it."""
    before = contents(path.parent) if path.parent.exists() else None
    with pytest.raises(DataError) as raised:
        adopt(source, path, "subj01", IDS, **options)
    assert (contents(path.parent) if path.parent.exists() else None) == before
    return str(raised.value)


# What is taken


def test_a_foreign_folder_is_taken_in_and_stays_as_it_is(theirs, ours):
    before = contents(theirs)
    said = adopt(theirs, ours, "subj01", IDS, flags=["samples picked"])
    assert said == f"3 pictures taken from {theirs} (3 of 3 test images)"
    assert contents(theirs) == before
    ids, images = read(ours)
    assert ids.tolist() == [5, 40, 123]
    np.testing.assert_array_equal(images, pictures(3))
    assert json.loads((ours / "settings.json").read_text())["flags"] == ["samples picked"]
    first = state(ours)
    write_png(theirs / "5.png", pictures(3)[1])
    adopt(theirs, ours, "subj01", IDS)
    assert state(ours) != first


def test_ids_may_have_zeros_before_them_and_suffixes_capitals(tmp_path, ours):
    adopt(fill(tmp_path / "theirs", ("0000000005", "040", "123")), ours, "subj01", IDS)
    (tmp_path / "theirs/123.png").rename(tmp_path / "theirs/123.PNG")
    adopt(tmp_path / "theirs", ours, "subj01", IDS)
    assert read(ours)[0].tolist() == [5, 40, 123]


def test_links_to_pictures_are_followed(theirs, tmp_path, ours):
    links = tmp_path / "links"
    links.mkdir()
    for file in theirs.iterdir():
        (links / file.name).symlink_to(file)
    adopt(links, ours, "subj01", IDS)
    np.testing.assert_array_equal(read(ours)[1], pictures(3))


def test_samples_beside_the_pictures_are_taken_too(theirs, ours):
    for number in (2, 3):
        fill(theirs / f"sample_{number}", seed=number)
    said = adopt(theirs, ours, "subj01", IDS)
    assert said == f"9 pictures taken from {theirs} (3 of 3 test images, 3 samples of each)"
    assert sample_folders(ours) == [ours, ours / "sample_2", ours / "sample_3"]
    for seed, sample in zip((0, 2, 3), sample_folders(ours), strict=True):
        np.testing.assert_array_equal(read(sample)[1], pictures(3, seed=seed))
    (theirs / "sample_3/5.png").write_bytes((theirs / "5.png").read_bytes())
    before = state(ours)
    adopt(theirs, ours, "subj01", IDS)
    assert state(ours) != before


def test_missing_pictures_are_allowed_only_when_asked(theirs, ours):
    with pytest.raises(DataError, match="without a picture: 6; with --allow-missing"):
        adopt(theirs, ours, "subj01", [*IDS, 6])
    assert "3 of 4 test images" in adopt(theirs, ours, "subj01", [*IDS, 6], allow_missing=True)
    assert json.loads((ours / "settings.json").read_text())["n_images"] == 4


def test_what_operating_systems_leave_behind_is_passed_over_in_silence(theirs, ours):
    for name in (".DS_Store", "Thumbs.db", "Desktop.ini", "._5.png", "__MACOSX/._5.png", "@eaDir/5.png", ".git/x.png"):
        (theirs / name).parent.mkdir(exist_ok=True)
        (theirs / name).write_bytes(b"litter")
    assert "left out" not in adopt(theirs, ours, "subj01", IDS)


def test_what_is_left_out_is_said(theirs, ours):
    for k in range(12):
        (theirs / f"log_{k:02d}.txt").write_text("")
    (theirs / "raw").mkdir()
    (theirs / "5.tiff").write_bytes(b"")
    fill(theirs / "sample_2")
    (theirs / "sample_2" / "notes\n\udce9.txt").write_text("")
    said = adopt(theirs, ours, "subj01", IDS)
    assert "; left out: 5.tiff, log_00.txt, log_01.txt," in said
    assert said.endswith("log_08.txt and 5 more")
    for k in range(12):
        (theirs / f"log_{k:02d}.txt").unlink()
    said = adopt(theirs, ours, "subj01", IDS)
    assert said.endswith(r"left out: 5.tiff, raw/, 'sample_2/notes\n\udce9.txt'")


# What is refused


def test_all_that_is_wrong_with_a_foreign_folder_is_listed_at_once(theirs, ours):
    (theirs / "40.png").write_bytes((theirs / "00040.png").read_bytes()[:60])
    (theirs / "00040.png").unlink()
    write_png(theirs / "7.png", pictures(1)[0])
    write_png(theirs / "best.png", pictures(1)[0])
    write_png(theirs / "4.png", pictures(1)[0])
    write_png(theirs / "123.png", pictures(1, size=9)[0])
    with pytest.raises(DataError) as raised:
        adopt(theirs, ours, "subj01", [*IDS, 6])
    for said in (
        "not named by NSD id: best.png", "not test images of subj01: 4, 7 (", "test images without a picture: 6;",
        "cannot be read: 40.png: it is truncated", "of another size than 8 x 8: 123.png",
    ):  # fmt: skip
        assert f"  - {said}" in str(raised.value)
    assert not ours.exists()


@pytest.mark.parametrize("name", ["４.png", "5 (1).png", "-5.png", "5.0.png", "5.png.png", "image5.PNG"])
def test_misnamed_pictures_are_listed(theirs, ours, name):
    write_png(theirs / name, pictures(1)[0])
    assert f"not named by NSD id: {name}" in refusal(theirs, ours)


@pytest.mark.parametrize("other", ["5.PNG", "0005.png"])
def test_two_pictures_of_one_image_are_listed(theirs, ours, other):
    write_png(theirs / other, pictures(1)[0])
    names = " and ".join(sorted([other, "5.png"]))
    assert f"more than one picture of an image: {names}; leave" in refusal(theirs, ours)


@pytest.mark.parametrize(
    "folders",
    [
        ["sample_1", "sample_2"], ["sample_2", "sample_02"], ["sample_2", "sample_4"], ["sample_3"], ["sample_1"],
        ["sample_0"], ["Sample_2"], ["sample-2"], ["sample_２"],
    ],
)  # fmt: skip
def test_samples_of_which_the_number_is_not_clear_are_listed(theirs, ours, folders):
    for name in folders:
        fill(theirs / name)
    said = refusal(theirs, ours)
    assert "further samples are sample_2, sample_3, ... without a gap, beside the pictures of the first, not: " in said
    assert all(name in said for name in folders)


def test_samples_of_different_images_are_listed(theirs, ours):
    fill(theirs / "sample_2", ("5", "40"))
    fill(theirs / "sample_3", ("5", "40", "123"))
    said = "its samples are of different images: only one of the first and sample_2/ has 123"
    assert said in refusal(theirs, ours)
    assert said in refusal(theirs, ours, allow_missing=True)
    (theirs / "sample_4").mkdir()
    assert "of the first and sample_4/ has 5, 40, 123" in refusal(theirs, ours)


def test_what_is_wrong_with_a_sample_is_named_with_its_folder(theirs, ours):
    sample = fill(theirs / "sample_2", ("5", "40", "0123"))
    (sample / "40.png").write_bytes(b"")
    write_png(sample / "123.png", pictures(1)[0])
    write_png(sample / "5.png", pictures(1, size=9)[0])
    write_png(sample / "best.png", pictures(1)[0])
    said = refusal(theirs, ours)
    for words in (
        "cannot be read: sample_2/40.png: it is empty", "sample_2/0123.png and sample_2/123.png",
        "of another size than 8 x 8: sample_2/5.png", "not named by NSD id: sample_2/best.png",
    ):  # fmt: skip
        assert words in said


def test_pictures_of_other_kinds_are_told_to_be_saved_as_png(theirs, ours):
    shutil.move(theirs / "5.png", theirs / "5.tif")
    assert "neither PNG, JPEG nor WebP: 5.tif; save them as PNG" in refusal(theirs, ours, allow_missing=True)
    for file in theirs.iterdir():
        file.rename(file.with_suffix(".tiff"))
    said = refusal(theirs, ours)
    assert "has no picture: pictures are expected as <nsd_id>.png; save as PNG: " in said
    assert "\n" not in said


def test_a_folder_that_is_none_is_named_in_one_line(tmp_path, theirs, ours):
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for source, words in (
        (tmp_path / "nowhere", r"nowhere is not a folder that can be read \(No such file"),
        (theirs / "5.png", r"5\.png is not a folder that can be read \(Not a directory"),
        (tmp_path / "loop", r"loop is not a folder that can be read \(Too many levels"),
        (tmp_path / "empty", r"empty has no picture: pictures are expected as <nsd_id>\.png"),
    ):
        with pytest.raises(DataError, match=words) as raised:
            adopt(source, ours, "subj01", IDS)
        assert "\n" not in str(raised.value)


def test_what_may_not_be_read_is_named(theirs, ours, monkeypatch):
    """As the superuser may read everything, a folder and a file that may not be read are pretended."""

    def refuse_folder(_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse_folder)
        with pytest.raises(DataError, match=r"theirs is not a folder that can be read \(Permission denied\)"):
            adopt(theirs, ours, "subj01", IDS)
    open_image = Image.open

    def refuse(file, **options):
        if Path(file).name == "5.png":
            raise PermissionError(13, "Permission denied")
        return open_image(file, **options)

    monkeypatch.setattr(Image, "open", refuse)
    assert "cannot be read: 5.png: " in refusal(theirs, ours)


def test_what_is_no_file_is_named(theirs, ours, tmp_path):
    (theirs / "5.png").unlink()
    (theirs / "5.png").mkdir()
    os.mkfifo(theirs / "40.png")
    (theirs / "00040.png").unlink()
    (theirs / "123.png").unlink()
    (theirs / "123.png").symlink_to(tmp_path / "nowhere")
    said = refusal(theirs, ours)
    assert "5.png is no file" in said
    assert "40.png is no file" in said
    assert "cannot be read: 123.png: it cannot be opened" in said


def test_many_refused_pictures_are_counted(tmp_path, ours):
    ids = list(range(15))
    fill(tmp_path / "theirs", [str(i) for i in ids])
    for file in (tmp_path / "theirs").iterdir():
        file.write_bytes(b"<html>")
    with pytest.raises(DataError, match="and 5 more such pictures") as raised:
        adopt(tmp_path / "theirs", ours, "subj01", ids)
    assert str(raised.value).count("it is a web page") == 10


# Where it goes


def test_a_source_that_is_or_has_or_is_in_the_target_is_refused(tmp_path, ours):
    """However it is named: by links, and with `..`."""
    fill(ours)
    fill(ours / "raw")
    (ours / "notes.txt").write_text("how I made them")
    (tmp_path / "link").symlink_to(ours)
    (tmp_path / "link_to_raw").symlink_to(ours / "raw")
    fill(tmp_path, ("5", "40", "123"))
    for source, how in (
        (ours, "is"), (tmp_path / "link", "is"), (ours / "raw" / "..", "is"), (Path(os.path.relpath(ours)), "is"),
        (ours / "raw", "lies in"), (tmp_path / "link_to_raw", "lies in"), (ours.parent, "contains"),
        (tmp_path, "contains"),
    ):  # fmt: skip
        said = refusal(source, ours)
        assert said.startswith(f"{source} {how} {ours}, which pictures are copied to; choose another")
        assert "\n" not in said
    elsewhere = fill(tmp_path / "elsewhere" / "theirs")
    assert "theirs contains" in refusal(elsewhere, elsewhere / "new")
    (elsewhere / "sample_2").symlink_to(ours / "raw")
    assert "sample_2 lies in" in refusal(elsewhere, ours)


def test_a_folder_of_somebody_elses_is_not_replaced(theirs, ours):
    for content in ("settings.json", "5.png", "notes.txt"):
        ours.mkdir(parents=True)
        (ours / content).write_text('{"settings": {"steps": 5}}')
        assert "was not taken in from somebody else; move it away" in refusal(theirs, ours)
        shutil.rmtree(ours)
    ours.write_text("a file")
    assert "mine is a file" in refusal(theirs, ours)
    ours.unlink()
    ours.symlink_to(theirs.parent / "nowhere")
    assert "mine is a link to nothing" in refusal(theirs, ours)
    ours.unlink()
    ours.mkdir()
    (ours / ".DS_Store").write_bytes(b"")
    adopt(theirs, ours, "subj01", IDS)
    assert read(ours)[0].tolist() == [5, 40, 123]


def test_a_system_of_this_project_is_not_replaced(theirs, tmp_path):
    place = tmp_path / "minddiffuser" / "stage1"
    adopt(theirs, place, "subj01", IDS)
    record = json.loads((place / "settings.json").read_text())
    record["lineage"] = {"reconstruction/minddiffuser/stage1": {"experiment.seed": 42}}
    (place / "settings.json").write_text(json.dumps(record))
    assert "was not taken in from somebody else" in refusal(theirs, place)


def test_replacing_leaves_what_somebody_put_there(theirs, ours):
    for number in (2, 3):
        fill(theirs / f"sample_{number}", seed=number)
    adopt(theirs, ours, "subj01", IDS)
    kept = {
        "notes.txt": b"mine", "raw/5.png": b"mine", "records/notes.json": b"mine", "sample_3/notes.txt": b"mine",
        "sample_old/5.png": b"mine", "state/x": b"mine", "trajectory/x": b"mine",
    }  # fmt: skip
    for name, content in kept.items():
        (ours / name).parent.mkdir(exist_ok=True)
        (ours / name).write_bytes(content)
    shutil.copytree(ours / "sample_2", ours / "sample_2_kept")
    kept |= {f"sample_2_kept/{name}": content for name, content in contents(ours / "sample_2_kept").items()}

    for folder in ("sample_2", "sample_3"):
        shutil.rmtree(theirs / folder)
    (theirs / "5.png").unlink()
    adopt(theirs, ours, "subj01", IDS, allow_missing=True)
    made = {"index.csv", "settings.json", "00040.png", "00123.png", "records/00040.json", "records/00123.json"}
    found = contents(ours)
    assert set(found) == made | set(kept)
    assert {name: found[name] for name in kept} == kept
    assert sample_folders(ours) == [ours]


def test_what_somebody_put_where_ours_would_go_stops_it(theirs, ours):
    adopt(theirs, ours, "subj01", IDS)
    (theirs / "5.png").rename(theirs / "6.png")
    write_png(ours / "00006.png", pictures(1)[0])
    before = contents(ours)
    with pytest.raises(DataError, match=r"00006\.png is in the way"):
        adopt(theirs, ours, "subj01", [6, 40, 123])
    assert contents(ours) == before
    (ours / "00006.png").unlink()
    fill(theirs / "sample_2", ("6", "40", "123"))
    fill(ours / "sample_2", ("6", "40", "123"))
    before = contents(ours)
    with pytest.raises(DataError, match="sample_2 is there already, and was not taken in"):
        adopt(theirs, ours, "subj01", [6, 40, 123])
    assert contents(ours) == before
    shutil.rmtree(theirs / "sample_2")
    (ours / "sample_2" / "index.csv").write_text("stimulus_id\n6\n40\n123\n")
    with pytest.raises(DataError, match="sample_2 would count as a sample"):
        adopt(theirs, ours, "subj01", [6, 40, 123])


def test_pictures_that_are_links_into_the_target_are_refused(theirs, ours, tmp_path):
    adopt(theirs, ours, "subj01", IDS)
    (tmp_path / "links").mkdir()
    for i in IDS:
        (tmp_path / "links" / f"{i}.png").symlink_to(ours / f"{i:05d}.png")
    assert "40.png is a link into" in refusal(tmp_path / "links", ours)


def test_a_picture_that_changes_meanwhile_stops_it(theirs, ours, monkeypatch):
    def change(*_):
        write_png(theirs / "40.png", pictures(1, seed=9)[0])
        (theirs / "00040.png").write_bytes((theirs / "40.png").read_bytes())

    monkeypatch.setattr(foreign, "clear", change)
    with pytest.raises(DataError, match=r"00040\.png was changed while it was taken"):
        adopt(theirs, ours, "subj01", IDS)
    assert state(ours) is None


def adopt_until_killed(source, path, n_changes):
    """Adopt in a process that is killed before it changes the file system once more; tell whether it was."""

    def count(event, _):
        nonlocal n_changes
        if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            n_changes -= 1
            if n_changes < 0:
                os._exit(9)

    child = os.fork()
    if not child:
        sys.addaudithook(count)
        adopt(source, path, "subj01", [5])
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.slow
def test_a_kill_between_any_two_changes_leaves_nothing_that_looks_whole(tmp_path, ours, monkeypatch):
    """And the next run goes through, whatever the pictures are by then."""
    monkeypatch.setattr(store, "version", lambda _: "1")  # of each package, which takes most of the time
    old, new, started = (tmp_path / name for name in ("old", "new", "started"))
    for folder, seed in ((old, 0), (old / "sample_2", 1), (old / "sample_3", 2), (new, 3), (new / "sample_2", 4)):
        fill(folder, ("5",), seed)

    def seen():
        return [read(sample)[1].tolist() for sample in sample_folders(ours)]

    was, will_be = ([pictures(1, seed=seed).tolist() for seed in seeds] for seeds in ((0, 1, 2), (3, 4)))
    adopt(old, ours, "subj01", [5])
    (ours / "notes.txt").write_text("mine")
    shutil.copytree(ours, started)
    n_changes, killed = 0, True
    while killed:
        shutil.rmtree(ours)
        shutil.copytree(started, ours)
        killed = adopt_until_killed(new, ours, n_changes)
        assert state(ours) is None or seen() in (was, will_be)
        adopt(old, ours, "subj01", [5])
        assert seen() == was
        assert (ours / "notes.txt").read_text() == "mine"
        n_changes += 1
    assert n_changes > 30


# How a viewer shows it


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(pixels, depth, colour, *chunks):
    """A PNG of bytes as they lie in it, (height, bytes of a row), with chunks before the pixels."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    width = pixels.shape[1] * 8 // (depth * channels)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, len(pixels), depth, colour, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        *(chunk(*c) for c in chunks),
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def shown(tmp_path, content):
    """A picture as it is taken; `content` is bytes, or an image of Pillow and how to save it."""
    file = tmp_path / "5.png"
    if isinstance(content, tuple):
        image, options = content
        image.save(file, **{"format": "PNG", **options})
    else:
        file.write_bytes(content)
    return as_shown(file)


def grey(values):
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, -1)


def test_grey_of_any_depth_is_shown(tmp_path):
    values = np.array([[0, 1000, 32896, 65535]], np.uint16)
    exact = [[0, round(1000 / 257), 128, 255]]
    sixteen = values.astype(">u2").view(np.uint8)
    np.testing.assert_array_equal(shown(tmp_path, png(sixteen, 16, 0)), grey(exact))
    one, two, four = (np.array([[byte]], np.uint8) for byte in (0b10110000, 0b00011011, 0x5F))
    np.testing.assert_array_equal(shown(tmp_path, png(one, 1, 0)), grey([[255, 0, 255, 255, 0, 0, 0, 0]]))
    np.testing.assert_array_equal(shown(tmp_path, png(two, 2, 0)), grey([[0, 85, 170, 255]]))
    np.testing.assert_array_equal(shown(tmp_path, png(four, 4, 0)), grey([[85, 255]]))
    np.testing.assert_array_equal(shown(tmp_path, png(np.array([[7, 9]], np.uint8), 8, 0)), grey([[7, 9]]))


def test_colours_of_any_depth_are_shown(tmp_path):
    image = pictures(1)[0]
    np.testing.assert_array_equal(shown(tmp_path, png(image.reshape(8, 24), 8, 2)), image)
    deep = (image.astype(">u2") * 257).astype(">u2").view(np.uint8).reshape(8, 48)
    np.testing.assert_array_equal(shown(tmp_path, png(deep, 16, 2)), image)
    palette = bytes([10, 20, 30, 200, 100, 50])
    indices = np.array([[0, 1, 1, 0]], np.uint8)
    expected = np.array([[[10, 20, 30], [200, 100, 50], [200, 100, 50], [10, 20, 30]]])
    np.testing.assert_array_equal(shown(tmp_path, png(indices, 8, 3, (b"PLTE", palette))), expected)
    packed = np.array([[0b01100000]], np.uint8)
    np.testing.assert_array_equal(shown(tmp_path, png(packed, 1, 3, (b"PLTE", palette)))[:, :4], expected)


def test_alpha_that_hides_nothing_is_fine_and_transparent_pixels_are_refused(tmp_path):
    image = pictures(1)[0]
    for mode, depth, colour in (("RGBA", 8, 6), ("RGBA", 16, 6), ("LA", 8, 4), ("LA", 16, 4)):
        values = image if mode == "RGBA" else image[..., :1]
        for alpha in (255, 254, 0):
            whole = np.concatenate([values, np.full((8, 8, 1), 255, np.uint8)], -1)
            whole[3, 4, -1] = alpha
            deep = (whole.astype(">u2") * 257).astype(">u2").view(np.uint8) if depth == 16 else whole
            content = png(np.ascontiguousarray(deep).reshape(8, -1), depth, colour)
            if alpha == 255:
                np.testing.assert_array_equal(shown(tmp_path, content), np.broadcast_to(values, (8, 8, 3)))
            else:
                with pytest.raises(DataError, match=r"5\.png has transparent pixels"):
                    shown(tmp_path, content)


def test_a_transparent_entry_of_the_palette_is_refused_only_if_it_is_used(tmp_path):
    palette = (b"PLTE", bytes([10, 20, 30, 200, 100, 50, 1, 1, 1]))
    pixels = np.array([[0, 1, 1, 0]], np.uint8)
    for alphas, refused in (([255, 255, 0], False), ([255, 254], True), ([0], True), ([255, 255, 7], False)):
        content = png(pixels, 8, 3, palette, (b"tRNS", bytes(alphas)))
        if refused:
            with pytest.raises(DataError, match="transparent pixels"):
                shown(tmp_path, content)
        else:
            assert shown(tmp_path, content)[0, 1].tolist() == [200, 100, 50]


@pytest.mark.parametrize(
    ("pixels", "depth", "colour", "used", "unused"),
    [
        ([0b10100000], 1, 0, (1,), None),
        ([0b00011011], 2, 0, (2,), None),
        ([0x5F], 4, 0, (5,), (6,)),
        ([7, 9], 8, 0, (9,), (8,)),
        ([0x12, 0x34, 0x12, 0x35], 16, 0, (0x1235,), (0x1236,)),
        ([1, 2, 3, 4, 5, 6], 8, 2, (4, 5, 6), (4, 2, 3)),
        ([1, 2, 3, 4, 5, 6], 16, 2, (0x0102, 0x0304, 0x0506), (0x0202, 0x0304, 0x0506)),
    ],
)
def test_a_transparent_colour_is_refused_only_if_it_is_used(tmp_path, pixels, depth, colour, used, unused):
    pixels = np.array([pixels], np.uint8)
    with pytest.raises(DataError, match="transparent pixels"):
        shown(tmp_path, png(pixels, depth, colour, (b"tRNS", struct.pack(f">{len(used)}H", *used))))
    if unused:
        transparent = shown(tmp_path, png(pixels, depth, colour, (b"tRNS", struct.pack(f">{len(used)}H", *unused))))
        np.testing.assert_array_equal(transparent, shown(tmp_path, png(pixels, depth, colour)))


def test_a_colour_profile_is_converted_to_srgb(tmp_path):
    image = pictures(1)[0]
    same = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(shown(tmp_path, (Image.fromarray(image), {"icc_profile": same})), image)
    other = linear(b"RGB ")
    for mode in ("RGB", "RGBA"):
        found = shown(tmp_path, (Image.fromarray(image).convert(mode), {"icc_profile": other}))
        np.testing.assert_allclose(found, srgb_of_linear(image), atol=2)
    found = shown(tmp_path, (Image.fromarray(image).quantize(256), {"icc_profile": other}))
    np.testing.assert_allclose(found, srgb_of_linear(image), atol=2)
    ramp = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    for mode in ("L", "LA"):
        found = shown(tmp_path, (Image.fromarray(ramp).convert(mode), {"icc_profile": linear(b"GRAY")}))
        np.testing.assert_allclose(found, srgb_of_linear(grey(ramp)), atol=2)


def linear(space):
    """A profile with sRGB's primaries and light that is proportional to the values."""

    def xyz(*values):
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, 0x0100, 0)
    tags = {b"wtpt": xyz(0.9642, 1, 0.8249)}
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
        tags |= {b"rXYZ": xyz(0.43607, 0.22249, 0.01392), b"gXYZ": xyz(0.38515, 0.71687, 0.09708)}
        tags |= {b"bXYZ": xyz(0.14307, 0.06061, 0.71410)}
    tags |= {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78)}
    table, data, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    d50 = struct.pack(">iii", round(0.9642 * 65536), 65536, round(0.8249 * 65536))
    header = struct.pack(">I4sI4s4s4s12x4s", start + len(data), b"\0" * 4, 0x02400000, b"mntr", space, b"XYZ ", b"acsp")
    header = header + bytes(68 - len(header)) + d50
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + data


def srgb_of_linear(values):
    light = values / 255
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def test_a_profile_that_cannot_be_used_is_refused(tmp_path):
    image = Image.fromarray(pictures(1)[0])
    for content in (
        (image, {"icc_profile": b"this is no profile"}),
        (image, {"icc_profile": linear(b"GRAY")}),
        (image.convert("L"), {"icc_profile": linear(b"RGB ")}),
        png(pictures(1)[0].reshape(8, 24), 8, 2, (b"iCCP", b"name\0\0" + b"not compressed")),
    ):
        with pytest.raises(DataError, match=r"5\.png has a colour profile that cannot be used"):
            shown(tmp_path, content)


D65 = [31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000]
ADOBE = [31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000]


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([(b"gAMA", struct.pack(">I", 45455))], None),
        ([(b"gAMA", struct.pack(">I", 45000))], None),
        ([(b"gAMA", struct.pack(">I", 100000))], "has gamma 1 where"),
        ([(b"gAMA", struct.pack(">I", 50000))], "has gamma 0.5 where"),
        ([(b"gAMA", struct.pack(">I", 100000)), (b"sRGB", b"\0")], None),
        ([(b"cHRM", struct.pack(">8I", *D65)), (b"gAMA", struct.pack(">I", 45455))], None),
        ([(b"cHRM", struct.pack(">8I", *ADOBE))], "has colours of other primaries"),
        ([(b"cHRM", struct.pack(">8I", *ADOBE)), (b"sRGB", b"\0")], None),
        ([(b"cICP", bytes([1, 13, 0, 1])), (b"gAMA", struct.pack(">I", 100000))], None),
        ([(b"cICP", bytes([9, 16, 0, 1]))], "has colours of another space"),
    ],
)
def test_colours_that_are_described_otherwise_than_as_srgb_are_refused(tmp_path, chunks, words):
    image = pictures(1)[0]
    content = png(image.reshape(8, 24), 8, 2, *chunks)
    if words:
        with pytest.raises(DataError, match=rf"5\.png {words}"):
            shown(tmp_path, content)
    else:
        np.testing.assert_array_equal(shown(tmp_path, content), image)


def test_a_profile_counts_before_gamma_and_grey_has_no_primaries(tmp_path):
    chunks = [(b"gAMA", struct.pack(">I", 100000)), (b"iCCP", b"x\0\0" + zlib.compress(linear(b"RGB ")))]
    image = pictures(1)[0]
    found = shown(tmp_path, png(image.reshape(8, 24), 8, 2, *chunks))
    np.testing.assert_allclose(found, srgb_of_linear(image), atol=2)
    values = np.array([[7, 9]], np.uint8)
    np.testing.assert_array_equal(
        shown(tmp_path, png(values, 8, 0, (b"cHRM", struct.pack(">8I", *ADOBE)))), grey(values)
    )


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "I;16"])
def test_a_picture_is_turned_as_its_exif_says(tmp_path, mode):
    image = Image.fromarray(pictures(1)[0][:4])
    image = (
        Image.fromarray(np.arange(32, dtype=np.uint16).reshape(4, 8) * 2056) if mode == "I;16" else image.convert(mode)
    )
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    plain = shown(tmp_path, (image, {}))
    turned = shown(tmp_path, (image, {"exif": exif}))
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


def test_animated_pictures_are_refused(tmp_path):
    frames = [Image.fromarray(image) for image in pictures(2)]
    for options in ({}, {"format": "GIF"}, {"format": "WEBP"}):
        with pytest.raises(DataError, match=r"5\.png is animated, or has several frames"):
            shown(tmp_path, (frames[0], {"save_all": True, "append_images": frames[1:], **options}))


def test_what_is_no_png_behind_its_name_is_taken_if_viewers_show_it(tmp_path):
    image = Image.fromarray(pictures(1)[0])
    for options in ({"format": "WEBP", "lossless": True}, {"format": "BMP"}):
        np.testing.assert_array_equal(shown(tmp_path, (image, options)), pictures(1)[0])
    file = io.BytesIO()
    image.save(file, "JPEG")
    np.testing.assert_array_equal(shown(tmp_path, file.getvalue()), np.asarray(Image.open(file)))
    for content in (file.getvalue()[:300], b"version https://git-lfs.github.com/spec/v1\n", b"<html>", b""):
        with pytest.raises(DataError, match=r"5\.png cannot be read as a picture: it "):
            shown(tmp_path, content)
    with pytest.raises(DataError, match="colours in CMYK"):
        shown(tmp_path, (image.convert("CMYK"), {"format": "JPEG"}))
    with pytest.raises(DataError, match="not recognised as PNG"):
        shown(tmp_path, (Image.fromarray(np.ones((4, 4), np.float32)), {"format": "TIFF"}))


def test_too_large_pictures_are_named(tmp_path, monkeypatch):
    image = Image.fromarray(pictures(1)[0])
    for limit in (50, 10):  # Pillow warns above the limit, and refuses above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match=r"5\.png is too large \(Image size \(64 pixels\)"):
            shown(tmp_path, (image, {}))
    monkeypatch.undo()
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 2 * PngImagePlugin.MAX_TEXT_CHUNK, zip=True)
    with pytest.raises(DataError, match="Decompressed data too large"):
        shown(tmp_path, (image, {"pnginfo": text}))


def test_pictures_of_all_kinds_are_scored_as_they_are_shown(tmp_path, theirs, ours):
    """What is in the folder is what was seen, and what cannot be shown is listed by name."""
    write_png(theirs / "40.png", pictures(3)[1])
    (theirs / "00040.png").unlink()
    deep = (pictures(3)[0][..., 0].astype(np.uint16) * 257).astype(">u2").view(np.uint8)
    (theirs / "5.png").write_bytes(png(deep, 16, 0))
    adopt(theirs, ours, "subj01", IDS)
    np.testing.assert_array_equal(read(ours)[1][0], grey(pictures(3)[0][..., 0]))
    Image.fromarray(pictures(1)[0]).convert("RGBA").rotate(9).save(theirs / "40.png")
    (theirs / "123.png").write_bytes(png(pictures(1)[0].reshape(8, 24), 8, 2, (b"gAMA", struct.pack(">I", 100000))))
    said = refusal(theirs, ours)
    assert "  - 40.png has transparent pixels" in said
    assert "  - 123.png has gamma 1 where" in said
