"""Reading CC2017: films, captions and recordings in its own layout, what is planted in them, and what is wrong."""

import itertools

import cv2
import h5py
import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, ScalarAxis, SeriesAxis

from data import cc2017
from minddiffuser.store import DataError

LEFT, RIGHT = np.array([3, 40, 41, 900, 32491]), np.array([0, 7, 41, 20000])
N_CLIPS = 12
STIMULI = "Stimuli/video_fmri_dataset/stimuli"


def surface(vertices, side, n_surface=32492):
    return BrainModelAxis.from_surface(np.asarray(vertices), n_surface, f"CIFTI_STRUCTURE_CORTEX_{side}")


def subcortex(n=6):
    mask = np.zeros((4, 4, 4), bool)
    mask.reshape(-1)[:n] = True
    return BrainModelAxis.from_mask(mask, "THALAMUS_LEFT", np.eye(4))


MODELS = surface(LEFT, "LEFT") + surface(RIGHT, "RIGHT") + subcortex()


def write_recording(path, volumes, models=MODELS, step=2.0, first_axis=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    axis = SeriesAxis(0, step, len(volumes)) if first_axis is None else first_axis
    image = nib.Cifti2Image(volumes.astype(np.float32), (axis, models))
    image.update_headers()
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES")
    nib.save(image, path)


def write_film(path, n_frames, fps=4, size=(16, 16), first=0):
    """Frames whose brightness tells their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size[::-1])
    for k in range(first, first + n_frames):
        writer.write(np.full((*size, 3), (k * 5 % 200, 20, 235 - k * 5 % 200), np.uint8))
    writer.release()


@pytest.fixture
def root(tmp_path):
    for name in ("seg1", "seg2", "test1"):
        write_film(tmp_path / STIMULI / f"{name}.mp4", 8 * N_CLIPS)
    return tmp_path


@pytest.fixture
def volumes():
    return np.random.default_rng(0).normal(10_000, 100, (N_CLIPS + 5, len(MODELS))).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "seg1_1_Atlas.dtseries.nii"


# ---- windows


def test_windows_are_those_of_the_dataset():
    assert cc2017.volume_window(245, 240) == slice(1, 241)
    assert cc2017.volume_window(246, 240) == slice(2, 242)
    # Wen et al. leave out the first volume of 245, the first two of 246, and the last four.
    for n, first in ((245, 1), (246, 2)):
        np.testing.assert_array_equal(np.arange(n)[cc2017.volume_window(n, 240)], np.arange(n)[first:-4])


def test_the_first_volume_of_a_window_begins_4_s_into_the_film():
    for n, begins in ((245, 2), (246, 0)):  # seconds into the film at which the recording begins
        assert begins + 2 * cc2017.volume_window(n, 240).start == 4


def test_lags_and_several_volumes_move_the_window_as_far_as_there_are_volumes():
    assert cc2017.volume_window(246, 240, -1) == slice(1, 241)
    assert cc2017.volume_window(245, 240, -1) == slice(0, 240)
    assert cc2017.volume_window(245, 240, 1, 3) == slice(2, 244)
    assert cc2017.volume_window(245, 240, 4) == slice(5, 245)
    for lag, n_volumes in ((5, 1), (4, 2), (0, 6), (-2, 1)):
        with pytest.raises(DataError, match=r"were recorded; lower .*extra_lag or n_volumes"):
            cc2017.volume_window(245, 240, lag, n_volumes)


@pytest.mark.parametrize("n", [240, 244, 247, 0])
def test_other_numbers_of_volumes_are_refused(n):
    with pytest.raises(DataError, match=rf"{n} volumes were recorded for 240 clips, not 245 .* or 246"):
        cc2017.volume_window(n, 240)


# ---- recordings


def test_the_cortex_is_found_by_its_brain_models_wherever_it_is(path, volumes):
    orders = itertools.permutations([surface(LEFT, "LEFT"), surface(RIGHT, "RIGHT"), subcortex()])
    for first, second, third in orders:
        models = first + second + third
        write_recording(path, volumes, models)
        cortex = cc2017.read_cortex(path)
        expected = [
            (name[-4:] == "LEFT", v, k) for k, (name, v) in enumerate(zip(models.name, models.vertex, strict=True))
        ]
        expected = [row for row in expected if row[1] >= 0]
        assert list(zip(cortex.hemisphere == "L", cortex.vertex, cortex.column, strict=True)) == expected
        run = cc2017.read_run(path, cortex, N_CLIPS)
        assert run.dtype == np.float32
        np.testing.assert_array_equal(run, volumes[1 : N_CLIPS + 1, cortex.column])


def test_clip_j_has_volume_j_of_the_window_and_those_after_it(path, volumes):
    write_recording(path, volumes)
    cortex = cc2017.read_cortex(path)
    run = cc2017.read_run(path, cortex, N_CLIPS, extra_lag=1, n_volumes=2)
    np.testing.assert_array_equal(run, volumes[2 : N_CLIPS + 3, : len(cortex.vertex)])
    from_the_beginning = np.concatenate([volumes[:1], volumes])
    write_recording(path, from_the_beginning)
    np.testing.assert_array_equal(cc2017.read_run(path, cortex, N_CLIPS), volumes[1 : N_CLIPS + 1, cortex.column])


def test_only_the_window_and_the_cortex_are_read(path):
    models = surface(range(500), "LEFT") + surface(range(500), "RIGHT") + subcortex(64)
    write_recording(path, np.random.default_rng(0).normal(size=(N_CLIPS + 5, len(models))), models)
    cortex = cc2017.read_cortex(path)
    expected = cc2017.read_run(path, cortex, N_CLIPS)
    content = bytearray(path.read_bytes())
    n_bytes = 4 * (N_CLIPS + 5) * 64
    content[-n_bytes:] = np.full(n_bytes // 4, np.nan, np.float32).tobytes()  # of the subcortex, which comes last
    path.write_bytes(content)
    np.testing.assert_array_equal(cc2017.read_run(path, cortex, N_CLIPS), expected)


def other_models(path, volumes):
    write_recording(path, volumes, surface(LEFT + np.array([1, 0, 0, 0, 0]), "LEFT") + MODELS[len(LEFT) :])


def other_side(path, volumes):
    write_recording(path, volumes, surface(RIGHT, "LEFT") + surface(LEFT, "RIGHT") + subcortex())


def dense_scalars(path, volumes):
    write_recording(path, volumes, first_axis=ScalarAxis([f"map {k}" for k in range(len(volumes))]))


def volumes_of_voxels(path, volumes):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volumes.reshape(1, 1, *volumes.shape), np.eye(4)), path.with_name("x.nii"))
    path.with_name("x.nii").replace(path)


def truncated(path, volumes):
    write_recording(path, volumes)
    path.write_bytes(path.read_bytes()[:-5])


def half_a_header(path, volumes):
    write_recording(path, volumes)
    path.write_bytes(path.read_bytes()[:700])


def in_milliseconds(path, volumes):
    write_recording(path, volumes, first_axis=SeriesAxis(0, 2.0, len(volumes), "HERTZ"))


BAD_RECORDINGS = {
    "missing": (lambda *_: None, "a recording is missing: expected {path}"),
    "truncated": (truncated, "{path} is truncated: it has .* of .* bytes"),
    "half a header": (half_a_header, "{path} cannot be read as a recording"),
    "empty": (lambda path, _: path.write_bytes(b""), "{path} cannot be read as a recording .* is empty"),
    "a web page": (lambda path, _: path.write_bytes(b"<html>"), "{path} cannot be read as a recording .*web page"),
    "244 volumes": (lambda path, x: write_recording(path, x[1:]), "{path}: 16 volumes .* 12 clips, not 17 .* or 18"),
    "other TR": (
        lambda path, x: write_recording(path, x, step=0.72),
        "{path} has a volume each 0.72 second, not each 2",
    ),
    "other unit": (in_milliseconds, "{path} has a volume each 2 hertz"),
    "other vertices": (other_models, r"{path} has other vertices of the cortex \(9\) than .* first run \(9\)"),
    "sides exchanged": (other_side, "{path} has other vertices"),
    "fewer vertices": (
        lambda path, x: write_recording(path, x[:, 1:], MODELS[1:]),
        r"{path} has other vertices .*\(8\)",
    ),
    "dscalar": (dense_scalars, "{path} is not a dense time series but Scalar by BrainModel"),
    "a volume": (volumes_of_voxels, "{path} is not a dense time series but Nifti1Image"),
    "no cortex": (
        lambda path, x: write_recording(path, x[:, :6], subcortex()),
        "{path} has no brain model .*LEFT and .*R",
    ),
    "no right side": (
        lambda path, x: write_recording(path, x[:, :5], surface(LEFT, "LEFT")),
        "{path} has no brain model CIFTI_STRUCTURE_CORTEX_RIGHT, but CIFTI_STRUCTURE_CORTEX_LEFT",
    ),
    "other mesh": (
        lambda path, x: write_recording(
            path, x[:, :8], surface(LEFT[:4], "LEFT", 10242) + surface(RIGHT, "RIGHT", 10242)
        ),
        "{path} has .* of a mesh of 10242 vertices, not of fs_LR 32k",
    ),
}


@pytest.mark.parametrize("kind", BAD_RECORDINGS)
def test_a_bad_recording_is_told_by_one_error_that_names_it(path, volumes, kind):
    write_recording(path, volumes)
    cortex = cc2017.read_cortex(path)
    path.unlink()
    spoil, expected = BAD_RECORDINGS[kind]
    spoil(path, volumes)
    with pytest.raises(DataError, match=expected.format(path=path)) as caught:
        cc2017.read_run(path, cortex, N_CLIPS)
    assert caught.value.path == path
    assert cc2017.WHERE in str(caught.value)


def test_runs_are_where_the_dataset_has_them(tmp_path):
    place = cc2017.recording_path(tmp_path, "Subject03", "test2", 9)
    expected = "Subject03/video_fmri_dataset/subject3/fmri/test2/cifti/test2_9_Atlas.dtseries.nii"
    assert place.relative_to(tmp_path).as_posix() == expected
    assert cc2017.repetitions(tmp_path, "Subject03", "test2") == []
    for number in (10, 2, 1):
        write_recording(cc2017.recording_path(tmp_path, "Subject03", "test2", number), np.zeros((2, len(MODELS))))
    (place.parent / "test2_3_Atlas_old.dtseries.nii").touch()
    (place.parent / "test2_11_Atlas.dtseries.nii.part").touch()
    (place.parents[2] / "notes").mkdir()
    assert cc2017.repetitions(tmp_path, "Subject03", "test2") == [1, 2, 10]
    assert cc2017.recorded_films(tmp_path, "Subject03") == {"test2"}
    with pytest.raises(DataError, match="somebody is no subject of CC2017"):
        cc2017.repetitions(tmp_path, "somebody", "test2")


# ---- films


def test_films_are_listed_by_number_with_what_they_are(root):
    for number in range(3, 11):
        write_film(root / STIMULI / f"seg{number}.mp4", 60 * 2, fps=30)
    (root / STIMULI / "trailer.mp4").touch()
    found = cc2017.films(root)
    assert list(found) == [*(f"seg{k}" for k in range(1, 11)), "test1"]
    assert found["seg1"] == ("seg1", root / STIMULI / "seg1.mp4", 8 * N_CLIPS, 4, N_CLIPS)
    assert (found["seg9"].n_frames, found["seg9"].fps, found["seg9"].n_clips) == (120, 30, 2)
    assert [film.is_test for film in found.values()] == [False] * 10 + [True]


def test_a_frame_too_many_does_not_make_a_film_of_30_frames_a_second_odd(root):
    write_film(root / STIMULI / "seg1.mp4", 121, fps=30)
    assert cc2017.films(root)["seg1"].n_clips == 2


def test_a_film_of_ntscs_rate_may_be_half_a_second_longer_than_its_clips(root):
    path = root / STIMULI / "seg1.mp4"
    write_film(path, 134, fps=30)  # 4.47 s
    film = cc2017.film_of(path)
    assert film.n_clips == 2
    assert [clip for clip, _ in cc2017.read_clips(film, 8, 8, 16)] == [1, 2]
    write_film(path, 137, fps=30)
    with pytest.raises(DataError, match=r"it lasts 4\.57 s"):
        cc2017.film_of(path)


def all_frames(path):
    capture, found = cv2.VideoCapture(str(path)), []
    while (answer := capture.read())[0]:
        found.append(answer[1][..., ::-1])
    return np.stack(found)


@pytest.mark.parametrize(("fps", "n_frames", "step"), [(4, 8, 1), (30, 8, 8), (29.97, 8, 8), (25, 3, 20)])
def test_clips_have_the_frames_that_are_asked_for(tmp_path, fps, n_frames, step):
    path = tmp_path / "seg1.mp4"
    write_film(path, round(6 * fps), fps=fps)
    frames, film = all_frames(path), cc2017.film_of(path)
    assert film.n_clips == 3
    clips = list(cc2017.read_clips(film, n_frames, step, 16))
    assert [clip for clip, _ in clips] == [1, 2, 3]
    for clip, found in clips:
        start = round((clip - 1) * 2 * fps)
        np.testing.assert_array_equal(found, frames[start : start + n_frames * step : step])
    assert clips[0][1].dtype == np.uint8


def test_frames_are_red_green_blue_and_made_square(tmp_path):
    path = tmp_path / "seg1.mp4"
    write_film(path, 8, size=(48, 64))
    for size in (24, 80):
        ((_, frames),) = cc2017.read_clips(cc2017.film_of(path), 8, 1, size)
        assert frames.shape == (8, size, size, 3)
        red, green, blue = frames[0].mean(axis=(0, 1))
        assert red > 200
        assert max(green, blue) < 60


def test_a_clip_with_too_few_frames_names_the_settings(root):
    film = cc2017.films(root)["seg1"]
    with pytest.raises(DataError, match=r"seg1\.mp4 has 8 frames in a clip .*n_frames 8 and frame_step 2 need 15"):
        next(cc2017.read_clips(film, 8, 2, 16))


def test_a_film_that_ends_before_its_time_is_refused(root):
    film = cc2017.films(root)["seg1"]
    longer = film._replace(n_clips=N_CLIPS + 1, n_frames=8 * (N_CLIPS + 1))
    clips = cc2017.read_clips(longer, 8, 1, 16)
    assert len(list(itertools.islice(clips, N_CLIPS))) == N_CLIPS
    with pytest.raises(DataError, match=r"seg1\.mp4 ends, or is broken, after 96 of 104 frames"):
        next(clips)


def keep_a_part_of_the_frames(path):
    """Put the index before the frames, as films for the web have it, and cut them."""
    content, boxes, start = path.read_bytes(), {}, 0
    while start < len(content):
        n_bytes = int.from_bytes(content[start : start + 4], "big")
        boxes[content[start + 4 : start + 8]] = content[start : start + n_bytes]
        start += n_bytes
    assert {b"ftyp", b"moov", b"mdat"} <= set(boxes)
    path.write_bytes(boxes[b"ftyp"] + boxes[b"moov"] + boxes[b"mdat"][:-500])
    assert cv2.VideoCapture(str(path)).isOpened()


BAD_FILMS = {
    "missing": (lambda path: path.unlink(), "a film is missing: expected {path}"),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        "{path} cannot be read as a film.*truncated",
    ),
    "ending in its frames": (keep_a_part_of_the_frames, r"{path} cannot be read as a film.*it has \d+ of \d+ bytes"),
    "empty": (lambda path: path.write_bytes(b""), "{path} cannot be read as a film: it is empty"),
    "Git LFS": (
        lambda path: path.write_bytes(b"version https://git-lfs"),
        "{path} cannot be read as a film.*git lfs pull",
    ),
    "of no frames": (
        lambda path: write_film(path, 0),
        "{path} (cannot be read as a film|has 0 frames)",
    ),
    "odd length": (
        lambda path: write_film(path, 8 * N_CLIPS + 4),
        "{path} has 100 frames, 4 a second: it lasts 25.00 s",
    ),
    "one frame less": (
        lambda path: write_film(path, 8 * N_CLIPS - 1),
        "{path} has 95 frames.*not a whole number of clips",
    ),
    "shorter than a clip": (lambda path: write_film(path, 1, fps=30), "{path} has 1 frames"),
}


@pytest.mark.parametrize("kind", BAD_FILMS)
def test_a_bad_film_is_told_by_one_error_that_names_it(root, kind):
    path = root / STIMULI / "seg1.mp4"
    spoil, expected = BAD_FILMS[kind]
    spoil(path)
    with pytest.raises(DataError, match=expected.format(path=path)) as caught:
        cc2017.films(root)
    assert caught.value.path == path


def test_opencv_without_ffmpeg_is_said_to_be_so(root, monkeypatch):
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: False)
    with pytest.raises(DataError, match=r"OpenCV .* without FFmpeg, .*seg1\.mp4; .*pip install opencv-python-headless"):
        cc2017.films(root)


def test_both_kinds_of_films_are_needed(root):
    (root / STIMULI / "test1.mp4").unlink()
    with pytest.raises(DataError, match=r"a film is missing: expected .*test1\.mp4"):
        cc2017.films(root)


# ---- keys


def test_clips_have_keys_of_their_own_and_names():
    assert cc2017.clip_key("seg3", 17) == 3017
    assert cc2017.clip_key("test2", 5) == 102005
    names = [f"{kind}{film}" for kind, n in (("seg", 18), ("test", 5)) for film in range(1, n + 1)]
    keys = {cc2017.clip_key(film, clip): f"{film}_{clip}" for film in names for clip in range(1, 241)}
    assert len(keys) == 4320 + 1200
    assert {key: cc2017.clip_name(key) for key in keys} == keys


@pytest.mark.parametrize(("film", "clip"), [("seg0", 1), ("seg100", 1), ("train1", 1), ("seg1", 0), ("seg1", 1000)])
def test_what_is_no_clip_has_no_key(film, clip):
    with pytest.raises(DataError, match=f"{film}, clip {clip}"):
        cc2017.clip_key(film, clip)


# ---- captions

TEXTS = ["a bird, and then a café", "a bird", "日本の寺"]


def write_captions(root, texts, name="Train", key=None, dtype=None):
    path = root / "captions" / f"{name}_captions_new.h5"
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset(key or f"{name}_captions", data=texts, dtype=dtype or h5py.string_dtype())
    return path


@pytest.mark.parametrize(("split", "name"), [("training", "Train"), ("test", "Test")])
def test_captions_are_read_in_order(tmp_path, split, name):
    write_captions(tmp_path, TEXTS, name)
    assert cc2017.read_captions(tmp_path, split, 3) == TEXTS
    write_captions(tmp_path, [text.encode() for text in TEXTS], name, dtype="S40")
    assert cc2017.read_captions(tmp_path, split, 3) == TEXTS


BAD_CAPTIONS = {
    "missing": (lambda _: None, "captions are missing: expected {path}"),
    "fewer than clips": (
        lambda root: write_captions(root, TEXTS[:2]),
        r"{path}: .*shape \(2,\), but training .* 3 clips",
    ),
    "more than clips": (lambda root: write_captions(root, [*TEXTS, "a"]), r"{path}: .*shape \(4,\)"),
    "of test films": (
        lambda root: write_captions(root, TEXTS, key="Test_captions"),
        "{path} has Test_captions, not Train_c",
    ),
    "not UTF-8": (
        lambda root: write_captions(root, [b"a", b"\xe9t\xe9", b"b"], dtype="S9"),
        "{path}: caption 2 is not UTF-8",
    ),
    "empty": (lambda root: write_captions(root, ["a", "b", " "]), "{path}: caption 3 is empty"),
    "numbers": (lambda root: write_captions(root, [1.0, 2.0, 3.0], dtype=float), "{path}: Train_captions has float64"),
    "truncated": (
        lambda root: (p := write_captions(root, TEXTS)).write_bytes(p.read_bytes()[:900]),
        "{path} cannot be read as captions",
    ),
}


@pytest.mark.parametrize("kind", BAD_CAPTIONS)
def test_bad_captions_are_told_by_one_error_that_names_the_file(tmp_path, kind):
    path = tmp_path / "captions" / "Train_captions_new.h5"
    spoil, expected = BAD_CAPTIONS[kind]
    spoil(tmp_path)
    with pytest.raises(DataError, match=expected.format(path=path)) as caught:
        cc2017.read_captions(tmp_path, "training", 3)
    assert caught.value.path == path
