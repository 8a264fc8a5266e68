"""ImageNet's classes: WordNet ids, and the labels that prompts are made of."""

import re
from dataclasses import dataclass
from pathlib import Path

from minddiffuser.store import DataError

MAPPING = "LOC_synset_mapping.txt"  # of Kaggle's release of ILSVRC 2012


@dataclass(frozen=True)
class Classes:
    """Classes in the order of their WordNet ids, which is that of networks trained on all of them.

    Attributes
    ----------
    wnids : tuple of str
        Such as n01440764.
    labels : tuple of str
        All words of the synset, such as "tench, Tinca tinca". Two of the 1000 classes have the same label: n02012849
        and n03126707 are both "crane", a bird and a machine.
    """

    wnids: tuple[str, ...]
    labels: tuple[str, ...]


def read_classes(imagenet: Path) -> Classes:
    """Read which classes a copy of ImageNet has.

    Labels are those of the file `LOC_synset_mapping.txt` in this folder, or else in the nearest of the four above it
    that has one (Kaggle's release has images in ILSVRC/Data/CLS-LOC/train and the file beside ILSVRC). Without such a
    file they are those of `imagenet_classes`.

    Parameters
    ----------
    imagenet : Path
        Folder with a folder of images for each class, called by its WordNet id: `n01440764`.

    Raises
    ------
    DataError
        There is no such folder; the file has a line of another kind, or a class twice; a class has no label.
    """
    if not imagenet.is_dir():
        raise DataError(
            f"ImageNet is missing: expected {imagenet}, with a folder of images for each class (n01440764 ...)",
            "set execution.imagenet to its folder",
            imagenet,
        )
    wnids = sorted(path.name for path in imagenet.iterdir() if re.fullmatch(r"n\d{8}", path.name) and path.is_dir())
    if not wnids:
        raise DataError(
            f"{imagenet} has no folders of classes, such as n01440764",
            "name the folder that has them (train)",
            imagenet,
        )
    above = imagenet.absolute()
    for folder in (above, *above.parents[:4]):
        if (folder / MAPPING).is_file():
            source, known = folder / MAPPING, _read_mapping(folder / MAPPING)
            break
    else:
        classes = imagenet_classes()
        source, known = "ImageNet's 1000 classes", dict(zip(classes.wnids, classes.labels, strict=True))
    if unknown := [wnid for wnid in wnids if wnid not in known]:
        names = ", ".join(unknown[:10]) + (" ..." if len(unknown) > 10 else "")
        raise DataError(
            f"{imagenet}: {len(unknown)} of {len(wnids)} classes have no label in {source}: {names}; remove their "
            f"folders, or name them in {above / MAPPING}, with lines such as 'n01440764 tench, Tinca tinca'"
        )
    return Classes(tuple(wnids), tuple(known[wnid] for wnid in wnids))


def imagenet_classes() -> Classes:
    """Return the 1000 classes of ILSVRC 2012, in the order of the outputs of networks that were trained on them.

    Ids and labels are those that come with timm. torchvision has only the first word of each label, and no ids.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    wnids = info.label_names()
    return Classes(tuple(wnids), tuple(info.label_name_to_description(wnid) for wnid in wnids))


def _read_mapping(path: Path) -> dict[str, str]:
    """Read the label of each WordNet id."""
    labels: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        found = re.fullmatch(r"(n\d{8})\s+(\S.*)", line.strip())
        if found is None or found[1] in labels:
            raise DataError(
                f"{path}, line {number}: {line[:80]!r} is not a new WordNet id and its label, such as "
                "'n01440764 tench, Tinca tinca'"
            )
        labels[found[1]] = found[2]
    return labels
