"""The quoted numbers of films: each has its source, says what it is of, and is there once."""

import re
from collections import Counter

import pytest

from evaluation.videos.published import METRICS, read_published


@pytest.fixture(scope="module")
def table():
    return read_published()


def test_every_number_has_its_source_and_is_there_once(table):
    columns = ["dataset", "system", "metric", "subjects", "value", "spread", "source", "read_from"]
    assert list(table) == columns
    assert table.drop(columns="spread").notna().all().all()
    assert (table[["dataset", "system", "source", "read_from"]] != "").all().all()
    assert not table.duplicated(["dataset", "system", "metric", "subjects", "source"]).any()
    assert set(table["metric"]) == set(METRICS)
    assert table["subjects"].str.fullmatch(r"|\d( \d)*").all()
    assert set(table["read_from"]) == {
        "the paper's table as an image", "notes on the paper", "the abstract", "the released code", "the issue"
    }  # fmt: skip


def test_values_are_in_their_ranges(table):
    in_pixels = table["metric"].isin(["epe", "psnr"])
    assert table[~in_pixels]["value"].between(0, 1).all()
    assert table[table["metric"] == "psnr"]["value"].between(7, 14).all()
    assert table[table["metric"] == "epe"]["value"].between(1, 9).all()
    assert (table["spread"].dropna() > 0).all()


def test_the_paper_of_mind_animator_is_quoted_as_it_is(table):
    of_paper = table[table["source"].str.contains("main table") & (table["system"] == "Mind-Animator")]
    assert of_paper.set_index("metric")["value"].to_dict() == {
        "image_2_way": 0.805, "video_2_way": 0.830, "vifi": 0.608, "ssim": 0.321, "psnr": 9.220, "hue": 0.786,
        "clip_consistency_gated": 0.425, "epe": 5.422,
    }  # fmt: skip
    by_subject = table[(table["system"] == "Mind-Animator") & table["source"].str.contains("first version")]
    assert Counter(by_subject["subjects"]) == {"1": 7, "2": 7, "3": 7}
    assert by_subject["spread"].notna().all()


@pytest.mark.parametrize(
    "system", ["NeuroClips", "NEURONS", "SemVideo", "CineNeuron", "MinD-Video", "DecoFuse", "VCFlow"]
)
def test_rivals_are_there(table, system):
    assert len(table[table["system"] == system])


def test_gated_and_ungated_consistency_are_not_mixed(table):
    of_one = table[(table["system"] == "NeuroClips") & table["metric"].str.startswith("clip_consistency")]
    assert of_one.set_index("metric")["value"].to_dict() == {"clip_consistency_gated": 0.513, "clip_consistency": 0.738}


def test_the_averages_of_retrieval_are_those_of_its_subjects(table):
    of_retrieval = table[table["metric"].str.startswith("retrieval") & (table["subjects"] != "")]
    assert len(of_retrieval) == 48
    for _, rows in of_retrieval.groupby(["system", "metric"]):
        values = rows.set_index("subjects")["value"]
        assert values["1 2 3"] == pytest.approx(values[["1", "2", "3"]].mean(), abs=0.00011)


def test_chance_is_said_of_every_classification(table):
    for metric, label in METRICS.items():
        if re.search(r"(image|video)_\d+_way|retrieval", metric):
            assert "chance ." in label
