"""The bank of Semantic Brain Decoding: pooled features of ImageNet images, in which labels are looked up.

    python baselines/semantic_brain_decoding/14_bank.py [--config configs/miniature.yaml]

Of each class folder of `execution.imagenet` (ILSVRC 2012's training images, `n01440764/n01440764_10026.JPEG` ...) it
takes `experiment.semantic_brain_decoding.bank_per_class` images at random: 500 of 1,000 classes in the released bank,
for which there is no code. Stimuli of the experiment may be among them; they are left out where neighbours are sought.

Writes `runs/<name>/bank/<network>.h5`:

    features                 (n_images, n_features) float32, ResNet-50's 2,048 in evaluation mode
    image                    (n_images,) int64, such as 1440764010026 for n01440764_10026
    class_index              (n_images,) int64, rows of the two following
    class_wnid, class_label  (n_classes,) str, by WordNet id, which is the order of the network's classes
    head_weight, head_bias   (n_classes, n_features) and (n_classes,), the network's own last layer; or, where it has
                             none (the miniature), a logistic regression on the bank

Not of one subject: run it once. Other pictures under the same names are not noticed. A killed run goes on with the next
2,000 images; `--shard` divides it. Peak memory: 1.9 GB on a CPU, one picture at a time;
4 GB of disk, twice while parts are joined.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from sklearn.linear_model import LogisticRegression

from baselines.semantic_brain_decoding import recipes
from baselines.semantic_brain_decoding.classes import Classes, imagenet_classes, read_classes
from baselines.semantic_brain_decoding.features import pooled_features, read_prepared
from data.god import picture_key
from minddiffuser.cli import concept_subjects, execute, parse
from minddiffuser.config import REPOSITORY
from minddiffuser.pretrained.pooled import PooledNetwork, open_pooled_network
from minddiffuser.progress import progress
from minddiffuser.seeds import numpy_generator
from minddiffuser.store import Artifact, DataError

ROWS_PER_PART = 2000


def main(argv: list[str] | None = None) -> None:
    """Build the bank."""
    run = parse(__doc__, argv, subjects_of=concept_subjects)
    config, settings = run.config, run.config.experiment.semantic_brain_decoding
    if settings is None:
        print("experiment.semantic_brain_decoding is null: nothing to do")
        return
    imagenet = REPOSITORY / config.execution.imagenet
    classes = read_classes(imagenet)
    paths, class_index = choose(imagenet, classes.wnids, settings.bank_per_class, config.experiment.seed)
    keys = np.array([picture_key(path.name) for path in paths])  # here, so that a stray file stops nothing later
    names = "\n".join(path.name for path in paths)
    hashes = {recipes.IMAGES: names, recipes.CLASSES: repr(asdict(classes))}
    hashes = {key: hashlib.sha256(text.encode()).hexdigest()[:16] for key, text in hashes.items()}
    artifact = Artifact(recipes.bank(config, hashes))
    if artifact.is_done(run.overwrite):
        print(f"{artifact.path} is there already")
        return
    network = open_pooled_network(settings.network, config.experiment.models, config.execution.torch_hub, run.device)
    for number, rows in artifact.parts_to_do(len(paths), ROWS_PER_PART, run.shard):
        pictures = read_prepared(paths[rows], settings.image_size)
        bar = progress(
            pictures, total=len(paths[rows]), desc=f"bank, part {number + 1} of {-(-len(paths) // ROWS_PER_PART)}"
        )
        features = pooled_features(network, bar, config.execution.batch_size.encode, run.device)
        artifact.write_part(number, {"features": features, "image": keys[rows], "class_index": class_index[rows]})
    if artifact.join(len(paths), ROWS_PER_PART, partial(constants, network, classes)):
        print(f"{artifact.path}: {len(paths)} images of {len(classes.wnids)} classes")


def constants(
    network: PooledNetwork, classes: Classes, read_parts: Callable[[], Iterator[h5py.File]]
) -> dict[str, np.ndarray]:
    """Give the names of the classes, and the network's own last layer."""
    weight, bias = fit_head(read_parts) if network.head is None else part_of_head(network.head, classes.wnids)
    text = h5py.string_dtype()
    return {
        "class_wnid": np.array(classes.wnids, text),
        "class_label": np.array(classes.labels, text),
        "head_weight": weight,
        "head_bias": bias,
    }


def choose(imagenet: Path, wnids: tuple[str, ...], n_per_class: int, seed: int) -> tuple[list[Path], np.ndarray]:
    """Choose images of each class at random; of a class with fewer than are wanted, all.

    Returns
    -------
    paths : list of n_images Path
        By class, in it by name.
    class_index : array of shape (n_images,), int64
    """
    paths, class_index = [], []
    for number, wnid in enumerate(progress(wnids, desc="listing classes")):
        found = sorted(path for path in (imagenet / wnid).iterdir() if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
        if not found:
            raise DataError(f"{imagenet / wnid} has no pictures (.JPEG): the class folder is empty; unpack it again")
        drawn = numpy_generator(seed, "bank", wnid).permutation(len(found))[:n_per_class]
        paths += [found[k] for k in sorted(drawn)]
        class_index += [number] * len(drawn)
    return paths, np.array(class_index)


def part_of_head(head: tuple[np.ndarray, np.ndarray], wnids: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Take the rows of ImageNet's classifier for the classes that are there."""
    row_of = {wnid: row for row, wnid in enumerate(imagenet_classes().wnids)}
    if strangers := [wnid for wnid in wnids if wnid not in row_of]:
        raise DataError(f"not among the 1,000 classes that the network knows: {', '.join(strangers[:10])}")
    rows = [row_of[wnid] for wnid in wnids]
    return head[0][rows], head[1][rows]


def fit_head(read_parts: Callable[[], Iterator[h5py.File]]) -> tuple[np.ndarray, np.ndarray]:
    """Fit a linear classifier to the bank's images, for a network that has none."""
    features, class_index = (
        np.concatenate([part[name][:] for part in read_parts()]) for name in ("features", "class_index")
    )
    deviation = features.std(axis=0) + 1e-6
    model = LogisticRegression(max_iter=300).fit(features / deviation, class_index)
    return (model.coef_ / deviation).astype(np.float32), model.intercept_.astype(np.float32)


if __name__ == "__main__":
    execute(main)
