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
data that of images. `evaluation/concepts/catalogue.py` says what each system and metric is. Pictures that did not
change are not scored again.
Peak memory: 5.5 GB at the real size: all networks, CLIP ViT-L/14 among them, and their features.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import pandas as pd

from baselines.semantic_brain_decoding.wordnet import open_wordnet
from data import god
from evaluation import significance
from evaluation.concepts import contact_sheet, decoded, scoring
from evaluation.concepts.catalogue import CATALOGUE, CORRECTED, FROM_WORDNET, LABEL_METRICS, PAIRS
from evaluation.concepts.comparison import print_scores
from evaluation.concepts.crossed import by_category
from evaluation.concepts.permutation import permutation_table
from evaluation.metrics.scorer import absent_metrics
from evaluation.scores import COLUMNS, make_record, mark_incomplete, read_kept, scoring_settings, write_tables
from minddiffuser import terminal
from minddiffuser.cli import concept_subjects, execute, parse
from minddiffuser.store import DataError, write_atomically


def main(argv: list[str] | None = None) -> None:
    """Score each subject, then summarise all that have scores."""
    run = parse(__doc__, argv, subjects_of=concept_subjects, divides=False)
    config, evaluation, seed = run.config, run.config.experiment.evaluation, run.config.experiment.seed
    if config.experiment.semantic_brain_decoding is None:
        print("experiment.semantic_brain_decoding is null: nothing to do")
        return
    wordnet, absent = None, absent_metrics(config)
    try:
        wordnet = open_wordnet(config.wordnet)
    except DataError as error:
        absent = {**dict.fromkeys(FROM_WORDNET, str(error)), **absent}
    settings, output = scoring_settings(config) | {"absent": sorted(absent)}, CATALOGUE.output(config)
    kept = read_kept(run, output, settings, decoded.states_of)
    # What changed of other subjects is left for their turn.
    states = {key: state for key, state in kept.states.items() if key[0] in run.subjects or key in kept.fresh}

    # Labels are scored anew: each as the answer to every image, of which all scores of labels are a part.
    found = scoring.read_all(run, states)
    first = next(iter(found.values()))
    constants = {} if wordnet is None else scoring.choose_constants(config, wordnet, found)
    similarity = None if wordnet is None else scoring.similarities(wordnet, found, constants)
    crossed = scoring.cross(found, constants, similarity)
    # Pictures that did not change are not; their scores name images as the files are named.
    earlier = kept.scores.rename(columns={"image": "stimulus_id"})
    earlier = earlier[~earlier["metric"].isin(list(LABEL_METRICS))]
    parts = [
        scoring.label_scores(found, crossed),
        earlier.assign(stimulus_id=earlier["stimulus_id"].map(god.picture_key)),
    ]
    parts += scoring.score_pictures(run, found, [key for key in states if key not in kept.fresh])
    scores = scoring.arranged(pd.concat([part[COLUMNS] for part in parts if len(part)]))
    if "exact_class" not in set(scores["metric"]):
        absent["exact_class"] = "no test image's category is among the classes of the bank"

    # Statistics are of categories.
    lacking, of_categories = scoring.incomplete(config, states, len(first.ids)), by_category(scores)
    summary = significance.summarise(of_categories, evaluation.n_bootstrap, seed)
    tables = {
        "scores": scoring.with_image_names(scores),
        "summary": mark_incomplete(summary, lacking),
        "paired": significance.compare(
            of_categories, PAIRS, CATALOGUE, evaluation.n_bootstrap, evaluation.n_flips, seed
        ),
        "permutation": permutation_table(crossed, first.true, evaluation.n_flips, seed),
        "labels": scoring.label_table(wordnet, found, similarity),
        "errors": scoring.error_table(wordnet, found),
    }
    pictured = [key for key in states if decoded.has_pictures(config, *key)]
    record = make_record(config, settings, absent, states, pictured, lacking)
    record["constants"] = {subject: found[subject, CORRECTED].names[wnid] for subject, wnid in constants.items()}
    write_tables(output, tables, record)
    if examples := contact_sheet.examples(config, found, tables):
        write_atomically(output / "examples.png", examples)
    print_scores(config, run.subjects, tables, record)
    names = [*(f"{name}.csv" for name in tables), *(["examples.png"] if examples else [])]
    print(f"\n{terminal.wrapped(f'written: {output}/' + ', '.join(names))}")


if __name__ == "__main__":
    execute(main)
