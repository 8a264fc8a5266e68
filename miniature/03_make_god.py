"""Make the miniature's second dataset: a simulated Generic Object Decoding, and a small ImageNet beside it.

    python miniature/03_make_god.py [--config configs/miniature.yaml]

Reads nothing. Writes, under `execution.god`, what Generic Object Decoding has: a recording of each subject
(`Subject1.h5` ...), the lists `imageID_training.csv` and `imageID_test.csv`, and the stimuli as JPEG (64 x 64) in
`images/training` and `images/test`; and under `execution.imagenet` a folder of JPEG a class, with
`LOC_synset_mapping.txt`. Always makes all subjects. Takes about 20 seconds. A killed run goes on
with the next file. Peak memory: 0.4 GB.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import json
import shutil
from pathlib import Path
from typing import Any

from minddiffuser.cli import concept_subjects, execute, parse
from minddiffuser.config import REPOSITORY
from minddiffuser.progress import progress
from minddiffuser.recipe import Recipe, pick
from minddiffuser.store import DataError, reading, write_atomically
from miniature import god
from miniature.categories import CATEGORIES

SCRIPT, MARKER = "miniature/03_make_god.py", "miniature_god.json"


def main(argv: list[str] | None = None) -> None:
    """Make what the configuration describes."""
    run = parse(__doc__, argv, subjects_of=concept_subjects, divides=False)
    experiment, size, seed = run.config.experiment, run.config.experiment.miniature_god, run.config.experiment.seed
    if size is None:
        print(f"the configuration {run.config.name} has no experiment.miniature_god: it is for the real dataset")
        return
    subjects = concept_subjects(experiment)
    if not subjects:
        raise DataError("experiment.miniature_god needs experiment.semantic_brain_decoding, which names the subjects")
    root, imagenet = run.config.god, REPOSITORY / run.config.execution.imagenet
    settings = pick(experiment, "miniature_god", "seed", "semantic_brain_decoding.subjects")
    found = {folder: read_marker(folder) for folder in (root, imagenet)}
    if all(marker.get("complete") for marker in found.values()) and not run.overwrite:
        changes = [changes_of(folder, settings, marker) for folder, marker in found.items()]
        if not any(changes):
            print(f"{root} and {imagenet} are there already")
            return
    for folder, marker in found.items():
        if marker and (changes := changes_of(folder, settings, marker)) and not run.overwrite:
            raise DataError(f"{folder} was made with other settings: {changes}; use --overwrite to make it again")
    for folder in found:
        if run.overwrite and folder.exists():
            shutil.rmtree(folder)
    for folder in found:
        write_atomically(folder / MARKER, json.dumps({**settings, "complete": False}))

    training, test = (
        god.draw_stimuli(progress([c for c in CATEGORIES if c.role == role], desc=f"{role} categories"), n_images, seed)
        for role, n_images in (("training", size.n_training), ("test", size.n_test))
    )
    god.write_stimuli(root, training, test)
    for category in progress([c for c in CATEGORIES if c.in_imagenet], desc="classes of ImageNet"):
        god.write_class(imagenet, category, size.n_bank, [*training, *test], seed)
    god.write_labels(imagenet)
    for subject in progress(subjects, desc="subjects"):
        if not (root / f"{subject}.h5").exists():
            god.write_recording(root / f"{subject}.h5", subject, training, test, size, seed)
    for folder in found:
        write_atomically(folder / MARKER, json.dumps({**settings, "complete": True}))
    print(f"wrote {root} and {imagenet}")


def changes_of(folder: Path, settings: dict[str, Any], marker: dict[str, Any]) -> str:
    """Say in which settings a folder's marker differs."""
    found = {key: value for key, value in marker.items() if key != "complete"}
    return Recipe(folder, MARKER, "", SCRIPT, settings).differences({MARKER: found})


def read_marker(folder: Path) -> dict[str, Any]:
    """Read with which settings a folder was made; a new one has none."""
    marker = folder / MARKER
    if marker.exists():
        with reading(marker, "the record of what made this folder", "delete the folder"):
            return dict(json.loads(marker.read_text()))
    if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise DataError(
            f"{folder} has files that this script did not make; set execution.god and execution.imagenet to others"
        )
    return {}


if __name__ == "__main__":
    execute(main)
