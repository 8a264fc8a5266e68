"""Wu-Palmer similarity: nltk's to the last bit, the authors' printed values, and what answers without a brain score."""

import io
import re
import shutil
from pathlib import Path

import nltk.data
import numpy as np
import pytest
from nltk.corpus.reader.wordnet import WordNetCorpusReader

from baselines.semantic_brain_decoding.classes import imagenet_classes
from baselines.semantic_brain_decoding.labels import best_constant
from baselines.semantic_brain_decoding.wordnet import hypernyms_of, open_wordnet, words_of, wu_palmer
from data.god import read_images
from minddiffuser.store import DataError


@pytest.fixture(scope="module")
def wordnet(wordnet_folder):
    return open_wordnet(wordnet_folder)


# nltk needs the names of the files that WordNet was made from; Debian has them in a manual page only, lexnames(5).
LEXNAMES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition "
    "noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person "
    "noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state "
    "noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition "
    "verb.consumption verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social "
    "verb.stative verb.weather adj.ppl"
)


class Reader(WordNetCorpusReader):
    """nltk's, but content with what Debian's package has."""

    def open(self, file):
        if file == "lexnames":
            return io.StringIO("\n".join(f"{i:02d}\t{name}\t0" for i, name in enumerate(LEXNAMES.split())))
        return super().open(file)

    def map_wn(self, version="wordnet"):
        """Map no other versions, which takes index.sense."""


@pytest.fixture(scope="module")
def of_nltk(wordnet_folder):
    """WordNet as nltk reads it."""
    root = str(wordnet_folder.resolve())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nltk.data, "path", [root])  # nltk reads nothing elsewhere
        with pytest.warns(UserWarning, match="multilingual"):
            reader = Reader(root, None)
        yield reader


@pytest.fixture(scope="module")
def classes():
    return imagenet_classes()


@pytest.fixture(scope="module")
def images(test_data):
    """WordNet ids of the real test images, and of the training categories."""
    test, training = (read_images(test_data / "god_meta" / f"imageID_{kind}.csv") for kind in ("test", "training"))
    return test.wnids, sorted(set(training.wnids))


@pytest.fixture(scope="module")
def to_test(wordnet, classes, images):
    return wu_palmer(wordnet, images[0], classes.wnids)


@pytest.fixture(scope="module")
def to_training(wordnet, classes, images):
    return wu_palmer(wordnet, images[1], classes.wnids)


@pytest.fixture(scope="module")
def between_classes(wordnet, classes):
    return wu_palmer(wordnet, classes.wnids, classes.wnids)


def wnid(of_nltk, name):
    """The id of a noun's first sense."""
    return f"n{of_nltk.synset(f'{name}.n.01').offset():08d}"


# ---- the rule ----


class Nouns:
    """The rule once more, over the lines of data.noun: no nltk, and nothing of ours."""

    def __init__(self, folder):
        self.above, self.name = {}, {}
        for line in (folder / "data.noun").read_text().splitlines():
            if not line.startswith(" "):
                fields = line.split(" | ")[0].split()
                n_words = int(fields[3], 16)
                pointers = fields[5 + 2 * n_words :]
                self.name[fields[0]] = fields[4].lower()
                self.above[fields[0]] = [o for s, o in zip(pointers[::4], pointers[1::4], strict=True) if s in "@i@"]

    def ways_up(self, noun):
        """Lengths of all ways to each noun above, by listing them."""
        ways, found = [(noun, 0)], {}
        for other, steps in ways:
            found.setdefault(other, []).append(steps)
            ways.extend((parent, steps + 1) for parent in self.above[other])
        return found

    def depths(self, noun):
        return self.ways_up(noun)["00001740"]  # entity

    def distance(self, a, b):
        up_a, up_b = self.ways_up(a), self.ways_up(b)
        return min(min(up_a[c]) + min(up_b[c]) for c in up_a.keys() & up_b.keys())

    def wu_palmer(self, a, b):
        common = self.ways_up(a).keys() & self.ways_up(b).keys()
        farthest = max(min(self.depths(c)) for c in common)
        equals = [c for c in common if min(self.depths(c)) == farthest]
        subsumer = a if a in equals else min(equals, key=self.name.__getitem__)
        depth = 1 + max(self.depths(subsumer))
        return 2 * depth / (self.distance(a, subsumer) + self.distance(b, subsumer) + 2 * depth)


