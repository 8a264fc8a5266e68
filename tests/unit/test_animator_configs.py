"""Configurations of the real films have the authors' sizes, and those as released do as the authors do."""

from pathlib import Path

import pytest

from baselines.mind_animator.recipes import settings_of
from minddiffuser.cli import film_subjects
from minddiffuser.config import REPOSITORY, load
from minddiffuser.config.mind_animator import MindAnimator


@pytest.mark.parametrize(
    ("name", "subjects", "forms"),
    [
        ("cc2017_subject01", ("Subject01",), ("original", "corrected", "change")),
        ("cc2017_as_released", ("Subject01", "Subject02", "Subject03"), ("original",)),
    ],
)
def test_configurations_of_real_films_have_the_default_sizes(name, subjects, forms):
    config = load(REPOSITORY / "configs" / f"{name}.yaml")
    settings = settings_of(config)
    assert film_subjects(config.experiment) == subjects
    assert settings == MindAnimator(subjects=subjects, forms=forms)
    assert config.experiment.subjects == ()
    assert config.experiment.miniature_cc2017 is None


def test_the_miniature_has_its_own_sizes_and_all_forms():
    settings = settings_of(load(Path(REPOSITORY / "configs" / "miniature.yaml")))
    assert settings.forms == ("original", "corrected", "change")
    assert settings.clips.size == 64
    assert settings.semantic.n_variations < settings.semantic.epochs
