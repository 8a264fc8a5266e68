"""The repository's own promises: scripts, README, Makefile, environment and lock agree."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from minddiffuser.cli import key_of
from minddiffuser.stages import TARGETS, stages_of

REPOSITORY = Path(__file__).parents[2]
MAKEFILE = (REPOSITORY / "Makefile").read_text()
STAGES = ("data", "feature_extraction", "feature_decoding", "reconstruction", "baselines", "evaluation", "miniature")
SCRIPT = re.compile(r"\b[a-z_]+(?:/[a-z_]+)*/\d\d_\w+\.py\b")
PLATFORMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
}


def scripts_on_disk() -> list[str]:
    """Return every numbered script of the stages, relative to the repository."""
    found = [path for stage in STAGES for path in (REPOSITORY / stage).rglob("[0-9][0-9]_*.py")]
    return sorted(path.relative_to(REPOSITORY).as_posix() for path in found)


def pyproject() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def declared() -> list[Requirement]:
    """Return the dependencies and those of all groups."""
    table = pyproject()
    groups = [item for group in table["dependency-groups"].values() for item in group if isinstance(item, str)]
    return [Requirement(line) for line in table["project"]["dependencies"] + groups]


def lock_lines() -> list[str]:
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def pins(platform: str, python: str) -> Iterator[tuple[str, str]]:
    """Yield the name and version of what the lock installs on one platform."""
    environment = {**PLATFORMS[platform], "python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    for line in lock_lines():
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate(environment):
            (specifier,) = pin.specifier
            assert specifier.operator == "==", line
            yield canonicalize_name(pin.name), specifier.version


@pytest.mark.parametrize("document", ["README.md", "docs/scripts.md"])
def test_documents_name_only_scripts_that_exist(document):
    named = set(SCRIPT.findall((REPOSITORY / document).read_text()))
    assert named, f"{document} names no script"
    assert {name for name in named if not (REPOSITORY / name).is_file()} == set()


@pytest.mark.parametrize("document", ["docs/scripts.md", "minddiffuser/stages.csv"])
def test_every_numbered_script_is_named(document):
    named = set(SCRIPT.findall((REPOSITORY / document).read_text()))
    wanted = [script for script in scripts_on_disk() if document.endswith(".md") or "/00_get_" not in script]
    assert [script for script in wanted if script not in named] == []


@pytest.mark.parametrize("target", TARGETS)
def test_lists_have_scripts_that_exist_in_the_order_of_their_numbers(target):
    assert f"\n{target}: " in MAKEFILE
    assert f"\t@$(RUN) {target}\n" in MAKEFILE
    named = [stage.script for stage in stages_of(target)]
    assert named
    assert [script for script in named if not (REPOSITORY / script).is_file()] == []
    # Films have numbers of their own; the page, of all datasets, is last.
    last = [script for place, script in enumerate(named) if script not in named[place + 1 :]]
    numbers = [Path(script).name[:2] for script in (last[:-1] if "film" in target else last)]
    assert numbers == sorted(numbers)


def test_main_job_has_a_first_score_and_page_between_the_two_stages():
    numbers = [Path(stage.script).name[:2] for stage in stages_of("all")]
    assert numbers[numbers.index("31") + 1 : numbers.index("32")] == ["41", "43"]


def test_numbers_are_unique_in_a_folder():
    keys = [key_of(Path(script)) for script in scripts_on_disk() if "00_get_" not in script]
    assert len(keys) == len(set(keys))


# Asks several scripts for their help in one process. With "early" as the first argument each is answered by its first
# import, as in a process of its own; otherwise by the parser that it makes when all its imports are done.
ASK_ALL = """
import contextlib, io, json, runpy, sys, types
from pathlib import Path
when, *scripts = sys.argv[1:]
if when != "early":
    import minddiffuser
    sys.modules["minddiffuser.help"] = minddiffuser.help = types.ModuleType("minddiffuser.help")
