"""Find the clip that was seen among many by the decoded CLIP embedding f: Mind-Animator's retrieval.

    python baselines/mind_animator/24_retrieval.py [--config configs/miniature.yaml] [--subject Subject01]
    python baselines/mind_animator/24_retrieval.py --subject Subject01 --released FILE

Reads `films/features/clips.h5` and `decoded/<form>/semantic.h5`, and writes `retrieval.csv`:

    form, system        network, or a control: ridge, mean, nearest_training, permuted
    gallery, by, n      small, the test clips, or large, with the training clips; image or text, CLIP's embedding of the
                        middle frame or of the caption; clips in it
    k, hits, chance     share of test clips that are among the k whose embeddings have the largest cosine with f, and
                        k / n; k is 1, 10 and 100, where there are as many

With `--released` the f of one of the authors' checkpoints is looked up, for retrieval or for reconstruction, from the
vertices of the form "original", and `retrieval_released.csv` has the table, where the system is called as the file.

Clips of equal cosine, such as those of equal captions in a gallery of text, are taken in random order: a hit counts
with its chance. The large gallery of the authors has clips of another dataset (HCP), which are not here. Reference: Lu
et al. 2025 (arXiv 2405.03280); the authors' Retrieval. Peak memory: 1 GB at the real size, by count.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch

from baselines.mind_animator import recipes
from baselines.mind_animator.decoding import distinct_forms, load_rows, open_targets
from baselines.mind_animator.networks import EmbeddingDecoder, SemanticDecoder, open_released
from baselines.mind_animator.retrieval import hit_rates
from minddiffuser import terminal
from minddiffuser.cli import Run, execute, film_subjects, parse
from minddiffuser.store import DataError, Files, check_same_images, open_made, write_atomically

TOP = (1, 10, 100)
NAMES = ["form", "system", "gallery", "by", "n", "k", "hits", "chance"]


def main(argv: list[str] | None = None) -> None:
    """Look up the test clips of each subject, and print how many are found."""
    run = parse(__doc__, argv, add_arguments, film_subjects, divides=False)
    if run.own.released:
        look_up_released(run, run.own.released)
        return
    for subject in run.subjects:
        files, lines = Files(recipes.retrieval(run.config, subject)), []
        if files.is_done(run.overwrite):
            print(f"{files.recipe.path.with_suffix('.csv')} is there already")
            continue
        for form in distinct_forms(run.config, "semantic"):
            recipe = recipes.decoded(run.config, subject, form, "semantic")
            with open_made(recipe) as decoded, open_made(recipes.clips(run.config)) as clips:
                n_test = len(decoded["stimulus_id"])
                check_same_images(clips["stimulus_id"][:n_test], decoded["stimulus_id"][:], clips.filename, recipe.path)
                for key in [key for key in decoded if key == "f" or key.startswith("f_")]:
                    system = key.removeprefix("f").removeprefix("_") or "network"
                    lines += look_up(form, system, decoded[key][:], clips)
        table = pd.DataFrame(lines, columns=NAMES)
        files.write({"retrieval.csv": table.to_csv(index=False)})
        show(subject, table)


def look_up(form: str, system: str, f: np.ndarray, clips: h5py.File) -> list[tuple]:
    """Give a line of the table for each gallery and k, of f (n_test, d)."""
    lines, n_test = [], len(f)
    for by in ("image", "text"):
        targets = clips[f"clip_{by}"][:]
        for gallery, n in (("small", n_test), ("large", len(targets))):
            tops = [k for k in TOP if k < n]
            hits = hit_rates(f, targets[:n], np.arange(n_test), tops)
            lines += [(form, system, gallery, by, n, k, hit, k / n) for k, hit in zip(tops, hits, strict=True)]
    return lines


def look_up_released(run: Run, path: Path) -> None:
    """Look up the test clips by what a checkpoint of the authors makes of the vertices of the form "original"."""
    if len(run.subjects) != 1:
        raise DataError(f"{path} is of one subject; say of which by --subject: {', '.join(run.subjects)}")
    (subject,) = run.subjects
    if "original" not in recipes.settings_of(run.config).forms:
        raise DataError("experiment.mind_animator.forms has no original, whose vertices the authors' checkpoints take")
    rows = load_rows(run.config, subject, "original")
    network = open_released(path, rows.X.shape[1])
    if not isinstance(network, EmbeddingDecoder | SemanticDecoder):
        raise DataError(f"{path} is of a {type(network).__name__}, which gives no f", path=path)
    f = network(torch.from_numpy(rows.X[rows.test]))
    f = (f if isinstance(f, torch.Tensor) else f[0]).numpy()
    with open_targets(run.config, rows, subject) as clips:
        if f.shape[1] != (width := clips["clip_image"].shape[1]):
            raise DataError(f"{path} gives an f of {f.shape[1]} numbers, but CLIP's embeddings have {width}", path=path)
        table = pd.DataFrame(look_up("original", path.stem, f, clips), columns=NAMES)
    write_atomically(run.config.folder(subject) / "retrieval_released.csv", table.to_csv(index=False))
    show(subject, table)


def show(subject: str, table: pd.DataFrame) -> None:
    """Print the shares."""
    wide = table.pivot_table("hits", ["form", "gallery", "n", "by", "system"], "k").reset_index()
    print(f"\n{subject}: share of test clips among the first k of the gallery; by chance k / n")
    print(wide.round(3).to_string(index=False, line_width=terminal.width()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this script has."""
    parser.add_argument(
        "--released", type=Path, metavar="FILE",
        help="look up by this checkpoint of the authors alone, and write retrieval_released.csv",
    )  # fmt: skip


if __name__ == "__main__":
    execute(main)
