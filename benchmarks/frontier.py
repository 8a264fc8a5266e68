"""What stage 2 costs and what it gives: the paper's run beside ways that cost less, on validation images.

    python benchmarks/frontier.py                    # after `make demo`: an hour on two idle cores
    python benchmarks/frontier.py --subject subj01   # pictures of one subject only: two of these may run side by side
    python benchmarks/frontier.py --test             # after that: what was chosen, on test images
    python benchmarks/frontier.py --steps            # after that, one more hour: the paper's run through its 35 steps

What is done is kept in `runs/frontier/`, and not done again.

The paper's run has experiment.guidance as in configs/nsd.yaml: 300 iterations of Adam through the whole sampler, fresh
noise, and the picture of the lowest loss. Other ways set `guidance.method`, `guidance.gradient_steps`,
`guidance.patience` and `sampler.solver`. Ways without a second stage stand beside them: stage 1, stage 1 of z and c
with variance restored, and the best of K noises. All take the miniature's four denoising steps, unless a row says
otherwise.

Costs are U-Net calls an image (a guided call counts once, and once more where it is recomputed, or differentiated), and
TFLOP an image at Stable Diffusion's size for the same numbers of steps and iterations, by count (benchmarks/stage2.py).
Scores are of 32 validation images of each subject (benchmarks/validation.py), pooled. Intervals are 95 % bootstrap
intervals, over images, of paired differences to the paper's run. A way is not worse if no mean difference in PixCorr,
SSIM or two-way identification is below -.005, and the upper ends of their intervals are above zero.

Writes `docs/frontier.csv`, `docs/frontier.md` and `docs/frontier.png`. A further table is of solvers alone: stage 1
with the paper's 35 steps of DDIM, and with fewer of DPM-Solver++. With --test it writes `docs/frontier_test.csv`, of
the first 32 test images, which are the same for both subjects, so that intervals are over these 32; there, differences
are to stage 1: the paper's run takes too long to be made once more. With --steps it writes `docs/frontier_steps.csv`,
of the first 16 validation images of each subject, in which differences are to the paper's run through the paper's 35
steps, not the miniature's four.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file, save
from stage2 import Operations, count_operations, speedup_at_equal_quality
from validation import CPU, DECODED, METRICS, TARGETS, Scores, interval, open_encoder, prepare

from feature_decoding import recipes
from minddiffuser.config import REPOSITORY, Config, load
from minddiffuser.config.method import Guidance, Sampler
from minddiffuser.store import write_atomically
from reconstruction.guidance import Refinement, best_of, refine, refine_before, steer
from reconstruction.refining import kind_of_noise, read_decoded
from reconstruction.sampler import draw_noise, open_sampler

SUBJECTS, N_IMAGES, N_IMAGES_STEPS, BATCH = ("subj01", "subj02"), 32, 16, 8
DOCS = REPOSITORY / "docs"
CLEAR = ("pixcorr", "ssim", "two_way")  # by which a way is worse, or not
KEPT = REPOSITORY / "runs" / "frontier"
CHOSEN = ("20 iterations, DPM-Solver++ in 2 steps", "stage 1, restored", "stage 1")  # on test images, once
FULL, FAST = "paper, DDIM in 35 steps", "20 iterations, DPM-Solver++ in 8 of 35 steps"
STEPS = (FULL, FAST, "paper", "stage 1, DDIM in 35 steps", "stage 1")  # beside one another, for fewer images
PAPER_SAMPLER: dict[str, Any] = {"n_steps": 50, "noise_index": 37, "denoise_steps": 35}


@dataclass(frozen=True)
class Way:
    """A way from what was decoded to pictures.

    Attributes
    ----------
    kind : "stage 2", "no stage 2", "solver", or "steps", which is made with --steps only
    guidance, sampler : dict
        What differs from the paper's guidance, and from the miniature's sampler.
    makes : "descent" and the other methods, "stage 1", or "best of K"
    restored : bool
        Whether it starts from z and c whose variance is restored.
    """

    kind: str
    makes: str = "descent"
    guidance: dict[str, Any] = field(default_factory=dict)
    sampler: dict[str, Any] = field(default_factory=dict)
    restored: bool = False


def _solver(n: int) -> dict[str, Any]:
    return {"solver": "dpm_solver_pp_2m", "solver_steps": n}


COSINE = {"schedule": "cosine"}
WAYS = {
    "paper": Way("stage 2"),
    "75 iterations, patience of 10": Way(
        "stage 2", guidance={"n_iterations": 75, "learning_rate": 0.04, "patience": 10, **COSINE}
    ),
    "20 iterations": Way("stage 2", guidance={"n_iterations": 20, "learning_rate": 0.08, **COSINE}),
    "20 iterations, gradient of 1 step": Way(
        "stage 2", guidance={"n_iterations": 20, "learning_rate": 0.08, "gradient_steps": 1, **COSINE}
    ),
    **{
        f"{n} iterations, DPM-Solver++ in 2 steps": Way(
            "stage 2", guidance={"n_iterations": n, "learning_rate": 0.08, **COSINE}, sampler=_solver(2)
        )
        for n in (10, 20)
    },
    FAST: Way(
        "stage 2",
        guidance={"n_iterations": 20, "learning_rate": 0.08, **COSINE},
        sampler={**PAPER_SAMPLER, **_solver(8)},
    ),
    **{
        f"in the sampler, {steering:g}": Way("stage 2", "in_sampler", {"steering": steering})
        for steering in (0.1, 0.2, 0.5, 1.0, 2.0)
    },
    **{
        f"in the sampler, {steering:g}, {n} repeats": Way("stage 2", "in_sampler", {"steering": steering, "repeats": n})
        for steering, n in ((0.2, 4), (0.5, 4), (1.0, 4), (1.0, 2))
    },
    **{
        f"in the sampler, {steering:g}, DDIM in 16 steps": Way(
            "stage 2", "in_sampler", {"steering": steering}, {"n_steps": 16, "noise_index": 12, "denoise_steps": 13}
        )
        for steering in (0.2, 1.0)
    },
    **{
        f"in the sampler, {steering:g}, DPM-Solver++ in 10 steps": Way(
            "stage 2", "in_sampler", {"steering": steering}, {**PAPER_SAMPLER, **_solver(10)}
        )
        for steering in (0.2, 1.0)
    },
    **{
        f"restored, in the sampler, {steering:g}": Way("stage 2", "in_sampler", {"steering": steering}, restored=True)
        for steering in (0.5, 1.0)
    },
    **{
        f"before the sampler, {n} iterations": Way(
            "stage 2", "before_sampler", {"n_iterations": n, "learning_rate": 0.03, **COSINE}
        )
        for n in (20, 60)
    },
    "stage 1": Way("no stage 2", "stage 1"),
    "stage 1, restored": Way("no stage 2", "stage 1", restored=True),
    "best of 10 noises": Way("no stage 2", "best of K", {"n_iterations": 10}),
    "restored, best of 10 noises": Way("no stage 2", "best of K", {"n_iterations": 10}, restored=True),
    "stage 1, DDIM in 35 steps": Way("solver", "stage 1", sampler=PAPER_SAMPLER),
    **{
        f"stage 1, DPM-Solver++ in {n} steps": Way("solver", "stage 1", sampler={**PAPER_SAMPLER, **_solver(n)})
        for n in (6, 8, 10, 12)
    },
    FULL: Way("steps", sampler=PAPER_SAMPLER),
}


def main() -> None:
    """Make what is missing, score all, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=SUBJECTS, help="make pictures of one subject only, and write nothing else")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--test", action="store_true", help="of what was chosen, on test images, once")
    which.add_argument("--steps", action="store_true", help="the paper's run through its 35 steps, and the fast preset")
    args = parser.parse_args()
    subjects = (args.subject,) if args.subject else SUBJECTS
    config = load(REPOSITORY / "configs" / "miniature.yaml") if args.test else prepare(subjects, (*TARGETS, *DECODED))
    names, n_images, baseline, path = [name for name in WAYS if name != FULL], N_IMAGES, "paper", "frontier.csv"
    if args.test:
        names, baseline, path = list(CHOSEN), "stage 1", "frontier_test.csv"
    if args.steps:
        names, n_images, baseline, path = list(STEPS), N_IMAGES_STEPS, FULL, "frontier_steps.csv"
    pictures = {name: {subject: make(config, subject, name, n_images) for subject in subjects} for name in names}
    if args.subject:
        return
    scores, ids = score(config, pictures)
    rows = pd.DataFrame(table(config, scores, baseline, groups=ids if args.test else None))
    write_atomically(DOCS / path, rows.to_csv(index=False, float_format="%.4f"))
    rows = pd.read_csv(DOCS / "frontier.csv")
    write_atomically(DOCS / "frontier.md", page(rows))
    draw(rows)
    print(json.dumps({"speedup_at_equal_quality": speedup_at_equal_quality(rows)}))