def test_it_equals_nltk_and_the_rule_over_data_noun_to_the_last_bit(wordnet_folder, wordnet, of_nltk, classes):
    """On pairs of any nouns, which have more ways up than ImageNet's classes, and on each of those with itself."""
    nouns, rng = Nouns(wordnet_folder), np.random.default_rng(0)
    some = rng.choice(sorted(nouns.above), 60, replace=False)
    some = np.r_[some, rng.choice([w[1:] for w in classes.wnids], 20, replace=False), ["02084071", "02121620"]]
    ours = wu_palmer(wordnet, [f"n{a}" for a in some], [f"n{a}" for a in some])
    synsets = [of_nltk.synset_from_pos_and_offset("n", int(a)) for a in some]
    np.testing.assert_array_equal(ours, [[a.wup_similarity(b) for b in synsets] for a in synsets])
    assert len(np.unique(ours)) > 100
    pairs = rng.integers(0, len(some), (300, 2)).tolist() + [[i, i] for i in range(len(some))]
    assert [ours[i, j] for i, j in pairs] == [nouns.wu_palmer(str(some[i]), str(some[j])) for i, j in pairs]


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ("apple", "pear", 0.909),
        ("apple", "fruit", 0.900),
        ("apple", "food", 0.462),
        ("apple", "home", 0.316),
        ("apple", "life", 0.143),
        ("apple", "school", 0.125),
        ("dog", "cat", 0.857),
        ("cat", "spider", 0.56),
        ("cat", "fish", 0.72),
        ("fish", "car", 0.36),
    ],
)
def test_values_of_the_authors_notebook_and_figure(wordnet, of_nltk, a, b, value):
    """Of the first senses."""
    found = wu_palmer(wordnet, [wnid(of_nltk, a)], [wnid(of_nltk, b)]).item()
    assert round(found, 2 if value in (0.56, 0.72, 0.36) else 3) == value


def test_values_that_the_authors_print_in_full(wordnet):
    barrow, tile_roof, solar_dish = "n02797295", "n04435653", "n04258138"
    found = wu_palmer(wordnet, [barrow], [tile_roof, solar_dish])
    np.testing.assert_array_equal(found, [[0.5263157894736842, 0.631578947368421]])


# ---- ImageNet's classes ----


def test_labels_of_the_1000_classes_are_the_words_of_their_synsets(wordnet, classes):
    assert tuple(", ".join(words_of(wordnet, wnid)).replace("_", " ") for wnid in classes.wnids) == classes.labels


def test_similarity_of_classes_is_symmetric_and_of_some_to_themselves_less_than_1(classes, between_classes):
    """A dog is a domestic animal too, which is a shorter way up, so that a canine counts as farther from the root."""
    np.testing.assert_array_equal(between_classes, between_classes.T)
    own = np.diag(between_classes)
    assert (own < 1).sum() == 107
    assert own.max() == 1
    dogs = slice(classes.labels.index("Chihuahua"), classes.labels.index("Mexican hairless") + 1)
    assert (len(own[dogs]), (own[dogs] < 1).sum()) == (118, 82)
    assert own[dogs].min() == own.min() == pytest.approx(0.7222, abs=5e-5)
    off_diagonal = between_classes[~np.eye(1000, dtype=bool)]
    assert off_diagonal.mean() == pytest.approx(0.4447, abs=5e-5)
    assert off_diagonal.max() < 1


def test_repeated_ids_give_the_same_rows_and_columns_in_the_order_that_was_asked_for(classes, wordnet, between_classes):
    rows, columns = [5, 900, 5, 0], [7, 7, 900]
    found = wu_palmer(wordnet, [classes.wnids[i] for i in rows], [classes.wnids[i] for i in columns])
    np.testing.assert_array_equal(found, between_classes[np.ix_(rows, columns)])
    assert wu_palmer(wordnet, [], classes.wnids).shape == (0, 1000)


# ---- the real images: what answers score that no brain is needed for ----


def test_a_class_at_random(to_test):
    assert to_test.shape == (50, 1000)
    assert to_test.mean() == pytest.approx(0.4529091400634608, abs=1e-15)
    assert np.sqrt(to_test.var(axis=1).sum()) / 50 == pytest.approx(0.0202, abs=5e-5)  # deviation of a mean of 50


