"""Tables of scores: every number with its interval and n, and nothing left out silently."""

import pandas as pd
import pytest

from evaluation.pictures.catalogue import CATALOGUE
from evaluation.pictures.comparison import spread_rows
from evaluation.tables import as_text, text_table


@pytest.fixture
def terminal(monkeypatch):
    """Set the width of the terminal."""
    return lambda width: monkeypatch.setenv("COLUMNS", str(width))


TABLE = [
    ["subject, system", "n", "PixCorr", "SSIM"],
    ["subj01, minddiffuser/stage1 minus control/nearest_training", "64", "+.274 [.179, .371], p .0032", "+.1 [.0, .2]"],
    ["all", "9", ".5", "–"],
]


def test_a_table_that_fits_is_one_block(terminal):
    terminal(120)
    head, first, second = as_text(TABLE).splitlines()
    assert head.split() == ["subject,", "system", "n", "PixCorr", "SSIM"]
    assert first.endswith("+.274 [.179, .371], p .0032  +.1 [.0, .2]")
    assert second.startswith("all ")
    assert len(head) == len(first)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_table_that_is_too_wide_is_laid_out_in_blocks_with_every_cell(terminal, width):
    terminal(width)
    text = as_text(TABLE)
    assert max(map(len, text.splitlines())) <= width
    for row in TABLE:
        for cell in row[1:]:
            assert cell in text
    blocks = text.split("\n\n")
    assert (len(blocks) > 1) is (width == 60)
    for block in blocks:  # the first column is beside each
        assert set(TABLE[1][0].split()) <= set(block.split())


def test_what_is_in_brackets_stays_beside_its_column(terminal):
    terminal(40)
    table = [["system", "PixCorr", "(paper)", "SSIM", "(paper)"], ["stage 1", ".44", "(.18)", ".50", "(.25)"]]
    assert "\n\n" not in as_text(table)
    table = [[cell.ljust(8, "0") for cell in row] for row in table]  # which does not fit
    first, second = as_text(table).split("\n\n")
    assert first.splitlines()[0].split() == ["system00", "PixCorr0", "(paper)0"]
    assert second.splitlines()[0].split() == ["system00", "SSIM0000", "(paper)0"]


def summary() -> pd.DataFrame:
    rows = [
        ("subj01", "minddiffuser/stage1", "psnr", 17.1, 16, 18, 9),
        ("subj01", "minddiffuser/stage1", "ssim_columns", 0.5, 0.4, 0.6, 8),
        ("subj01", "control/grey", "psnr", 10.0, 9, 11, 9),
    ]
    return pd.DataFrame(rows, columns=["subject", "system", "metric", "mean", "ci_low", "ci_high", "n"])


def test_cells_have_interval_and_n_and_absent_metrics_say_so():
    title, header, first, second = (
        text_table(summary(), "more", CATALOGUE, absent={"lpips": "no weights"}).strip().splitlines()
    )
    assert title == "Other measures of likeness"
    assert header.endswith("LPIPS ↓")
    assert "PSNR, dB" in header
    assert "CLIP top-1" not in header  # neither computed nor absent
    assert ".500 [.400, .600] (n 8)" in first
    assert first.endswith("absent")
    assert "10.000 [9.000, 11.000]" in second


def test_differences_have_their_corrected_p():
    table = summary().assign(baseline="control/grey", p_holm=0.0123).rename(columns={"mean": "difference"})
    assert "+17.100 [16.000, 18.000], p .012" in text_table(table, "more", CATALOGUE)


def test_spread_is_a_mean_and_a_deviation():
    row = ("subj01", "minddiffuser/stage1", "pixcorr", 0.7, 0.0031, 4)
    table = pd.DataFrame([row], columns=["subject", "system", "metric", "mean", "sd", "n_seeds"])
    assert ".700 ± .0031" in as_text(spread_rows(table))
