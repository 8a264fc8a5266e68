"""Scores of decoded labels: by hand, by brute force, and beside controls that know nothing of the image."""

import importlib.util
import itertools
import json
import re
import shutil
from functools import partial
from html.parser import HTMLParser

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from smallest import run_here

from baselines.semantic_brain_decoding import recipes
from data import god
from data.recipes import prepared
from evaluation import scores as results
from evaluation import significance
from evaluation.concepts import comparison, decoded, scoring, section
from evaluation.concepts.catalogue import (
    CATALOGUE,
    CONSTANT,
    CORRECTED,
    FROM_WORDNET,
    LABEL_METRICS,
    PERFECT,
    PERMUTED,
    SYSTEMS,
)
from evaluation.concepts.crossed import crossed_scores, expectation_over_others, label_scores
from evaluation.concepts.permutation import permutation_table, permutation_test
from evaluation.page import shell
from evaluation.page.album import Album, thumbnail
from evaluation.pictures import catalogue as of_nsd
from evaluation.pictures import comparison as comparison_of_nsd
from evaluation.pictures import section as section_of_nsd
from evaluation.pictures.catalogue import STAGE1, STAGE2
from evaluation.pictures.shown import SubjectResults
from evaluation.tables import as_markdown, as_text, number
from minddiffuser.config import REPOSITORY, Experiment, load
from minddiffuser.config.semantic_brain_decoding import SemanticBrainDecoding
from minddiffuser.store import Artifact, DataError, write_atomically
from reconstruction.folder import ReconstructionFolder

ORIGINAL, CLASSIFIER = (f"semantic_brain_decoding/{form}" for form in ("original", "classifier"))
SUBJECTS = ("Subject1", "Subject2")
# Categories of six test images, of which the bank has the first four; and all classes of the bank.
TRUE = ["n00000010", "n00000010", "n00000020", "n00000030", "n00000050", "n00000060"]
BANK = ["n00000010", "n00000015", "n00000020", "n00000030", "n00000040", "n00000058"]
IDS = np.array([int(wnid[1:]) * 10**6 + 7 * k for k, wnid in enumerate(TRUE)])
SIZE = 24


def near(a, b):
    """Stand in for WordNet: two categories are the nearer the nearer their numbers are."""
    return 1 - abs(int(a[1:]) - int(b[1:])) / 100


def wu_palmer(wordnet, wnids_a, wnids_b):
    return np.array([[near(a, b) for b in wnids_b] for a in wnids_a])


def similarity(true, labels):
    return pd.DataFrame(wu_palmer(None, sorted(set(true)), sorted(set(labels))), sorted(set(true)), sorted(set(labels)))


def crossed_of(labels, true=TRUE, with_wordnet=True):
    labels = np.array(labels)
    return crossed_scores(np.array(true), labels, BANK, similarity(true, labels.ravel()) if with_wordnet else None)


# Each metric -------------------------------------------------------------------------------------------------------


def by_hand(name, i, labels):
    """Score of some labels, the first of them first, as the answer to image i."""
    first, true = labels[0], TRUE[i]
    if name == "wup":
        return near(true, first)
    if name == "wup_of_new":
        return np.nan if true in BANK else near(true, first)
    if name == "wup_of_labels":
        return sum(near(true, label) for label in labels) / len(labels)
    if name == "exact_class":
        return float(first == true) if true in BANK else np.nan
    foils = [other for other in TRUE if other != true]
    return sum((near(true, first) > near(o, first)) + 0.5 * (near(true, first) == near(o, first)) for o in foils) / len(
        foils
    )


LABELS = np.random.default_rng(0).choice(BANK, (6, 3))


@pytest.mark.parametrize("name", LABEL_METRICS)
def test_every_image_is_scored_by_the_labels_of_every_image(name):
    found = crossed_of(LABELS)[name]
    for i, j in itertools.product(range(6), range(6)):
        np.testing.assert_allclose(found[i, j], by_hand(name, i, LABELS[j]), err_msg=f"image {i}, labels of {j}")


def test_exact_class_is_asked_only_where_it_can_be_right():
    exact = np.diag(crossed_of(np.array(TRUE[:4] + BANK[:2])[:, None])["exact_class"])
    np.testing.assert_array_equal(exact, [1, 1, 1, 1, np.nan, np.nan])  # the bank has no label for the last two


