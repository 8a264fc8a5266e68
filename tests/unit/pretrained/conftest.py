"""Copies of the miniature's models, to damage."""

import shutil
from pathlib import Path

import pytest
from damages import WEIGHTS


@pytest.fixture
def copy(tmp_path):
    """Make a copy of a model of the miniature, of links to its files."""

    def make(model):
        shutil.copytree(WEIGHTS / model, tmp_path / model, copy_function=lambda a, b: Path(b).symlink_to(a))
        return tmp_path / model

    return make
