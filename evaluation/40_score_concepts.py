"""Score the rival on Generic Object Decoding, its labels and its pictures, always beside its controls.

    python evaluation/40_score_concepts.py [--config configs/miniature.yaml] [--subject Subject1]

Labels are scored by WordNet (Wu & Palmer 1994), in `execution.wordnet`; where it is absent, so is what needs it. Three
controls tell what a score is worth: one label for all images, the one that suits the training categories best, in
which the brain has no part; the labels that "corrected" decoded of the other test images, on average over these; and
the labels of the stimuli's own features, which is what perfect decoding would reach. A permutation test deals out the
labels of each form to the images at random. Pictures are scored as in `evaluation/41_score.py`: mean over those of all
labels of an image.

Reads, for each subject of `experiment.semantic_brain_decoding`, `semantic_brain_decoding/decoded/<form>.h5`, the
folders `reconstruction/semantic_brain_decoding/<form>` and `reconstruction/control/constant_label`, and the stimuli in
`<god>/images/test`. Writes to `runs/<name>/evaluation/concepts/`:

    scores.csv       subject, system, image (such as n01443537_22563), metric, value: one row an image and metric
    summary.csv      subject, system, metric, mean, ci_low, ci_high, n, incomplete; subject "all": mean over subjects
    paired.csv       subject, system, baseline, metric, difference, ci_low, ci_high, p, p_holm, n
    permutation.csv  subject, system, metric, observed, permuted_mean, permuted_high (97.5 % quantile), p, p_holm, n
    labels.csv       subject, system, image, true_wnid, true_label, rank, wnid, label, wup: what was decoded
    errors.csv       subject, system, mse_training, mse_validation, mse_test, mse_test_raw: of decoded features;
                     wup_validation, n_validation: of the labels of single trials that were not fitted
    scores.json      the settings and the states of the folders, as that of 41_score.py; absent metrics and why
    examples.png     some test images of one subject with the pictures of "corrected" and their labels

All but scores.csv and labels.csv count the images of a category as one: n is the number of categories; in the real
data that of images. `evaluation/catalogue.py` says what each system and metric is. Pictures that did not change are not
scored again. Peak memory: 9 GB, by count, as 41_score.py.
"""

import io
import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from baselines.semantic_brain_decoding import recipes
from baselines.semantic_brain_decoding.labels import best_constant
from baselines.semantic_brain_decoding.wordnet import open_wordnet, wu_palmer
from data import god
from evaluation import comparison, concepts, results, scoring, significance, text_tables
from evaluation.catalogue import (
    ALL_SUBJECTS,
    CONCEPT_METRICS,
    CONSTANT,
    CORRECTED,
    METRICS,
    PERFECT,
    PERMUTED,
    STAND_IN,
    in_order,
)
from evaluation.concepts import FORMS, Decoded
from evaluation.examples import choose_examples
from minddiffuser.cli import Run, concept_subjects, execute, parse
from minddiffuser.config import Config
from minddiffuser.store import DataError, reading, write_atomically
from reconstruction import folder

Key = tuple[str, str]  # a subject and a system
COLUMNS = ["subject", "system", "nsd_id", "metric", "value"]
OTHER_FORMS = tuple(name for name in FORMS if name != CORRECTED)
PAIRS = [
    *((name, CONSTANT) for name in (CORRECTED, *OTHER_FORMS)),
    *((CORRECTED, name) for name in OTHER_FORMS),
    (PERFECT, CORRECTED),
]
N_EXAMPLES = 6
_GENERATE = "make them with: python baselines/semantic_brain_decoding/39_generate.py"


