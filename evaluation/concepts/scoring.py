"""Scores of Generic Object Decoding: of decoded labels beside those of its controls, and of the pictures of labels."""

from typing import Any

import numpy as np
import pandas as pd

from baselines.semantic_brain_decoding import recipes
from baselines.semantic_brain_decoding.labels import best_constant
from baselines.semantic_brain_decoding.wordnet import words_of, wu_palmer
from data import god
from evaluation.catalogue import STAND_IN
from evaluation.concepts.catalogue import CATALOGUE, CONSTANT, CORRECTED, FORMS, PERFECT, PERMUTED
from evaluation.concepts.crossed import crossed_scores, expectation_over_others
from evaluation.concepts.decoded import ERRORS, GENERATE, Decoded, has_pictures, image_name, read_decoded
from evaluation.metrics.scorer import Scorer, score_folder
from evaluation.scores import COLUMNS, Key, place_of, rows_of
from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.progress import progress
from minddiffuser.store import DataError
from reconstruction import folder


def read_all(run: Run, states: dict[Key, str]) -> dict[Key, Decoded]:
    """Read what was decoded, in all forms of the subjects that are scored: of the same test images."""
    config = run.config
    keys = [key for key in states if key[1] in FORMS]
    missing = [(subject, CORRECTED) for subject in run.subjects if subject not in {of for of, _ in keys}]
    found = {key: read_decoded(config, *key) for key in (*missing, *keys)}
    first = next(iter(found))
    for (subject, name), of_key in found.items():
        if not np.array_equal(of_key.ids, found[first].ids):
            raise DataError(f"{name} of {subject} and of {first[0]} are of different test images; decode them again")
    return found


def incomplete(config: Config, states: dict[Key, str], n_test: int) -> dict[Key, str]:
    """Say of each system that has fewer pictures than it should what it lacks, such as "3 of 6 pictures"."""
    found = {}
    for subject, name in states:
        if has_pictures(config, subject, name):
            n_samples = len(recipes.systems(config, subject).get(name, (None,)))
            found[subject, name] = folder.shortfall(place_of(config, subject, name), n_test, n_samples)
    return {key: text for key, text in found.items() if text}


def choose_constants(config: Config, wordnet: Any, decoded: dict[Key, Decoded]) -> dict[str, str]:
    """Choose for each subject the label that suits the training categories best, as the pictures of it were made."""
    found = {}
    for (subject, system), of_key in decoded.items():
        if system != CORRECTED:
            continue
        wnids = list(of_key.names)
        found[subject] = wnids[best_constant(wu_palmer(wordnet, of_key.training.tolist(), wnids))]
        if has_pictures(config, subject, CONSTANT):
            place, label = place_of(config, subject, CONSTANT), of_key.names[found[subject]]
            lineage = folder.read_settings(place)["lineage"]
            if lineage[f"reconstruction/{CONSTANT}"]["wnid"] != found[subject]:
                raise DataError(f"{place} has pictures of another label than {label!r}; {GENERATE}")
    return found


def similarities(wordnet: Any, decoded: dict[Key, Decoded], constants: dict[str, str]) -> pd.DataFrame:
    """Wu-Palmer similarity of the true categories, in rows, and all labels that are an answer, in columns."""
    true = sorted({wnid for found in decoded.values() for wnid in found.true})
    of_images = (labels for found in decoded.values() for labels in (found.labels, found.labels_of_stimuli))
    labels = sorted({*constants.values(), *(wnid for labels in of_images for wnid in labels.ravel())})
    return pd.DataFrame(wu_palmer(wordnet, true, labels), true, labels)


def cross(
    decoded: dict[Key, Decoded], constants: dict[str, str], similarity: pd.DataFrame | None
) -> dict[Key, dict[str, np.ndarray]]:
    """Score the labels of every image as the answer to every image, see `crossed.crossed_scores`."""
    answers = {key: (found, found.labels) for key, found in decoded.items()}
    for (subject, system), found in decoded.items():
        if system == CORRECTED:
            answers[subject, PERFECT] = found, found.labels_of_stimuli
        if subject in constants:
            answers[subject, CONSTANT] = found, np.full((len(found.ids), 1), constants[subject])
    return {
        key: crossed_scores(found.true, labels, found.names, similarity) for key, (found, labels) in answers.items()
    }


