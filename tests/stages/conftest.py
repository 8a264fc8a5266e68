"""The smallest miniature, made once by the real scripts."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from smallest import ENVIRONMENT, GROUPS, run_here, write_config


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory) -> Path:
    """Folder in which every script has run once, in order, in two processes with the environment of `run`."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # one of the processes makes it: a second would cost a minute
        (tmp_path_factory.getbasetemp().parent / "whole_run").touch(exist_ok=False)
    folder = tmp_path_factory.mktemp("smallest")
    config = write_config(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            for group in GROUPS:
                results = list(pool.map(run_here, group, [config] * len(group)))
                for script, done in zip(group, results, strict=True):
                    assert done.returncode == 0, f"{script}:\n{done.stdout}\n{done.stderr}"
    return folder