def test_one_answer_for_all_images_scores_as_the_abstract_does(classes, to_test, to_training):
    chosen, best = best_constant(to_training), best_constant(to_test)
    assert classes.labels[chosen] == "pick, plectrum, plectron"
    assert to_training[:, chosen].mean() == pytest.approx(0.594, abs=5e-4)
    assert to_test[:, chosen].mean() == pytest.approx(0.5637, abs=5e-5)
    assert classes.labels[best] == "thimble"
    assert to_test[:, best].mean() == pytest.approx(0.5759, abs=5e-5)


def test_the_true_category_of_another_image_and_the_best_class_of_each(wordnet, of_nltk, images, to_test):
    between = wu_palmer(wordnet, images[0], images[0])
    assert between[~np.eye(50, dtype=bool)].mean() == pytest.approx(0.468, abs=5e-4)
    assert [images[0][i] for i in np.flatnonzero(np.diag(between) < 1)] == [wnid(of_nltk, "planchet")]
    assert np.diag(between).min() == pytest.approx(0.8333, abs=5e-5)
    assert to_test.max(axis=1).mean() == pytest.approx(0.937, abs=5e-4)


def test_chance_is_higher_when_animals_are_told_from_the_rest(wordnet, classes, images, to_test):
    """A class at random of the right kind scores as high as one constant; animals are 398 classes and 15 images."""
    animal = "n00015388"

    def is_animal(wnid):
        return wnid == animal or any(map(is_animal, hypernyms_of(wordnet, wnid)))

    of_classes, of_test, of_training = (np.array([*map(is_animal, wnids)]) for wnids in (classes.wnids, *images))
    assert (of_classes.sum(), of_test.sum(), of_training.sum()) == (398, 15, 39)
    right = np.mean([row[of_classes == kind].mean() for row, kind in zip(to_test, of_test, strict=True)])
    assert right == pytest.approx(0.558, abs=5e-4)


# ---- what can be wrong ----


@pytest.mark.parametrize("wrong", ["n00000001", "n99999999", "n1440764", "01440764", "v01440764", "tench", ""])
def test_an_id_that_wordnet_does_not_have_is_named(wordnet, wrong):
    with pytest.raises(DataError, match=f"no noun {re.escape(wrong)};"):
        wu_palmer(wordnet, ["n01440764", wrong], ["n01440764"])


def test_a_missing_folder_says_how_to_get_wordnet(tmp_path):
    with pytest.raises(DataError, match=r"absent.data\.noun; get WordNet 3\.0 with: .*wordnet-base.*make wordnet"):
        open_wordnet(tmp_path / "absent")


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def replace(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("index.noun", Path.unlink, r"WordNet is missing: expected .*index\.noun"),
        ("index.noun", lambda path: cut(path, 0.5), r"index\.noun cannot be read as a file of WordNet"),
        ("data.noun", lambda path: cut(path, 0.9), r"data\.noun cannot be read as a file of WordNet"),
        ("data.noun", lambda path: path.write_text("00001740 03 n 01 entity\n"), "cut short, or not of version 3.0"),
        ("data.noun", lambda path: replace(path, b"\n153", b"\n154"), "not of version 3.0"),
        ("data.noun", lambda path: path.write_bytes(b"\x89PNG" + path.read_bytes()), "cannot be read as a file of"),
    ],
    ids=["a file missing", "cut index", "cut data", "cut at a line's end", "other ids", "no text"],
)
def test_a_broken_wordnet_or_another_version_is_refused(wordnet_folder, tmp_path, name, damage, message):
    copy = tmp_path / "wordnet"
    copy.mkdir()
    for file in ("data.noun", "index.noun"):
        shutil.copyfile(wordnet_folder / file, copy / file)
    damage(copy / name)
    with pytest.raises(DataError, match=message):
        open_wordnet(copy)


def test_an_index_of_other_meanings_is_refused(wordnet):
    index = {**wordnet.index, "entity": "n 1 0 1 0 00000001  "}
    with pytest.raises(DataError, match="does not have n00001740 among the meanings of entity"):
        wu_palmer(wordnet._replace(index=index), ["n00001740"], ["n00001740"])
