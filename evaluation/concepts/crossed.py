"""Labels decoded on Generic Object Decoding: how near they are to what was seen, and how near others would be.

A label is known by its WordNet id, such as n02690373. The true category of an image is in its name. One label is the
answer to one image in one table of scores (`label_scores`), and all else is looked up there: what a system scores,
what one label scores as the answer to all images, and what labels score that belong to other images.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from baselines.semantic_brain_decoding import recipes
from evaluation.catalogue import ALL_SUBJECTS, CONCEPT_SYSTEMS, CONSTANT, CORRECTED, PERFECT, PERMUTED
from evaluation.results import read_record, read_scores_table
from evaluation.significance import holm
from minddiffuser.config import Config
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import DataError, open_made
from reconstruction import folder

SCORE = "evaluation/40_score_concepts.py"
FROM_WORDNET = ("wup", "wup_of_new", "wup_of_labels", "label_two_way")  # metrics that need it
FORMS = tuple(name for name, system in CONCEPT_SYSTEMS.items() if system.kind == "other")
ERRORS = ("mse_training", "mse_validation", "mse_test", "mse_test_raw")


@dataclass(frozen=True)
class Decoded:
    """What was decoded of one subject's test images, in one form of the rival.

    Attributes
    ----------
    ids : array of shape (n_images,), int64
        1443537022563 for n01443537_22563.
    files : tuple of str
        The stimuli: n01443537_22563.JPEG.
    labels : array of shape (n_images, n_labels), str
        WordNet ids; the first is the label, the others its runners-up.
    training : array of shape (n_categories,), str
        WordNet ids of the categories of the training images.
    labels_of_stimuli : array of shape (n_images, n_labels), str
        Those of the images' own features.
    names : dict of str to str
        What each class of the bank is called, by WordNet id.
    validation_true, validation_labels : arrays of shape (n,) and (n, n_labels), str
        Of single trials of training images that were not fitted; n is 0 where all were.
    errors : dict of str to float
        Mean squared errors of the decoded features, those of `ERRORS` that there are.
    fingerprint : str
        Of the file.
    """

    ids: np.ndarray
    files: tuple[str, ...]
    labels: np.ndarray
    training: np.ndarray
    labels_of_stimuli: np.ndarray
    names: dict[str, str]
    validation_true: np.ndarray
    validation_labels: np.ndarray
    errors: dict[str, float]
    fingerprint: str

    @property
    def true(self) -> np.ndarray:
        """True categories of the test images: (n_images,), str."""
        return np.array([image_name(key).partition("_")[0] for key in self.ids])


@dataclass(frozen=True)
class Tables:
    """What `evaluation/40_score_concepts.py` writes; its docstring has the columns.

    Attributes
    ----------
    summary, paired, permutation, labels : DataFrame
    record : dict
        The settings, the states of what was scored, numbers of samples, and what is absent.
    """

    summary: pd.DataFrame
    paired: pd.DataFrame
    permutation: pd.DataFrame
    labels: pd.DataFrame
    record: dict[str, Any]


def image_name(key: int) -> str:
    """Name of an image, of which `god.picture_key` makes its key: n01443537_22563 for 1443537022563."""
    return f"n{key // 10**6:08d}_{key % 10**6}"


def read_decoded(config: Config, subject: str, name: str) -> Decoded:
    """Read the labels that a system decoded.

    Raises
    ------
    DataError
        The file is missing, broken, of another subject, or made with other settings.
    """
    with open_made(recipes.labels(config, subject, name.rpartition("/")[2])) as file:
        wnids = file["class_wnid"].asstr()[:].astype(str)
        true, validation = np.zeros(0, str), np.zeros((0, 1), int)
        if "validation_wnid" in file:
            true, validation = file["validation_wnid"].asstr()[:].astype(str), file["validation_classes"][:]
        return Decoded(
            ids=file["nsd_id"][:],
            files=tuple(file["image_name"].asstr()[:].tolist()),
            labels=wnids[file["classes"][:]],
            training=file["training_wnid"].asstr()[:].astype(str),
            labels_of_stimuli=wnids[file["classes_of_stimuli"][:]],
            names=dict(zip(wnids.tolist(), file["class_label"].asstr()[:].tolist(), strict=True)),
            validation_true=true,
            validation_labels=wnids[validation],
            errors={error: float(file[error][()]) for error in ERRORS if error in file},
            fingerprint=str(file.attrs["fingerprint"]),
        )


def read_tables(output: Path, config: Config) -> Tables:
    """Read what was scored from its folder.

    Raises
    ------
    DataError
        A table is missing, and the message names the command that makes it; or it was made with other settings.
    """
    paths = {name: output / f"{name}.csv" for name in ("summary", "paired", "permutation", "labels")}
    for path in (*paths.values(), output / "scores.json"):
        if not path.is_file():
            raise DataError(f"{path} is missing; make it with: python {SCORE}")
    record = read_record(output, config, f"make it with: python {SCORE}")
    found = {name: read_scores_table(path, f"make it with: python {SCORE}") for name, path in paths.items()}
    return Tables(**found, record=record)


def states_of(config: Config, subject: str) -> dict[str, str]:
    """Systems and controls of a subject that are there, and what they were made of: labels, and pictures if any.

    Raises
    ------
    DataError
        One of them was made with other settings than the configuration has.
    """
    found, root = {}, config.folder(subject) / "reconstruction"
    for name, pictures in recipes.systems(config, subject).items():
        labels = recipes.labels(config, subject, name.rpartition("/")[2])
        if labels.path.is_file():
            open_made(labels).close()
            there = folder.state(root / name)
            if there:
                folder.check_samples(pictures)
            found[name] = f"labels {labels.fingerprint}; {there or 'no pictures'}"
    if found:
        there = folder.state(root / CONSTANT)
        if there:
            own = folder.read_settings(root / CONSTANT)["lineage"][f"reconstruction/{CONSTANT}"]
            folder.require(recipes.constant(config, subject, own["wnid"], own["label"]))
        found[CONSTANT] = f"test images of {next(iter(found.values())).partition(';')[0]}; {there or 'no pictures'}"
    if CORRECTED in found:
        found[PERMUTED] = found[PERFECT] = found[CORRECTED].partition(";")[0]
    return found


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

    The real test images are of one category each, and stay as they are.

    Parameters
    ----------
    scores : DataFrame
        Columns subject, system, nsd_id, metric, value.

    Returns
    -------
    DataFrame
        The same, with the number of the category in place of the image's id.
    """
    categories = scores.assign(nsd_id=scores["nsd_id"] // 10**6)
    keys = ["subject", "system", "nsd_id", "metric"]
    return categories.groupby(keys, sort=False, as_index=False)["value"].mean()[[*keys, "value"]]


def permutation_test(crossed: np.ndarray, true: np.ndarray, n_permutations: int, seed: int) -> dict[str, float]:
    """Test whether the mean score is higher than that of the same labels, dealt out to the images at random.

    p = (1 + number of permutations with a mean at least as high) / (1 + n_permutations), one-sided. It is exact
    whatever the labels are, constant ones included, and says nothing of what a constant label would reach.

    Parameters
    ----------
    crossed : array of shape (n_images, n_images)
        Of `crossed_scores`; images whose row is not a number do not count.
    true : array of shape (n_images,), str
        Their categories: the mean is over categories of means over images.
    n_permutations, seed : int

    Returns
    -------
    dict
        observed; permuted_mean and permuted_high, mean and 97.5 % quantile over permutations; p; n, categories that
        count.

    References
    ----------
    Good (2005), Permutation, Parametric, and Bootstrap Tests of Hypotheses, chapter 3.
    """
    n = len(crossed)
    rows = np.flatnonzero(np.isfinite(crossed).all(axis=1))
    identity = np.broadcast_to(np.arange(n), (n_permutations, n))
    dealt = numpy_generator(seed, "permutations of labels", n).permuted(identity, axis=1)
    _, category, n_images = np.unique(true[rows], return_inverse=True, return_counts=True)
    weights = 1 / (len(n_images) * n_images[category])
    means = crossed[rows, dealt[:, rows]] @ weights
    observed = float(crossed[rows, rows] @ weights)
    return {
        "observed": observed,
        "permuted_mean": float(means.mean()),
        "permuted_high": float(np.quantile(means, 0.975)),
        "p": (1 + (means >= observed - 1e-9).sum()) / (1 + n_permutations),
        "n": len(n_images),
    }


def permutation_table(
    crossed: Mapping[tuple[str, str], Mapping[str, np.ndarray]], true: np.ndarray, n_permutations: int, seed: int
) -> pd.DataFrame:
    """Test the labels of every system, for each subject and over several.

    Parameters
    ----------
    crossed : mapping of (subject, system) to mapping of metric to array of shape (n_images, n_images)
        Of `crossed_scores`, of the same images; what is not of `FORMS` is left out.
    true : array of shape (n_images,), str
        Categories of the images.
    n_permutations, seed : int

    Returns
    -------
    DataFrame
        Columns subject, system, metric, observed, permuted_mean, permuted_high, p, p_holm, n. For "all" the subjects'
        mean score is tested, their labels dealt out in the same way. p_holm is corrected for all of a subject.
    """
    tested = {key: tables for key, tables in crossed.items() if key[1] in FORMS}
    subjects = {subject for subject, _ in tested}
    for name in FORMS if len(subjects) > 1 else ():
        of_subjects = [tables for (_, system), tables in tested.items() if system == name]
        if len(of_subjects) == len(subjects):
            tested[ALL_SUBJECTS, name] = {
                metric: np.mean([tables[metric] for tables in of_subjects], axis=0) for metric in of_subjects[0]
            }
    rows = [
        {"subject": subject, "system": name, "metric": metric, **permutation_test(table, true, n_permutations, seed)}
        for (subject, name), tables in tested.items()
        for metric, table in tables.items()
        if np.isfinite(table).all(axis=1).any()
    ]
    columns = ["subject", "system", "metric", "observed", "permuted_mean", "permuted_high", "p", "n"]
    table = pd.DataFrame(rows, columns=columns)
    corrected = table.groupby("subject", sort=False)["p"].transform(lambda p: holm(p.to_numpy()))
    table.insert(columns.index("n"), "p_holm", corrected)
    return table


def contact_sheet(
    labels: pd.DataFrame, stimuli: Mapping[int, np.ndarray], pictures: Sequence[Mapping[int, np.ndarray]]
) -> Image.Image:
    """Draw test images, each with the pictures of its labels beside it.

    Parameters
    ----------
    labels : DataFrame
        Rows of labels.csv of one subject and system, by rank.
    stimuli : mapping of id to array of shape (height, width, 3), uint8
        The images to show, in this order.
    pictures : sequence of mapping of id to array of shape (height, width, 3), uint8
        By rank of the label; of the last labels there may be none.

    Returns
    -------
    PIL.Image.Image
    """
    tile, gap, head, foot = 144, 10, 30, 44
    x_of = [gap + k * (tile + gap) + (2 * gap if k else 0) for k in range(len(pictures) + 1)]
    step = tile + foot
    sheet = Image.new("RGB", (x_of[-1] + tile + gap, head + len(stimuli) * step + 26), "white")
    draw, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(14), ImageFont.load_default(12)
    heads = ["stimulus", *(f"label {rank + 1}" for rank in range(len(pictures)))]
    for x, text in zip(x_of, heads, strict=True):
        draw.text((x, 8), text, "black", font)

    def show(picture: np.ndarray, x: int, y: int, text: str, below: str) -> None:
        how = Image.Resampling.LANCZOS if picture.shape[1] > tile else Image.Resampling.NEAREST
        sheet.paste(Image.fromarray(picture).resize((tile, tile), how), (x, y))
        draw.text((x, y + tile + 3), _fit(text, small, tile), "black", small)
        draw.text((x, y + tile + 18), below, "#555555", small)

    for row, (key, stimulus) in enumerate(stimuli.items()):
        y, of_image = head + row * step, labels[labels["image"] == image_name(key)]
        show(stimulus, x_of[0], y, of_image["true_label"].iloc[0], "true category")
        for x, of_rank, label in zip(x_of[1:], pictures, of_image.to_dict("records"), strict=False):
            similarity = "" if np.isnan(label["wup"]) else f"Wu-Palmer {label['wup']:.2f}"
            show(of_rank[key], x, y, label["label"], similarity)
    rule = "test images at evenly spaced quantiles of the score, from worst to best"
    draw.text((gap, sheet.height - 20), f"{labels['subject'].iloc[0]}, {rule}", "#555555", small)
    return sheet


def _fit(text: str, font: Any, width: int) -> str:
    """Shorten a label to a width in pixels: first to its first name, then anywhere."""
    if font.getlength(text) > width:
        text = text.partition(",")[0]
    while font.getlength(text) > width:
        text = f"{text.rstrip('…')[:-1]}…"
    return text
