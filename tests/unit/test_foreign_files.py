"""Somebody else's pictures in a zip or an array: taken like the same in a folder, and nothing of them is run."""

import io
import os
import pickle
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minddiffuser.store import DataError
from reconstruction import foreign_files
from reconstruction.folder import read, sample_folders, write_png
from reconstruction.foreign_files import adopt

IDS = [40, 5, 123]  # test images in the order of their list


def pictures(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (3, 8, 9, 3), dtype=np.uint8)


PICTURES = pictures()  # in increasing order of their ids: 5, 40, 123
IN_ORDER = PICTURES[[1, 0, 2]]  # in the order of the list


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def save_zip(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def save(path, array):
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez_compressed(path, recons=array)
    else:
        torch.save(torch.from_numpy(array.copy()), path)
    return path


def take(source, tmp_path, ids=None, **options):
    """Adopt; give the pictures, in increasing order of ids, and what was said."""
    said = adopt(source, ids, tmp_path / "others" / "mine", "subj01", IDS, **options)
    found, images = read(tmp_path / "others" / "mine")
    assert found.tolist() == sorted(found.tolist())
    return images, said


def refusal(source, tmp_path, ids=None, **options):
    with pytest.raises(DataError) as raised:
        adopt(source, ids, tmp_path / "others" / "mine", "subj01", IDS, **options)
    assert not (tmp_path / "others").exists()
    return str(raised.value)


def refused_in_a_line(source, tmp_path, ids=None, **options):
    said = refusal(source, tmp_path, ids, **options)
    assert "\n" not in said
    assert str(ids if ids is not None and str(ids) in said else source) in said
    return said


# The same pictures in any form


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt"])
@pytest.mark.parametrize("form", ["uint8", "float", "float16", "float_255", "channels_first", "opaque", "int64"])
def test_an_array_gives_the_pictures(tmp_path, suffix, form):
    array = {
        "uint8": IN_ORDER,
        "float": IN_ORDER.astype(np.float32) / 255,
        "float16": (IN_ORDER / 255).astype(np.float16),
        "float_255": IN_ORDER.astype(np.float64),
        "channels_first": IN_ORDER.transpose(0, 3, 1, 2),
        "opaque": np.concatenate([IN_ORDER, np.full((3, 8, 9, 1), 255, np.uint8)], -1),
        "int64": IN_ORDER.astype(np.int64),
    }[form]
    images, said = take(save(tmp_path / f"recons{suffix}", array), tmp_path)
    np.testing.assert_array_equal(images, PICTURES)
    assert said.startswith(f"3 pictures taken from {tmp_path / 'recons'}{suffix} (3 of 3 test images); values from ")
    assert said.endswith("in [0, 1]" if form in ("float", "float16") else "in [0, 255]")


def test_tensors_as_older_torch_saved_them_and_of_bfloat16_are_taken(tmp_path):
    torch.save(torch.from_numpy(IN_ORDER), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(take(tmp_path / "old.pt", tmp_path)[0], PICTURES)
    torch.save(torch.from_numpy(IN_ORDER).bfloat16().requires_grad_(), tmp_path / "new.pth")
    np.testing.assert_allclose(take(tmp_path / "new.pth", tmp_path)[0], PICTURES, atol=1)


def test_values_a_little_beyond_are_taken_as_0_and_1_and_it_is_said(tmp_path):
    array = IN_ORDER / 255.0
    array[0, 0, 0], array[0, 0, 1] = -0.004, 1.008
    images, said = take(save(tmp_path / "x.npy", array), tmp_path)
    assert images[1, 0, :2, 0].tolist() == [0, 255]
    assert said.endswith("values from -0.004 to 1.008 were read as in [0, 1], those beyond as 0 and 1")


def test_grey_and_sixteen_bits_are_taken_as_viewers_show_them(tmp_path):
    grey = IN_ORDER[..., 0]
    for name, array in (("a", grey), ("b", grey[..., None]), ("c", grey[:, None]), ("d", grey / 255)):
        images, _ = take(save(tmp_path / f"{name}.npy", array), tmp_path)
        np.testing.assert_array_equal(images, np.repeat(PICTURES[..., :1], 3, -1))
    images, said = take(save(tmp_path / "deep.npy", IN_ORDER.astype(np.uint16) * 257), tmp_path)
    np.testing.assert_array_equal(images, PICTURES)
    assert "16 bits" in said
    members = {f"{i}.png": png(image) for i, image in zip(sorted(IDS), PICTURES, strict=True)}
    file = io.BytesIO()
    Image.fromarray(PICTURES[0][..., 0].astype(np.uint16) * 257).save(file, "PNG")
    members["5.png"] = file.getvalue()
    images, _ = take(save_zip(tmp_path / "a.zip", members), tmp_path)
    np.testing.assert_array_equal(images[0], np.repeat(PICTURES[0][..., :1], 3, -1))


@pytest.mark.parametrize("root", ["", "recons/", "results/recons/"])
def test_a_zip_is_taken_with_the_folder_that_it_is_of(tmp_path, root):
    names = ("5.png", "00040.png", "123.PNG")
    members = {f"{root}{name}": png(image) for name, image in zip(names, PICTURES, strict=True)}
    members |= {f"{root}sample_2/{name}": png(image) for name, image in zip(names, pictures(1), strict=True)}
    members |= {"__MACOSX/recons/._5.png": b"x", f"{root}.DS_Store": b"x", f"{root}log.txt": b"x"}
    said = take(save_zip(tmp_path / "a.zip", members), tmp_path)[1]
    assert (
        said == f"6 pictures taken from {tmp_path / 'a.zip'} (3 of 3 test images, 2 samples of each); left out: log.txt"
    )
    first, second = sample_folders(tmp_path / "others" / "mine")
    np.testing.assert_array_equal(read(first)[1], PICTURES)
    np.testing.assert_array_equal(read(second)[1], pictures(1))


def test_jpeg_and_webp_are_taken_as_viewers_show_them(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    image = Image.fromarray(PICTURES[0])
    image.save(folder / "5.jpeg")
    image.save(folder / "40.webp", lossless=True)
    image.save(folder / "123.JPG", "JPEG")
    images, _ = take(folder, tmp_path)
    shown = np.asarray(Image.open(folder / "5.jpeg"))
    for found, expected in zip(images, (shown, PICTURES[0], shown), strict=True):
        np.testing.assert_array_equal(found, expected)


# Which image is which


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", b"123\n5\n40\n"),
        ("ids.csv", "\ufeffnsd_id\n123\n5\n40".encode()),
        ("ids.npy", np.array([123, 5, 40])),
        ("ids.npy", np.array([[123.0, 5.0, 40.0]])),
        ("ids.pt", np.array([123, 5, 40])),
    ],
)
def test_ids_say_which_image_a_row_is_of(tmp_path, name, content):
    ids = tmp_path / name
    if isinstance(content, bytes):
        ids.write_bytes(content)
    else:
        save(ids, content)
    for suffix in (".npy", ".pt"):
        images, _ = take(save(tmp_path / f"x{suffix}", PICTURES[[2, 0, 1]]), tmp_path, ids)
        np.testing.assert_array_equal(images, PICTURES)


def test_rows_of_all_shared_images_are_known_and_those_that_were_not_seen_are_left_out(tmp_path):
    shared = [40, 7, 5, 9, 123]
    array = np.zeros((5, 8, 9, 3), np.uint8)
    array[[0, 2, 4]] = IN_ORDER
    images, said = take(save(tmp_path / "x.npy", array), tmp_path, shared_ids=shared)
    np.testing.assert_array_equal(images, PICTURES)
    assert said.startswith(
        f"3 pictures taken from {tmp_path / 'x.npy'} (3 of 3 test images); not seen by subj01 in the "
    )
    assert "left out: 7, 9; values" in said
    folder = tmp_path / "theirs"
    for i in shared:
        write_png(folder / f"{i}.png", PICTURES[0])
    assert "left out: 7, 9" in take(folder, tmp_path, shared_ids=shared)[1]
    write_png(folder / "8.png", PICTURES[0])
    with pytest.raises(DataError, match=r"not test images of subj01: 8 \(ids are counted from 0\)"):
        take(folder, tmp_path, shared_ids=shared)


def test_a_number_of_rows_that_fits_nothing_asks_for_ids(tmp_path):
    source = save(tmp_path / "x.npy", IN_ORDER[:2])
    assert "has 2 rows, but there are 3 test images; say which image each row is of with --ids FILE" in refusal(
        source, tmp_path
    )
    assert "3 test images and 5 shared ones;" in refusal(source, tmp_path, shared_ids=range(5))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("6\n41\n124\n", "not test images of subj01: 6, 41, 124 (ids are counted from 0; these are all the number"),
        ("5\n40\n40\n", "more than one picture of an image: rows 1 and 2 are of 40 (rows and ids count from 0)"),
        ("5\n40\n6\n", "test images without a picture: 123"),
        ("5\n40\n", "has 2 ids, but"),
        ("5\n40\n-1\n", "cannot be read as a list of ids"),
        ("5\n40\n1.5\n", "not all are whole numbers from 0 on"),
        ("5\n40\nx\n", "could not convert string to float"),
        ("5,40\n123\n7\n", "cannot be read as a list of ids"),
        ("", "has 0 ids"),
    ],
)  # fmt: skip
def test_ids_that_leave_open_which_image_is_meant_are_refused(tmp_path, text, words):
    ids = tmp_path / "ids.txt"
    ids.write_text(text)
    assert words in refusal(save(tmp_path / "x.npy", PICTURES), tmp_path, ids)


