"""What Wu-Palmer similarity is worth in Generic Object Decoding: the scores of answers that no brain is needed for.

    python benchmarks/constant_label.py --god god [--wordnet models/wordnet/usr/share/wordnet]

Ferrante et al. (arXiv 2212.06726) give each of the 50 test images one of ImageNet's 1000 classes, and report its mean
similarity to the true category: 0.57 in the abstract. Here are, for the same images and classes, a class at random, one
class for all images (chosen on the 150 training categories, or, which is cheating, on the test images), the true
category of another test image, and the best class for each image. All that is read is the dataset's two lists of images
and WordNet.
"""

import argparse
from pathlib import Path

import numpy as np

from baselines.semantic_brain_decoding.classes import imagenet_classes
from baselines.semantic_brain_decoding.labels import best_constant
from baselines.semantic_brain_decoding.wordnet import open_wordnet, wu_palmer
from data.god import TEST_IMAGES, TRAINING_IMAGES, read_images
from minddiffuser.cli import execute
from minddiffuser.config import REPOSITORY, load

# Of test images, read off wupalmer.png in the README of the authors' code, to .002. Their mean is the abstract's 0.57.
PUBLISHED = {"Subject1": 0.583, "Subject2": 0.585, "Subject3": 0.579, "Subject4": 0.545, "Subject5": 0.564}
N_DRAWS = 100_000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--god", type=Path, required=True, help=f"folder of {TRAINING_IMAGES} and {TEST_IMAGES}")
    default = load(REPOSITORY / "configs" / "god.yaml").wordnet
    parser.add_argument("--wordnet", type=Path, default=default, help="folder of data.noun (%(default)s)")
    args = parser.parse_args()
    classes, wordnet = imagenet_classes(), open_wordnet(args.wordnet)
    wnids = read_images(args.god / TEST_IMAGES).wnids
    training_wnids = sorted(set(read_images(args.god / TRAINING_IMAGES).wnids))
    test, training = (wu_palmer(wordnet, true, classes.wnids) for true in (wnids, training_wnids))
    chosen, best = best_constant(training), best_constant(test)
    n = len(wnids)
    other = wu_palmer(wordnet, wnids, wnids)[~np.eye(n, dtype=bool)]
    random_answers = np.random.default_rng(0).integers(0, len(classes.wnids), (N_DRAWS, n))
    random_means = test[np.arange(n), random_answers].mean(axis=1)
    published = float(np.mean(list(PUBLISHED.values())))

    print(
        f"mean Wu-Palmer similarity to the true category, of {n} test images and {len(training)} training categories\n"
    )
    print(f"{'answer':<64}{'test':>6}{'training':>10}")
    line("a class at random", test, training)
    line(f"always {classes.labels[chosen]!r}: best on training categories", test[:, chosen], training[:, chosen])
    line(f"always {classes.labels[best]!r}: best on test images", test[:, best], training[:, best])
    line("the true category of another test image", other)
    line("the best class for each image", test.max(axis=1), training.max(axis=1))
    for subject, score in PUBLISHED.items():
        line(f"published, {subject}", score)
    line("published, mean", published)
    deviation, high = np.sqrt(test.var(axis=1).sum()) / n, np.quantile(random_means, 0.99)
    print(
        f"\na class at random for each of the {n} images: the mean over images has a standard deviation of "
        f"{deviation:.4f}\nand a 99th percentile of {high:.3f} (of {N_DRAWS:,} draws)"
    )


def line(answer: str, test: np.ndarray | float, training: np.ndarray | None = None) -> None:
    """Print means in a line of the table."""
    print(f"{answer:<64}{np.mean(test):6.3f}" + ("" if training is None else f"{training.mean():10.3f}"))


if __name__ == "__main__":
    execute(main)
