"""Somebody else's films: taken frame by frame, whatever file they are in, or refused by name, and never touched."""

import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from evaluation.videos.dialects import beside
from evaluation.videos.files import read_gif, repeats
from evaluation.videos.foreign import adopt, clip_of
from minddiffuser.store import DataError
from reconstruction.folder import read, read_index, read_videos

IDS = [101001, 101002, 102001]
SIZE, N_FRAMES = 32, 8


def films(n=3, size=SIZE, n_frames=N_FRAMES, seed=0):
    """Films of 64 colours, which GIFs do not change."""
    return np.random.default_rng(seed).integers(0, 4, (n, n_frames, size, size, 3)).astype(np.uint8) * 85


def write_gif(file, video, duration=125):
    pictures = [Image.fromarray(frame) for frame in video]
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=duration, loop=0)


def write_strip(file, video):
    Image.fromarray(video.reshape(-1, *video.shape[2:])).save(file)


def write_mp4(file, video):
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 4, video.shape[2:0:-1])
    for frame in video:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()


def write_frames(folder, video):
    folder.mkdir()
    for number, frame in enumerate(video):
        Image.fromarray(frame).save(folder / f"frame_{number + 1}.png")


WRITERS = {".gif": write_gif, ".png": write_strip, ".mp4": write_mp4, "": write_frames}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def ours(tmp_path):
    return tmp_path / "others" / "mine"


