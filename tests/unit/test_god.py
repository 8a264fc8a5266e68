"""Reading Generic Object Decoding: every spelling of its files gives the same, and a clear error for each bad one."""

import hashlib
import warnings

import h5py
import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from data import bdata, god, god_trials
from minddiffuser.store import DataError
from miniature.bdata import write_bdata

# The experiment in small: 6 training images once in 2 runs, 3 test images 4 times in 3 runs and imagined twice in one.
TRAINING = ("n01518878_10042", "n01518878_12028", "n01639765_70", "n13111881_7817", "n13111881_9170", "n04554684_1")
TEST = ("n01443537_22563", "n01621127_19020", "n04572121_3262")
N_VOXELS = 7
# ROIs overlap, as in the dataset; ROI_VC is not all voxels here, so that selecting columns is tested.
ROIS = {"ROI_V1": [1, 1, 0, 0, 0, 0, 0], "ROI_LVC": [1, 1, 1, 0, 0, 0, 0], "ROI_VC": [1, 1, 1, 1, 1, 0, 0]}
VC = [0, 1, 2, 3, 4]
TEXT = "value of {}"


def ids_of(names):
    return np.array([float(f"{name[1:9]}.{int(name[10:]):06d}") for name in names])


def make_columns(seed=0, training=TRAINING, test=TEST, n_voxels=N_VOXELS):
    """Columns by key, rows in random order of images inside each data type."""
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(ids_of(training)), *(rng.permutation(np.repeat(ids_of(test), n)) for n in (4, 2))]
    data_type = np.repeat([1, 2, 3], [len(part) for part in parts])
    run = np.concatenate([np.arange(len(part)) * n // len(part) + 1 for part, n in zip(parts, (2, 3, 1), strict=True)])
    X = rng.normal(size=(len(run), n_voxels)) + 10 * run[:, None]
    return {"DataType": data_type, "Run": run, "VoxelData": X, "stimulus_id": np.concatenate(parts)}


def make_metadata(rois=ROIS, order=("DataType", "Run", "VoxelData", "stimulus_id", "category_index", "image_index")):
    """Keys of the dataset's present release: Label marks three columns, and the last two say nothing true."""
    voxels = {key: {"VoxelData": np.array(mask)} for key, mask in rois.items()}
    return {"Label": dict.fromkeys(order[3:], 1), **voxels}


def lay_out(columns, metadata, order=None):
    """Data, keys and values as bdpy has them in memory."""
    owner = np.concatenate([[key] * (1 if columns[key].ndim == 1 else columns[key].shape[1]) for key in columns])
    data = np.column_stack([columns[key] for key in columns]).astype(float)
    values = [np.where(owner == key, 1, np.nan) for key in columns]
    for given in metadata.values():
        values.append(np.full(len(owner), np.nan))
        for key, value in given.items():
            values[-1][owner == key] = value
    order = np.arange(len(owner)) if order is None else order
    return data[:, order], [*columns, *metadata], np.array(values)[:, order]


def write_h5(path, data, keys, values, names=("dataset", "metadata"), texts=None):
    """In the layout of `bdpy.BData.save`, down to the types."""
    texts = [key.encode() for key in keys] if texts is None else texts
    with h5py.File(path, "w") as file:
        file.create_dataset(f"/{names[0]}", data=data)
        file.create_group(f"/{names[1]}")
        file.create_dataset(f"/{names[1]}/key", data=texts)
        file.create_dataset(f"/{names[1]}/description", data=[TEXT.format(key).encode() for key in keys])
        file.create_dataset(f"/{names[1]}/value", data=values)
        file.create_group("/header").create_dataset("ctime", data=b"2020-07-27 00:00:00")
        file.create_group("/vmap/stimulus_id").create_dataset("1518878.010042", data=b"n01518878_10042")


def write_mat(path, data, keys, values, names=("dataSet", "metaData")):
    """In the layout of MATLAB's `save -v7.3`: all transposed, texts as uint16 behind references, 512 bytes before."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset(names[0], data=data.T).attrs["MATLAB_class"] = np.bytes_("double")
        group, refs = file.create_group(names[1]), file.create_group("#refs#")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        group.create_dataset("value", data=values.T).attrs["MATLAB_class"] = np.bytes_("double")
        for field in ("key", "description"):
            cells = np.empty((len(keys), 1), h5py.ref_dtype)
            for i, key in enumerate(keys):
                text = np.array([[ord(c)] for c in (key if field == "key" else TEXT.format(key))], np.uint16)
                refs.create_dataset(f"{field}{i}", data=text).attrs["MATLAB_class"] = np.bytes_("char")
                cells[i, 0] = refs[f"{field}{i}"].ref
            group.create_dataset(field, data=cells, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = np.bytes_("cell")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def write_lists(folder, training=TRAINING, test=TEST):
    for name, images in ((god.TRAINING_IMAGES, training), (god.TEST_IMAGES, test)):
        lines = [f'{i:f},"{image}.JPEG"\n' for i, image in zip(ids_of(images), images, strict=True)]
        (folder / name).write_text("".join(lines))


def with_indices(columns):
    n = len(columns["Run"])
    return {**columns, "category_index": np.full(n, 99), "image_index": np.arange(n)[::-1]}


@pytest.fixture
def folder(tmp_path):
    """A folder with one subject in the present layout."""
    write_lists(tmp_path)
    write_h5(tmp_path / "Subject1.h5", *lay_out(with_indices(make_columns()), make_metadata()))
    return tmp_path


def rewrite(folder, change_data=None, change_values=None, drop=None):
    """Write the subject again, with a mistake planted."""
    data, keys, values = lay_out(with_indices(make_columns()), make_metadata())
    if change_data:
        change_data(data)
    if change_values:
        change_values(dict(zip(keys, values, strict=True)))
    kept = [i for i, key in enumerate(keys) if key != drop]
    write_h5(folder / "Subject1.h5", data, [keys[i] for i in kept], values[kept])


def expect_the_planted(recording, columns):
    for name, key in (("data_type", "DataType"), ("run", "Run")):
        np.testing.assert_array_equal(getattr(recording, name), columns[key])
    np.testing.assert_array_equal(recording.X, columns["VoxelData"][:, VC])
    training = columns["DataType"] == 1
    found = np.where(
        training, ids_of(TRAINING)[recording.image], ids_of(TEST)[np.minimum(recording.image, len(TEST) - 1)]
    )
    np.testing.assert_array_equal(found, columns["stimulus_id"])
    assert recording.image[~training].max() == len(TEST) - 1
    for key, mask in recording.rois.items():
        np.testing.assert_array_equal(mask, np.array(ROIS[key], bool)[VC])
    assert recording.X.dtype == np.float64


@pytest.mark.parametrize("names", [("dataset", "metadata"), ("dataSet", "metaData"), ("dataSet", "metadata")])
@pytest.mark.parametrize("form", ["h5", "mat", "text of fixed length"])
def test_both_spellings_and_both_forms_are_read_to_the_same(folder, names, form):
    (folder / "Subject1.h5").unlink()
    columns = make_columns()
    laid_out = lay_out(with_indices(columns), make_metadata())
    if form == "mat":
        write_mat(folder / "Subject1.mat", *laid_out, names)
    else:
        texts = None if form == "h5" else np.array([key.encode() for key in laid_out[1]])
        write_h5(folder / "Subject1.h5", *laid_out, names, texts)
    recording = god.read_subject(folder, "Subject1")
    expect_the_planted(recording, columns)
    assert list(recording.rois) == list(ROIS)
    assert recording.release == "unknown"


def test_as_many_samples_as_columns_are_not_taken_for_transposed(folder):
    columns = make_columns(n_voxels=19)
    laid_out = lay_out(with_indices(columns), make_metadata({"ROI_VC": [1] * 19}))
    assert laid_out[0].shape == (24, 24)
    (folder / "Subject1.h5").unlink()
    write_mat(folder / "Subject1.mat", *laid_out)
    np.testing.assert_array_equal(god.read_subject(folder, "Subject1").X, columns["VoxelData"])


@pytest.mark.parametrize("seed", range(3))
def test_columns_are_found_by_key_wherever_they_are(folder, seed):
    columns = make_columns()
    n_columns = N_VOXELS + 5
    order = np.random.default_rng(seed).permutation(n_columns)
    order[np.isin(order, np.arange(2, 2 + N_VOXELS))] = np.arange(2, 2 + N_VOXELS)  # voxels keep their own order
    write_h5(folder / "Subject1.h5", *lay_out(with_indices(columns), make_metadata(), order))
    expect_the_planted(god.read_subject(folder, "Subject1"), columns)


def test_old_releases_have_their_ids_in_label_before_the_voxels(folder):
    columns = make_columns()
    old = {key: columns["stimulus_id" if key == "Label" else key] for key in ("DataType", "Run", "Label", "VoxelData")}
    write_h5(folder / "Subject1.h5", *lay_out(old, {k: v for k, v in make_metadata().items() if k != "Label"}))
    expect_the_planted(god.read_subject(folder, "Subject1"), columns)


def test_what_is_written_has_the_layout_of_bdpy_and_is_read_back(folder):
    columns, metadata = with_indices(make_columns()), make_metadata()
    path = folder / "written" / "Subject1.h5"
    write_bdata(path, columns, metadata)
    data, keys, values = lay_out(columns, metadata)
    by_hand = folder / "Subject1.h5"
    with h5py.File(path) as ours, h5py.File(by_hand) as theirs:
        for name in ("dataset", "metadata/key", "metadata/value"):
            assert ours[name].id.get_type() == theirs[name].id.get_type()
            np.testing.assert_array_equal(ours[name][()], theirs[name][()])
        assert ours["metadata/description"].shape == theirs["metadata/description"].shape
        assert ours["metadata/description"][0] == b"1 = DataType"
    found, found_metadata = bdata.read_bdata(path, "get it again")
    np.testing.assert_array_equal(found, data)
    assert list(found_metadata) == keys
    np.testing.assert_array_equal(np.array(list(found_metadata.values())), values)
    assert [p.name for p in path.parent.iterdir()] == ["Subject1.h5"]  # nothing half made is left


def test_a_roi_selects_its_voxels_and_an_unknown_one_is_refused_with_the_known(folder):
    recording = god.read_subject(folder, "Subject1", roi="ROI_V1")
    np.testing.assert_array_equal(recording.X, make_columns()["VoxelData"][:, :2])
    np.testing.assert_array_equal(recording.rois["ROI_LVC"], [True, True])
    with pytest.raises(DataError, match=r"Subject1\.h5 has no ROI ROI_FFA; known are ROI_V1, ROI_LVC, ROI_VC"):
        god.read_subject(folder, "Subject1", roi="ROI_FFA")


# Ids and lists of images


def test_the_real_lists_are_parsed_and_joined_exactly(tmp_path, test_data):
    """1200 images of 150 categories, 50 of 50 others; ids go through float64 columns and come back to their images."""
    lists = [god.read_images(test_data / "god_meta" / name) for name in (god.TRAINING_IMAGES, god.TEST_IMAGES)]
    for images, n_images, n_categories, stem in zip(lists, (1200, 50), (150, 50), ("Training", "Test"), strict=True):
        assert len(images.ids) == len(np.unique(images.ids)) == n_images
        assert len(set(images.wnids)) == n_categories
        table = (test_data / "god_meta" / f"stimulus_ImageNet{stem}.tsv").read_text().splitlines()
        assert [f"{line.split()[0]}.JPEG" for line in table] == list(images.names)
        np.testing.assert_array_equal(god.image_keys(np.array([float(line.split()[1]) for line in table])), images.ids)
    assert not set(lists[0].wnids) & set(lists[1].wnids)
    assert lists[0].ids[0] == 1518878010042
    stems = [tuple(name.removesuffix(".JPEG") for name in images.names) for images in lists]
    write_lists(tmp_path, *stems)
    for name in (god.TRAINING_IMAGES, god.TEST_IMAGES):
        assert (tmp_path / name).read_text() == (test_data / "god_meta" / name).read_text()
    columns = make_columns(training=stems[0], test=stems[1])
    write_bdata(tmp_path / "Subject1.h5", columns, make_metadata(order=("", "", "", "stimulus_id")))
    recording = god.read_subject(tmp_path, "Subject1")
    training = recording.data_type == god.TRAINING
    np.testing.assert_array_equal(ids_of(stems[0])[recording.image[training]], columns["stimulus_id"][training])
    np.testing.assert_array_equal(ids_of(stems[1])[recording.image[~training]], columns["stimulus_id"][~training])


def test_a_list_saved_by_a_spreadsheet_is_read(folder):
    path = folder / god.TRAINING_IMAGES
    usual = god.read_images(path)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    np.testing.assert_array_equal(god.read_images(path).ids, usual.ids)


def test_names_and_categories_come_with_the_ids(folder):
    images = god.read_images(folder / god.TRAINING_IMAGES)
    assert images.names[2] == "n01639765_70.JPEG"
    assert images.wnids[2] == "n01639765"
    assert images.ids[2] == 1639765000070


def test_neighbouring_ids_are_told_apart_and_others_refused():
    keys = np.array([1518878010042, 1518878010043, 13111881009170, 99999999999999])
    np.testing.assert_array_equal(god.image_keys(keys / 1e6), keys)
    for wrong in (1518878.0100424, np.nan, np.inf, -1.0, 1e9):
        with pytest.raises(ValueError, match="1 numbers are no ids"):
            god.image_keys(np.array([1518878.010042, wrong]))


def test_a_recording_of_another_image_is_refused_with_both_ids(folder):
    columns = make_columns()
    row = int(np.flatnonzero(columns["stimulus_id"] == 1639765.00007)[0])

    def change(data):
        data[row, 2 + N_VOXELS] += 1e-6  # the neighbouring image

    rewrite(folder, change)
    with pytest.raises(
        DataError, match=r"stimulus_id of training, and .*1 only in the .*n01639765_71; 1 only in .*n01639765_70;"
    ):
        god.read_subject(folder, "Subject1")


@pytest.mark.parametrize(("kind", "name"), [(2, "perception test"), (3, "imagery test")])
def test_training_images_among_the_test_trials_are_refused(folder, kind, name):
    columns = make_columns()
    row = int(np.flatnonzero(columns["DataType"] == kind)[0])

    def change(data):
        data[row, 2 + N_VOXELS] = 1518878.010042

    rewrite(folder, change)
    with pytest.raises(DataError, match=rf"{name}, and .*imageID_test\.csv .*n01518878_10042; 0 only"):
        god.read_subject(folder, "Subject1")


def test_ids_that_went_through_float32_are_refused(folder):
    def change(data):
        data[:] = data.astype(np.float32)

    rewrite(folder, change)
    with pytest.raises(DataError, match="are of different images"):
        god.read_subject(folder, "Subject1")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('1518878.010043,"n01518878_10042.JPEG"', "line 7"),
        ('1518878.0100421,"n01518878_10042.JPEG"', "line 7"),
        ('1518878.010042,"10042.JPEG"', "line 7"),
        ("id,name", "line 7"),
        ('1518878.010042,"n01518878_10042.JP', "line 7"),  # the file was cut short
        ('1518878.010042,"n01518878_10042.JPEG"', "more than once: n01518878_10042"),
    ],
)
def test_a_list_of_images_that_disagrees_with_itself_is_refused(folder, line, message):
    path = folder / god.TRAINING_IMAGES
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=rf"imageID_training\.csv.*{message}"):
        god.read_subject(folder, "Subject1")


def test_missing_and_empty_lists_are_named(folder):
    (folder / god.TEST_IMAGES).write_text("")
    with pytest.raises(DataError, match=r"imageID_test\.csv is empty"):
        god.read_subject(folder, "Subject1")
    (folder / god.TEST_IMAGES).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"imageID_test\.csv cannot be read as a list of images"):
        god.read_subject(folder, "Subject1")
    (folder / god.TEST_IMAGES).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"imageID_test\.csv .*is a Git LFS pointer"):
        god.read_subject(folder, "Subject1")
    (folder / god.TEST_IMAGES).unlink()
    with pytest.raises(DataError, match=r"expected .*imageID_test\.csv; .*github\.com/KamitaniLab"):
        god.read_subject(folder, "Subject1")


# Standardising and averaging


def real_trials():
    """Data types and runs of the real experiment."""
    data_type = np.repeat([1, 2, 3], [1200, 1750, 500])
    run = np.concatenate([np.repeat(np.arange(n) + 1, size) for n, size in ((24, 50), (35, 50), (20, 25))])
    return data_type, run


def sizes(groups, data_type):
    """How many groups have how many trials of each data type."""
    table = [tuple(np.bincount(data_type[groups == group], minlength=4)[1:]) for group in range(groups.max() + 1)]
    return {row: table.count(row) for row in table}


def test_groups_of_the_real_experiment():
    data_type, run = real_trials()
    by_type = god_trials.run_groups(data_type, run, "by_type")
    assert sizes(by_type, data_type) == {(50, 0, 0): 24, (0, 50, 0): 35, (0, 0, 25): 20}
    as_released = god_trials.run_groups(data_type, run, "as_released")
    assert sizes(as_released, data_type) == {(50, 50, 25): 20, (50, 50, 0): 4, (0, 50, 0): 11}
    with pytest.raises(KeyError):
        god_trials.run_groups(data_type, run, "legacy")  # pyright: ignore[reportArgumentType]


@pytest.mark.filterwarnings("ignore:Numerical issues")  # scikit-learn's, for the constant voxel
@pytest.mark.parametrize("grouping", ["by_type", "as_released"])
def test_each_group_is_scaled_as_scikit_learn_does_and_constant_voxels_become_zero(grouping):
    data_type, run = real_trials()
    X = np.random.default_rng(0).normal(0.03, 3.8, size=(3450, 4)) + data_type[:, None]
    X[:, 1] = 0.1  # everywhere; its mean is not exactly .1
    X[run == 3, 2] = -7.3
    scaled = god_trials.standardise_runs(X, data_type, run, grouping)
    groups = god_trials.run_groups(data_type, run, grouping)
    for group in range(groups.max() + 1):
        np.testing.assert_allclose(scaled[groups == group], scale(X[groups == group]), atol=1e-12)
    assert (scaled[:, 1] == 0).all()
    assert (scaled[run == 3, 2] == 0).all()
    assert scaled[run == 4, 2].std() > 0.5


def test_only_as_released_do_test_trials_change_the_training_trials():
    data_type, run = real_trials()
    X = np.random.default_rng(0).normal(size=(3450, 2))
    other = X.copy()
    other[data_type != god.TRAINING] += 5
    training = data_type == god.TRAINING
    a, b = (god_trials.standardise_runs(x, data_type, run)[training] for x in (X, other))
    np.testing.assert_array_equal(a, b)
    a, b = (god_trials.standardise_runs(x, data_type, run, "as_released")[training] for x in (X, other))
    assert np.abs(a - b).max() > 1


@pytest.mark.parametrize(("kind", "n"), [(god.PERCEPTION, 4), (god.IMAGERY, 2)])
def test_repetitions_are_averaged_in_the_order_of_the_list(folder, kind, n):
    columns = make_columns()
    recording = god.read_subject(folder, "Subject1")
    rows = recording.data_type == kind
    means, n_repetitions = god_trials.average(recording.X[rows], recording.image[rows], len(recording.test_images.ids))
    np.testing.assert_array_equal(n_repetitions, [n] * 3)
    for i, stimulus in enumerate(ids_of(TEST)):
        mine = (columns["DataType"] == kind) & (columns["stimulus_id"] == stimulus)
        np.testing.assert_allclose(means[i], columns["VoxelData"][mine][:, VC].mean(axis=0), rtol=1e-12)


def test_unequal_repetitions_are_counted_and_missing_ones_refused():
    X, image = np.array([[1.0], [2.0], [6.0]]), np.array([1, 0, 1])
    means, n_repetitions = god_trials.average(X, image, 2)
    np.testing.assert_array_equal(means, [[2.0], [3.5]])
    np.testing.assert_array_equal(n_repetitions, [1, 2])
    with pytest.raises(DataError, match=r"rows without a trial: \[2\]"):
        god_trials.average(X, image, 3)
    with pytest.raises(DataError, match="of 2 images, not 1"):
        god_trials.average(X, image, 1)


def test_the_split_is_that_of_the_paper():
    training, validation = god_trials.split(1200)
    assert (len(training), len(validation)) == (1080, 120)
    np.testing.assert_array_equal(validation[:8], [1178, 865, 101, 439, 58, 1120, 323, 974])
    np.testing.assert_array_equal(training[:8], [533, 903, 1003, 1069, 413, 1186, 327, 128])
    assert hashlib.sha1(validation.astype("<i8").tobytes()).hexdigest().startswith("7d4e0a2e937e")
    np.testing.assert_array_equal(np.sort(np.concatenate([training, validation])), np.arange(1200))
    names = [f"{i}.JPEG" for i in range(1200)]  # the paper's code splits arrays and paths together
    expected = train_test_split(names, test_size=0.1, random_state=42)[1]
    assert [names[i] for i in validation] == expected


# The release


def write_release(folder, subject, n_voxels, real=False):
    """A recording with this many voxels, of few trials, or of all of the experiment's."""
    columns = make_columns(n_voxels=n_voxels)
    if real:
        data_type, run = real_trials()
        stimulus = np.concatenate([np.repeat(ids_of(TRAINING), 200), np.resize(ids_of(TEST), 2250)])
        X = np.resize(np.arange(1.0, 98.0), (3450, n_voxels))
        columns = {"DataType": data_type, "Run": run, "VoxelData": X, "stimulus_id": stimulus}
    write_bdata(folder / f"{subject}.h5", columns, {"ROI_VC": {"VoxelData": 1}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return god.read_subject(folder, subject).release


def test_the_release_is_recognised_by_its_voxels(folder):
    for subject, n_voxels in god.SPM_VOXELS.items():
        assert write_release(folder, subject, n_voxels) == "SPM"
    assert write_release(folder, "Subject1", 40) == "unknown"  # a miniature


@pytest.mark.parametrize(
    ("subject", "n_voxels", "message"),
    [
        ("Subject1", 3444, "3444 voxels in ROI_VC, as Subject1 in the fMRIPrep release, not 4466 of Subject1"),
        ("Subject2", 6237, "as Subject5 in the fMRIPrep release, not 4404 of Subject2 .*without a source"),
        ("Subject1", 4643, "as Subject3 in the SPM release, not 4466"),
        ("Subject4", 4370, "as Subject5 in the SPM release, not 4133"),
    ],
)
def test_a_wrong_release_or_subject_is_named(folder, subject, n_voxels, message):
    with pytest.raises(DataError, match=rf"{subject}\.h5 has .*{message}.*figshare\.com.*7387130"):
        write_release(folder, subject, n_voxels)


@pytest.mark.parametrize(
    ("subject", "n_voxels", "message"),
    [
        ("Subject1", 40, "40 voxels in ROI_VC, not 4466"),
        ("Subject2", 41, r"not 4404 of Subject2 .*\(a number without a source\)"),
        ("Subject2", 4133, r"as Subject4 in the SPM release \(a number without a source\), not 4404"),
    ],
)
def test_an_unknown_number_of_voxels_is_warned_of_where_the_trials_are_the_real_ones(
    folder, subject, n_voxels, message
):
    with pytest.raises(UserWarning, match=message):
        write_release(folder, subject, n_voxels, real=True)


# Broken files


def test_a_missing_recording_says_where_to_get_it(folder):
    with pytest.raises(DataError, match=r"expected .*Subject2\.h5; download .*figshare.*7387130"):
        god.read_subject(folder, "Subject2")


@pytest.mark.parametrize("suffix", ["h5", "mat"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.7, 0.95])
def test_a_truncated_recording_is_named(folder, suffix, share):
    (folder / "Subject1.h5").unlink()
    path = folder / f"Subject1.{suffix}"
    write = write_h5 if suffix == "h5" else write_mat
    write(path, *lay_out(with_indices(make_columns()), make_metadata()))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=rf"{path.name} cannot be read .*: it is truncated or broken.*figshare"):
        god.read_subject(folder, "Subject1")


@pytest.mark.parametrize(
    ("content", "symptom"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "is a web page"),
        (b'{"message": "forbidden"}', "is JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "is a Git LFS pointer"),
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64" * 9, "is truncated or broken"),
        (bytes(2000), "has nothing but zeros"),
    ],
)
def test_what_is_not_hdf5_is_named(folder, content, symptom):
    (folder / "Subject1.h5").write_bytes(content)
    with pytest.raises(DataError, match=rf"Subject1\.h5 cannot be read .*of version 7\.3\): it {symptom}"):
        god.read_subject(folder, "Subject1")


@pytest.mark.parametrize("name", ["dataset", "metadata", "metadata/key", "metadata/value"])
def test_a_missing_group_is_named_with_what_is_there(folder, name):
    with h5py.File(folder / "Subject1.h5", "r+") as file:
        del file[name]
    with pytest.raises(DataError, match=rf"Subject1\.h5 has no {name.split('/')[-1]}.*but .*BData"):
        god.read_subject(folder, "Subject1")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dataset", np.zeros((24, 9)), r"\(24, 9\) .*10 keys do not fit values of shape \(10, 12\)"),
        ("dataset", np.zeros(24), r"shape \(24,\)"),
        ("dataset", np.array([b"a"]), "cannot be read as a recording in the layout of BData"),
        ("dataset", 1.0, r"shape \(\)"),
        ("metadata/key", np.array([b"DataType"]), "1 keys do not fit"),
        ("metadata/key", np.zeros(10), "cannot be read as a recording in the layout of BData"),
        ("metadata/key", np.array([b"Run"] * 9 + [b"DataType"]), "keys more than once: Run"),
        ("metadata/value", np.zeros((12, 10)), r"values of shape \(12, 10\)"),
        ("metadata", np.zeros(3), "has no key|cannot be read as a recording"),
    ],
)
def test_wrong_shapes_and_types_are_named(folder, name, value, message):
    with h5py.File(folder / "Subject1.h5", "r+") as file:
        del file[name]
        file[name] = value
    with pytest.raises(DataError, match=rf"Subject1\.h5.*{message}"):
        god.read_subject(folder, "Subject1")


def test_a_dangling_reference_in_a_mat_file_is_named(folder):
    (folder / "Subject1.h5").unlink()
    write_mat(folder / "Subject1.mat", *lay_out(with_indices(make_columns()), make_metadata()))
    with h5py.File(folder / "Subject1.mat", "r+") as file:
        file["metaData/key"][0, 0] = h5py.Reference()
    with pytest.raises(DataError, match=r"Subject1\.mat cannot be read as a recording in the layout of BData"):
        god.read_subject(folder, "Subject1")


@pytest.mark.parametrize("key", ["DataType", "Run"])
def test_a_missing_key_is_named(folder, key):
    rewrite(folder, drop=key)
    with pytest.raises(DataError, match=rf"Subject1\.h5 has no metadata key {key}; it has .*ROI_VC"):
        god.read_subject(folder, "Subject1")


def test_without_stimulus_id_a_label_of_three_columns_is_refused(folder):
    rewrite(folder, drop="stimulus_id")
    with pytest.raises(DataError, match="key Label marks 3 columns, not one"):
        god.read_subject(folder, "Subject1")


def test_a_roi_that_marks_the_run_column_is_refused(folder):
    def change(values):
        values["ROI_VC"][1] = 1

    rewrite(folder, change_values=change)
    with pytest.raises(DataError, match="ROI_VC marks no column, or one that is not of VoxelData"):
        god.read_subject(folder, "Subject1")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_without_data_are_counted_and_become_zero(folder, value):
    def change(data):
        data[3, 2 + 1] = value  # voxel 1, in V1, LVC and VC
        data[:, 2 + 4] = value if np.isnan(value) else 0.3  # voxel 4, in VC: nowhere a number, or everywhere the same
        data[:, 2 + 6] = value  # voxel 6, in no ROI

    rewrite(folder, change)
    with pytest.warns(UserWarning, match=r"2 of 5 voxels .* set to 0: 1 in ROI_V1, 1 in ROI_LVC, 2 in ROI_VC"):
        X = god.read_subject(folder, "Subject1").X
    expected = make_columns()["VoxelData"][:, VC]
    expected[:, [1, 4]] = 0
    np.testing.assert_array_equal(X, expected)


@pytest.mark.parametrize("value", [np.nan, 0, 7.5])
def test_trials_without_data_are_refused_also_beside_voxels_without_data(folder, value):
    def change(data):
        data[:, 2 + 4] = 0
        data[[3, 20], 2 : 2 + N_VOXELS] = value

    rewrite(folder, change)
    with pytest.raises(DataError, match=r"Subject1\.h5: 2 of 24 trials have no data in ROI_VC.*rows \[3, 20\]"):
        god.read_subject(folder, "Subject1")


@pytest.mark.parametrize("value", [np.nan, 0])
def test_a_trial_of_which_most_is_missing_is_refused(folder, value):
    """A chunk of the file that was never written reads as zeros."""

    def change(data):
        data[3, 2 : 2 + 3] = value

    rewrite(folder, change)
    with pytest.raises(DataError, match=r"1 of 24 trials have no data .*rows \[3\]"):
        god.read_subject(folder, "Subject1")


@pytest.mark.parametrize("n", [3, N_VOXELS])
@pytest.mark.parametrize("value", [np.nan, 0])
def test_a_recording_without_data_in_most_voxels_is_refused(folder, value, n):
    def change(data):
        data[:, 2 : 2 + n] = value

    rewrite(folder, change)
    with pytest.raises(DataError, match=rf"Subject1\.h5 has no data in {min(n, 5)} of 5 voxels of ROI_VC"):
        god.read_subject(folder, "Subject1")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, 4, r"DataType has \[4.0\] in 1 trials"),
        (0, np.nan, "DataType has"),
        (1, 1e300, "Run has"),
        (1, 1.5, r"Run has \[1.5\] in 1 trials"),
    ],
)
def test_data_types_and_runs_are_whole_numbers(folder, column, value, message):
    def change(data):
        data[5, column] = value

    rewrite(folder, change)
    with pytest.raises(DataError, match=message):
        god.read_subject(folder, "Subject1")