def test_a_label_as_near_to_another_image_counts_half_and_images_of_the_same_category_are_no_foils():
    two_way = label_scores(["a", "a", "b"], ["x"], ["x"], np.array([[0.5], [0.5], [0.5]]))["label_two_way"]
    np.testing.assert_array_equal(two_way, [[0.5]] * 3)
    two_way = label_scores(["a", "a", "b"], ["x"], ["x"], np.array([[0.9], [0.9], [0.5]]))["label_two_way"]
    np.testing.assert_array_equal(two_way, [[1], [1], [0]])
    alone = label_scores(["a", "a"], ["x"], ["x"], np.array([[0.9], [0.9]]))["label_two_way"]
    assert np.isnan(alone).all()  # nothing to tell it from


def test_a_constant_label_is_right_in_half_of_all_two_way_choices():
    """Whatever it is: for each pair of images it is nearer to the one or the other."""
    for label in BANK:
        two_way = label_scores(TRUE[1:], [label], BANK, similarity(TRUE[1:], [label]).loc[TRUE[1:]].to_numpy())
        assert two_way["label_two_way"].mean() == pytest.approx(0.5)


def test_without_wordnet_only_the_exact_class_is_left():
    assert list(crossed_of(LABELS, with_wordnet=False)) == ["exact_class"]


def test_names_and_keys_of_images_are_those_of_the_dataset():
    for name in ("n01443537_22563", "n00000010_7"):
        assert decoded.image_name(god.picture_key(name)) == name


# Controls ------------------------------------------------------------------------------------------------------------


def test_the_expectation_over_others_is_the_mean_over_random_derangements():
    crossed = np.random.default_rng(1).normal(size=(7, 7))
    rng, found = np.random.default_rng(2), []
    while len(found) < 4000:
        dealt = rng.permutation(7)
        if (dealt != np.arange(7)).all():  # each image has labels of another
            found.append(crossed[np.arange(7), dealt])
    standard_error = np.std(found, axis=0) / np.sqrt(len(found))
    difference = expectation_over_others(crossed) - np.mean(found, axis=0)
    assert (np.abs(difference) < 4 * standard_error).all()


def test_perfect_labels_are_found_and_constant_ones_are_not():
    n, n_permutations = 20, 999
    true = [f"n{k:08d}" for k in range(n)]
    cross = partial(crossed_scores, np.array(true), classes=true, similarity=similarity(true, true))
    perfect = cross(np.array(true)[:, None])
    for name in ("wup", "exact_class", "label_two_way"):
        found = permutation_test(perfect[name], np.array(true), n_permutations, seed=0)
        assert found["p"] == 1 / (1 + n_permutations)  # the smallest there is
        assert found["observed"] == pytest.approx(1)
        assert 1 > found["permuted_high"] > found["permuted_mean"]
    assert permutation_test(perfect["exact_class"], np.array(true), n_permutations, 0)[
        "permuted_mean"
    ] == pytest.approx(1 / n, abs=0.01)
    constant = cross(np.array([true[3]] * n)[:, None])["wup"]
    constant = permutation_test(constant, np.array(true), n_permutations, seed=0)
    assert constant["p"] == 1
    assert constant["observed"] == pytest.approx(constant["permuted_mean"])


def test_labels_by_chance_are_significant_as_often_as_they_should_be():
    rng = np.random.default_rng(3)
    true = np.repeat(np.arange(6), 2).astype(str)
    p = [permutation_test(rng.normal(size=(12, 12)), true, 199, seed)["p"] for seed in range(600)]
    assert min(p) >= 1 / 200
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.08  # two standard errors are .018
    assert np.mean(p) == pytest.approx(0.5, abs=0.05)


def test_images_that_cannot_be_right_do_not_count_in_a_permutation_test():
    exact = crossed_of(np.array(TRUE[:4] + BANK[:2])[:, None])["exact_class"]
    found = permutation_test(exact, np.array(TRUE), 500, 0)
    assert found["n"] == 3  # categories of the first four images
    assert found["observed"] == 1


