"""Can a second stage earn its cost on top of a stage 1 that does not shrink? All that was tried, on validation images.

    python benchmarks/second_stage.py                   # twenty minutes on two cores
    python benchmarks/second_stage.py --paper images    # a few of them with the paper's own decoders (penalty .15)

Settings are looked at on subj01 and replicated on subj02, both on training images held out (benchmarks/validation.py);
no test image is used. Each way is compared with stage 1 of the same noise and the same images: as decoded where it
starts from what is decoded as published, and with variance restored where it starts from that.

    released              the released loss, with the miniature's settings (experiment.guidance)
    ... best of K         not descending, but the best by that loss of as many noises
    ... other targets     the same descent towards what was decoded of another image
    features and latents  the loss variance_restored: units in their deviations, restored targets, and twice the same
                          between final latents and decoded z
    features alone        the same without latents; its best of K is minddiffuser/best_of_k
    low layers            the same of layers 2 and 4 alone
    posterior             towards the posterior's mean (what ridge regression predicts), each unit weighted by its
                          residual variance: the expected loss over the posterior in place of a point
    z alone               c stays as it was decoded
    best, then descent    half of the calls choose among noises, half descend from there
    mean of K             the mean of the final latents of K noises, then the decoder

Descents from restored z and c all have the settings of experiment.restored.guidance (ten iterations, rate .03).

Prints each row, and writes `docs/second_stage.csv`, or `docs/second_stage_paper_*.csv` (subject, start, way, n, four
scores of the baseline and of the result, differences with 95 % bootstrap intervals over images, and the mean losses of
stage 1's picture, of the result and of the stimulus) and, of all runs, the tables of `docs/second_stage.md`.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from validation import CPU, DECODED, METRICS, TARGETS, Scores, interval, open_encoder, prepare

from feature_decoding import recipes
from feature_decoding.spread import read_spread
from feature_extraction.clip_layers import ClipLayers
from feature_extraction.recipes import features as features_recipe
from minddiffuser.config import REPOSITORY, Config
from minddiffuser.config.method import Guidance, layer_name
from minddiffuser.progress import progress
from minddiffuser.store import open_made, write_atomically
from reconstruction.controls import other_images
from reconstruction.guidance import Refinement, Targets, best_of, feature_loss, refine
from reconstruction.refining import Decoded, read_decoded
from reconstruction.sampler import ImageToImage, draw_noise, open_sampler

N_IMAGES, BATCH = 64, 16
TABLES = REPOSITORY / "docs" / "second_stage.md"
RESULTS = {
    "second_stage": "With the miniature's decoders",
    "second_stage_paper_images": "With the paper's own decoders (penalty .15, voxels as a share of the images)",
    "second_stage_paper_voxels": "With the paper's own decoders (penalty .15, voxels as a share of all voxels)",
}
# The paper's alpha, and its numbers of voxels: as shares of the voxels, or of the images that they are fitted to. With
# more voxels than images and next to no penalty, as the first gives z here (not in NSD), little can be decoded.
PAPER = {
    "voxels": {"semantic": 210, "detail": 1400, "structural": [160, 160, 160, 115, 115, 115]},
    "images": {"semantic": 48, "detail": 320, "structural": [37, 37, 37, 27, 27, 27]},
}


class Setting(NamedTuple):
    """What all ways share."""

    config: Config
    subject: str
    sampler: ImageToImage
    encoder: ClipLayers
    scores: Scores
    true: dict[str, torch.Tensor]  # CLIP features of the stimuli, and their latents
    released: Decoded  # z and c as decoded, and targets of the released loss
    ours: Decoded  # z and c with variance restored, and targets of the loss variance_restored


def main() -> None:
    """Try all ways on both subjects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = "with the paper's own decoders, whose voxels an output are in proportion to these; a few ways only"
    parser.add_argument("--paper", choices=PAPER, help=what)
    args = parser.parse_args()
    subjects = ("subj01", "subj02")
    config = prepare(subjects, (*TARGETS, *DECODED))
    if args.paper:
        counts = [f"experiment.decoding.n_voxels_{family}={n}" for family, n in PAPER[args.paper].items()]
        changes = ("experiment.decoding.alpha=0.15", *counts)
        config = prepare(subjects, (*TARGETS, *DECODED), changes, f"miniature_validation_paper_{args.paper}")
    name = "second_stage" + (f"_paper_{args.paper}" if args.paper else "")
    path = TABLES.with_name(f"{name}.csv")
    rows: list[dict[str, Any]] = []
    for subject in subjects:
        rows += try_all(open_setting(config, subject), few=bool(args.paper))
        write_atomically(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.4f"))
    write_atomically(TABLES, tables())


def open_setting(config: Config, subject: str) -> Setting:
    """Open models, and read what was decoded and what is true of the first validation images."""
    experiment = config.experiment
    released = read_decoded(config, subject, experiment.guidance)
    ours = read_decoded(config, subject, experiment.restored.guidance, is_restored=True)
    scores = Scores(config, released.stimulus_id)
    with (
        open_made(features_recipe(config, subject, "structural")) as file,
        open_made(features_recipe(config, subject, "detail")) as detail,
    ):
        true = {name: torch.from_numpy(file[name][:N_IMAGES]) for name in (*released.targets.values, "embedding")}
        true["latents"] = torch.from_numpy(detail["z"][:N_IMAGES])
    return Setting(config, subject, open_sampler(config, CPU), open_encoder(config), scores, true, released, ours)


def try_all(setting: Setting, few: bool) -> list[dict[str, Any]]:
    """Try all ways, or a few of them, on one subject: a row each."""
    experiment = setting.config.experiment
    released = experiment.guidance
    ours = experiment.restored.guidance.model_copy(update={"latent_weight": 2.0})
    k = released.n_iterations
    from_decoded, from_restored = stage1(setting, setting.released), stage1(setting, setting.ours)
    restored_aims = replace(setting.released, targets=setting.ours.targets)
    alone, a = ours.model_copy(update={"latent_weight": 0.0}), setting
    ways: list[tuple[str, str, Callable[[], torch.Tensor | Refinement], Decoded, Guidance]] = [
        ("as decoded", "stage 1 with variance restored", lambda: from_restored, setting.released, released),
        *_of("as decoded", "released", setting, setting.released, released),
        ("restored", "features alone", partial(descend, a, a.ours, alone), a.ours, alone),
        ("restored", "features alone, best of K", partial(choose, a, a.ours, alone), a.ours, alone),
    ]
    if not few:
        low = layers_of(setting.ours, 2, 4)
        z_alone = ours.model_copy(update={"optimise": "z"})
        half = ours.model_copy(update={"n_iterations": k // 2})
        ways += [
            *_of("as decoded", "features and latents", setting, restored_aims, ours),
            *_of("restored", "features and latents", setting, setting.ours, ours),
            ("restored", "low layers", partial(descend, a, low, alone), low, alone),
            ("restored", "low layers, best of K", partial(choose, a, low, alone), low, alone),
            ("restored", "low layers and latents", partial(descend, a, low, ours), low, ours),
            ("restored", "posterior", partial(descend, a, posterior(a), ours), posterior(a), ours),
            ("restored", "posterior, best of K", partial(choose, a, posterior(a), ours), posterior(a), ours),
            ("restored", "z alone", partial(descend, a, a.ours, z_alone), a.ours, ours),
            ("restored", "best, then descent", partial(choose_and_descend, a, a.ours, half), a.ours, ours),
            ("restored", "mean of K", partial(mean_of, a, a.ours, k), a.ours, ours),
        ]
    rows = []
    for start, way, make, decoded, guidance in ways:
        baseline = from_restored if start == "restored" else from_decoded
        rows.append(compare(setting, start, way, baseline, make(), decoded, guidance))
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return rows


def _of(start: str, way: str, setting: Setting, decoded: Decoded, guidance: Guidance) -> list:
    """List a descent and its two controls."""
    n = len(decoded.stimulus_id)
    others = replace(decoded, targets=decoded.targets.of(other_images(n, setting.config.experiment.seed)))
    return [
        (start, way, partial(descend, setting, decoded, guidance), decoded, guidance),
        (start, f"{way}, best of K", partial(choose, setting, decoded, guidance), decoded, guidance),
        (start, f"{way}, other targets", partial(descend, setting, others, guidance), others, guidance),
    ]


def layers_of(decoded: Decoded, *numbers: int) -> Decoded:
    """Aim at some layers alone."""
    values = {layer_name(number): decoded.targets.values[layer_name(number)] for number in numbers}
    return replace(decoded, targets=replace(decoded.targets, values=values))


def posterior(setting: Setting) -> Decoded:
    """Aim at the posterior's mean, in units of its deviation, which cross-validation on training images tells.

    With m the prediction of a unit of deviation 1, whose deviation is s: its residual variance is 1 - s^2, where the
    prediction is the conditional mean.
    """
    config, subject, ours = setting.config, setting.subject, setting.ours.targets
    residual = {}
    for name in ours.values:
        spread = read_spread(recipes.spread(config, subject, name))
        residual[name] = ours.deviations[name] * torch.from_numpy(np.sqrt(1 - spread.std**2)).float()
    spread = read_spread(recipes.spread(config, subject, "detail"))
    of_latents = torch.from_numpy(np.sqrt(1 - spread.std**2)).float().reshape(ours.deviations["latents"].shape)
    residual["latents"] = ours.deviations["latents"] * of_latents
    with open_made(recipes.decoded(config, subject, "detail")) as detail:
        latents = torch.from_numpy(detail["z"][:])
    values = setting.released.targets.values
    return replace(setting.ours, targets=replace(ours, values=values, latents=latents, deviations=residual))


def _batches(decoded: Decoded) -> list[tuple[torch.Tensor, torch.Tensor, Targets, np.ndarray]]:
    return [
        (decoded.z[rows], decoded.c[rows], decoded.targets.of(rows), decoded.stimulus_id[rows])
        for rows in np.split(np.arange(N_IMAGES), range(BATCH, N_IMAGES, BATCH))
    ]


def _noise(setting: Setting, z: torch.Tensor, ids: np.ndarray, kind: str) -> Callable[[int], torch.Tensor]:
    return partial(draw_noise, z.shape[1:], setting.config.experiment.seed, ids, CPU, kind)


def _joined(parts: list[Refinement]) -> Refinement:
    return Refinement(
        torch.cat([part.images for part in parts]),
        torch.cat([part.iteration for part in parts]),
        torch.cat([part.losses for part in parts], dim=1),
    )


def stage1(setting: Setting, decoded: Decoded) -> torch.Tensor:
    """Pictures of stage 1."""
    with torch.no_grad():
        return torch.cat([setting.sampler(z, c, _noise(setting, z, i, "fixed")(0)) for z, c, _, i in _batches(decoded)])


def _extract(setting: Setting) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    return partial(setting.encoder, resize=setting.config.experiment.structural.generated_resize)


def descend(setting: Setting, decoded: Decoded, guidance: Guidance) -> Refinement:
    """Descend the loss."""
    return _joined([
        refine(z, c, setting.sampler, _extract(setting), _noise(setting, z, i, guidance.noise), targets, guidance)
        for z, c, targets, i in progress(_batches(decoded), desc="batches")
    ])  # fmt: skip


def choose(setting: Setting, decoded: Decoded, guidance: Guidance) -> Refinement:
    """Choose among noises."""
    return _joined([
        best_of(z, c, setting.sampler, _extract(setting), _noise(setting, z, i, "fresh"), targets, guidance)
        for z, c, targets, i in progress(_batches(decoded), desc="batches")
    ])  # fmt: skip


def choose_and_descend(setting: Setting, decoded: Decoded, guidance: Guidance) -> Refinement:
    """Choose among noises, and descend with the noise that was chosen."""
    parts = []
    for z, c, targets, ids in progress(_batches(decoded), desc="batches"):
        noise = _noise(setting, z, ids, "fresh")
        chosen = best_of(z, c, setting.sampler, _extract(setting), noise, targets, guidance)
        draws = [noise(k) for k in range(guidance.n_iterations)]
        best = torch.stack([draws[int(k)][row] for row, k in enumerate(chosen.iteration)])
        result = refine(z, c, setting.sampler, _extract(setting), lambda _, best=best: best, targets, guidance)
        parts.append(replace(result, losses=torch.cat([chosen.losses[:1], result.losses])))
        parts[-1].iteration += 1
    return _joined(parts)


def mean_of(setting: Setting, decoded: Decoded, k: int) -> torch.Tensor:
    """Pictures of the mean of the final latents of k noises."""
    pictures = []
    with torch.no_grad():
        for z, c, _, ids in progress(_batches(decoded), desc="batches"):
            noise = _noise(setting, z, ids, "fresh")
            latents = torch.stack([setting.sampler.denoise(z, c, noise(j)) for j in range(k)]).mean(dim=0)
            pictures.append(setting.sampler.draw(latents))
    return torch.cat(pictures)


def compare(
    setting: Setting, start: str, way: str, baseline: torch.Tensor, result: torch.Tensor | Refinement,
    decoded: Decoded, guidance: Guidance,
) -> dict[str, Any]:  # fmt: skip
    """Score a way beside its baseline, with the losses of stage 1's picture, of the result and of the stimulus."""
    row: dict[str, Any] = {"subject": setting.subject, "start": start, "way": way, "n": N_IMAGES}
    images = result if isinstance(result, torch.Tensor) else result.images
    before, after = setting.scores.of(baseline), setting.scores.of(images)
    means, lows, highs = interval(after - before)
    for k, name in enumerate(METRICS):
        row |= {f"{name}_stage1": before[:, k].mean(), name: after[:, k].mean()}
        row |= {f"{name}_difference": means[k], f"{name}_low": lows[k], f"{name}_high": highs[k]}
    if isinstance(result, Refinement):
        final = result.losses.gather(0, result.iteration[None])[0]
        truth = feature_loss(setting.true, decoded.targets.of(slice(N_IMAGES)), guidance, setting.true["latents"])
        row |= {"loss_stage1": float(result.losses[0].mean()), "loss_result": float(final.mean())}
        row |= {"loss_truth": float(truth.mean()), "truth_is_lower": float((truth < result.losses[0]).float().mean())}
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def tables() -> str:
    """Write what was found as Markdown, from the tables that are there."""
    text = [
        "# What a second stage gains over stage 1",
        "Written by `python benchmarks/second_stage.py`, whose `--help` says what the ways are. Differences of "
        f"{N_IMAGES} validation images of a subject (training images held out; no test image), with 95 % bootstrap "
        "intervals over images; not corrected for the number of ways. *As decoded* and *restored* name the stage 1 "
        "that a way starts from and is compared with. Losses are of stage 1's picture, of the result and of the true "
        "stimulus: where the stimulus has a higher one than stage 1's picture, descending leads away from what was "
        "seen. *Stimulus lower* is the share of images in which it has the lower one. With other targets all three "
        "are distances from what was decoded of another image.",
    ]
    for name, title in RESULTS.items():
        path = TABLES.with_name(f"{name}.csv")
        for subject, rows in pd.read_csv(path).groupby("subject") if path.exists() else ():
            lines = [
                f"## {title}, {subject}\n",
                "| start | way | PixCorr | SSIM | two-way | CLIP similarity | losses | stimulus lower |",
                "|---|---|---|---|---|---|---|---|",
            ]
            for _, row in rows.iterrows():
                cells = [
                    f"{row[f'{metric}_difference']:+.3f} [{row[f'{metric}_low']:.3f}, {row[f'{metric}_high']:.3f}]"
                    for metric in METRICS
                ]
                has_losses = np.isfinite(row["loss_truth"])
                names = ("loss_stage1", "loss_result", "loss_truth")
                cells.append(", ".join(f"{row[name]:.3f}" for name in names) if has_losses else "")
                cells.append(f"{row['truth_is_lower']:.0%}" if has_losses else "")
                lines.append(f"| {' | '.join((row['start'], row['way'], *cells))} |")
            text.append("\n".join(lines))
    return "\n\n".join(text) + "\n"


if __name__ == "__main__":
    main()