def settings_of(config: Config, way: Way) -> tuple[Guidance, Sampler]:
    """Give the settings of a way."""
    of = config.experiment.restored.guidance if way.restored else Guidance()
    changes: dict[str, Any] = {"method": way.makes} if way.makes.endswith("sampler") else {}
    changes |= {"n_iterations": 1} if way.makes == "stage 1" else {}
    guidance = Guidance.model_validate(of.model_dump() | changes | way.guidance)
    return guidance, Sampler.model_validate(config.experiment.sampler.model_dump() | way.sampler)


def make(config: Config, subject: str, name: str, n_images: int) -> torch.Tensor:
    """Make a way's first pictures (n_images, 3, height, width), or read what an earlier run has made of them."""
    way = WAYS[name]
    starts = range(0, n_images, BATCH)
    paths = [folder_of(config, subject, name) / f"{start:02d}.safetensors" for start in starts]
    guidance, settings = settings_of(config, way)
    if not all(path.exists() for path in paths):
        sampler, encoder = open_sampler(config, CPU, settings), open_encoder(config)
        extract = partial(encoder, resize=config.experiment.structural.generated_resize)
        decoded = read_decoded(config, subject, guidance, is_restored=way.restored)
    for start, path in zip(starts, paths, strict=True):
        if not path.exists():
            rows = slice(start, start + BATCH)
            z, c, ids = decoded.z[rows], decoded.c[rows], decoded.stimulus_id[rows]
            kind = kind_of_noise(guidance, among_noises=way.makes == "best of K")
            noise = partial(draw_noise, z.shape[1:], config.experiment.seed, ids, CPU, kind)
            given = (z, c, sampler, extract, noise, decoded.targets.of(rows))
            makers: dict[str, Callable[..., Refinement]] = {
                "descent": refine,
                "in_sampler": steer,
                "before_sampler": refine_before,
                "best of K": best_of,
                "stage 1": best_of,
            }
            made = makers[way.makes](*given, guidance)
            tensors = {"images": made.images, "iteration": made.iteration, "losses": made.losses}
            write_atomically(path, save({key: tensor.contiguous() for key, tensor in tensors.items()}))
            print(f"{name}, {subject}, images {start} to {start + BATCH - 1}", flush=True)
    return torch.cat([load_file(path)["images"] for path in paths])


