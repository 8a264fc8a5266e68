"""ImageNet's classes and their labels, from timm and from a folder; and the best constant answer."""

import re

import numpy as np
import pytest
from torchvision.models import ResNet50_Weights

from baselines.semantic_brain_decoding.classes import Classes, imagenet_classes, read_classes
from baselines.semantic_brain_decoding.labels import best_constant
from data.god import read_images
from minddiffuser.config.semantic_brain_decoding import SemanticBrainDecoding
from minddiffuser.store import DataError

TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"


@pytest.fixture(scope="module")
def classes():
    return imagenet_classes()


def make_folder(root, wnids=(GOLDFISH, TENCH)):
    """Folders of classes, made in this order, among other things."""
    for wnid in wnids:
        (root / wnid).mkdir(parents=True)
    (root / "others").mkdir(parents=True)
    (root / SHARK).write_text("a file, not a folder")
    return root


def write_mapping(folder, text):
    (folder / "LOC_synset_mapping.txt").write_text(text)


# ---- the 1000 ----


def test_the_1000_classes_are_in_the_order_of_their_ids(classes):
    assert len(classes.wnids) == len(classes.labels) == 1000
    assert list(classes.wnids) == sorted(set(classes.wnids))
    assert (classes.wnids[0], classes.wnids[999]) == (TENCH, "n15075141")


def test_the_prompt_of_class_0_is_the_authors(classes):
    assert SemanticBrainDecoding().prompt.format(label=classes.labels[0]) == "An image of a tench, Tinca tinca"


def test_two_cranes_have_one_label(classes):
    assert len(set(classes.labels)) == 999
    assert [i for i, label in enumerate(classes.labels) if classes.labels.count(label) > 1] == [134, 517]
    assert classes.labels[134] == classes.labels[517] == "crane"
    assert (classes.wnids[134], classes.wnids[517]) == ("n02012849", "n03126707")


def test_they_are_the_outputs_of_the_network_in_its_order(classes):
    """torchvision has the first word of each label, but for two that it made distinct."""
    categories = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    first = [label.split(", ")[0] for label in classes.labels]
    differ = {i: categories[i] for i in range(1000) if categories[i] != first[i]}
    assert differ == {134: "crane bird", 639: "maillot tank suit"}
    assert (first[134], classes.labels[639]) == ("crane", "maillot, tank suit")


def test_categories_of_the_experiment_that_are_among_them(classes, test_data):
    """An exact answer is possible for 20 of the 50 test images; 472 training images are of such categories."""
    test, training = (read_images(test_data / "god_meta" / f"imageID_{kind}.csv") for kind in ("test", "training"))
    assert (len(set(test.wnids)), len(set(training.wnids))) == (50, 150)
    assert len(set(test.wnids) & set(classes.wnids)) == 20
    assert len(set(training.wnids) & set(classes.wnids)) == 59
    assert sum(wnid in classes.wnids for wnid in training.wnids) == 472


# ---- a folder ----


def test_classes_of_a_folder_are_its_folders_by_id_and_have_the_labels_of_the_1000(tmp_path):
    found = read_classes(make_folder(tmp_path / "train"))
    assert found == Classes((TENCH, GOLDFISH), ("tench, Tinca tinca", "goldfish, Carassius auratus"))


def test_all_folders_give_the_1000(tmp_path, classes):
    (tmp_path / SHARK).mkdir()
    for wnid in classes.wnids:
        (tmp_path / wnid).mkdir(exist_ok=True)
    assert read_classes(tmp_path) == classes


def test_a_mapping_in_kaggles_place_gives_the_labels(tmp_path):
    folder = make_folder(tmp_path / "ILSVRC" / "Data" / "CLS-LOC" / "train")
    write_mapping(tmp_path, f"{SHARK} a fish, that is not there\n{GOLDFISH} a goldfish\n{TENCH} a tench, a fish\n")
    assert read_classes(folder).labels == ("a tench, a fish", "a goldfish")


def test_the_nearest_mapping_counts_and_may_name_classes_that_are_not_imagenets(tmp_path):
    folder = make_folder(tmp_path / "train", wnids=("n00000002", "n00000001"))
    write_mapping(tmp_path, "n00000001 far\nn00000002 far\n")
    write_mapping(folder, "n00000001 one\nn00000002 two, deux\n")
    assert read_classes(folder) == Classes(("n00000001", "n00000002"), ("one", "two, deux"))


def test_a_relative_folder_finds_the_mapping_above(tmp_path, monkeypatch):
    make_folder(tmp_path / "train")
    write_mapping(tmp_path, f"{TENCH} a\n{GOLDFISH} b\n")
    monkeypatch.chdir(tmp_path / "train")
    assert read_classes(tmp_path / "train") == read_classes(type(tmp_path)())


def test_classes_without_a_label_are_listed(tmp_path):
    folder = make_folder(tmp_path, wnids=(TENCH, "n00000002", "n00000001"))
    with pytest.raises(
        DataError, match="2 of 3 classes have no label in ImageNet's 1000 classes: n00000001, n00000002;"
    ):
        read_classes(folder)
    write_mapping(folder, f"{TENCH} tench\nn00000002 two\n")
    with pytest.raises(DataError, match=r"1 of 3 classes have no label in .*LOC_synset_mapping\.txt: n00000001;"):
        read_classes(folder)


@pytest.mark.parametrize("line", ["tench n01440764", TENCH, f"{TENCH} again", "n0144076 tench", ""])
def test_a_wrong_line_of_a_mapping_is_named(tmp_path, line):
    folder = make_folder(tmp_path)
    write_mapping(folder, f"{TENCH} tench\n{line}\n{GOLDFISH} goldfish\n")
    with pytest.raises(DataError, match=rf"LOC_synset_mapping\.txt, line 2: {re.escape(repr(line))}"):
        read_classes(folder)


def test_a_missing_folder_and_one_without_classes_say_what_is_expected(tmp_path):
    with pytest.raises(DataError, match=r"ImageNet is missing: expected .*absent"):
        read_classes(tmp_path / "absent")
    make_folder(tmp_path / "ILSVRC" / "train")
    with pytest.raises(DataError, match=r"no folders of classes, such as n01440764; .*train"):
        read_classes(tmp_path / "ILSVRC")


# ---- the best constant ----


def test_the_best_constant_is_near_to_all_rather_than_nearest_to_any():
    assert best_constant(np.array([[1.0, 0.6, 0.0], [0.0, 0.6, 1.0]])) == 1


def test_of_equals_the_first_is_the_best_constant():
    found = best_constant(np.array([[0.1, 0.3, 0.7, 0.7], [0.2, 0.7, 0.3, 0.3]]))
    assert found == 1
    assert isinstance(found, int)
