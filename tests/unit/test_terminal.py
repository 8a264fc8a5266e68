"""Text for the terminal fits it, and the tests themselves say at the end what those that were skipped want."""

import shutil
import subprocess
import sys

import pytest

from minddiffuser import terminal
from minddiffuser.config import REPOSITORY


@pytest.mark.parametrize(("columns", "expected"), [("80", 80), ("100", 100), ("300", 120), ("10", 40)])
def test_width_is_that_of_the_terminal_within_limits(monkeypatch, columns, expected):
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal.width() == expected


def test_where_there_is_no_terminal_it_is_80_columns(monkeypatch):
    monkeypatch.delenv("COLUMNS")
    code = "from minddiffuser import terminal; print(terminal.width())"
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.stdout == "80\n"


def test_texts_are_wrapped_or_shortened_at_words(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = "one two-three /a/path/that/is/longer/than/the/terminal/is.csv, " + "four " * 20
    lines = terminal.wrapped(text).splitlines()
    assert [line for line in lines if len(line) > 40] == ["    /a/path/that/is/longer/than/the/terminal/is.csv,"]
    assert " ".join(" ".join(lines).split()) == " ".join(text.split())
    assert terminal.shortened("four " * 20) == "four four four four four four four ..."
    assert terminal.shortened("short") == "short"


SKIPPED = """
import pytest

@pytest.mark.skip(reason="words are needed: get them")
@pytest.mark.parametrize("k", range(3))
def test_words(k): ...

def test_data():
    pytest.skip("set DATA")

def test_passes(): ...
"""


def test_the_tests_say_what_the_skipped_ones_want(tmp_path):
    shutil.copy(REPOSITORY / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_some.py").write_text(SKIPPED)
    line = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    done = subprocess.run([*line, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    last = done.stdout.split("what the skipped tests want")[1].splitlines()[1:3]
    assert last == ["3 tests: words are needed: get them", "1 test: set DATA"]
