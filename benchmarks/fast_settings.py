"""Quality against cost of cheaper settings of stage 2, on the miniature; how `preset: fast` was chosen.

    python benchmarks/fast_settings.py      # about 20 minutes on two cores

Settings are tried on validation images of subj01, which are training images held out
(`experiment.data.validation_rows`): fewer DDIM steps at the same noise level, fewer iterations, a cosine schedule with
a higher rate, and early stopping. The cheapest whose mean of PixCorr and two-way identification is at most .005 below
that of what choose_settings.py chose (40 iterations of 3 steps) is chosen. Only these two are then run on the test
images, once.
Cost is in U-Net calls an image.

Prints and writes `docs/fast.csv` (settings, images, calls, scores with 95 % intervals) and draws `docs/fast.png`.
"""

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt

from data.nsd import Stimuli
from evaluation.metrics import features
from evaluation.metrics.images import pixcorr, ssim
from evaluation.significance import bootstrap_intervals
from feature_extraction.clip_layers import ClipLayers
from minddiffuser.config import REPOSITORY, Config, load
from minddiffuser.config.method import layer_name
from minddiffuser.correlation import correlate
from minddiffuser.figures import as_png
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.store import open_arrays, write_atomically
from reconstruction.folder import to_uint8
from reconstruction.guidance import Targets, refine
from reconstruction.sampler import draw_noise, open_sampler

SUBJECT, N_VALIDATION, N_TEST, CPU = "subj01", 32, 109, torch.device("cpu")
VALIDATION = ["name=miniature_validation", "experiment.data.validation_rows=100"]
STEPS = {
    20: {"n_steps": 20, "noise_index": 2, "denoise_steps": 3},
    10: {"n_steps": 10, "noise_index": 1, "denoise_steps": 2},
}
CHEAPER: list[dict[str, Any]] = [
    {"n_iterations": n, "schedule": schedule, "learning_rate": rate, "patience": patience}
    for schedule, rate, patience, counts in (
        ("exponential", 0.005, None, (10, 20, 40)),
        ("cosine", 0.01, None, (10, 20, 40)),
        ("cosine", 0.02, None, (10, 20)),
        ("exponential", 0.005, 5, (40,)),
    )
    for n in counts
]
TOLERANCE = 0.005


def main() -> None:
    """Try settings on validation images, and report the chosen one on test images."""
    config = load(REPOSITORY / "configs" / "miniature.yaml", VALIDATION)
    prepare(VALIDATION)
    rows = []
    for n_steps, guidance in [(n, g) for n in STEPS for g in CHEAPER]:
        rows.append({"images": "validation", **measure(config, STEPS[n_steps], guidance, N_VALIDATION)})
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    usual = {"n_iterations": 40, "schedule": "exponential", "learning_rate": 0.005, "patience": None}
    configured = table["settings"] == describe(STEPS[20], usual)
    quality = (table["pixcorr"] + table["two_way"]) / 2
    good_enough = table[quality >= quality[configured].item() - TOLERANCE]
    chosen = good_enough["calls"].idxmin()
    prepare([])
    config = load(REPOSITORY / "configs" / "miniature.yaml", [])
    steps, guidance = [(STEPS[n], g) for n in STEPS for g in CHEAPER][chosen]
    both = ((STEPS[20], usual), (steps, guidance))
    rows.extend({"images": "test", **measure(config, *tried, N_TEST)} for tried in both)
    table = pd.DataFrame(rows).round(4)
    table["chosen"] = table["settings"] == table["settings"][chosen]
    write_atomically(REPOSITORY / "docs" / "fast.csv", table.to_csv(index=False))
    draw(table)
    print(table.to_string())


def prepare(overrides: list[str]) -> None:
    """Run the scripts up to the decoded targets; what is done is not done again."""
    options = ["--subject", SUBJECT, *(word for override in overrides for word in ("--set", override))]
    for script in (
        "data/02_prepare_subject", "feature_extraction/11_semantic", "feature_extraction/12_detail",
        "feature_extraction/13_structural", "feature_decoding/21_select_units", "feature_decoding/22_semantic",
        "feature_decoding/23_detail", "feature_decoding/24_structural",
    ):  # fmt: skip
        subprocess.run([sys.executable, str(REPOSITORY / f"{script}.py"), *options], check=True)


def describe(steps: dict[str, int], guidance: dict[str, Any]) -> str:
    """Put settings into words."""
    stop = f", patience {guidance['patience']}" if guidance["patience"] else ""
    rate = f"{guidance['schedule']} from {guidance['learning_rate']:g}"
    return f"{steps['denoise_steps']} steps, {guidance['n_iterations']} iterations, {rate}{stop}"