def test_runs_that_go_on_over_data_types_are_warned_of_and_refused_only_where_they_are_taken_together(folder):
    def change(data):
        data[:, 1] += 2 * (data[:, 0] >= 2) + 3 * (data[:, 0] == 3)

    usual = god.read_subject(folder, "Subject1")
    rewrite(folder, change)
    numbered = "runs of the perception test trials are numbered 3, 4, 5, not from 1"
    with pytest.warns(UserWarning, match=rf"Subject1\.h5: {numbered}"):
        found = god.read_subject(folder, "Subject1")
    a, b = (god_trials.standardise_runs(one.X, one.data_type, one.run) for one in (usual, found))
    np.testing.assert_array_equal(a, b)
    with pytest.raises(DataError, match=rf"{numbered}.*leave the form out"):
        god_trials.standardise_runs(found.X, found.data_type, found.run, "as_released")


def test_a_run_of_one_trial_is_refused_for_nothing_would_be_left_of_it(folder):
    def change(data):
        data[data[:, 0] == 1, 1] = np.arange(len(TRAINING)) + 1  # as if Run were the number of the trial

    rewrite(folder, change)
    recording = god.read_subject(folder, "Subject1")
    with pytest.raises(DataError, match="run 1 of the training trials has one trial"):
        god_trials.standardise_runs(recording.X, recording.data_type, recording.run)


