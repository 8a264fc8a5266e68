"""What stands in for the brain in controls: few numbers of what was decoded, or a training image that is like it."""

from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA

from feature_decoding.ridge import Scaler
from minddiffuser.correlation import unit_rows
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import DataError

_ROWS_AT_ONCE = 512


class Targets(NamedTuple):
    """z (n_images, 4, height, width) and c (n_images, 15, width), float32."""

    z: np.ndarray
    c: np.ndarray


def chosen(names: list[str], only: list[str] | None) -> list[str]:
    """Choose systems by name, where "control/" may be left out; in the order of `names`, all of them for None.

    Raises
    ------
    DataError
        There is no system of such a name.
    """
    asked = names if only is None else [name if name in names or "/" in name else f"control/{name}" for name in only]
    if unknown := [name.removeprefix("control/") for name in asked if name not in names]:
        known = ", ".join(name.removeprefix("control/") for name in names)
        raise DataError(f"--only {' '.join(unknown)}: the configuration has {known}")
    return [name for name in names if name in asked]


def other_images(n: int, seed: int) -> np.ndarray:
    """For each of n images another one, and each once: (n,), a cycle, so that no image keeps its own."""
    order = numpy_generator(seed, "shuffled").permutation(n)
    other = np.empty(n, dtype=np.int64)
    other[order] = np.roll(order, 1)
    return other


class JointSpace:
    """z and c of an image as one row, in units of the training images' deviations, with equal weight on both.

    Parameters
    ----------
    training : Targets
        True targets of the training images.
    """

    def __init__(self, training: Targets) -> None:
        self._scalers = [Scaler.of(_flat(part)) for part in training]
        self._shapes = [part.shape[1:] for part in training]
        self._n_units = [int(np.prod(shape)) for shape in self._shapes]
        self.training = self.rows(training)

    def rows(self, targets: Targets) -> np.ndarray:
        """Targets as rows: (n_images, n_units of z + n_units of c), float32."""
        found, column = np.empty((len(targets.z), sum(self._n_units)), np.float32), 0
        for part, scaler, n in zip(targets, self._scalers, self._n_units, strict=True):
            for start in range(0, len(part), _ROWS_AT_ONCE):  # all at once would take copies in float64
                rows = slice(start, start + _ROWS_AT_ONCE)
                found[rows, column : column + n] = scaler.apply(_flat(part[rows])) / np.sqrt(n)
            column += n
        return found

    def targets(self, rows: np.ndarray) -> Targets:
        """Undo `rows`."""
        parts = np.split(rows, [self._n_units[0]], axis=1)
        z, c = (
            scaler.undo(part * np.sqrt(n)).reshape(len(rows), *shape).astype(np.float32)
            for part, scaler, n, shape in zip(parts, self._scalers, self._n_units, self._shapes, strict=True)
        )
        return Targets(z, c)

    def principal_components(self, n: int, seed: int) -> np.ndarray:
        """First principal components of the training images: (n or fewer, n_units)."""
        n = min(n, *self.training.shape)
        if not n:  # which PCA refuses
            return np.empty((0, self.training.shape[1]), self.training.dtype)
        return PCA(n, svd_solver="randomized", random_state=seed).fit(self.training).components_

    def limited(self, decoded: Targets, components: np.ndarray) -> Targets:
        """Keep of what was decoded its coordinates on some components; on none: the mean of the training images."""
        return self.targets(self.rows(decoded) @ components.T @ components)

    def nearest(self, decoded: Targets) -> np.ndarray:
        """For each decoded image the training image with the highest correlation: (n_images,), rows of training."""
        made, starts = unit_rows(self.rows(decoded)), range(0, len(self.training), _ROWS_AT_ONCE)
        r = [made @ unit_rows(self.training[start : start + _ROWS_AT_ONCE]).T for start in starts]
        return np.concatenate(r, axis=1).argmax(axis=1)


def _flat(part: np.ndarray) -> np.ndarray:
    return part.reshape(len(part), -1)
