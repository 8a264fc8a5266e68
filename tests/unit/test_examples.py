"""The picture of examples is chosen by rule, not by eye."""

from evaluation.page.album import choose_examples


def test_examples_are_at_even_quantiles_from_worst_to_best():
    pixcorr = {10 * k: score for k, score in enumerate([0.9, 0.1, 0.5, 0.3, 0.7])}
    assert choose_examples(pixcorr, 3) == [10, 20, 0]
    assert choose_examples(pixcorr, 9) == [10, 30, 20, 40, 0]  # all, where there are not as many


def test_equal_scores_are_chosen_by_id():
    assert choose_examples({7: 0.5, 3: 0.5, 5: 0.5}, 3) == [3, 5, 7]
