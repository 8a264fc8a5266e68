"""What all tests share."""

import os
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from minddiffuser.config import Config

# Fast tests do not gain from threads, and processes side by side, which inherit this, would fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tables and help are laid out for the terminal, whatever terminal the tests run in.
os.environ["COLUMNS"] = "120"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process whole files, in their order, and to one process all files that share a whole run.

    This is xdist's own `--dist loadgroup`, which does nothing with pytest 9.2
    (https://github.com/pytest-dev/pytest-xdist/issues/1386).
    """
    from xdist.scheduler import LoadFileScheduling

    @cache
    def group(file: str) -> str:
        return "whole_run" if "whole_run" in (config.rootpath / file).read_text(encoding="utf-8") else file

    config.option.loadscopereorder = False
    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = lambda nodeid: group(nodeid.partition("::")[0])
    return scheduler


def pytest_terminal_summary(terminalreporter) -> None:
    """Say at the end what the tests that were skipped want, each reason once."""
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports)
    if reasons:
        terminalreporter.section("what the skipped tests want")
    for reason, n in reasons.most_common():
        terminalreporter.line(f"{n} test{'s' if n > 1 else ''}: {reason}")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real third-party data; tests that need it are skipped where it is absent."""
    folder = os.environ.get("MINDDIFFUSER_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set MINDDIFFUSER_TEST_DATA to the folder of third-party test data")
    return Path(folder)


@pytest.fixture(scope="session")
def wordnet_folder() -> Path:
    """Folder of the whole WordNet where the scripts look for it; tests that need it are skipped where it is absent."""
    folder = Config(name="x").wordnet
    if not (folder / "data.noun").is_file():
        pytest.skip("the whole of WordNet is needed: apt-get install wordnet-base, or make wordnet")
    return folder
