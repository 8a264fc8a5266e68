"""A bar on a terminal, and lines in a log."""

import contextlib
import os
import pty
import subprocess
import sys
import termios

LOOP = """
import time
from minddiffuser import progress
progress._SECONDS = .2
for _ in progress.progress(range(10), desc="images"):
    for _ in progress.progress(range(2), desc="iterations", leave=False):
        time.sleep(.04)
"""


def test_a_log_has_a_line_now_and_then():
    done = subprocess.run([sys.executable, "-c", LOOP], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert 2 <= len(lines) <= 6
    assert all(line.startswith("images: ") and "left" in line for line in lines)
    assert lines[-1].startswith("images: 10/10")
    assert "\r" not in done.stderr


def test_a_log_has_nothing_of_short_work():
    short = LOOP.replace(".2", "30")
    done = subprocess.run([sys.executable, "-c", short], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_terminal_has_bars_of_both_loops():
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    subprocess.run([sys.executable, "-c", LOOP], stderr=terminal, check=True)
    os.close(terminal)
    shown = ""
    with contextlib.suppress(OSError):  # the end
        while part := os.read(master, 10_000):
            shown += part.decode()
    assert "images" in shown
    assert "iterations" in shown
    assert "\r" in shown