def measure(config: Config, steps: dict[str, int], guidance: dict[str, Any], n: int) -> dict[str, Any]:
    """Refine the first n test (or validation) images and score them."""
    experiment, folder = config.experiment, config.folder(SUBJECT)
    sampling, settings = experiment.sampler.model_copy(update=steps), experiment.guidance.model_copy(update=guidance)
    changed = config.model_copy(update={"experiment": experiment.model_copy(update={"sampler": sampling})})
    sampler, models = open_sampler(changed, CPU), experiment.models
    encoder = ClipLayers(
        open_clip_model(models.clip, models.clip_weights, CPU),
        experiment.structural.layers,
        experiment.structural.normalisation,
        experiment.structural.antialias,
    )
    layers = [layer_name(number) for number in experiment.structural.layers]
    with (
        open_arrays(folder / "decoded" / "detail.h5", "", SUBJECT) as detail,
        open_arrays(folder / "decoded" / "semantic.h5", "", SUBJECT) as semantic,
        open_arrays(folder / "decoded" / "structural.h5", "", SUBJECT) as structure,
    ):
        ids, all_ids = detail["nsd_id"][:n], detail["nsd_id"][:]
        z, c = torch.from_numpy(detail["z"][:n]), torch.from_numpy(semantic["c"][:n])
        values = {name: torch.from_numpy(structure[name][:n]) for name in layers}
        units = {name: torch.from_numpy(structure[f"{name}_units"][:]) for name in layers}
    pictures, n_calls = [], 0
    for rows in torch.arange(n).split(16):
        targets = Targets({name: value[rows] for name, value in values.items()}, units)
        noise = lambda k, here=ids[rows]: draw_noise(z.shape[1:], experiment.seed, here, CPU, settings.noise, k)  # noqa: E731
        result = refine(
            z[rows], c[rows], sampler, lambda x: encoder(x, experiment.structural.generated_resize), noise, targets,
            settings, sampling.precision,
        )  # fmt: skip
        pictures.append(to_uint8(result.images))
        n_calls += len(rows) * len(result.losses) * sampling.denoise_steps
    images, stimuli = np.concatenate(pictures), Stimuli(config.nsd).read(all_ids)
    scorer = open_clip_model(models.scoring_clip, models.scoring_clip_weights, CPU)
    own = np.arange(n)
    seen, made = [features.clip_embeddings(scorer, batch, CPU, 50) for batch in (stimuli, images)]
    scores = {
        "pixcorr": pixcorr(stimuli[own], images),
        "ssim": ssim(stimuli[own], images),
        "two_way": features.identification(correlate(made, seen), own, n_way=2),
    }
    row: dict[str, Any] = {"settings": describe(steps, guidance), "n": n, "calls": n_calls / n}
    for name, values_of in scores.items():
        low, high = bootstrap_intervals(values_of[:, None], experiment.evaluation.n_bootstrap, experiment.seed)
        row |= {name: values_of.mean(), f"{name}_low": low[0], f"{name}_high": high[0]}
    return row


def draw(table: pd.DataFrame) -> None:
    """Draw quality against cost on validation images, and the two settings that were run on test images."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    for axis, metric in zip(axes, ("pixcorr", "ssim", "two_way"), strict=True):
        for images, colour in (("validation", "tab:blue"), ("test", "tab:red")):
            part = table[table["images"] == images]
            label = f"{images} images, n = {part['n'].iloc[0]}"
            bars = np.abs(part[[f"{metric}_low", f"{metric}_high"]].to_numpy().T - part[metric].to_numpy())
            axis.errorbar(part["calls"], part[metric], bars, fmt="o", color=colour, ms=4, lw=0.6, label=label)
        chosen = table[table["chosen"]]
        axis.plot(chosen["calls"], chosen[metric], "o", ms=11, mfc="none", color="black", label="chosen")
        axis.set(xlabel="U-Net calls an image", ylabel=metric, xscale="log")
        axis.set_xticks([20, 30, 50, 80, 120], ["20", "30", "50", "80", "120"])
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(fontsize=8, loc="lower right")
    figure.suptitle("Cheaper settings of stage 2 (miniature, subj01; bars: 95 % bootstrap intervals over images)")
    write_atomically(REPOSITORY / "docs" / "fast.png", as_png(figure))


if __name__ == "__main__":
    main()
