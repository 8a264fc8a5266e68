"""How near decoded labels are to what was seen, and how near others would be.

A label is known by its WordNet id, such as n02690373. The true category of an image is in its name. One label is the
answer to one image in one table of scores (`label_scores`), and all else is looked up there: what a system scores,
what one label scores as the answer to all images, and what labels score that belong to other images.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd


def label_scores(
    true: Sequence[str] | np.ndarray,
    labels: Sequence[str] | np.ndarray,
    classes: Collection[str],
    similarity: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Score every label as the answer to every image.

    Parameters
    ----------
    true : n_images str
        Categories of the images.
    labels : n_labels str
    classes : collection of str
        All classes of the bank. Images of other categories cannot be named right.
    similarity : array of shape (n_images, n_labels), or None
        Wu-Palmer similarity of each category to each label; None without WordNet.

    Returns
    -------
    dict of metric to array of shape (n_images, n_labels)
        "exact_class", NaN for images whose category is not in the bank; and, with similarities, "wup"; "wup_of_new",
        the same, but NaN for images whose category is in the bank; and "label_two_way": of the images of other
        categories, the share to whose category the label is less near than to this image's; as near counts half. NaN
        where there are no such images.
    """
    true, labels = np.asarray(true), np.asarray(labels)
    exact = (true[:, None] == labels).astype(float)
    exact[~np.isin(true, list(classes))] = np.nan
    if similarity is None:
        return {"exact_class": exact}
    own, other = similarity[:, None], similarity[None]
    nearer = (own > other) + 0.5 * (own == other)  # (n_images, n_images, n_labels)
    is_foil = true[:, None] != true
    n_foils = is_foil.sum(axis=1, keepdims=True).astype(float)
    n_foils[n_foils == 0] = np.nan
    two_way = np.einsum("ij,ijl->il", is_foil, nearer) / n_foils
    new = np.where(np.isnan(exact), similarity, np.nan)
    return {"wup": similarity, "wup_of_new": new, "exact_class": exact, "label_two_way": two_way}


def crossed_scores(
    true: np.ndarray, labels: np.ndarray, classes: Collection[str], similarity: pd.DataFrame | None
) -> dict[str, np.ndarray]:
    """Score the labels that were decoded of each image as the answer to each image.

    Parameters
    ----------
    true : array of shape (n_images,), str
    labels : array of shape (n_images, n_labels), str
        The first of an image is what is scored; "wup_of_labels" is the mean over all.
    classes : collection of str
        As in `label_scores`.
    similarity : DataFrame or None
        Wu-Palmer similarity, a row a category and a column a label.

    Returns
    -------
    dict of metric to array of shape (n_images, n_images)
        Rows are images, columns those whose labels answer: the diagonal is the system's own score.
    """
    unique, columns = np.unique(labels, return_inverse=True)
    columns = columns.reshape(labels.shape)
    of_labels = None if similarity is None else similarity.loc[true, unique].to_numpy()
    found = {}
    for name, scores in label_scores(true, unique, classes, of_labels).items():
        found[name] = scores[:, columns[:, 0]]
        if name == "wup":
            found["wup_of_labels"] = scores[:, columns].mean(axis=2)
    return found


def expectation_over_others(crossed: np.ndarray) -> np.ndarray:
    """Score that an image has on average when the labels of another image, drawn at random, answer: (n_images,)."""
    return (crossed.sum(axis=1) - np.diag(crossed)) / (len(crossed) - 1)


def by_category(scores: pd.DataFrame) -> pd.DataFrame:
    """Average the scores over the images of a category, which count as one: a label that suits one suits the others.

    The number of the category stands in place of the image's id. The real test images are of one category each.
    """
    categories = scores.assign(stimulus_id=scores["stimulus_id"] // 10**6)
    keys = ["subject", "system", "stimulus_id", "metric"]
    return categories.groupby(keys, sort=False, as_index=False)["value"].mean()[[*keys, "value"]]