def test_ids_counted_from_1_are_known_in_a_folder_too_and_ids_beside_a_folder_are_refused(tmp_path):
    for i in IDS:
        write_png(tmp_path / "theirs" / f"{i + 1}.png", PICTURES[0])
    assert "these are all the number after one, so count from 0" in refusal(tmp_path / "theirs", tmp_path)
    for source in (tmp_path / "theirs", save_zip(tmp_path / "a.zip", {"5.png": png(PICTURES[0])})):
        said = refusal(source, tmp_path, tmp_path / "ids.txt")
        assert "is of the rows of an array; the pictures of" in said
    assert "ids.npy cannot be read as a list of ids" in refusal(
        save(tmp_path / "x.npy", PICTURES), tmp_path, tmp_path / "ids.npy"
    )


@pytest.mark.parametrize("other", ["007.png", "7.jpg", "7.PNG"])
def test_two_pictures_of_one_image_are_named(tmp_path, other):
    members = {f"{i}.png": png(PICTURES[0]) for i in (5, 40, 123, 7)} | {other: png(PICTURES[0])}
    said = refusal(save_zip(tmp_path / "a.zip", members), tmp_path, shared_ids=[7])
    assert f"more than one picture of an image: {' and '.join(sorted([other, '7.png']))}; leave" in said