def test_imagery_may_be_absent_but_not_training(folder):
    columns = with_indices(make_columns())
    for absent in (god.IMAGERY, god.TRAINING):
        rows = columns["DataType"] != absent
        write_bdata(folder / "Subject1.h5", {k: v[rows] for k, v in columns.items()}, make_metadata())
        if absent == god.IMAGERY:
            assert len(god.read_subject(folder, "Subject1").X) == 18
        else:
            with pytest.raises(DataError, match=r"no training trials \(DataType 1\)"):
                god.read_subject(folder, "Subject1")


# Pictures


def test_pictures_are_read_in_order_and_what_is_missing_or_odd_is_named(tmp_path):
    names = ["n01443537_22563.JPEG", "n01621127_19020.JPEG"]
    for name, value in zip(names, (10, 200), strict=True):
        Image.new("L", (6, 6), value).save(tmp_path / name)
    found = god.read_pictures(tmp_path, names[::-1])
    assert found.shape == (2, 6, 6, 3)
    assert found[0].mean() > found[1].mean()
    with pytest.raises(DataError, match=r"lacks 1 of 3 stimuli: n01677366_18182\.JPEG"):
        god.read_pictures(tmp_path, [*names, "n01677366_18182.JPEG"])
    Image.new("L", (7, 6)).save(tmp_path / names[1])
    with pytest.raises(DataError, match="differ in size"):
        god.read_pictures(tmp_path, names)
    whole = (tmp_path / names[0]).read_bytes()
    for content in (
        b"\xff\xd8",
        b"",
        whole[:200],
        whole[: len(whole) * 3 // 4],
        b"<html></html>",
        b"version https://git-lfs",
    ):
        (tmp_path / names[0]).write_bytes(content)
        with pytest.raises(DataError, match=r"n01443537_22563\.JPEG cannot be read as a picture"):
            god.read_pictures(tmp_path, names)


def test_names_of_pictures_are_keys():
    assert god.picture_key("n01518878_10042.JPEG") == god.picture_key("n01518878_10042") == 1518878010042
    for name in ("n1518878_10042.JPEG", "n01518878-10042.JPEG", "tench.JPEG", "n01518878_1234567.JPEG"):
        with pytest.raises(DataError, match="is not named as ImageNet's pictures are"):
            god.picture_key(name)


def test_a_fingerprint_changes_with_the_recording_and_with_the_lists(tmp_path):
    for name in ("Subject1.h5", "Subject2.h5", god.TRAINING_IMAGES, god.TEST_IMAGES):
        (tmp_path / name).write_text(name)
    first = god.fingerprint(tmp_path, "Subject1")
    assert first == god.fingerprint(tmp_path, "Subject1")
    assert first != god.fingerprint(tmp_path, "Subject2")
    (tmp_path / god.TEST_IMAGES).write_text("another")
    assert first != god.fingerprint(tmp_path, "Subject1")