def test_the_mean_over_subjects_is_tested_too():
    one, other = crossed_of(LABELS), crossed_of(LABELS[::-1])
    both = {("Subject1", CORRECTED): one, ("Subject2", CORRECTED): other, ("Subject1", CONSTANT): one}
    table = permutation_table(both, np.array(TRUE), 100, 0)
    assert set(table["system"]) == {CORRECTED}
    wup = table[table["metric"] == "wup"].set_index("subject")["observed"]
    assert wup["all"] == pytest.approx((wup["Subject1"] + wup["Subject2"]) / 2)
    alone = permutation_table({("Subject1", CORRECTED): one}, np.array(TRUE), 100, 0)
    assert set(alone["subject"]) == {"Subject1"}


# The catalogue -------------------------------------------------------------------------------------------------------


def test_systems_and_metrics_of_one_dataset_are_not_expected_of_the_other():
    assert not set(SYSTEMS) & set(of_nsd.SYSTEMS)
    assert not set(of_nsd.METRICS) & set(LABEL_METRICS)
    assert CATALOGUE.metrics_of("concepts") == list(LABEL_METRICS)
    assert CATALOGUE.in_order([PERMUTED, CONSTANT, PERFECT, CORRECTED]) == [CORRECTED, PERFECT, CONSTANT, PERMUTED]
    assert [CATALOGUE.system(name).kind for name in (CORRECTED, CONSTANT, PERMUTED)] == ["other", "control", "control"]
    experiment = Experiment(semantic_brain_decoding=SemanticBrainDecoding(forms=("corrected",)))
    wanted = {name for names in comparison_of_nsd.absent_systems([], experiment).values() for name in names}
    assert not wanted & set(SYSTEMS)
    assert comparison.absent_systems([], experiment) == [CORRECTED, CONSTANT]
    assert comparison.absent_systems([CORRECTED], experiment) == [CONSTANT]
    assert comparison.absent_systems([], Experiment()) == []


def test_what_is_compared_has_scripts_that_make_it():
    scripts = comparison.scripts()
    assert [re.search(r"/(\d\d)_", script)[1] for script in scripts] == ["14", "29", "39", "40"]


# The script, on made-up data -----------------------------------------------------------------------------------------