@pytest.fixture
def theirs(tmp_path):
    """Films of all test clips, as GIF."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, video in zip(("test1_1", "test1_2", "test2_1"), films(), strict=True):
        write_gif(folder / f"{name}.gif", video)
    return folder


def taken(ours):
    ids, videos = zip(*read_videos(ours), strict=True)
    return list(ids), np.stack(videos)


def refusal(theirs, ours, **options):
    """What is said when a folder is refused; nothing may change by it."""
    before = contents(theirs.parent)
    with pytest.raises(DataError) as raised:
        adopt(theirs, ours, "Subject01", IDS, N_FRAMES, **options)
    assert contents(theirs.parent) == before
    return str(raised.value)


# What is taken


def test_gifs_are_taken_frame_for_frame_and_stay_as_they_are(theirs, ours):
    before = contents(theirs)
    said = adopt(theirs, ours, "Subject01", IDS, N_FRAMES, flags=["samples picked"])
    assert said == f"3 films taken from {theirs} (3 of 3 test clips)"
    assert contents(theirs) == before
    ids, videos = taken(ours)
    assert ids == IDS
    np.testing.assert_array_equal(videos, films())
    settings = json.loads((ours / "settings.json").read_text())
    assert (settings["flags"], settings["n_frames"], settings["n_images"]) == (["samples picked"], N_FRAMES, 3)
    assert read_index(ours)["seed"].tolist() == [-1] * 3
    with pytest.raises(DataError, match="has films"):
        read(ours)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("names", [("test1_1", "test1_2", "test2_1"), ("101001", "101002", "102001")])
def test_every_kind_of_file_is_taken_by_every_name(tmp_path, ours, suffix, names):
    (tmp_path / "theirs").mkdir()
    # Slow gradients: MP4 is not lossless.
    ramp = np.linspace(0, 1, SIZE)[:, None, None] * np.array([200, 100, 50]) + np.zeros((SIZE, SIZE, 3))
    videos = np.stack([[ramp + 5 * t + 10 * k for t in range(N_FRAMES)] for k in range(3)]).astype(np.uint8)
    for name, video in zip(names, videos, strict=True):
        WRITERS[suffix](tmp_path / "theirs" / f"{name}{suffix}", video)
    adopt(tmp_path / "theirs", ours, "Subject01", IDS, N_FRAMES)
    ids, found = taken(ours)
    assert ids == IDS
    if suffix in (".gif", ".mp4"):  # colours are red, green, blue in the order of the film; frames are in order
        assert np.abs(found.astype(int) - videos).mean() < 4
        assert (np.diff(found.astype(int).mean(axis=(2, 3, 4)), axis=1) > 3).all()
    else:
        np.testing.assert_array_equal(found, videos)


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(theirs, ours):
    (theirs / "test1_1.gif").unlink()
    (theirs / "test1_1").mkdir()
    for number, frame in zip((9, 10, 11, 100, 101, 102, 103, 104), films()[0], strict=True):
        Image.fromarray(frame).save(theirs / "test1_1" / f"{number}.png")
    (theirs / "test1_1" / "notes.txt").write_text("mine")
    adopt(theirs, ours, "Subject01", IDS, N_FRAMES)
    np.testing.assert_array_equal(taken(ours)[1][0], films()[0])


def test_names_of_the_released_films_are_places_among_all_test_clips(theirs, ours):
    for place, name in enumerate(("test1_1", "test1_2", "test2_1"), start=1):
        (theirs / f"{name}.gif").rename(theirs / f"test{place}.gif")
        write_gif(theirs / f"test_and_gt{place}.gif", beside(films()[0], films()[0]))
    said = adopt(theirs, ours, "Subject01", IDS[::-1], N_FRAMES)
    assert said.endswith("; left out: test_and_gt1.gif, test_and_gt2.gif, test_and_gt3.gif")
    np.testing.assert_array_equal(taken(ours)[1], films())


@pytest.mark.parametrize(
    ("name", "key"),
    [("seg3_17", 3017), ("test2_5", 102005), ("test2_005", 102005), ("102005", 102005), ("test2", 101002),
     ("test0003", 102001), ("test4", None), ("test2_0", None), ("clip5", None), ("test2_5b", None)],
)  # fmt: skip
def test_names_tell_clips(name, key):
    assert clip_of(name, IDS) == key


def test_places_are_among_clips_of_test_films(theirs, ours):
    """Where training clips are held out in place of test clips, test1 names none of them."""
    for place, name in enumerate(("test1_1", "test1_2", "test2_1"), start=1):
        (theirs / f"{name}.gif").rename(theirs / f"test{place}.gif")
    with pytest.raises(DataError, match=r"not named by a clip.*test1\.gif, test2\.gif, test3\.gif"):
        adopt(theirs, ours, "Subject01", [10001, 10002, 10003], N_FRAMES)


def test_a_film_in_another_kind_of_file_is_named(theirs, ours):
    (theirs / "test1_1.gif").rename(theirs / "test1_1.webp")
    (theirs / "notes.txt").write_text("mine")
    assert "neither GIF nor MP4 nor PNG: test1_1.webp; save them" in refusal(theirs, ours)


def test_a_folder_of_a_film_is_not_of_a_clip(theirs, ours):
    write_frames(theirs / "test1", films()[0])
    assert "left out: test1/" in adopt(theirs, ours, "Subject01", IDS, N_FRAMES)


# Frames that GIFs merge


@pytest.mark.parametrize("duration", [33, 40, 125, 200, 500])
@pytest.mark.parametrize(
    "order", [[0] * 8, [0, 0, 1, 2, 2, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 6], [0, 0, 0, 0, 1, 1, 1, 1]]
)
def test_merged_frames_are_repeated_by_their_durations(theirs, ours, order, duration):
    for name, video in zip(("test1_2", "test2_1"), films()[1:], strict=True):
        write_gif(theirs / f"{name}.gif", video, duration)
    video = films()[0][order]
    write_gif(theirs / "test1_1.gif", video, duration)
    assert len(read_gif(theirs / "test1_1.gif", N_FRAMES).frames) == len(
        set(order)
    )  # they are merged, or nothing is tested
    assert "merged frames of 1 were repeated" in adopt(theirs, ours, "Subject01", IDS, N_FRAMES)
    np.testing.assert_array_equal(taken(ours)[1], np.stack([video, *films()[1:]]))


def test_a_folder_of_films_that_stand_still_is_taken(theirs, ours):
    for file, video in zip(sorted(theirs.iterdir()), films(), strict=True):
        write_gif(file, video[[0] * N_FRAMES])
    adopt(theirs, ours, "Subject01", IDS, N_FRAMES)
    np.testing.assert_array_equal(taken(ours)[1], np.repeat(films()[:, :1], N_FRAMES, axis=1))


@pytest.mark.parametrize(
    ("durations", "period", "expected"),
    [([120] * 8, None, [1] * 8), ([1000], None, [8]), ([250, 120, 370, 120, 120], 120, [2, 1, 3, 1, 1]),
     ([120] * 7, 120, None), ([120] * 7, None, None), ([120], 120, None), ([0], None, None), ([120] * 9, None, None),
     ([500, 500], 120, [4, 4]), ([2000, 2000], 120, None), ([5, 995], None, None)],
)  # fmt: skip
def test_repeats_are_those_of_the_durations_or_none(durations, period, expected):
    assert repeats(np.array(durations, float), 8, period) == expected


# What is refused, before anything is written


def test_a_missing_clip_is_named_and_allowed_when_asked(theirs, ours):
    (theirs / "test1_2.gif").unlink()
    assert "test clips without a film: test1_2; with --allow-missing" in refusal(theirs, ours)
    assert "2 of 3 test clips" in adopt(theirs, ours, "Subject01", IDS, N_FRAMES, allow_missing=True)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("n_frames", [7, 9])
def test_another_number_of_frames_is_named(theirs, ours, suffix, n_frames):
    (theirs / "test1_1.gif").unlink()
    WRITERS[suffix](theirs / f"test1_1{suffix}", films(n_frames=n_frames)[0])
    assert f"test1_1{suffix} has {n_frames} frames" in refusal(theirs, ours)


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_film_of_minutes_is_not_read_to_its_end(theirs, ours, suffix, monkeypatch):
    (theirs / "test1_1.gif").unlink()
    WRITERS[suffix](theirs / f"test1_1{suffix}", films(n_frames=60)[0])
    read_frames = []
    monkeypatch.setattr("evaluation.videos.files.cv2.cvtColor", lambda *_: read_frames.append(1))
    monkeypatch.setattr("evaluation.videos.files.ImageSequence.Iterator", lambda _: pytest.fail("it is read"))
    if suffix == ".mp4":
        for name in ("test1_2", "test2_1"):
            (theirs / f"{name}.gif").unlink()
        assert f"test1_1{suffix} has 60 frames: 8 are expected" in refusal(theirs, ours, allow_missing=True)
    else:
        with pytest.raises(DataError, match="has 60 frames: 8 are expected"):
            read_gif(theirs / "test1_1.gif", N_FRAMES)
    assert len(read_frames) <= N_FRAMES + 1


def test_a_still_picture_is_no_film(theirs, ours):
    write_gif(theirs / "test1_1.gif", films()[0][:1])
    assert "test1_1.gif has 1 frame, shown for 120 ms in all: 8 are expected" in refusal(theirs, ours)


def test_halves_of_the_released_grids_are_refused_for_their_borders(theirs, ours):
    for name, video in zip(("test1_1", "test1_2", "test2_1"), films(size=64), strict=True):
        write_gif(theirs / f"{name}.gif", np.split(beside(video, video), 2, axis=2)[1])
    assert "test1_1.gif has frames 67 pixels wide and 68 high: square frames are expected" in refusal(theirs, ours)


def test_films_of_another_size_than_most_are_named(theirs, ours):
    write_gif(theirs / "test1_2.gif", films(size=40)[0])
    assert "of another size than 32 x 32: test1_2.gif" in refusal(theirs, ours)
    write_gif(theirs / "test1_2.gif", films(size=8)[0])
    assert "8 pixels wide and 8 high: at least 16" in refusal(theirs, ours)


def test_a_strip_that_is_none_is_named(theirs, ours):
    (theirs / "test1_1.gif").unlink()
    Image.fromarray(films()[0].transpose(1, 0, 2, 3).reshape(SIZE, -1, 3)).save(theirs / "test1_1.png")  # across
    assert "test1_1.png is 256 pixels wide and 32 high: a strip has square frames" in refusal(theirs, ours)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".mp4"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_named(theirs, ours, suffix, share):
    (theirs / "test1_1.gif").unlink()
    file = theirs / f"test1_1{suffix}"
    WRITERS[suffix](file, films()[0])
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    assert f"test1_1{suffix} cannot be read" in refusal(theirs, ours)


def test_a_gif_without_its_end_is_named(theirs, ours):
    """All frames may be there, or the last ones may not."""
    (theirs / "test1_1.gif").write_bytes((theirs / "test1_1.gif").read_bytes()[:-1])
    assert "its end is missing" in refusal(theirs, ours)


def test_a_link_to_a_film_that_was_taken_is_refused(theirs, ours):
    adopt(theirs, ours, "Subject01", IDS, N_FRAMES)
    (theirs / "test1_1.gif").unlink()
    (theirs / "test1_1.png").symlink_to(ours / "101001.png")
    assert "test1_1.png is a link into" in refusal(theirs, ours)


def test_all_that_is_wrong_is_listed_at_once(theirs, ours):
    (theirs / "test1_2.gif").rename(theirs / "clip.gif")
    (theirs / "101001.gif").write_bytes((theirs / "test1_1.gif").read_bytes())
    write_gif(theirs / "test9_9.gif", films()[0])
    write_gif(theirs / "test2_1.gif", films(n_frames=5)[0])
    lines = refusal(theirs, ours).split("\n")
    assert lines[0] == f"{theirs}:"
    for said in (
        "not named by a clip, such as test2_5 or 102005: clip.gif",
        "more than one film of a clip: 101001.gif and test1_1.gif",
        "not of test clips: test9_9.gif; those are test1_1 to test2_1",
        "test clips without a film: test1_2",
        "test2_1.gif has 5 frames",
    ):
        assert any(said in line for line in lines[1:]), said


def test_transparent_frames_are_refused(theirs, ours):
    frames = [Image.fromarray(frame).quantize(64) for frame in films()[0]]
    frames[0].save(theirs / "test1_1.gif", save_all=True, append_images=frames[1:], duration=125, transparency=3)
    assert "test1_1.gif has transparent pixels" in refusal(theirs, ours)


def test_an_empty_folder_and_no_folder_are_named(tmp_path, ours):
    (tmp_path / "theirs").mkdir()
    assert "has no films: they are expected as GIF" in refusal(tmp_path / "theirs", ours)
    (tmp_path / "theirs" / "notes.txt").write_text("mine")
    assert "it has notes.txt" in refusal(tmp_path / "theirs", ours)
    assert "is not a folder that can be read" in refusal(tmp_path / "nowhere", ours)


def test_numbers_of_frames_that_leave_their_order_open_are_named(theirs, ours):
    (theirs / "test1_1.gif").unlink()
    write_frames(theirs / "test1_1", films()[0])
    Image.fromarray(films()[0][0]).save(theirs / "test1_1" / "other_8.png")
    assert "frames whose order is open" in refusal(theirs, ours)


# What was there before


def test_a_folder_that_was_adopted_is_replaced_and_another_one_is_not(theirs, ours):
    adopt(theirs, ours, "Subject01", IDS, N_FRAMES)
    (ours / "notes.txt").write_text("mine")
    for file, video in zip(sorted(theirs.iterdir()), films(seed=1), strict=True):
        write_gif(file, video)
    adopt(theirs, ours, "Subject01", IDS, N_FRAMES)
    np.testing.assert_array_equal(taken(ours)[1], films(seed=1))
    assert (ours / "notes.txt").read_text() == "mine"
    other = ours.parent / "other"
    other.mkdir()
    (other / "101001.png").write_bytes(b"mine")
    assert "was not taken in from somebody else" in refusal(theirs, other)
    assert "contains" in refusal(theirs, theirs / "inside")  # films are not copied to where they come from


def test_a_film_that_changes_meanwhile_stops_it(theirs, ours, monkeypatch):
    monkeypatch.setattr(
        "evaluation.videos.foreign.clear", lambda *_: write_gif(theirs / "test1_2.gif", films(seed=5)[0])
    )
    with pytest.raises(DataError, match=r"test1_2\.gif was changed while it was taken"):
        adopt(theirs, ours, "Subject01", IDS, N_FRAMES)
    assert not (ours / "index.csv").exists()


def test_a_gif_in_memory_is_read_as_one_on_disk(theirs):
    file = theirs / "test1_1.gif"
    np.testing.assert_array_equal(read_gif(io.BytesIO(file.read_bytes()), 8).frames, read_gif(file, 8).frames)