def main(argv: list[str] | None = None) -> None:
    """Score each subject, then summarise all that have scores."""
    run = parse(__doc__, argv, subjects_of=concept_subjects, divides=False)
    config, experiment, evaluation = run.config, run.config.experiment, run.config.experiment.evaluation
    if experiment.semantic_brain_decoding is None:
        print("experiment.semantic_brain_decoding is null: nothing to do")
        return
    wordnet, absent = None, scoring.absent_metrics(config)
    try:
        wordnet = open_wordnet(config.wordnet)
    except DataError as error:
        absent = {**dict.fromkeys(concepts.FROM_WORDNET, str(error)), **absent}
    settings = results.scoring_settings(config) | {"absent": sorted(absent)}
    output = config.folder() / "evaluation" / "concepts"
    kept, scored = read_scores(output, settings)
    subjects = sorted({*run.subjects, *kept["subject"]})
    states = {(s, name): state for s in subjects for name, state in concepts.states_of(config, s).items()}
    fresh = {
        key
        for key, state in states.items()
        if scored.get(key) == state and not (run.overwrite and key[0] in run.subjects)
    }
    # What changed of other subjects is left for their turn.
    states = {key: state for key, state in states.items() if key[0] in run.subjects or key in fresh}

    decoded = read_decoded(run, states)
    constants = {} if wordnet is None else choose_constants(config, wordnet, decoded)
    similarity = None if wordnet is None else similarities(wordnet, decoded, constants)
    crossed = cross(decoded, constants, similarity)
    is_fresh = np.array([key in fresh for key in zip(kept["subject"], kept["system"], strict=True)], bool)
    pictures = [kept[is_fresh & ~kept["metric"].isin(list(CONCEPT_METRICS)).to_numpy()]]
    pictures += score_pictures(run, decoded, [key for key in states if key not in fresh])
    scores = arranged(pd.concat([label_scores(decoded, crossed), *pictures]))
    if "exact_class" not in set(scores["metric"]):
        absent["exact_class"] = "no test image's category is among the classes of the bank"

    lacking = incomplete(config, states, len(next(iter(decoded.values())).ids))
    of_categories = concepts.by_category(scores)
    names = scores["nsd_id"].map(concepts.image_name)
    tables = {
        "scores": scores.assign(nsd_id=names).rename(columns={"nsd_id": "image"}),
        "summary": results.mark_incomplete(
            significance.summarise(of_categories, evaluation.n_bootstrap, experiment.seed), lacking
        ),
        "paired": significance.compare(
            of_categories, PAIRS, evaluation.n_bootstrap, evaluation.n_flips, experiment.seed
        ),
        "permutation": concepts.permutation_table(
            crossed, next(iter(decoded.values())).true, evaluation.n_flips, experiment.seed
        ),
        "labels": label_table(wordnet, decoded, similarity),
        "errors": error_table(wordnet, decoded),
    }
    samples = {key: len(folder.sample_folders(place_of(config, *key))) for key in states if has_pictures(config, *key)}
    record = {
        "settings": settings,
        "absent": absent,
        "scored": [[*key, state] for key, state in sorted(states.items())],
        "samples": [[*key, n] for key, n in sorted(samples.items()) if n > 1],
        "incomplete": [[*key, text] for key, text in sorted(lacking.items())],
        "constants": {subject: decoded[subject, CORRECTED].names[wnid] for subject, wnid in constants.items()},
    }
    results.write_tables(output, tables, record)
    drawn = draw_examples(config, output / "examples.png", decoded, tables)
    show(run, tables, record)
    print(f"\nwritten: {output}/{'.csv, '.join(tables)}.csv{', examples.png' if drawn else ''}")


def read_decoded(run: Run, states: dict[Key, str]) -> dict[Key, Decoded]:
    """Read what was decoded, in all forms of the subjects that are scored: of the same test images."""
    config = run.config
    keys = [key for key in states if key[1] in FORMS]
    missing = [(subject, CORRECTED) for subject in run.subjects if subject not in {of for of, _ in keys}]
    found = {key: concepts.read_decoded(config, *key) for key in (*missing, *keys)}
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
        place = place_of(config, subject, CONSTANT)
        if has_pictures(config, subject, CONSTANT) and wnid_of(place) != found[subject]:
            raise DataError(f"{place} has pictures of another label than {of_key.names[found[subject]]!r}; {_GENERATE}")
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
    """Score the labels of every image as the answer to every image, see `concepts.crossed_scores`."""
    answers = {key: (found, found.labels) for key, found in decoded.items()}
    for (subject, system), found in decoded.items():
        if system == CORRECTED:
            answers[subject, PERFECT] = found, found.labels_of_stimuli
        if subject in constants:
            answers[subject, CONSTANT] = found, np.full((len(found.ids), 1), constants[subject])
    return {
        key: concepts.crossed_scores(found.true, labels, found.names, similarity)
        for key, (found, labels) in answers.items()
    }


