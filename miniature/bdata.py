"""Write files in the layout of bdpy's BData (https://github.com/KamitaniLab/bdpy), which `data.bdata` reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from minddiffuser.store import write_arrays


def write_bdata(
    path: Path, columns: Mapping[str, np.ndarray], metadata: Mapping[str, Mapping[str, np.ndarray | float]]
) -> None:
    """Write a BData file as bdpy reads and writes it; it is seen whole or not at all.

    Parameters
    ----------
    path : Path
        Ending in `.h5`, or bdpy does not open it.
    columns : mapping of str to array of shape (n_samples,) or (n_samples, k)
        In this order; each key marks its own columns with 1.
    metadata : mapping of str to mapping of str to array of shape (k,) or number
        Further keys, each with its values on the columns of some of the keys above: `{"ROI_V1": {"VoxelData": mask}}`.
        Elsewhere they are not a number.
    """
    arrays = [np.reshape(array, (len(array), -1)) for array in columns.values()]
    owner = np.repeat(list(columns), [array.shape[1] for array in arrays])
    values = [np.where(owner == key, 1, np.nan) for key in columns]
    for given in metadata.values():
        values.append(np.full(len(owner), np.nan))
        for key, value in given.items():
            values[-1][owner == key] = value
    keys = [*columns, *metadata]
    described = [f"1 = {key}" for key in columns] + [f"value of {key}" for key in metadata]
    contents = {
        "dataset": np.concatenate(arrays, axis=1).astype(np.float64),
        "metadata/key": _encode(keys),
        "metadata/description": _encode(described),
        "metadata/value": np.stack(values),
    }
    write_arrays(path, contents, {})


def _encode(texts: Sequence[str]) -> np.ndarray:
    return np.array([text.encode() for text in texts], h5py.string_dtype("ascii"))
