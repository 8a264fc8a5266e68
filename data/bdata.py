"""Read files in the layout of bdpy's BData, in which datasets of Kamitani Lab are published.

Rows are samples (here trials); a table of metadata says what each column is: for each key 1 for the columns that belong
to it, or a value. Reference: https://github.com/KamitaniLab/bdpy.
"""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from minddiffuser.store import DataError, reading


def read_bdata(path: Path, remedy: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read a BData file, `.h5` as bdpy writes it or `.mat` of version 7.3 as MATLAB does.

    Groups are called `dataset` and `metadata`, or `dataSet` and `metaData` in older files. MATLAB's files are
    transposed, and their keys are references to arrays of characters.

    Parameters
    ----------
    path : Path
    remedy : str
        What to do about a missing or bad file, such as where to get it; ends the messages.

    Returns
    -------
    data : array of shape (n_samples, n_columns), float64
    metadata : dict of str to array of shape (n_columns,), float64
        For each key its values: 1 for columns that belong to it, not a number where it says nothing.

    Raises
    ------
    DataError
        The file is missing, truncated, not HDF5, lacks a group, or its shapes do not fit each other.
    """
    if not path.is_file():
        raise DataError(f"a subject's recording is missing: expected {path}", remedy, path)
    what = "a recording in the layout of BData (.h5, or .mat of version 7.3)"
    with reading(path, what, remedy), h5py.File(path, "r", locking=False) as file:
        data = _member(path, file, remedy, "dataset", "dataSet")
        group = _member(path, file, remedy, "metadata", "metaData")
        key, value = _member(path, group, remedy, "key"), _member(path, group, remedy, "value")
        of_matlab = h5py.check_ref_dtype(key.dtype) is not None
        if of_matlab:
            keys = ["".join(map(chr, np.ravel(file[reference][()]))).strip() for reference in np.ravel(key[()])]
        else:
            keys = [str(name).strip() for name in np.ravel(key.asstr()[()])]
        data, values = np.asarray(data[()], np.float64), np.asarray(value[()], np.float64)
    if of_matlab:
        data, values = data.T, values.T
    if data.ndim != 2 or values.shape != (len(keys), data.shape[-1]):
        raise DataError(
            f"{path}: data of shape {data.shape} (samples, columns) and {len(keys)} keys do not fit values of shape "
            f"{values.shape} (keys, columns)",
            remedy,
            path,
        )
    if twice := {name for name in keys if keys.count(name) > 1}:
        raise DataError(f"{path} has metadata keys more than once: {', '.join(sorted(twice))}", remedy, path)
    return data, dict(zip(keys, values, strict=True))


def find_column(path: Path, data: np.ndarray, metadata: Mapping[str, np.ndarray], key: str, remedy: str) -> np.ndarray:
    """Take the one column that a key marks from what `read_bdata` read: (n_samples,), float64.

    Raises
    ------
    DataError
        The key is missing, or marks no column, or several.
    """
    if key not in metadata:
        raise DataError(f"{path} has no metadata key {key}; it has {', '.join(metadata)}", remedy, path)
    columns = np.flatnonzero(metadata[key] == 1)
    if len(columns) != 1:
        raise DataError(f"{path}: the metadata key {key} marks {len(columns)} columns, not one", remedy, path)
    return data[:, columns[0]]


def _member(path: Path, group: h5py.Group, remedy: str, *names: str) -> h5py.Group | h5py.Dataset:
    found = next((name for name in names if name in group), None)
    if found is None:
        raise DataError(
            f"{path} has no {' or '.join(names)} in {group.name}, but {', '.join(group) or 'nothing'}: it is not a "
            "recording in the layout of BData",
            remedy,
            path,
        )
    return group[found]