def label_scores(decoded: dict[Key, Decoded], crossed: dict[Key, dict[str, np.ndarray]]) -> pd.DataFrame:
    """Scores of the labels: those of each image as its own answer, and what they give to the others on average."""
    found = {key: {name: np.diag(values) for name, values in tables.items()} for key, tables in crossed.items()}
    for (subject, system), tables in crossed.items():
        if system == CORRECTED:
            found[subject, PERMUTED] = {
                name: concepts.expectation_over_others(values) for name, values in tables.items()
            }
    ids = next(iter(decoded.values())).ids
    parts = [
        pd.DataFrame({"subject": subject, "system": system, "nsd_id": ids, "metric": name, "value": values})
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
    scorer, found = scoring.Scorer(run.config, stimuli, run.device), []
    for subject, name in tqdm(todo, desc="scores"):
        values = scoring.score_folder(scorer, place_of(run.config, subject, name), test.ids, field=True)
        table = pd.DataFrame({"subject": subject, "system": name, **values})
        found.append(table.melt(["subject", "system", "nsd_id"], var_name="metric").dropna())
    return found


def arranged(scores: pd.DataFrame) -> pd.DataFrame:
    """Put scores in the order of subjects, systems, metrics and images, rounded as they are written."""
    places = {name: k for k, name in enumerate(in_order(set(scores["system"])))}
    orders = {name: k for k, name in enumerate([*CONCEPT_METRICS, *METRICS])}
    metrics = scores["metric"].map(lambda name: orders[name.removesuffix(STAND_IN)])
    by = ["subject", "system_place", "metric_place", "nsd_id"]
    scores = scores.assign(system_place=scores["system"].map(places), metric_place=metrics).sort_values(by)
    scores = scores[COLUMNS].astype({"nsd_id": np.int64, "value": float})
    return scores.round({"value": 6}).reset_index(drop=True)


def label_table(wordnet: Any, decoded: dict[Key, Decoded], similarity: pd.DataFrame | None) -> pd.DataFrame:
    """List what was decoded: a row a label of an image."""
    rows = []
    for (subject, system), found in decoded.items():
        for key, true, labels in zip(found.ids, found.true, found.labels, strict=True):
            called = found.names.get(true) or name_of(wordnet, true)
            for rank, wnid in enumerate(labels, start=1):
                wup = np.nan if similarity is None else similarity.loc[true, wnid]
                image = concepts.image_name(int(key))
                rows.append((subject, system, image, true, called, rank, wnid, found.names[wnid], wup))
    columns = ["subject", "system", "image", "true_wnid", "true_label", "rank", "wnid", "label", "wup"]
    return pd.DataFrame(rows, columns=columns)


def name_of(wordnet: Any, wnid: str) -> str:
    """Give the words of a category that the bank does not have, as WordNet lists them."""
    if wordnet is None:
        return wnid
    words = wordnet.synset_from_pos_and_offset("n", int(wnid[1:])).lemma_names()
    return ", ".join(word.replace("_", " ") for word in words)


def error_table(wordnet: Any, decoded: dict[Key, Decoded]) -> pd.DataFrame:
    """List errors of the decoded features, and how near the labels of single trials are that were not fitted."""
    rows = []
    for (subject, system), found in decoded.items():
        pairs = zip(found.validation_true, found.validation_labels[:, 0], strict=True)
        values = [] if wordnet is None else [wu_palmer(wordnet, [true], [label])[0, 0] for true, label in pairs]
        errors = [found.errors.get(error, np.nan) for error in concepts.ERRORS]
        rows.append((subject, system, *errors, np.mean(values) if values else np.nan, len(values)))
    return pd.DataFrame(rows, columns=["subject", "system", *concepts.ERRORS, "wup_validation", "n_validation"])


def draw_examples(config: Config, path: Path, decoded: dict[Key, Decoded], tables: dict[str, pd.DataFrame]) -> bool:
    """Draw the picture of examples, of the first subject with pictures of the corrected form, if there is one."""
    subject = next((s for s, name in decoded if name == CORRECTED and has_pictures(config, s, CORRECTED)), None)
    if subject is None:
        return False
    samples = folder.sample_folders(place_of(config, subject, CORRECTED))
    pictures = [dict(zip(*folder.read(sample), strict=True)) for sample in samples]
    scores = tables["scores"].query("subject == @subject and system == @CORRECTED")
    ranked_by = "wup" if "wup" in set(scores["metric"]) else "clip_similarity"
    value_of = scores[scores["metric"] == ranked_by].set_index("image")["value"]
    chosen = choose_examples({key: value_of[concepts.image_name(key)] for key in pictures[0]}, N_EXAMPLES)
    found = decoded[subject, CORRECTED]
    file_of = dict(zip(found.ids, found.files, strict=True))
    stimuli = god.read_pictures(config.god / "images" / "test", [file_of[key] for key in chosen])
    labels = tables["labels"].query("subject == @subject and system == @CORRECTED")
    png = io.BytesIO()
    sheet = concepts.contact_sheet(labels, dict(zip(chosen, stimuli, strict=True)), pictures)
    sheet.save(png, "png", optimize=True)
    write_atomically(path, png.getvalue())
    return True


def show(run: Run, tables: dict[str, pd.DataFrame], record: dict[str, Any]) -> None:
    """Print the tables, controls beneath the systems, and what they say of the corrected form."""
    summary, paired, absent = tables["summary"], tables["paired"], record["absent"]
    whole = ALL_SUBJECTS if ALL_SUBJECTS in set(summary["subject"]) else summary["subject"].iloc[0]
    print("\nGeneric Object Decoding: mean [95 % interval over categories; subject all: over subjects, too]\n")
    for group in ("concepts", "main", "more", "brain_diffuser", "mindeye"):
        shown = summary if group in ("concepts", "main") else summary[summary["subject"] == whole]
        if text_tables.has(shown, group):
            print(f"{text_tables.text_table(shown, 'mean', group, absent)}\n")
    for subject, label in record["constants"].items():
        print(f"{subject}: the constant label is {label!r}")
    print("\ndifference on the same images [95 % interval], p of a sign-flip test, corrected by Holm's method\n")
    for group in ("concepts", "main"):
        if text_tables.has(paired, group):
            print(f"{text_tables.text_table(paired, 'difference', group)}\n")
    print(textwrap.fill(comparison.PERMUTATION, 120))
    print(f"\n{comparison.as_text(comparison.permutation_rows(tables['permutation']))}\n")
    for subject in dict.fromkeys([whole, *summary["subject"]]):
        print("\n".join(comparison.against_controls(paired, tables["permutation"], subject)))
    print("\nerrors of decoded features (original: other targets), Wu-Palmer of single trials that were not fitted\n")
    print(tables["errors"].to_string(index=False, float_format="%.4f", na_rep="–"))
    for subject in run.subjects:
        there = set(summary.loc[summary["subject"] == subject, "system"])
        without = [name for name in FORMS if name in there and not has_pictures(run.config, subject, name)]
        for name in comparison.absent_concepts(there, run.config.experiment):
            print(f"{subject}: {name} is absent")
        for name in without:
            print(f"{subject}: {name} has no pictures; {_GENERATE}")
    for name, reason in absent.items():
        print(f"absent: {name} ({reason})")


def place_of(config: Config, subject: str, name: str) -> Path:
    """Where the pictures of a system are."""
    return config.folder(subject) / "reconstruction" / name


def has_pictures(config: Config, subject: str, name: str) -> bool:
    """Tell whether a system has pictures."""
    return folder.state(place_of(config, subject, name)) is not None


def wnid_of(place: Path) -> str:
    """Read of which class the pictures of a constant label are."""
    return folder.read_settings(place)["lineage"][f"reconstruction/{CONSTANT}"]["wnid"]


def read_scores(output: Path, settings: dict[str, Any]) -> tuple[pd.DataFrame, dict[Key, str]]:
    """Read the scores that are there, made with the same settings, and the states of what they are of."""
    paths, none = [output / "scores.json", output / "scores.csv"], (pd.DataFrame(columns=COLUMNS), {})
    if not all(path.is_file() for path in paths):
        return none
    with reading(paths[0], "the record of what was scored", "delete it, and everything is scored again"):
        record = json.loads(paths[0].read_text())
        if record["settings"] != settings:
            return none
        scored = {(subject, system): state for subject, system, state in record["scored"]}
    if not results.is_as_written(paths[1]):  # a kill came before the record was written
        return none
    scores = pd.read_csv(paths[1], dtype={"subject": str})
    return scores.assign(nsd_id=scores["image"].map(god.picture_key))[COLUMNS], scored


if __name__ == "__main__":
    execute(main)
