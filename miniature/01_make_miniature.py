"""Make the miniature: a simulated Natural Scenes Dataset in NSD's own on-disk layout.

    python miniature/01_make_miniature.py [--config configs/miniature.yaml]

Reads nothing. Writes, under `execution.nsd`, what NSD and COCO have: stimuli (64 x 64), experimental design,
table of stimuli, captions and instances, ROI volumes, transforms to the cortical surface, and the betas of every
session, in HDF5 for subj01 and in NIfTI for subj02. Takes half a minute. A killed run goes on with the next file.
Peak memory: 0.9 GB.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

from minddiffuser.cli import execute, parse
from minddiffuser.progress import progress
from minddiffuser.recipe import Recipe, pick
from minddiffuser.store import DataError, reading, write_atomically
from miniature import nsd, surfaces

SCRIPT, MARKER = "miniature/01_make_miniature.py", "miniature.json"


def main(argv: list[str] | None = None) -> None:
    """Make the miniature that the configuration describes."""
    run = parse(__doc__, argv, divides=False)
    experiment, root = run.config.experiment, run.config.nsd
    if experiment.miniature is None:
        print(f"the configuration {run.config.name} has no experiment.miniature: it is for the real NSD")
        return
    size, data = experiment.miniature, experiment.data
    settings = pick(experiment, "miniature", "seed", "subjects", "data.space", "data.betas")
    recipe, marker = Recipe(root, MARKER, "", SCRIPT, settings), root / MARKER
    if marker.exists():
        with reading(marker, "the record of what made this folder", "delete the folder"):
            found = json.loads(marker.read_text())
            is_complete, changes = found.pop("complete"), recipe.differences({MARKER: found})
        if changes and not run.overwrite:
            raise DataError(f"{root} was made with other settings: {changes}; use --overwrite to make it again")
        # Those that an earlier version made have no transforms, which are then added.
        if is_complete and not run.overwrite and surfaces.are_there(root, experiment.subjects, data.space):
            print(f"{root} is there already")
            return
        if changes:
            shutil.rmtree(root)
    elif root.exists() and any(root.iterdir()):
        raise DataError(f"{root} has files that this script did not make; set execution.nsd to another folder")
    write_atomically(marker, json.dumps({**settings, "complete": False}))

    n_subjects = len(experiment.subjects)
    print("drawing scenes")
    pictures = nsd.draw_pictures(size.n_shared + size.n_own * n_subjects, experiment.seed)
    design = nsd.make_design(size, n_subjects, experiment.seed)
    nsd.write_stimuli(root, pictures, design, experiment.seed)
    subjects = range(1, n_subjects + 1)
    labels = [nsd.write_rois(root, number, size.roi_scale, data.space, experiment.seed) for number in subjects]
    for number in subjects:
        surfaces.write_surfaces(root, number, data.space, labels[number - 1].shape, experiment.seed)
    is_stopped = threading.Event()

    def done() -> None:
        bar.update()
        if is_stopped.is_set():
            raise InterruptedError

    with (
        progress(total=n_subjects * size.sessions, desc="sessions") as bar,
        ThreadPoolExecutor(n_subjects) as pool,  # one subject alone leaves a core idle much of the time
    ):
        writing = [
            pool.submit(
                nsd.write_betas,
                root,
                number,
                labels[number - 1],
                pictures,
                design,
                size,
                f"{data.space}/{data.betas}",
                experiment.seed,
                done,
            )
            for number in subjects
        ]
        try:
            for betas in writing:
                betas.result()
        except BaseException:
            is_stopped.set()
            raise
    write_atomically(marker, json.dumps({**settings, "complete": True}))
    print(f"wrote {root}")


if __name__ == "__main__":
    execute(main)
