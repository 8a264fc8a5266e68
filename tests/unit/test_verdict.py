"""The verdict says what the tables say, and nothing that they do not."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation.page.album import Strip, as_png, thumbnail
from evaluation.page.shell import Claim
from evaluation.pictures.catalogue import CEILING, NEAREST, RESTORED, SHUFFLED, STAGE1, STAGE2
from evaluation.pictures.examples import card
from evaluation.pictures.methods import methods
from evaluation.pictures.verdict import absences, best_rival, method_of, shown_first, verdict
from minddiffuser.config import REPOSITORY, load

TWO_WAY = {STAGE1: 0.72, STAGE2: 0.69, RESTORED: 0.81, "takagi/corrected": 0.6, "ozcelik/corrected": 0.73}
TWO_WAY |= {"ablation/without_z": 0.9, CEILING: 0.97, NEAREST: 0.8, SHUFFLED: 0.51}


def summary_of(two_way, subject="all", lower=0.3):
    rows = [(subject, name, "clip_two_way", value) for name, value in two_way.items()]
    rows.append((subject, STAGE1, "truth_is_lower", lower))
    return pd.DataFrame(rows, columns=["subject", "system", "metric", "mean"])


def paired_of(*pairs, subject="all"):
    """Of each pair (system, baseline, differences by metric): firm unless it is zero."""
    rows = [
        (subject, system, baseline, metric, value, value - 0.01, value + 0.01, 0.001, 0.001 if value else 1.0)
        for system, baseline, differences in pairs
        for metric, value in differences.items()
    ]
    columns = ["subject", "system", "baseline", "metric", "difference", "ci_low", "ci_high", "p", "p_holm"]
    return pd.DataFrame(rows, columns=columns)


def test_the_four_lines_are_those_of_the_tables():
    paired = paired_of(
        (STAGE2, STAGE1, {"pixcorr": 0.0, "ssim": 0.1}),
        (STAGE2, "ozcelik/corrected", {"pixcorr": -0.2, "ssim": 0.2}),
        (RESTORED, NEAREST, {"pixcorr": 0.1, "clip_two_way": 0.0}),
    )
    lines = verdict(summary_of(TWO_WAY), paired, "all")
    assert [line.text for line in lines] == [
        "Own stimulus picked over another: 72 % (stage 1), 69 (stage 2), 81 (restored); chance 50, shuffled 51, "
        "ceiling 97",
        "Ozcelik, corrected identifies best of the fair rivals (73 %). Stage 2: better in SSIM; worse in PixCorr",
        "Stage 2 beside stage 1: better in SSIM; no firm difference in PixCorr. The true stimulus has a lower loss "
        "than stage 1's picture in 30 % of the images",
        "The nearest training image picks the stimulus in 80 %. Restored: better in PixCorr; no firm difference in "
        "CLIP two-way",
    ]


def test_another_outcome_gives_another_verdict():
    paired = paired_of((STAGE2, STAGE1, {"pixcorr": -0.3}))
    lines = verdict(summary_of(TWO_WAY, lower=0.8), paired, "all")
    assert lines[2].text.startswith("Stage 2 beside stage 1: worse in PixCorr")
    assert "80 % of the images" in lines[2].text


def test_what_is_not_there_is_not_claimed():
    lines = verdict(summary_of({STAGE1: 0.72}, "subj01"), paired_of(subject="subj01"), "subj01")
    assert lines[0].text == "Own stimulus picked over another: 72 % (stage 1); chance 50"
    assert lines[1].text == "No rival without a flag has been run yet"
    assert lines[2].text.startswith("Stage 2 is not compared with stage 1 yet")
    assert lines[3].text == "That control has not been made yet"


def test_the_best_rival_is_neither_an_ablation_nor_a_control():
    summary = summary_of(TWO_WAY)
    assert best_rival(summary, "all") == "ozcelik/corrected"
    assert best_rival(summary, "all", {"ozcelik/corrected"}) == "takagi/corrected"
    assert best_rival(summary[summary["system"] == STAGE1], "all") is None
    assert method_of([STAGE1]) == STAGE1
    assert method_of([STAGE1, STAGE2]) == STAGE2


def test_five_systems_are_shown_first():
    assert shown_first(TWO_WAY, "ozcelik/corrected") == [STAGE2, RESTORED, "ozcelik/corrected", CEILING, NEAREST]
    assert shown_first([STAGE1], None) == [STAGE1]


def test_absent_systems_and_metrics_are_named_with_their_reason():
    experiment = load(REPOSITORY / "configs" / "miniature.yaml", None).experiment
    everything = {subject: [STAGE1, STAGE2] for subject in ("subj01", "subj02")}
    found = absences(everything, experiment, {"lpips": "no weights", "mindeye/swav": "no network"})
    why = dict(found)
    assert why["LPIPS"] == "no weights"
    assert why["SwAV as MindEye has it"] == "no network"
    (takagi,) = (what for what in why if what.startswith("4 forms of Takagi: Takagi, original; "))
    assert why[takagi].startswith("not made yet; ")
    assert "36_reconstruct_takagi.py" in why[takagi]
    assert "(subj" not in takagi
    one = absences({"subj01": [STAGE1, STAGE2], "subj02": [STAGE1]}, experiment, {})
    assert any("MindDiffuser, stage 2" in what and what.endswith("(subj02)") for what, _ in one)


@pytest.mark.parametrize("name", ["miniature", "nsd", "nsd_restored", "nsd_as_released"])
def test_the_methods_paragraph_has_the_settings_of_its_configuration(name):
    config = load(REPOSITORY / "configs" / f"{name}.yaml", None)
    text, experiment = methods(config), config.experiment
    assert f"penalty {experiment.decoding.alpha:g}" in text
    assert f"{experiment.guidance.n_iterations} iterations" in text
    assert ("simulation" in text) is (name == "miniature")
    assert ("restored" in text) is (experiment.decoding.restore_variance == "train")


def test_the_card_has_the_size_of_a_links_preview_and_its_pictures():
    red = thumbnail(Image.new("RGB", (64, 64), (200, 10, 10)))
    shown = Strip(
        "subj01", "a rule", ["NSD 1", "NSD 2"], [("stimulus", [red, red]), ("MindDiffuser, stage 2", [red, None])]
    )
    drawn = card(shown, [Claim("A long question?" * 4, "a long answer " * 40, "scores")] * 4, is_simulated=True)
    assert drawn.size == (1280, 640)
    n_red = (np.asarray(drawn) == (200, 10, 10)).all(axis=2).sum()
    assert 3 * 100**2 < n_red < 3 * 130**2
    assert as_png(drawn)[:4] == b"\x89PNG"