def score(config: Config, pictures: dict[str, dict[str, torch.Tensor]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Score pictures of all ways: for each (n images of all subjects, n metrics), and the images' stimulus_id."""
    ids = {subject: read_decoded(config, subject, Guidance()).stimulus_id for subject in SUBJECTS}
    scorers = {subject: Scores(config, ids[subject]) for subject in SUBJECTS}
    scores = {
        name: np.concatenate([scorers[subject].of(images) for subject, images in of.items()])
        for name, of in pictures.items()
    }
    n_images = {subject: len(images) for of in pictures.values() for subject, images in of.items()}
    return scores, np.concatenate([ids[subject][:n] for subject, n in n_images.items()])


def n_iterations_of(config: Config, name: str) -> float:
    """Mean number of iterations that images were in: fewer than asked for, with patience."""
    files = [path for subject in SUBJECTS for path in folder_of(config, subject, name).iterdir()]
    counts = [int((~load_file(path)["losses"].isnan()).sum()) for path in files]
    return sum(counts) / (N_IMAGES * len(SUBJECTS))


def folder_of(config: Config, subject: str, name: str) -> Path:
    """Folder of a way's pictures, another one for other settings, here or in what was decoded."""
    start = recipes.restored if WAYS[name].restored else recipes.decoded
    parts = [part.model_dump_json() for part in settings_of(config, WAYS[name])]
    parts += [start(config, subject, family).fingerprint for family in ("semantic", "detail", "structural")]
    made_of = hashlib.sha256("".join([*parts, str(config.experiment.seed)]).encode()).hexdigest()
    return KEPT / config.name / subject / f"{name.replace(' ', '_')}_{made_of[:8]}"


def cost(config: Config, operations: Operations, name: str) -> tuple[float, float]:
    """Count guided U-Net calls, and TFLOP at Stable Diffusion's size, that an image takes."""
    way = WAYS[name]
    guidance, sampler = settings_of(config, way)
    n_steps = sampler.solver_steps or sampler.denoise_steps
    if way.makes in ("stage 1", "best of K"):
        return guidance.n_iterations * n_steps, guidance.n_iterations * operations.stage1(n_steps)
    return operations.stage2(guidance, sampler, n_iterations_of(config, name) if guidance.patience else None)


def table(
    config: Config, scores: dict[str, np.ndarray], baseline: str, groups: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Give rows of ways: costs, mean scores, and differences to a baseline, of solvers to DDIM's 35 steps.

    With `groups`, those of images, intervals are over groups.
    """
    rows, operations = [], count_operations()
    for name in scores:
        way = WAYS[name]
        calls, teraflops = cost(config, operations, name)
        of = "stage 1, DDIM in 35 steps" if way.kind == "solver" and baseline == "paper" else baseline
        reference = scores[of]
        means, lows, highs = interval(scores[name] - reference, groups=groups)
        row: dict[str, Any] = {"way": name, "kind": way.kind, "n": len(reference), "calls": calls, "tflop": teraflops}
        for k, metric in enumerate(METRICS):
            row |= {metric: scores[name][:, k].mean(), f"{metric}_difference": means[k]}
            row |= {f"{metric}_low": lows[k], f"{metric}_high": highs[k]}
        is_equal = all(row[f"{m}_difference"] >= -0.005 and row[f"{m}_high"] > 0 for m in CLEAR)
        rows.append(row | {"equal": is_equal or name == of})
    return rows


def page(rows: pd.DataFrame) -> str:
    """Write the tables as Markdown."""
    best = speedup_at_equal_quality(rows)
    found = (
        f"The cheapest second stage that is not worse takes 1/{best:g} of the TFLOP of the paper's iterations."
        if best
        else "All second stages that cost less are worse."
    )
    of_paper = rows[rows["kind"] != "solver"]
    widest = max(float((of_paper[f"{m}_high"] - of_paper[f"{m}_low"]).max()) / 2 for m in CLEAR)
    text = [
        "# What stage 2 costs, and what it gives",
        "Written by `python benchmarks/frontier.py`, whose `--help` says what the ways are and how costs are counted. "
        f"Differences of {N_IMAGES * len(SUBJECTS)} validation images of two simulated subjects (training images held "
        "out; no test image) to the paper's 300 iterations, with 95 % bootstrap intervals over images; not corrected "
        "for the number of ways. Unless a row says otherwise, a pass of the sampler takes the miniature's four steps, "
        "not the paper's 35.",
        f"**Not worse** means that no mean difference in PixCorr, SSIM or two-way identification is below -.005, and "
        f"that the upper ends of their intervals are above zero. {found} So few images show large differences only: "
        f"the widest interval reaches {widest:.3f} to both sides, and by them the paper's 300 iterations themselves "
        "are not told apart from stage 1.",
        "![Two-way identification, PixCorr and SSIM against TFLOP an image](frontier.png)",
    ]
    titles = {
        "stage 2": "## Ways of stage 2",
        "no stage 2": "## Without a second stage",
        "solver": "## Solvers alone\n\nStage 1 from the paper's first timestep; differences are to DDIM's 35 steps.",
    }
    text += ["\n".join([f"{title}\n", *lines(rows[rows["kind"] == kind])]) for kind, title in titles.items()]
    if (DOCS / "frontier_test.csv").is_file():
        tested = pd.read_csv(DOCS / "frontier_test.csv")
        title = (
            f"## On test images, once\n\n{N_IMAGES} images, the same for both subjects, so that intervals are over "
            "these; all is compared with stage 1.\n"
        )
        text.append("\n".join([title, *lines(tested)]))
    if (DOCS / "frontier_steps.csv").is_file():
        tested = pd.read_csv(DOCS / "frontier_steps.csv")
        title = (
            f"## Through the paper's 35 steps\n\n{tested['n'].iloc[0]} validation images; all is compared with the "
            "paper's 300 iterations through the paper's 35 steps.\n"
        )
        text.append("\n".join([title, *lines(tested)]))
    return "\n\n".join(text) + "\n"


def lines(rows: pd.DataFrame) -> list[str]:
    """Give the lines of a table."""
    found = [
        "| way | calls | TFLOP | PixCorr | SSIM | two-way | CLIP similarity | not worse |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for _, row in rows.iterrows():
        cells = [
            f"{row[m]:.3f}, {row[f'{m}_difference']:+.3f} [{row[f'{m}_low']:+.3f}, {row[f'{m}_high']:+.3f}]"
            for m in METRICS
        ]
        equal = "yes" if row["equal"] else "no"
        found.append(f"| {' | '.join((row['way'], f'{row.calls:,.0f}', f'{row.tflop:,.0f}', *cells, equal))} |")
    return found


def draw(rows: pd.DataFrame, path: Path = DOCS / "frontier.png") -> None:
    """Draw scores against cost, with intervals of differences to the paper's run."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    titles = {"pixcorr": "PixCorr", "ssim": "SSIM", "two_way": "two-way identification"}
    paper = rows[rows["way"] == "paper"].iloc[0]
    styles = {"stage 2": ("tab:blue", "o", "stage 2"), "no stage 2": ("tab:orange", "s", "without a second stage")}
    shown = rows[rows["kind"].isin(list(styles))].reset_index(drop=True)
    for axis, (metric, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        axis.axhline(paper[metric], color="0.7", linewidth=1, zorder=0)
        for kind, (color, marker, label) in styles.items():
            of = shown[shown["kind"] == kind]
            middle, low, high = (of[f"{metric}_{part}"] for part in ("difference", "low", "high"))
            ends = [middle - low, high - middle]
            axis.errorbar(of["tflop"], of[metric], ends, fmt=marker, color=color, label=label, elinewidth=0.6)
        for number, row in shown.iterrows():
            axis.annotate(f"{number + 1}", (row["tflop"], row[metric]), (4, 4), textcoords="offset points", fontsize=7)
        axis.set_xscale("log")
        axis.set_xlabel("TFLOP an image at Stable Diffusion's size")
        axis.set_title(title)
    names = [f"{number + 1} {row['way']}" for number, row in shown.iterrows()]
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    third = -(-len(names) // 3)
    columns = ["\n".join(names[k : k + third]) for k in range(0, len(names), third)]
    for k, text in enumerate(columns):
        figure.text(0.01 + k / 3, -0.02, text, fontsize=8, va="top")
    figure.savefig(path, dpi=110, bbox_inches="tight")


if __name__ == "__main__":
    main()
