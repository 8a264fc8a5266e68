"""What maps of the brain say in numbers: the share of each ROI, and whether meaning rises along the visual hierarchy.

Of each target family and each voxel there is the share of variance that what is decoded explains (`maps.explained`). An
ROI's relative value is the mean over its voxels, divided by that over all voxels; its share is that times its share of
the voxels. The index of c (meaning) against z (layout) in an ROI is

    index = (c - z) / (c + z), of relative values: above 0, more of c than of z is decoded there

and the statement is r, the correlation over ROIs of index and level in the hierarchy, in which an ROI counts by its
number of voxels: that of 25 voxels is hardly known. Intervals are over images, with the decoders as they are. The test
asks whether any other division of the same map would do as well: its labels are permuted so that ROIs keep their sizes,
and lie together in space, mirrored in both hemispheres.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from feature_decoding.maps import Explained
from minddiffuser.seeds import numpy_generator

# Levels in the visual hierarchy of the regions of MindDiffuser's authors, as V1 to V4 are counted, and after them by
# how far from V1 they lie along the ventral, lateral and dorsal streams (Felleman & Van Essen 1991, doi
# 10.1093/cercor/1.1.1; Grill-Spector & Weiner 2014, doi 10.1038/nrn3747). The order of those on a level is open.
LEVELS = {
    "V1": 1, "V2": 2, "V3": 3, "hV4": 4, "V3ab": 4, "LO": 5, "VO": 5, "MT": 5, "PHC": 6, "MST": 6, "IPS": 6,
}  # fmt: skip
LEAST = 5  # ROIs of which a correlation says something
N_PERMUTATIONS = 1000


def share_table(
    families: Mapping[str, Explained], rois: Sequence[str], roi: np.ndarray, n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """Give each ROI's part in each family.

    Parameters
    ----------
    families : mapping of str to Explained
        Groups are ROIs.
    rois : sequence of str
    roi : array of shape (n_voxels,), int
        Number in `rois`.
    n_bootstrap, seed : int

    Returns
    -------
    DataFrame
        family; roi; n_voxels; relative, the value of a voxel (1 is the mean over all); share, of the sum over all
        voxels; low, high, of the share, 95 %.
    """
    n_voxels, parts = np.bincount(roi), []
    for family, of in families.items():
        draws = relative(resampled(of.by_image, n_bootstrap, seed), n_voxels) * n_voxels / n_voxels.sum()
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        value = relative(of.by_image.mean(axis=0), n_voxels)
        columns = {"relative": value, "share": value * n_voxels / n_voxels.sum(), "low": low, "high": high}
        parts.append(pd.DataFrame({"family": family, "roi": rois, "n_voxels": n_voxels, **columns}))
    return pd.concat(parts, ignore_index=True)


def index_table(
    c: Explained, z: Explained, rois: Sequence[str], roi: np.ndarray, n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """Give the index of c against z of each ROI: roi, level (NaN where it has none), index, low, high."""
    n_voxels = np.bincount(roi)
    value = index(c.by_image.mean(axis=0), z.by_image.mean(axis=0), n_voxels)
    low, high = np.quantile(_index_draws(c, z, n_voxels, n_bootstrap, seed), [0.025, 0.975], axis=0)
    levels = [LEVELS.get(name, np.nan) for name in rois]
    return pd.DataFrame({"roi": rois, "level": levels, "index": value, "low": low, "high": high})


def hierarchy(
    c: Explained,
    z: Explained,
    rois: Sequence[str],
    roi: np.ndarray,
    places: np.ndarray | None,
    n_bootstrap: int,
    seed: int,
) -> dict[str, float]:
    """Correlate index and level over ROIs, with an interval and a test.

    Parameters
    ----------
    c, z, rois, roi, n_bootstrap, seed
        As in `index_table`.
    places : array of shape (n_voxels, 3), optional
        In the volume; left to right first. None where they are not known: then there is no test.

    Returns
    -------
    dict
        r, r_low, r_high (95 %), n_rois; with the test p of both sides, n_permutations; empty where fewer than five ROIs
        have a level.
    """
    level = np.array([LEVELS.get(name, np.nan) for name in rois])
    has_level = np.isfinite(level)
    if has_level.sum() < LEAST:
        return {}
    n_voxels = np.bincount(roi)

    def r_of(indices: np.ndarray) -> np.ndarray:
        """Correlate level and each row of indices, (..., n_rois)."""
        return weighted_correlation(level[has_level], indices[..., has_level], n_voxels[has_level])

    r = float(r_of(index(c.by_image.mean(axis=0), z.by_image.mean(axis=0), n_voxels)))
    low, high = np.quantile(r_of(_index_draws(c, z, n_voxels, n_bootstrap, seed)), [0.025, 0.975])
    found = {"r": r, "r_low": float(low), "r_high": float(high), "n_rois": int(has_level.sum())}
    if places is None:
        return found
    rng, chance = numpy_generator(seed, "permuted labels"), []
    for _ in range(N_PERMUTATIONS):
        other = permuted_labels(places, roi, rng)
        of_c, of_z = (np.bincount(other, of.by_voxel) / n_voxels for of in (c, z))
        chance.append(index(of_c, of_z, n_voxels))
    n_as_extreme = (np.abs(r_of(np.array(chance))) >= abs(r) - 1e-12).sum()
    return {**found, "p": float((1 + n_as_extreme) / (1 + N_PERMUTATIONS)), "n_permutations": N_PERMUTATIONS}


def weighted_correlation(a: np.ndarray, B: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Correlate a, (n,), with each row of B, (..., n), where values count by their weights, (n,)."""
    share = weight / weight.sum()
    a, B = a - a @ share, B - (B @ share)[..., None]
    return B @ (a * share) / np.sqrt((B**2 @ share) * (a**2 @ share))


