"""Find the clip that was seen among many by the decoded CLIP embedding f: Mind-Animator's retrieval.

    python baselines/mind_animator/24_retrieval.py [--config configs/miniature.yaml] [--subject Subject01]

Reads `films/features/clips.h5` and `decoded/<form>/semantic.h5`, and writes `retrieval.csv`:

    form, system        network, or a control: ridge, mean, nearest_training, permuted
    gallery, by, n      small, the test clips, or large, with the training clips; image or text, CLIP's embedding of the
                        middle frame or of the caption; clips in it
    k, hits, chance     share of test clips that are among the k whose embeddings have the largest cosine with f, and
                        k / n; k is 1, 10 and 100, where there are as many

Clips of equal cosine, such as those of equal captions in a gallery of text, are taken in random order: a hit counts
with its chance. The large gallery of the authors has clips of another dataset (HCP), which are not here. Reference: Lu
et al. 2025 (arXiv 2405.03280); the authors' Retrieval. Peak memory: 1 GB at the real size, by count.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import numpy as np
import pandas as pd

from baselines.mind_animator import recipes
from baselines.mind_animator.decoding import distinct_forms
from baselines.mind_animator.retrieval import hit_rates
from minddiffuser import terminal
from minddiffuser.cli import execute, film_subjects, parse
from minddiffuser.store import Files, check_same_images, open_made

TOP = (1, 10, 100)


def main(argv: list[str] | None = None) -> None:
    """Look up the test clips of each subject, and print how many are found."""
    run = parse(__doc__, argv, subjects_of=film_subjects, divides=False)
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
                for by in ("image", "text"):
                    targets = clips[f"clip_{by}"][:]
                    for key in [key for key in decoded if key == "f" or key.startswith("f_")]:
                        system = key.removeprefix("f").removeprefix("_") or "network"
                        for gallery, n in (("small", n_test), ("large", len(targets))):
                            tops = [k for k in TOP if k < n]
                            hits = hit_rates(decoded[key][:], targets[:n], np.arange(n_test), tops)
                            lines += [
                                (form, system, gallery, by, n, k, hit, k / n) for k, hit in zip(tops, hits, strict=True)
                            ]
        names = ["form", "system", "gallery", "by", "n", "k", "hits", "chance"]
        table = pd.DataFrame(lines, columns=names)
        files.write({"retrieval.csv": table.to_csv(index=False)})
        wide = table.pivot_table("hits", ["form", "gallery", "n", "by", "system"], "k").reset_index()
        print(f"\n{subject}: share of test clips among the first k of the gallery; by chance k / n")
        print(wide.round(3).to_string(index=False, line_width=terminal.width()))


if __name__ == "__main__":
    execute(main)
