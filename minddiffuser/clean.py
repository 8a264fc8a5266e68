"""Delete the results of a configuration: what `make clean` does.

    python -m minddiffuser.clean --config configs/nsd.yaml [--confirm nsd]

Says what would go, and asks for the configuration's name; without a terminal `--confirm` must give it. Where all data
are simulated nothing is asked: `make all` has everything again in minutes. In `runs/<name>/` only what this project
makes there is deleted; other files, such as a dataset that somebody keeps there, or pictures in
`reconstruction/others`, stay, and are listed.
"""

import argparse
import shutil
import sys
from pathlib import Path

from minddiffuser.cli import concept_subjects, film_subjects, read_config
from minddiffuser.config import Config
from minddiffuser.demo import is_simulated

_MADE = ("evaluation", "bank", "jobs")  # beside the subjects
_MARKERS = "miniature*.json"  # in a folder of simulated data


def main(argv: list[str] | None = None) -> None:
    """Ask, and delete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--confirm", metavar="NAME", default="", help="name of the configuration, instead of asking")
    args = parser.parse_args(argv)
    config = read_config(parser, args.config)
    folder = config.folder()
    if folder.is_symlink():
        sys.exit(f"error: {folder} is a link to {folder.resolve()}, which is left as it is; delete it by hand")
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    made = [path for path in entries if is_made_here(config, path)]
    kept = [path for path in entries if path not in made]
    kept += [others for path in made if (others := path / "reconstruction" / "others").exists()]
    if kept:
        names = ", ".join(path.relative_to(folder).as_posix() for path in kept)
        print(f"{folder}: left, for this project did not make it for this configuration: {names}")
    if not made:
        print(f"{folder} has nothing to delete")
        return
    files = [path for place in made for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    files = [path for path in files if not any(path.is_relative_to(place) for place in kept)]
    size = sum(path.stat().st_size for path in files)
    what = f"{folder}: {', '.join(path.name for path in made)}: {len(files):,} files, {size / 1e9:.2f} GB"
    if not is_simulated(config.experiment) and not is_confirmed(config.name, what, args.confirm):
        sys.exit("nothing was deleted")
    for path in made:
        delete(path, kept)
    if not any(folder.iterdir()):
        folder.rmdir()
    print(f"deleted {what}")


def is_made_here(config: Config, path: Path) -> bool:
    """Tell whether this project makes a folder of results, or of simulated data, under that name."""
    if path.is_symlink() or not path.is_dir():
        return False
    experiment = config.experiment
    subjects = (*experiment.subjects, *concept_subjects(experiment), *film_subjects(experiment))
    return path.name in (*subjects, *_MADE) or any(path.glob(_MARKERS))


def delete(folder: Path, kept: list[Path]) -> None:
    """Delete a folder, but for what is to be kept in it."""
    if not any(place.is_relative_to(folder) for place in kept):
        shutil.rmtree(folder)
        return
    for path in folder.iterdir():
        if path not in kept:
            delete(path, kept) if path.is_dir() and not path.is_symlink() else path.unlink()


def is_confirmed(name: str, what: str, given: str) -> bool:
    """Ask for the name, unless it is given."""
    print(what)
    if given:
        if given != name:
            print(f"the configuration is called {name}, not {given}")
        return given == name
    if not sys.stdin.isatty():
        print(f"there is no terminal to ask: `make clean CONFIRM={name}` with this CONFIG deletes it")
        return False
    try:
        return input(f"type {name} to delete it: ").strip() == name
    except (EOFError, KeyboardInterrupt):
        print()
        return False


if __name__ == "__main__":
    main()
