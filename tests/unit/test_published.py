"""The table of quoted numbers: every one has a source, and says what it is a number of."""

import pandas as pd

from evaluation.pictures import section
from minddiffuser.config import REPOSITORY


def test_every_quoted_number_has_its_source_and_is_there_once():
    table = pd.read_csv(REPOSITORY / "baselines" / "published.csv")
    assert list(table) == ["system", "metric", "dialect", "subjects", "n", "value", "source"]
    assert table[["system", "metric", "dialect", "value", "source"]].notna().all().all()
    assert table["value"].between(0, 1).all()
    assert not table.duplicated(["system", "metric", "subjects", "n", "source"]).any()
    paper = table[table["system"] == "MindDiffuser"].set_index("metric")["value"]
    assert paper.to_dict() == {"clip_similarity": 0.765, "ssim": 0.354, "pixcorr": 0.278}


def test_the_page_has_a_row_only_for_systems_with_numbers_in_its_columns():
    published = section._published()
    rows = [row for rows in published["sources"].values() for row in rows]
    assert rows
    assert all(any(value is not None for value in row["values"]) for row in rows)
    assert not any("Semantic Brain Decoding" in source for source in published["sources"])  # is of another dataset