def label_scores(decoded: dict[Key, Decoded], crossed: dict[Key, dict[str, np.ndarray]]) -> pd.DataFrame:
    """Scores of the labels: those of each image as its own answer, and what they give to the others on average."""
    found = {key: {name: np.diag(values) for name, values in tables.items()} for key, tables in crossed.items()}
    for (subject, system), tables in crossed.items():
        if system == CORRECTED:
            found[subject, PERMUTED] = {name: expectation_over_others(values) for name, values in tables.items()}
    ids = next(iter(decoded.values())).ids
    parts = [
        pd.DataFrame({"subject": subject, "system": system, "stimulus_id": ids, "metric": name, "value": values})
        for (subject, system), scores in found.items()
        for name, values in scores.items()
    ]
    return pd.concat(parts).dropna()


def score_pictures(run: Run, decoded: dict[Key, Decoded], todo: list[Key]) -> list[pd.DataFrame]:
    """Score the pictures of some systems: tables with the columns of scores.csv."""
    todo = [key for key in todo if has_pictures(run.config, *key)]
    if not todo:
        print("all pictures are scored already")
        return []
    test = next(iter(decoded.values()))
    stimuli = god.read_pictures(run.config.god / "images" / "test", test.files)
    scorer, found = Scorer(run.config, stimuli, run.device), []
    for subject, name in progress(todo, desc="scores"):
        values = score_folder(scorer, place_of(run.config, subject, name), test.ids, field=True)
        found.append(rows_of(subject, name, values))
    return found


def arranged(scores: pd.DataFrame) -> pd.DataFrame:
    """Put scores in the order of subjects, systems, metrics and images, rounded as they are written."""
    places = {name: k for k, name in enumerate(CATALOGUE.in_order(set(scores["system"])))}
    orders = {name: k for k, name in enumerate(CATALOGUE.metrics)}
    metrics = scores["metric"].map(lambda name: orders[name.removesuffix(STAND_IN)])
    by = ["subject", "system_place", "metric_place", "stimulus_id"]
    scores = scores.assign(system_place=scores["system"].map(places), metric_place=metrics).sort_values(by)
    scores = scores[COLUMNS].astype({"stimulus_id": np.int64, "value": float})
    return scores.round({"value": 6}).reset_index(drop=True)


def with_image_names(scores: pd.DataFrame) -> pd.DataFrame:
    """Give images their names, in a column of that name, in place of their ids."""
    return scores.assign(stimulus_id=scores["stimulus_id"].map(image_name)).rename(columns={"stimulus_id": "image"})


def label_table(wordnet: Any, decoded: dict[Key, Decoded], similarity: pd.DataFrame | None) -> pd.DataFrame:
    """List what was decoded: a row a label of an image."""
    rows = []
    for (subject, system), found in decoded.items():
        for key, true, labels in zip(found.ids, found.true, found.labels, strict=True):
            called = found.names.get(true) or name_of(wordnet, true)
            for rank, wnid in enumerate(labels, start=1):
                wup = np.nan if similarity is None else similarity.loc[true, wnid]
                image = image_name(int(key))
                rows.append((subject, system, image, true, called, rank, wnid, found.names[wnid], wup))
    columns = ["subject", "system", "image", "true_wnid", "true_label", "rank", "wnid", "label", "wup"]
    return pd.DataFrame(rows, columns=columns)


def name_of(wordnet: Any, wnid: str) -> str:
    """Give the words of a category that the bank does not have, as WordNet lists them."""
    if wordnet is None:
        return wnid
    return ", ".join(word.replace("_", " ") for word in words_of(wordnet, wnid))


def error_table(wordnet: Any, decoded: dict[Key, Decoded]) -> pd.DataFrame:
    """List errors of the decoded features, and how near the labels of single trials are that were not fitted."""
    rows = []
    for (subject, system), found in decoded.items():
        pairs = zip(found.validation_true, found.validation_labels[:, 0], strict=True)
        values = [] if wordnet is None else [wu_palmer(wordnet, [true], [label])[0, 0] for true, label in pairs]
        errors = [found.errors.get(error, np.nan) for error in ERRORS]
        rows.append((subject, system, *errors, np.mean(values) if values else np.nan, len(values)))
    return pd.DataFrame(rows, columns=["subject", "system", *ERRORS, "wup_validation", "n_validation"])
