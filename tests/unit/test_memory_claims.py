"""What numbered scripts say of their memory, and that the benchmark that holds it knows all of them."""

import importlib.util
import inspect
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SPECIFICATION = importlib.util.spec_from_file_location("memory", REPOSITORY / "benchmarks" / "memory.py")
assert SPECIFICATION
assert SPECIFICATION.loader
memory = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(memory)


@pytest.mark.parametrize("script", memory.numbered_scripts(), ids=lambda path: path.stem)
def test_a_script_says_once_what_memory_it_takes(script):
    assert 0 < memory.claim_of(script) < 24


def test_the_benchmark_runs_every_numbered_script():
    found = {path for path in REPOSITORY.rglob("[0-9][0-9]_*.py") if not {".venv", "runs"} & set(path.parts)}
    assert set(memory.numbered_scripts()) == found
    assert set(memory.CASES) == set(map(memory.key_of, found))


def test_inputs_are_made_by_methods_that_are_there():
    from benchmarks.real_sizes import Inputs

    for case in memory.CASES.values():
        for need in case.needs.split():
            name, *arguments = need.split(":")
            inspect.signature(getattr(Inputs, name)).bind(None, *arguments)


@pytest.mark.parametrize(
    "text", ["Reads nothing.", "Peak memory: that of 31.", "Peak memory: 1 GB. Later peak memory: 2 GB."]
)
def test_a_docstring_without_one_claim_is_refused(tmp_path, text):
    script = tmp_path / "11_script.py"
    script.write_text(f'"""{text}"""\n')
    with pytest.raises(ValueError, match="once"):
        memory.claim_of(script)


def test_a_claim_may_run_over_a_line_end(tmp_path):
    script = tmp_path / "11_script.py"
    script.write_text('"""Does it. Peak\nmemory: 2.5 GB, of which all is needed."""\n')
    assert memory.claim_of(script) == 2.5


def test_the_peak_is_that_of_the_script_and_not_of_who_started_it():
    held = bytearray(300_000_000)
    held[::4096] = b"x" * len(held[::4096])  # resident
    small = memory.run(["-c", "pass"])
    large = memory.run(["-c", "import os; b = bytearray(200_000_000); b[::4096] = os.urandom(len(b[::4096]))"])
    assert small < 0.1
    assert 0.2 < large < 0.3