def relative(means: np.ndarray, n_voxels: np.ndarray) -> np.ndarray:
    """Divide means over the voxels of each ROI, (..., n_rois), by that over all voxels."""
    return means / (means @ n_voxels / n_voxels.sum())[..., None]


def index(c: np.ndarray, z: np.ndarray, n_voxels: np.ndarray) -> np.ndarray:
    """Index of c against z, (..., n_rois), of means over the voxels of each ROI."""
    c, z = relative(c, n_voxels), relative(z, n_voxels)
    return (c - z) / (c + z)


def resampled(by_image: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Means of resampled images, (n_bootstrap, n_columns); the same images for all families."""
    return _counts(len(by_image), n_bootstrap, seed) @ by_image.astype(np.float32) / len(by_image)


@lru_cache(maxsize=1)
def _counts(n_images: int, n_bootstrap: int, seed: int) -> np.ndarray:
    """How often each image is drawn: (n_bootstrap, n_images), float32, the same for all families."""
    rng = numpy_generator(seed, "images of maps")
    counts = np.empty((n_bootstrap, n_images), np.float32)
    for row in counts:
        row[:] = np.bincount(rng.integers(n_images, size=n_images), minlength=n_images)
    return counts


def _index_draws(c: Explained, z: Explained, n_voxels: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    of_c, of_z = (resampled(of.by_image, n_bootstrap, seed) for of in (c, z))
    return index(of_c, of_z, n_voxels)


def permuted_labels(places: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Divide voxels anew into groups of the same sizes, each of which lies together, the same way left and right.

    Voxels are cut in two along a random direction, in proportion to the sizes of the groups that come to either side,
    which are drawn at random; and the parts again, until each group has its own.

    Parameters
    ----------
    places : array of shape (n_voxels, 3)
        Left to right first; the middle is taken to be half way.
    label : array of shape (n_voxels,), int
    rng : Generator

    Returns
    -------
    array of shape (n_voxels,), int
    """
    middle = (places[:, 0].min() + places[:, 0].max()) / 2
    folded = np.c_[np.abs(places[:, 0] - middle), places[:, 1:]]
    sizes, found = np.bincount(label), np.empty_like(label)

    def divide(voxels: np.ndarray, groups: np.ndarray) -> None:
        if len(groups) == 1:
            found[voxels] = groups[0]
            return
        half = len(groups) // 2
        along = folded[voxels] @ rng.normal(size=3)
        n_first = sizes[groups[:half]].sum()
        divided = voxels[np.argpartition(along, n_first)]
        divide(divided[:n_first], groups[:half])
        divide(divided[n_first:], groups[half:])

    divide(np.arange(len(label)), rng.permutation(len(sizes)))
    return found
