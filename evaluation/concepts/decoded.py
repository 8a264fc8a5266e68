"""What was decoded of one subject's test images on Generic Object Decoding: labels, known by their WordNet ids."""

from dataclasses import dataclass

import numpy as np

from baselines.semantic_brain_decoding import recipes
from evaluation.concepts.catalogue import CONSTANT, CORRECTED, PERFECT, PERMUTED
from evaluation.scores import place_of
from minddiffuser.config import Config
from minddiffuser.store import open_made
from reconstruction import folder

ERRORS = ("mse_training", "mse_validation", "mse_test", "mse_test_raw")
GENERATE = "make them with: python baselines/semantic_brain_decoding/39_generate.py"


@dataclass(frozen=True)
class Decoded:
    """What was decoded of one subject's test images, in one form of the rival; labels are WordNet ids, as str."""

    ids: np.ndarray  # (n_images,), int64: 1443537022563 for n01443537_22563
    files: tuple[str, ...]  # the stimuli: n01443537_22563.JPEG
    labels: np.ndarray  # (n_images, n_labels); the first is the label, the others its runners-up
    training: np.ndarray  # (n_categories,): categories of the training images
    labels_of_stimuli: np.ndarray  # (n_images, n_labels): those of the images' own features
    names: dict[str, str]  # what each class of the bank is called
    # Of single trials of training images that were not fitted, (n,) and (n, n_labels); n is 0 where all were.
    validation_true: np.ndarray
    validation_labels: np.ndarray
    errors: dict[str, float]  # mean squared errors of the decoded features, those of `ERRORS` that there are
    fingerprint: str  # of the file

    @property
    def true(self) -> np.ndarray:
        """True categories of the test images: (n_images,), str."""
        return np.array([image_name(key).partition("_")[0] for key in self.ids])


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
            ids=file["stimulus_id"][:],
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


def has_pictures(config: Config, subject: str, name: str) -> bool:
    """Tell whether a system has pictures."""
    return folder.state(place_of(config, subject, name)) is not None


def states_of(config: Config, subject: str) -> dict[str, str]:
    """Systems and controls of a subject that are there, and what they were made of: labels, and pictures if any.

    Raises
    ------
    DataError
        One of them was made with other settings than the configuration has.
    """
    found = {}
    for name, pictures in recipes.systems(config, subject).items():
        labels = recipes.labels(config, subject, name.rpartition("/")[2])
        if labels.path.is_file():
            open_made(labels).close()
            there = folder.state(place_of(config, subject, name))
            if there:
                folder.check_samples(pictures)
            found[name] = f"labels {labels.fingerprint}; {there or 'no pictures'}"
    if found:
        place = place_of(config, subject, CONSTANT)
        there = folder.state(place)
        if there:
            own = folder.read_settings(place)["lineage"][f"reconstruction/{CONSTANT}"]
            folder.require(recipes.constant(config, subject, own["wnid"], own["label"]))
        found[CONSTANT] = f"test images of {next(iter(found.values())).partition(';')[0]}; {there or 'no pictures'}"
    if CORRECTED in found:
        found[PERMUTED] = found[PERFECT] = found[CORRECTED].partition(";")[0]
    return found