helps = {}
for script in scripts:
    sys.argv, sys.path[0], printed = [script, "--help"], str(Path(script).parent), io.StringIO()
    if when == "early":
        sys.modules.pop("minddiffuser.help", None)
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(script, run_name="__main__")
        code = None
    except SystemExit as stopped:
        code = stopped.code
    helps[script] = [code, printed.getvalue()]
slow = sorted({"torch", "numpy", "pandas", "h5py", "pydantic", "diffusers"} & set(sys.modules))
print(json.dumps([helps, slow]))
"""


def ask_all(when: str, folder: Path) -> tuple[dict[str, tuple[int, str]], list[str]]:
    """Return the exit code and the help of every script, and which of the slow modules were imported for it."""
    # From another folder: nothing may depend on where a script is started.
    scripts = [str(REPOSITORY / script) for script in [*scripts_on_disk(), "doctor/__main__.py", "miniature/train.py"]]
    command = [sys.executable, "-c", ASK_ALL, when, *scripts]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 0, answer.stderr
    helps, slow = json.loads(answer.stdout)
    assert list(helps) == scripts
    return {script: tuple(found) for script, found in helps.items()}, slow


def test_every_script_answers_help_in_full_before_anything_slow_is_imported(tmp_path):
    early, slow = ask_all("early", tmp_path)
    late, _ = ask_all("late", tmp_path)
    assert slow == []
    assert early == late
    assert {script: code for script, (code, _) in early.items() if code != 0} == {}
    without = [Path(script).name for script, (_, text) in early.items() if "--config" not in text]
    assert without == ["train.py"]
    assert "--only" in early[str(REPOSITORY / "reconstruction/33_controls.py")][1]


def test_without_help_its_module_does_nothing_and_other_programs_keep_theirs(tmp_path):
    other = tmp_path / "other.py"
    other.write_text("import sys\nfrom minddiffuser import help\nprint('my own', *sys.argv[1:])\n")
    for argument in ("--help", "--other"):
        line = [sys.executable, str(other), argument]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        assert done.stdout == f"my own {argument}\n"


def test_modules_do_not_hide_installed_ones():
    # `python feature_extraction/11_semantic.py` puts that folder first on the path of imports.
    taken = set(importlib.metadata.packages_distributions()) | sys.stdlib_module_names
    modules = [path for stage in STAGES for path in (REPOSITORY / stage).rglob("*.py") if path.stem != "__init__"]
    assert [path.name for path in modules if path.stem in taken] == []


def test_environment_agrees_with_pyproject():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    project = pyproject()["project"]
    assert set(environment) == {"name", "channels", "dependencies"}
    assert environment["name"] == project["name"]
    assert environment["channels"] == ["conda-forge"]
    python, pip, from_pip = environment["dependencies"]
    assert SpecifierSet(project["requires-python"]).contains(python.removeprefix("python=") + ".0")
    assert pip == "pip"
    assert from_pip == {"pip": ["-r requirements.lock", "-e ."]}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_lock_satisfies_pyproject(platform, python):
    locked = list(pins(platform, python))
    versions = dict(locked)
    assert len(versions) == len(locked), "a package is pinned twice"
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in requirements.lock: run `make lock`"
        assert requirement.specifier.contains(versions[name]), f"{requirement}, but {versions[name]} in the lock"


def test_lock_has_no_addresses():
    assert [line for line in lock_lines() if line.startswith("-") or "@" in line or "/" in line] == []


def test_installed_torch_and_torchvision_are_a_pair():
    wanted = [Requirement(line) for line in importlib.metadata.requires("torchvision") or []]
    (torch,) = [requirement for requirement in wanted if requirement.name == "torch"]
    assert torch.specifier.contains(importlib.metadata.version("torch"))


def test_hooks_have_the_versions_of_the_lock():
    locked = dict(pins("linux", "3.11"))
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    revisions = {hook["repo"].rsplit("/", 1)[1]: hook["rev"] for hook in hooks["repos"]}
    assert revisions["ruff-pre-commit"] == f"v{locked['ruff']}"
    assert revisions["codespell"] == f"v{locked['codespell']}"


def test_citation_has_the_version_of_the_package():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == pyproject()["project"]["version"]
    assert citation["license"] == pyproject()["project"]["license"]