def test_a_missing_picture_is_named_and_can_be_allowed(tmp_path):
    source = save_zip(tmp_path / "a.zip", {f"{i}.png": png(PICTURES[0]) for i in (5, 40)})
    assert "test images without a picture: 123; with --allow-missing" in refusal(source, tmp_path)
    assert "(2 of 3 test images)" in take(source, tmp_path, allow_missing=True)[1]


# What is refused, in a line


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (IN_ORDER / 127.5 - 1, "values from -1 to 1, which are neither in [0, 1] nor in [0, 255]"),
        (IN_ORDER / 100, "which are neither"),
        (IN_ORDER.astype(np.int64) * 3, "which are neither"),
        (IN_ORDER // 128, "uint8 values from 0 to 1, which are neither"),
        (np.where(IN_ORDER[1, 0, 0, 0] == IN_ORDER, np.nan, IN_ORDER), "values that are not finite in row "),
        (IN_ORDER[0], "has shape (8, 9, 3), but pictures are (n, height, width, channels)"),
        (IN_ORDER[None], "has shape (1, 3, 8, 9, 3), but pictures are"),
        (IN_ORDER[..., :2], "has shape (3, 8, 9, 2), but pictures are"),
        (IN_ORDER[:, :3], "of shape (3, 3, 9, 3), not pictures of"),
        (IN_ORDER.astype(np.complex64), "has complex64 of shape"),
        (IN_ORDER[:0], "of shape (0, 8, 9, 3), not pictures"),
        (np.concatenate([IN_ORDER, IN_ORDER[..., :1]], -1), "has transparent pixels in the picture of 40"),
    ],
)
def test_an_array_of_something_else_is_refused(tmp_path, array, words):
    assert words in refused_in_a_line(save(tmp_path / "x.npy", array), tmp_path)


