"""The table of quoted numbers: every one has a source, and says what it is a number of."""

import pandas as pd

from minddiffuser.config import REPOSITORY


def test_every_quoted_number_has_its_source_and_is_there_once():
    table = pd.read_csv(REPOSITORY / "baselines" / "published.csv")
    assert list(table) == ["system", "metric", "dialect", "subjects", "n", "value", "source"]
    assert table[["system", "metric", "dialect", "value", "source"]].notna().all().all()
    assert table["value"].between(0, 1).all()
    assert not table.duplicated(["system", "metric", "n", "source"]).any()
    paper = table[table["system"] == "MindDiffuser"].set_index("metric")["value"]
    assert paper.to_dict() == {"clip_similarity": 0.765, "ssim": 0.354, "pixcorr": 0.278}
