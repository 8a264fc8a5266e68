"""Shots are found in films whose shots are known."""

import numpy as np
import pandas as pd
import pytest

from data import cc2017
from data.shots import change, shots_of
from minddiffuser.config.mind_animator import Clips
from miniature.cc2017 import write_film
from miniature.movies import draw_film

CLIPS = Clips(frame_step=1, size=64)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> tuple[list[cc2017.Film], list[np.ndarray]]:
    """Two films of the miniature as files, and the true shot of each clip of theirs."""
    root, films, true = tmp_path_factory.mktemp("shots"), [], []
    for name in ("seg1", "test1"):
        film = draw_film(name, 40, 3, 1.0, seed=42)
        write_film(root / f"{name}.mp4", film.frames)
        films.append(cc2017.film_of(root / f"{name}.mp4"))
        true.append(film.shot[4::8])
    return films, true


def test_cuts_are_found_and_nothing_else(drawn):
    films, true = drawn
    found = shots_of(films, CLIPS)
    assert found.index.tolist() == [1001 + k for k in range(40)] + [101001 + k for k in range(40)]
    assert found.iloc[0] == 0
    assert set(np.diff(found)) == {0, 1}
    assert found.iloc[40] == found.iloc[39] + 1  # films have no shot in common
    is_cut = [np.diff(shots) > 0 for shots in true]
    is_found = [np.diff(found.to_numpy()[part]) > 0 for part in (slice(40), slice(40, 80))]
    is_cut, is_found = np.concatenate(is_cut), np.concatenate(is_found)
    assert not (is_found & ~is_cut).any()
    assert is_found.sum() > 0.85 * is_cut.sum()


def test_a_cut_in_a_clip_gives_it_the_shot_of_its_middle(tmp_path):
    def colour(*channels: int) -> np.ndarray:
        return np.full((64, 64, 3), channels, np.uint8)

    red, blue, green = colour(200, 30, 30), colour(30, 30, 200), colour(30, 200, 30)
    frames = [red] * 12 + [blue] * 9 + [green] * 19  # cuts in the middle of clip 2, and after that of clip 3
    write_film(tmp_path / "test2.mp4", np.stack(frames))
    found = shots_of([cc2017.film_of(tmp_path / "test2.mp4")], CLIPS)
    assert found.to_dict() == {102001: 0, 102002: 1, 102003: 1, 102004: 2, 102005: 2}


def test_a_shot_that_is_no_clips_own_leaves_no_gap(tmp_path):
    frames = np.zeros((24, 64, 64, 3), np.uint8)
    frames[5:7] = (250, 20, 20)  # a flash in a clip; then it is dark again
    write_film(tmp_path / "seg9.mp4", frames)
    found = shots_of([cc2017.film_of(tmp_path / "seg9.mp4")], CLIPS)
    pd.testing.assert_series_equal(
        found, pd.Series([0, 1, 1], name="shot", index=pd.Index([9001, 9002, 9003], name="stimulus_id"))
    )


def test_change_is_the_share_of_pixels_with_another_colour():
    first, second = np.array([0.5, 0.5, 0]), np.array([0.5, 0.25, 0.25])
    assert change(first, first) == 0
    assert change(first, second) == 0.25
    assert change(first, np.array([0, 0, 1.0])) == 1