class Dangerous:
    """What does something when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("was_run",)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".npy", ".npz"])
def test_pickles_that_are_no_tensors_are_not_run(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / f"x{suffix}"
    for value in (Dangerous(), {"recons": Dangerous()}, [torch.zeros(2), Dangerous()]):
        if suffix.startswith(".n"):
            save(source, np.array([value, value], dtype=object))
        else:
            torch.save(value, source)
        said = refused_in_a_line(source, tmp_path)
        assert "could run code" in said or "allow_pickle" in said, said
        with source.open("wb") as file:
            pickle.dump(value, file)
        refused_in_a_line(source, tmp_path)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"recons": torch.zeros(3), "ids": [1]}, "is a dict with recons, ids, not a tensor; save the tensor"),
        ([torch.zeros(3)], "is a list, not a tensor"),
        (torch.zeros(3, 4, 5, 3).to_sparse(), "is a tensor of torch.float32 and torch.sparse_coo, not of pictures"),
        (torch.zeros(3, 4, 5, 3, dtype=torch.complex64), "is a tensor of torch.complex64"),
        ("text", "is a str, not a tensor"),
    ],
)
def test_what_is_saved_by_torch_but_no_tensor_is_named(tmp_path, value, words):
    torch.save(value, tmp_path / "x.pt")
    assert words in refused_in_a_line(tmp_path / "x.pt", tmp_path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".zip"])
@pytest.mark.parametrize("content", [b"", b"<html>", b"\0" * 300, "half"])
def test_broken_files_end_in_a_line(tmp_path, suffix, content):
    source = tmp_path / f"x{suffix}"
    if content == "half":
        if suffix == ".zip":
            save_zip(source, {f"{i}.png": png(PICTURES[0]) for i in IDS})
        else:
            save(source, np.repeat(IN_ORDER, 9, 1))
        content = source.read_bytes()[: source.stat().st_size // 2]
    source.write_bytes(content)
    assert "cannot be read as " in refused_in_a_line(source, tmp_path)


def test_files_of_other_kinds_and_absent_ones_end_in_a_line(tmp_path):
    for name in ("x.mat", "x.tar.gz", "5.png"):
        (tmp_path / name).write_bytes(b"x")
        assert "is not taken: --images is a folder of pictures, a zip of one, or an array" in refused_in_a_line(
            tmp_path / name, tmp_path
        )
    for name in ("absent.npy", "absent.zip", "absent"):
        refused_in_a_line(tmp_path / name, tmp_path)
    np.savez(tmp_path / "two.npz", a=IN_ORDER, b=IN_ORDER)
    assert "has 2 arrays: a, b; save one alone" in refused_in_a_line(tmp_path / "two.npz", tmp_path)
    save_zip(tmp_path / "empty.zip", {"notes.txt": b"x", "raw/deep/5.txt": b"x"})
    assert "has no picture: they are expected as <nsd_id>.png; it has notes.txt" in refused_in_a_line(
        tmp_path / "empty.zip", tmp_path
    )


@pytest.mark.parametrize("name", ["../5.png", "/5.png", "a/../../5.png", "..\\5.png", "C:\\5.png", "C:5.png"])
def test_what_points_outside_of_a_zip_is_refused_and_nothing_is_written(tmp_path, name):
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    source = inside / "a.zip"
    save_zip(source, {"5.png": png(PICTURES[0]), name: png(PICTURES[1])})
    before = sorted(tmp_path.rglob("*"))
    assert "has what points outside of it: " in refused_in_a_line(source, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_links_in_a_zip_and_passwords_are_refused(tmp_path):
    link = zipfile.ZipInfo("5.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    assert "has what points outside of it: '5.png'" in refused_in_a_line(tmp_path / "a.zip", tmp_path)
    content = bytearray(save_zip(tmp_path / "b.zip", {"5.png": png(PICTURES[0])}).read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "b.zip").write_bytes(content)
    assert "has a password" in refused_in_a_line(tmp_path / "b.zip", tmp_path)


def test_zip_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "one.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("5.png", bytes(2**20))
        file.writestr("40.png", bytes(2**20))
    monkeypatch.setattr(foreign_files, "_MOST_IN_PICTURE", 2**19)
    assert "has pictures of more than 0.5 MB: '5.png', '40.png'" in refused_in_a_line(tmp_path / "one.zip", tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(foreign_files, "_MOST_BYTES", 2**20)
    assert "when it is unpacked, more than pictures take" in refused_in_a_line(tmp_path / "one.zip", tmp_path)
    save(tmp_path / "x.npz", np.zeros((3, 1000, 1000), np.uint8))
    assert "more than pictures take" in refused_in_a_line(tmp_path / "x.npz", tmp_path)
    monkeypatch.undo()
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (3, 2**20, 2**20, 3)}
    np.lib.format.write_array_header_1_0(header, shape)
    (tmp_path / "x.npy").write_bytes(header.getvalue())
    assert "cannot be read as an array" in refused_in_a_line(tmp_path / "x.npy", tmp_path)
    torch.save(torch.zeros(1, dtype=torch.uint8).expand(3, 2**20, 2**20, 3), tmp_path / "x.pt")
    assert (tmp_path / "x.pt").stat().st_size < 5000
    assert "more than pictures take" in refused_in_a_line(tmp_path / "x.pt", tmp_path)
    bomb = bytearray(save_zip(tmp_path / "lies.zip", {"5.png": png(PICTURES[0]) * 10}).read_bytes())
    place = bomb.index(b"PK\x01\x02") + 24
    bomb[place : place + 4] = (10).to_bytes(4, "little")  # the directory says that it is smaller
    (tmp_path / "lies.zip").write_bytes(bomb)
    assert "cannot be read as a zip" in refused_in_a_line(tmp_path / "lies.zip", tmp_path)


def test_a_name_that_is_twice_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("5.png", png(PICTURES[0]))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("5.png", png(PICTURES[1]))
    assert "has more than one picture of a name: '5.png'; leave" in refused_in_a_line(tmp_path / "a.zip", tmp_path)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    take(save(tmp_path / "x.npy", IN_ORDER), tmp_path)
    with pytest.raises(DataError):
        take(save(tmp_path / "x.npy", IN_ORDER[:2]), tmp_path)
    assert list(Path(tmp_path / "temporary").iterdir()) == []