def load_script():
    path = REPOSITORY / CATALOGUE.script
    spec = importlib.util.spec_from_file_location("score_concepts", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_config(folder, **experiment):
    """Configuration with Generic Object Decoding alone, all of whose files are in the folder."""
    config = yaml.safe_load((REPOSITORY / "configs" / "miniature.yaml").read_text())
    config["name"] = "made_up"
    config["experiment"]["subjects"] = []
    config["experiment"]["evaluation"].update(n_bootstrap=200, n_flips=200)
    config["experiment"]["semantic_brain_decoding"]["subjects"] = list(SUBJECTS)
    config["experiment"].update(experiment)
    places = {"god": "god", "runs": "runs", "torch_hub": "hub", "wordnet": "wordnet"}
    config["execution"].update({key: str(folder / place) for key, place in places.items()})
    path = folder / "made_up.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def write_decoded(runs, subject, name, classes, marked="once", split=False):
    text = h5py.string_dtype()
    arrays = {
        "stimulus_id": IDS,
        "image_name": np.array([f"{decoded.image_name(key)}.JPEG" for key in IDS], text),
        "classes": classes,
        "classes_of_stimuli": classes[::-1],
        "class_wnid": np.array(BANK, text),
        "training_wnid": np.array([BANK[CONSTANT_CLASS]], text),
        "class_label": np.array([LABEL_OF[wnid] for wnid in BANK], text),
        "mse_training": np.float64(0.1),
        "mse_test": np.float64(0.2),
        "mse_test_raw": np.float64(0.15),
    }
    if split:
        arrays["validation_wnid"] = np.array(BANK[:3], text)
        arrays["validation_classes"] = np.array([[0, 1], [0, 1], [5, 1]])
        arrays["mse_validation"] = np.float64(0.3)
    config = load(runs.parents[1] / "made_up.yaml")
    output = Artifact(recipes.labels(config, subject, name.rpartition("/")[2], recording=marked))
    output.is_done(overwrite=True)
    output.write(arrays)


def write_pictures(recipe, images):
    output = ReconstructionFolder(recipe, len(IDS), overwrite=True)
    output.save(IDS, images, seed=0)
    output.write_index()


def pictures_of(rng, noise):
    images = STIMULI + rng.normal(0, noise, STIMULI.shape)
    return images.clip(0, 255).astype(np.uint8)


STIMULI = np.array(
    [np.asarray(Image.effect_mandelbrot((SIZE, SIZE), (-2, -1 + k / 5, 1, 1), 60).convert("RGB")) for k in range(6)]
)
CONSTANT_CLASS = 4
LABEL_OF = {wnid: f"thing {wnid[-2:]}, its other name" for wnid in BANK} | {BANK[CONSTANT_CLASS]: "always <this>"}
CLASSES = {
    ORIGINAL: np.array([[1, 2], [1, 0], [2, 3], [4, 4], [5, 1], [4, 0]]),
    CORRECTED: np.array([[0, 1], [1, 0], [2, 3], [3, 4], [4, 1], [5, 0]]),
    CLASSIFIER: np.array([[5, 1], [2, 0], [1, 3], [0, 4], [0, 1], [1, 0]]),
}


def classes_of(subject, classes):
    """Of the second subject the classes that the first has of other images: no two people decode alike."""
    return classes if subject == "Subject1" else np.roll(classes, 1, axis=0)


def write_run(folder):
    """Make a run that is decoded and has its pictures: of the second subject the classifier has none yet."""
    rng, runs, path = np.random.default_rng(0), folder / "runs" / "made_up", write_config(folder)
    config = load(path)
    test = folder / "god" / "images" / "test"
    test.mkdir(parents=True)
    lines = []
    for key, image in zip(IDS, STIMULI, strict=True):
        name = decoded.image_name(key)
        Image.fromarray(image).save(test / f"{name}.JPEG", quality=95)
        lines.append(f'{key / 1e6:.6f},"{name}.JPEG"\n')
    write_atomically(folder / "god" / god.TEST_IMAGES, "".join(lines))
    for subject in SUBJECTS:
        for k, (name, classes) in enumerate(CLASSES.items()):
            write_decoded(runs, subject, name, classes_of(subject, classes), split=name == ORIGINAL)
            if (subject, name) == ("Subject2", CLASSIFIER):
                continue
            for rank in (0, 1):
                recipe = recipes.pictures(config, subject, name.rpartition("/")[2], rank)
                write_pictures(recipe, pictures_of(rng, 30 * (rank + 1) * (k + 1)))
        wnid = BANK[CONSTANT_CLASS]
        write_pictures(recipes.constant(config, subject, wnid, LABEL_OF[wnid]), pictures_of(rng, 200))
    return path, runs / "evaluation" / "concepts"


@pytest.fixture(scope="module")
def script():
    return load_script()


@pytest.fixture
def with_wordnet(script, monkeypatch):
    stand_in(script, monkeypatch)


def stand_in(script, patch):
    """Put something in the place of WordNet."""
    patch.setattr(script, "open_wordnet", lambda _: "WordNet")
    patch.setattr(scoring, "wu_palmer", wu_palmer)
    patch.setattr(scoring, "words_of", lambda *_: ["real_thing", "other_word"])


@pytest.fixture(scope="module")
def scored_once(script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("once")
    config, _ = write_run(folder)
    with pytest.MonkeyPatch.context() as patch:
        stand_in(script, patch)
        script.main(["--config", str(config)])
    return folder


@pytest.fixture
def scored(scored_once, with_wordnet, tmp_path):
    """A run whose scores are there: its configuration, and the folder of the scores."""
    shutil.copytree(scored_once, tmp_path, dirs_exist_ok=True)
    return write_config(tmp_path), tmp_path / "runs" / "made_up" / "evaluation" / "concepts"


def read(output, name):
    return pd.read_csv(output / f"{name}.csv")


def test_scores_are_those_of_the_labels_and_of_the_controls(scored):
    _, output = scored
    scores = read(output, "scores")
    assert list(scores) == ["subject", "system", "image", "metric", "value"]
    assert set(scores["image"]) == {decoded.image_name(key) for key in IDS}
    value_of = scores.set_index(["subject", "system", "metric", "image"])["value"]
    for subject, measure in itertools.product(SUBJECTS, LABEL_METRICS):
        wnids = {name: np.array(BANK)[classes_of(subject, classes)] for name, classes in CLASSES.items()}
        wnids[PERFECT] = wnids[CORRECTED][::-1]  # as write_decoded has it
        for name in (*wnids, CONSTANT, PERMUTED):
            for i, key in enumerate(IDS):
                if name == PERMUTED:  # labels of all other images
                    others = [by_hand(measure, i, wnids[CORRECTED][j]) for j in range(6) if j != i]
                    expected = np.mean(others)
                else:
                    labels = [BANK[CONSTANT_CLASS]] if name == CONSTANT else wnids[name][i]
                    expected = by_hand(measure, i, labels)
                found = value_of.get((subject, name, measure, decoded.image_name(key)), np.nan)
                np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=f"{name}, {measure}, image {i}")
    pictured = scores[scores["metric"] == "pixcorr"].groupby("subject")["system"].unique()
    assert set(pictured["Subject1"]) == {*CLASSES, CONSTANT}  # permuted labels have no pictures
    assert set(pictured["Subject2"]) == {ORIGINAL, CORRECTED, CONSTANT}
    mean = scores[scores["metric"] == "pixcorr"].groupby("system")["value"].mean()
    assert mean[ORIGINAL] > mean[CORRECTED] > mean[CONSTANT]  # as noisy as they were made


def test_tables_are_those_of_the_scores(scored):
    _, output = scored
    scores = read(output, "scores").rename(columns={"image": "stimulus_id"})
    summary = read(output, "summary")
    # Statistics are of categories: the first two images have the same.
    means = scores.assign(stimulus_id=scores["stimulus_id"].str[:9]).groupby(
        ["subject", "system", "stimulus_id", "metric"], sort=False, as_index=False
    )["value"].mean()  # fmt: skip
    pd.testing.assert_frame_equal(summary.drop(columns="incomplete"), significance.summarise(means, 200, 42), atol=2e-6)
    n = summary.groupby("metric")["n"].unique()
    assert (list(n["exact_class"]), list(n["wup"]), list(n["wup_of_new"])) == ([3], [5], [2])
    paired = read(output, "paired")
    assert not paired.duplicated(["subject", "system", "baseline", "metric"]).any()
    pairs = set(zip(paired["system"], paired["baseline"], strict=True))
    assert pairs == {(name, CONSTANT) for name in CLASSES} | {
        (CORRECTED, ORIGINAL),
        (CORRECTED, CLASSIFIER),
        (PERFECT, CORRECTED),
    }
    assert {"all", *SUBJECTS} == set(paired["subject"]) == set(summary["subject"])
    permutation = read(output, "permutation")
    joined = permutation.merge(summary, on=["subject", "system", "metric"])
    assert len(joined) == len(permutation) == 3 * 3 * len(LABEL_METRICS)
    np.testing.assert_allclose(joined["observed"], joined["mean"], atol=2e-6)
    assert permutation["p"].between(0.004975, 1).all()  # 1 / 201, as it is written
    labels = read(output, "labels")
    assert len(labels) == 2 * 3 * 6 * 2
    assert set(labels["true_label"]) == {f"thing {w[-2:]}, its other name" for w in TRUE[:4]} | {
        "real thing, other word"
    }
    first = labels[(labels["rank"] == 1) & (labels["subject"] == "Subject1")].merge(
        scores[scores["metric"] == "wup"],
        left_on=["subject", "system", "image"],
        right_on=["subject", "system", "stimulus_id"],
    )
    assert len(first) == 18
    np.testing.assert_allclose(first["wup"], first["value"], atol=1e-6)
    errors = read(output, "errors").set_index(["subject", "system"])
    assert errors.loc[("Subject1", ORIGINAL), "n_validation"] == 3
    expected = np.mean([near(BANK[0], BANK[0]), near(BANK[1], BANK[0]), near(BANK[2], BANK[5])])
    assert errors.loc[("Subject1", ORIGINAL), "wup_validation"] == pytest.approx(expected)
    assert np.isnan(errors.loc[("Subject1", CORRECTED), "wup_validation"])
    assert Image.open(output / "examples.png").width > 400


def test_what_is_done_is_not_done_again_and_gives_the_same(scored, script, monkeypatch, capsys):
    config, output = scored
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    monkeypatch.setattr(scoring, "Scorer", None)  # must not be asked for
    for arguments in ([], ["--subject", "Subject1"], ["--subject", "Subject2"]):
        script.main(["--config", str(config), *arguments])
        assert {path.name: path.read_bytes() for path in output.iterdir()} == before, arguments
        assert "all pictures are scored already" in capsys.readouterr().out


def test_one_subject_after_the_other_gives_the_same_as_both_at_once(scored, script, tmp_path):
    config, output = scored
    expected = {name: (output / f"{name}.csv").read_bytes() for name in ("scores", "summary", "paired", "permutation")}
    (output / "scores.json").unlink()
    for subject in ("Subject2", "Subject1"):
        script.main(["--config", str(config), "--subject", subject])
    assert {name: (output / f"{name}.csv").read_bytes() for name in expected} == expected


def test_pictures_of_other_labels_are_refused(scored, script):
    config, output = scored
    write_decoded(output.parents[1], "Subject1", CORRECTED, CLASSES[ORIGINAL], marked="again")
    with pytest.raises(DataError, match=r"hash of the recording was once, is again.*39_generate.py --subject"):
        script.main(["--config", str(config)])


def test_without_wordnet_the_rest_is_there_and_the_reason_said(script, tmp_path, capsys):
    config, output = write_run(tmp_path)
    script.main(["--config", str(config)])
    assert set(read(output, "scores")["metric"]) & set(LABEL_METRICS) == {"exact_class"}
    record = json.loads((output / "scores.json").read_text())
    assert set(FROM_WORDNET) <= set(record["absent"])
    printed = capsys.readouterr().out
    assert "absent: wup (WordNet is missing" in printed
    assert "pixcorr" in set(read(output, "scores")["metric"])
    assert (output / "examples.png").is_file()


def test_what_is_not_decoded_is_named_with_the_command_that_does_it(script, tmp_path):
    config = write_config(tmp_path)
    with pytest.raises(DataError, match=r"corrected.h5 is missing.*29_decode_labels.py --subject Subject1"):
        script.main(["--config", str(config)])


def test_without_the_rival_there_is_nothing_to_do(script, tmp_path, capsys):
    script.main(["--config", str(write_config(tmp_path, semantic_brain_decoding=None, subjects=["subj01"]))])
    assert "nothing to do" in capsys.readouterr().out


def test_the_sentences_on_the_controls_follow_the_numbers(scored, script, capsys):
    config, _ = scored
    script.main(["--config", str(config)])
    printed = capsys.readouterr().out
    assert printed.index("control/permuted_labels") > printed.index("semantic_brain_decoding/classifier")
    columns = ["subject", "system", "baseline", "metric", "difference", "ci_low", "ci_high", "p", "p_holm", "n"]
    rows = [
        ("all", CORRECTED, CONSTANT, "wup", 0.01, -0.02, 0.04, 0.5, 1.0, 50),
        ("all", CORRECTED, CONSTANT, "label_two_way", 0.2, 0.1, 0.3, 0.001, 0.004, 50),
    ]
    paired = pd.DataFrame(rows, columns=columns)
    tested = [("all", CORRECTED, "wup", 0.004), ("all", CORRECTED, "exact_class", 0.06), ("all", ORIGINAL, "wup", 0.5)]
    permutation = pd.DataFrame(tested, columns=["subject", "system", "metric", "p_holm"])
    constant, beaten, not_beaten = comparison.against_controls(paired, permutation, "all")
    assert constant.startswith(
        "mean over subjects: Ferrante, corrected, is NOT shown to beat constant label in Wu-Palmer: +.010 [-.020,"
    )
    assert "better in label two-way; no firm difference in Wu-Palmer" in constant
    assert beaten.endswith("Ferrante, corrected, beats its labels dealt out at random in Wu-Palmer (p .004).")
    assert not_beaten.endswith("is NOT shown to beat its labels dealt out at random in exact class (p .06).")
    for change in ({"difference": 0.1, "ci_low": 0.05, "ci_high": 0.15, "p_holm": 0.01}, {"p_holm": 0.06}):
        beats = comparison.against_controls(paired[:1].assign(**change), permutation, "all")[0]
        assert ("beats constant label in Wu-Palmer" in beats) == ("difference" in change)
    assert "is not compared with constant label" in comparison.against_controls(paired[:0], permutation, "all")[0]


# The comparison and the page, of this dataset alone ------------------------------------------------------------------


def test_the_comparison_has_all_numbers_and_the_papers(scored):
    config, output = scored
    done = run_here("evaluation/42_compare.py", config)
    assert done.returncode == 0, done.stderr
    markdown = (output.parent / "comparison.md").read_text()
    tables, _ = comparison.read(load(output.parents[3] / "made_up.yaml"))
    sections = comparison.sections(tables["summary"], tables["paired"], tables["permutation"], ["all", *SUBJECTS])
    for title, table in sections:
        assert f"{title}\n\n{as_markdown(table)}" in markdown
        assert as_text(table) in done.stdout
        assert max(map(len, as_text(table).splitlines())) <= 120
    labels = dict(sections)["Generic Object Decoding, Subject1: decoded labels, mean [95 % interval]."]
    assert [row[0] for row in labels[1:]] == [
        CATALOGUE.system(n).label for n in (ORIGINAL, CORRECTED, CLASSIFIER, PERFECT, CONSTANT, PERMUTED)
    ]
    mean = tables["summary"].set_index(["subject", "system", "metric"])["mean"]["Subject1", CONSTANT, "wup"]
    assert labels[5][2].startswith(number(mean))
    assert comparison.quoted()[1][1:] == [".571", ".583", ".585", ".579", ".545", ".564"]
    assert f"Subject2: absent: {CLASSIFIER}; made by: python baselines/semantic_brain_decoding/14_bank.py" in markdown
    for text in (" ".join(done.stdout.split()), markdown):
        assert " ".join(comparison.CAUTION.split()) in " ".join(text.split())
        assert "beat constant label" in text
        assert f"Subject2: absent: {CLASSIFIER}" in text
        assert "Ferrante, corrected: an image's pictures are scored by their mean over 2 labels" in text
        assert "WARNING" not in text
    assert not (output.parent / "comparison.csv").exists()  # that is of the other dataset


def test_the_comparison_tells_what_changed_and_what_is_not_there(scored):
    config, output = scored
    write_decoded(output.parents[1], "Subject2", CLASSIFIER, CLASSES[ORIGINAL], marked="again")
    done = run_here("evaluation/42_compare.py", config, "--subject", "Subject2")
    assert "Subject1" not in done.stdout.replace("Subject1  Subject2  Subject3", "")
    warning = f"WARNING: {CLASSIFIER} has changed since it was scored; score it with: python {CATALOGUE.script}"
    assert f"Subject2: {warning}" in " ".join(done.stdout.split())
    (output / "summary.csv").unlink()
    for name in ("42_compare", "43_report"):
        done = run_here(f"evaluation/{name}.py", config)
        assert done.returncode == 1
        assert f"summary.csv is missing; make it with: python {CATALOGUE.script}" in done.stderr


class Page(HTMLParser):
    """What a page shows: headings, pictures, links and its text."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text, self.within = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.within.append(tag)

    def handle_endtag(self, tag):
        self.within = self.within[: len(self.within) - 1 - self.within[::-1].index(tag)]

    def handle_data(self, data):
        if not {"script", "style"} & set(self.within):
            self.text.append(data)


def test_the_page_of_this_dataset_alone(scored):
    config, output = scored
    done = run_here("evaluation/43_report.py", config)
    assert done.returncode == 0, done.stderr
    page = Page((output.parent / "index.html").read_text())
    text = " ".join(" ".join(page.text).split())
    pictures = [attrs for tag, attrs in page.found if tag == "img"]
    n_pictures = sum(len(classes) * (1 + 2) for classes in (CLASSES[CORRECTED],) * 2)
    assert len(pictures) == n_pictures
    assert all(attrs["src"].startswith("data:") for attrs in pictures)
    links = {attrs["href"] for tag, attrs in page.found if tag == "a" and attrs["href"].startswith("#")}
    ids = {attrs["id"] for _, attrs in page.found if "id" in attrs}
    assert {link[1:] for link in links} <= ids
    assert "god" in ids
    assert "scores" not in ids
    for words in ("Generic Object Decoding", "constant label", "permuted labels", "always <this>"):
        assert words in text
    assert comparison.CAUTION in text
    tables, _ = comparison.read(load(output.parents[3] / "made_up.yaml"))
    for name in (*CLASSES, PERFECT, CONSTANT, PERMUTED):
        mean = tables["summary"].set_index(["subject", "system", "metric"])["mean"]["all", name, "wup"]
        flagged = " flagged" if name == ORIGINAL else ""  # its variance is that of the test set
        assert f"{CATALOGUE.system(name).label}{flagged} 2–5 {mean:.3f}" in text
    assert text.count("thing 30") >= 2
    assert not (output.parent / "examples.png").exists()


def nsd_tables():
    columns = ["subject", "system", "stimulus_id", "metric", "value"]
    rows = [("subj01", STAGE1, i, name, 0.1 * i) for name in CATALOGUE.metrics_of("main") for i in range(5)]
    scores = pd.DataFrame(rows, columns=columns)
    return {
        "scores": scores,
        "summary": results.mark_incomplete(significance.summarise(scores, 100, 0), {}),
        "paired": significance.compare(scores, [(STAGE2, STAGE1)], CATALOGUE, 100, 100, 0),
    }


def test_the_other_dataset_comes_first_and_its_subjects_alone_are_shown_where_asked_for(scored):
    _, output = scored
    config = write_config(output.parents[3], subjects=["subj01"])
    tables = nsd_tables()
    Artifact(prepared(load(config), "subj01")).write({})
    found = {name: tables[name] for name in ("summary", "paired")}
    results.write_tables(output.parent, found, {"settings": results.scoring_settings(load(config)), "scored": []})
    both, nsd, other = (
        run_here("evaluation/42_compare.py", config, *arguments).stdout
        for arguments in ([], ["--subject", "subj01"], ["--subject", "Subject2"])
    )
    assert both.index("MindDiffuser, stage 1") < both.index("constant label")
    assert "MindDiffuser, stage 1" in nsd
    assert "constant label" not in nsd
    assert "MindDiffuser, stage 1" not in other
    assert "Generic Object Decoding, Subject2: decoded labels" in other


def test_the_page_of_both_datasets_has_both(scored):
    config, output = scored
    picture = thumbnail(Image.new("RGB", (8, 8), "red"))
    subject = SubjectResults(
        name="subj01",
        stimuli=dict.fromkeys(range(5), picture),
        captions={key: ["a caption"] for key in range(5)},
        categories=None,
        pictures={STAGE1: dict.fromkeys(range(5), picture)},
    )
    tables, record = comparison.read(load(output.parents[3] / "made_up.yaml"))
    stimuli = dict.fromkeys(IDS.tolist(), picture)
    config, album = load(config), Album()
    of_nsd = section_of_nsd.section(config, [subject], nsd_tables(), {"settings": {}, "absent": {}}, album)
    shown = [section.SubjectResults(name, [stimuli]) for name in SUBJECTS]
    page = Page(shell.page(config, [of_nsd, section.section(config, shown, tables, record, stimuli)], album))
    text = " ".join(" ".join(page.text).split())
    ids = [attrs["id"] for tag, attrs in page.found if tag == "section"]
    first = ["scores", "images", "differences", "plots", "decoding", "cortex", "published"]
    assert ids == [*first, "god", "absent", "provenance"]
    assert text.count("permuted labels") > 1
    assert "Another dataset: Generic Object Decoding" in text
    before = text[: text.index("Another dataset: Generic Object Decoding")]
    assert "stage 1" in before
    assert "constant label" not in before
    assert "Wu-Palmer" not in before
    without = Page(shell.page(config, [of_nsd], album))
    assert "god" not in {attrs.get("id") for _, attrs in without.found}


def test_states_name_what_was_made_again(scored):
    _, output = scored
    config = load(output.parents[3] / "made_up.yaml")
    record = json.loads((output / "scores.json").read_text())
    assert results.stale(record, "Subject1", decoded.states_of(config, "Subject1")) == {}
    write_decoded(output.parents[1], "Subject1", CORRECTED, CLASSES[ORIGINAL], marked="again")
    with pytest.raises(DataError, match="hash of the recording was once, is again"):
        decoded.states_of(config, "Subject1")
    write_decoded(output.parents[1], "Subject2", CLASSIFIER, CLASSES[ORIGINAL], marked="again")
    assert set(results.stale(record, "Subject2", decoded.states_of(config, "Subject2"))) == {CLASSIFIER}
