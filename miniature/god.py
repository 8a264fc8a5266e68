"""Write a simulated Generic Object Decoding in its own on-disk layout, and an ImageNet folder beside it.

Scenes and brain are simulated as for the miniature NSD. Each stimulus has one object; no category has both training
and test images. Reference: Horikawa & Kamitani 2017, doi 10.1038/ncomms15037.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from data.god import (
    FMRIPREP_VOXELS,
    IMAGERY,
    PERCEPTION,
    SPM_VOXELS,
    TEST_IMAGES,
    TRAINING,
    TRAINING_IMAGES,
)
from minddiffuser.config.miniature import MiniatureGod
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import write_atomically
from miniature.bdata import write_bdata
from miniature.brain import noise_deviation, simulate_signal, simulate_trials
from miniature.categories import CATEGORIES, Category
from miniature.scenes import Scene, render, sample_scene_of

LABELS = "LOC_synset_mapping.txt"  # as Kaggle's release of ImageNet calls it
_LARGEST_NUMBER = 150_000  # of an image in its class: up to six digits, as in ImageNet
# Share of what higher areas are tuned to that a category tells. Labels of one object that fills the picture are decoded
# well above chance in the real experiment, from single trials; with the miniature NSD's .06 they are not.
_NAMED = 0.5
_TRAINING_RUN = 50  # trials, in the real experiment
# Voxels of the ROIs of the real Subject1, and the simulated area that each is like. Real ROIs overlap; here only the
# unions below do.
_ROIS = {
    "ROI_V1": (1004, "V1"),
    "ROI_V2": (1018, "V2"),
    "ROI_V3": (759, "V3"),
    "ROI_V4": (740, "hV4"),
    "ROI_LOC": (540, "LO"),
    "ROI_FFA": (568, "VO"),
    "ROI_PPA": (356, "PHC"),
}
_LOWER, _HIGHER = ("ROI_V1", "ROI_V2", "ROI_V3"), ("ROI_LOC", "ROI_FFA", "ROI_PPA")
_UNIONS = {"ROI_LVC": _LOWER, "ROI_HVC": _HIGHER, "ROI_VC": tuple(_ROIS)}
# What is imagined moves only the higher areas, a third as much as what is seen: a simplification of our own.
_IMAGERY_GAIN = 1 / 3


@dataclass(frozen=True)
class Picture:
    """One image of a category.

    Attributes
    ----------
    category : Category
    number : int
        Of the image in its category.
    scene : Scene
    visible : array of shape (1, 64, 64), bool
        The pixels in which the object is seen.
    jpeg : bytes
        The image as it is on disk.
    """

    category: Category
    number: int
    scene: Scene
    visible: np.ndarray
    jpeg: bytes

    @property
    def name(self) -> str:
        """File name, such as n01518878_10042.JPEG."""
        return _name(self.category, self.number)

    @property
    def stimulus_id(self) -> str:
        """Id in recordings and lists of images, such as 1518878.010042."""
        return f"{int(self.category.wnid[1:])}.{self.number:06d}"


def draw_stimuli(categories: Iterable[Category], n_images: int, seed: int) -> list[Picture]:
    """Draw the images that the subjects see, so many of each category, in the order of their names as in the dataset.

    Each image has its own generator, so that more of them, or more categories, do not change the first.
    """
    pictures = [_draw(each, number, seed) for each in categories for number in _numbers(each, n_images, seed)]
    return sorted(pictures, key=lambda picture: picture.name)


def write_stimuli(root: Path, training: Sequence[Picture], test: Sequence[Picture]) -> None:
    """Write the images that the subjects see, and the two lists of them."""
    for folder, listed, pictures in (("training", TRAINING_IMAGES, training), ("test", TEST_IMAGES, test)):
        for picture in pictures:
            write_atomically(root / "images" / folder / picture.name, picture.jpeg)
        lines = [f'{picture.stimulus_id},"{picture.name}"\n' for picture in pictures]
        write_atomically(root / listed, "".join(lines))


def write_class(imagenet: Path, category: Category, n_images: int, stimuli: Sequence[Picture], seed: int) -> None:
    """Write the folder of a class of ImageNet: so many images that nobody saw, and the stimuli of that category.

    The real stimuli, too, are images of ImageNet. Of those that nobody saw, files that are there already are left.
    """
    folder = imagenet / category.wnid
    for number in _numbers(category, -n_images, seed):
        if not (folder / _name(category, number)).exists():
            write_atomically(folder / _name(category, number), _draw(category, number, seed).jpeg)
    for picture in stimuli:
        if picture.category == category:
            write_atomically(folder / picture.name, picture.jpeg)


def write_labels(imagenet: Path) -> None:
    """Write ImageNet's list of classes, in the order of their ids: lines such as `n02930766 yellow car`."""
    lines = sorted(f"{category.wnid} {category.label}\n" for category in CATEGORIES if category.in_imagenet)
    write_atomically(imagenet / LABELS, "".join(lines))


