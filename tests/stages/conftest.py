"""The smallest miniature, made once by the real scripts."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from smallest import GROUPS, run, write_config


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory) -> Path:
    """Folder in which every script has run once, in order."""
    folder = tmp_path_factory.mktemp("smallest")
    config = write_config(folder)
    for group in GROUPS:
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda script: run(script, config), group))
        for script, done in zip(group, results, strict=True):
            assert done.returncode == 0, f"{script}:\n{done.stdout}\n{done.stderr}"
    return folder
