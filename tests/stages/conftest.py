"""The smallest miniature, made once by the real scripts."""

from pathlib import Path

import pytest
from smallest import SCRIPTS, run, write_config


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory) -> Path:
    """Folder in which every script has run once, in order."""
    folder = tmp_path_factory.mktemp("smallest")
    config = write_config(folder)
    for script in SCRIPTS:
        done = run(script, config)
        assert done.returncode == 0, f"{script}:\n{done.stdout}\n{done.stderr}"
    return folder