def write_recording(
    path: Path, subject: str, training: Sequence[Picture], test: Sequence[Picture], size: MiniatureGod, seed: int
) -> None:
    """Write the trials of a subject, in the order of presentation.

    Training images are shown once, in runs of up to 50; test images once in each of `n_repetitions` runs; and they are
    imagined once in each of `n_imagery` runs. Gain and mean drift from run to run. Signal-to-noise ratios are those
    of the miniature NSD: a trial is one response to one picture in both, and the real ratio is not known to us.

    Parameters
    ----------
    path : Path
    subject : str
        The name draws the brain (receptive fields, tunings, noise, sizes of ROIs) and the order of the images.
    training, test : sequences of Picture
        In the order of the lists.
    """
    rng = numpy_generator(seed, "god brain", subject)
    rois = _sample_rois(size.roi_scale, rng)
    areas = np.array([_ROIS[roi][1] for roi in rois])
    pictures = [*training, *test]
    signal = simulate_signal(
        np.stack([np.asarray(Image.open(BytesIO(picture.jpeg))) for picture in pictures]),  # as on disk
        [picture.scene for picture in pictures],
        [picture.visible for picture in pictures],
        areas,
        rng,
        named=_NAMED,
    )
    noise = noise_deviation(areas, 1.0, rng)
    shared = rng.normal(size=(5, len(rois))) / np.sqrt(5)
    seen = {TRAINING: signal[: len(training)], PERCEPTION: signal[len(training) :]}
    signals = {**seen, IMAGERY: seen[PERCEPTION] * np.where(np.isin(rois, _HIGHER), _IMAGERY_GAIN, 0)}
    stimuli = {TRAINING: training, PERCEPTION: test, IMAGERY: test}
    ids = {kind: np.array([float(picture.stimulus_id) for picture in shown]) for kind, shown in stimuli.items()}
    categories = {kind: np.unique(np.floor(ids[kind]), return_inverse=True)[1] for kind in ids}

    runs = []
    for kind, number, images in _sample_runs(len(training), len(test), size, rng):
        draw = numpy_generator(seed, "god run", subject, kind, number)
        runs.append(
            {
                "DataType": np.full(len(images), kind),
                "Run": np.full(len(images), number),
                "VoxelData": simulate_trials(signals[kind][images], noise, shared, draw),
                "stimulus_id": ids[kind][images],
                "category_index": categories[kind][images] + 1,
                "image_index": images + 1,
            }
        )
    columns = {key: np.concatenate([run[key] for run in runs]) for key in runs[0]}
    labels = {"stimulus_id": 1, "category_index": 1, "image_index": 1}
    write_bdata(path, columns, {"Label": labels, **_describe_voxels(rois)})


def _name(category: Category, number: int) -> str:
    return f"{category.wnid}_{number}.JPEG"


def _numbers(category: Category, n_images: int, seed: int) -> list[int]:
    """Numbers of a category's images: the first n that the subjects see, or, for -n, the first n that nobody sees."""
    numbers = numpy_generator(seed, "god numbers", category.wnid).permutation(_LARGEST_NUMBER) + 1
    return (numbers[:n_images] if n_images > 0 else numbers[n_images:][::-1]).tolist()


def _draw(category: Category, number: int, seed: int) -> Picture:
    scene = sample_scene_of(category.kind, category.colour, numpy_generator(seed, "god", category.wnid, number))
    image, visible = render(scene)
    jpeg = BytesIO()
    Image.fromarray(image).save(jpeg, "JPEG", quality=95, subsampling=0)
    return Picture(category, number, scene, visible, jpeg.getvalue())


def _sample_rois(scale: float, rng: np.random.Generator) -> np.ndarray:
    """ROI of each voxel: (n_voxels,). Sizes are within 10 % of Subject1's."""
    sizes = [max(round(n_voxels * scale * rng.uniform(0.9, 1.1)), 2) for n_voxels, _ in _ROIS.values()]
    rois = np.repeat(list(_ROIS), sizes)
    known = {*SPM_VOXELS.values(), *FMRIPREP_VOXELS.values()}  # by their numbers releases are told apart
    return rois[1:] if len(rois) in known else rois


def _sample_runs(
    n_training: int, n_test: int, size: MiniatureGod, rng: np.random.Generator
) -> list[tuple[int, int, np.ndarray]]:
    """Kind, number and images (rows of the lists) of each run, in the order of presentation."""
    n_runs = -(-n_training // _TRAINING_RUN)
    images = {TRAINING: np.array_split(rng.permutation(n_training), n_runs)}
    for kind, n in ((PERCEPTION, size.n_repetitions), (IMAGERY, size.n_imagery)):
        images[kind] = [rng.permutation(n_test) for _ in range(n)]
    return [(kind, number, rows) for kind, runs in images.items() for number, rows in enumerate(runs, start=1)]


def _describe_voxels(rois: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Metadata of the voxels: places in a block of 3 mm voxels, and ROIs with their unions."""
    side = int(np.ceil(len(rois) ** (1 / 3)))
    places = dict(zip(("voxel_x", "voxel_y", "voxel_z"), 3.0 * np.indices((side,) * 3).reshape(3, -1), strict=True))
    members = {**{roi: (roi,) for roi in _ROIS}, **_UNIONS}
    values = {key: place[: len(rois)] for key, place in places.items()}
    values |= {key: np.isin(rois, names) for key, names in members.items()}
    return {key: {"VoxelData": value} for key, value in values.items()}
