"""Is motion decoded from fMRI by Mind-Animator's generator? Flow cosines over seeds of the networks, on the miniature.

    python benchmarks/animator_seeds.py [--n-seeds 5] > docs/animator_seeds.txt      # half an hour on one core

Needs the miniature's films and baselines/mind_animator/11_features.py. The structure decoder and the generator of the
forms "corrected" and "change" are trained anew with each seed of `mind_animator.network_seed`, for Subject01 and for
Subject03, whose brain is the same but tells no directions apart. Films are made of the latents by the autoencoder
alone. If motion is decoded, the flow cosine of Subject01 is above that of Subject03, and above that of films from the
vertices of another clip. Beside them is the mover, ridge regression and a bilinear step, which has no seed.

All is of the test clips, which are used here once: seeds are 0, 1, 2 and so on, none is left out, nothing is chosen.
Intervals are of 95 %, by resampling seeds and shots, each independently of the other; of five seeds they are somewhat
too narrow. What is decoded is kept in runs/film_variants/, so that a killed run goes on.

The last line is JSON: each difference with the ends of its interval; and of the forms of Subject01, by seed, r of
structure and of c (`corrected` alone), flow cosine, speed and SSIM.
"""

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.film_variants import MINIATURE, OF_FILMS, Scorer, Variant, decode, fields_of
from evaluation.significance import bootstrap_interval_over_subjects, bootstrap_intervals
from minddiffuser.config import load
from minddiffuser.store import DataError

SUBJECT, BLIND = "Subject01", "Subject03"
# What is changed besides the seed; and the latents of the controls, in motion.h5.
FORMS = {form: fields_of(form) for form in ("corrected", "change")}
OTHER, MOVER = "other_clip", "mover"


def main() -> None:
    """Decode with each seed, then score all, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-seeds", type=int, default=5)
    n_seeds = parser.parse_args().n_seeds
    torch.set_num_threads(1)
    try:
        run(n_seeds)
    except DataError as error:
        sys.exit(f"error: {error}")


def run(n_seeds: int) -> None:
    """See `main`."""
    variants = {
        (form, seed, subject): variant_of(form, seed, subject)
        for form in FORMS
        for seed in range(n_seeds)
        for subject in (SUBJECT, BLIND)
    }
    decode(list(variants.values()))
    configs = {key: variant.config for key, variant in variants.items()}
    scorer = Scorer(configs["corrected", 0, SUBJECT], SUBJECT)
    cosines: dict[tuple[str, str, str], np.ndarray] = {}  # (n_seeds, n_clips)
    by_seed: dict[str, dict[str, list[float]]] = {}
    for form in FORMS:
        for subject in (SUBJECT, BLIND):
            for key in ("z", OTHER):
                tables = [scorer.of_latents(configs[form, seed, subject], subject, key) for seed in range(n_seeds)]
                cosines[form, subject, key] = np.stack([table["flow_cosine"] for table in tables])
                if (subject, key) == (SUBJECT, "z"):
                    by_seed[form] = {name: [float(table[name].mean()) for table in tables] for name in OF_FILMS}
    for name, decoder in (("structure_r", "structure"), ("c_r", "semantic")):
        values = [scorer.r(configs["corrected", seed, SUBJECT], SUBJECT, decoder) for seed in range(n_seeds)]
        by_seed["corrected"][name] = [float(of_seed.mean()) for of_seed in values]
    for subject in (SUBJECT, BLIND):
        table = scorer.of_latents(configs["corrected", 0, subject], subject, MOVER)
        cosines[MOVER, subject, "z"] = table["flow_cosine"].to_numpy()[None]
    report(cosines, by_seed, scorer.shots)


def variant_of(form: str, seed: int, subject: str) -> Variant:
    """Say how a form is decoded with a seed; the tokens of c by "corrected" of `SUBJECT` alone."""
    is_corrected = form == "corrected"
    name = f"seed_{seed}" if is_corrected else f"seed_{seed}_{form}"
    decoders = ["semantic"] if is_corrected and subject == SUBJECT else []
    return Variant(name, FORMS[form] | {"network_seed": seed}, subject, [*decoders, "structure", "motion"])


def report(
    cosines: dict[tuple[str, str, str], np.ndarray], by_seed: dict[str, dict[str, list[float]]], shots: np.ndarray
) -> None:
    """Print the tables, and all as JSON."""
    n_seeds, n_clips = cosines["corrected", SUBJECT, "z"].shape
    n_shots = len(set(shots))
    print("$ python benchmarks/animator_seeds.py")
    print(f"{n_seeds} seeds of the networks, {n_clips} test clips of {n_shots} shots")
    print(f"\n{'flow cosine':<46}{'mean [95 %]':<24}{'SD':>6}   by seed")
    for (form, subject, key), values in cosines.items():
        means = values.mean(axis=1)
        name = f"{subject} {form}{', vertices of another clip' if key == OTHER else ''}"
        spread = f"{means.std(ddof=1):>6.3f}   {' '.join(f'{mean:.3f}' for mean in means)}" if len(means) > 1 else ""
        print(f"{name:<46}{as_text(crossed_mean(values, shots)):<24}{spread}")
    print(f"\n{'difference of flow cosines':<46}{'mean [95 %]':<24}{'SD':>6}   by seed")
    record: dict[str, float | int | dict] = {"n_seeds": n_seeds, "n_clips": n_clips, "n_shots": n_shots}
    for key, (name, first, second) in differences().items():
        values = cosines[first] - cosines[second]
        found, means = crossed_mean(values, shots), values.mean(axis=1)
        spread = f"{means.std(ddof=1):>6.3f}   {' '.join(f'{mean:+.3f}' for mean in means)}" if len(means) > 1 else ""
        print(f"{name:<46}{as_text(found):<24}{spread}")
        record |= dict(zip((key, f"{key}_low", f"{key}_high"), (round(value, 4) for value in found), strict=True))
    print(f"\n{SUBJECT}, mean of clips{'':<24}{'mean':<8}{'SD':>6}   by seed")
    for form, of_form in by_seed.items():
        for name, means in of_form.items():
            text = " ".join(f"{mean:.3f}" for mean in means)
            print(f"{f'{form}, {name}':<46}{np.mean(means):<8.3f}{np.std(means, ddof=1):>6.3f}   {text}")
    rounded = {form: {name: np.round(means, 4).tolist() for name, means in of.items()} for form, of in by_seed.items()}
    print(json.dumps(record | rounded))


def differences() -> dict[str, tuple[str, tuple[str, str, str], tuple[str, str, str]]]:
    """List what is compared, by its name in JSON: what it is called, and the keys of both."""
    found = {}
    for form in FORMS:
        own, blind = (form, SUBJECT, "z"), (form, BLIND, "z")
        found[f"{form}_minus_blind"] = (f"{form}: {SUBJECT} - {BLIND}", own, blind)
        found[f"{form}_minus_other_clip"] = (f"{form}: {SUBJECT} - another clip's", own, (form, SUBJECT, OTHER))
        found[f"{form}_blind_minus_other_clip"] = (f"{form}: {BLIND} - another clip's", blind, (form, BLIND, OTHER))
    own = (MOVER, SUBJECT, "z")
    found["mover_minus_blind"] = (f"mover: {SUBJECT} - {BLIND}", own, (MOVER, BLIND, "z"))
    found["mover_minus_corrected"] = (f"{SUBJECT}: mover - corrected", own, ("corrected", SUBJECT, "z"))
    return found


def crossed_mean(values: np.ndarray, shots: np.ndarray) -> tuple[float, float, float]:
    """Average over seeds and clips, with the 95 % interval over seeds and shots, each resampled by itself.

    Parameters
    ----------
    values : array of shape (n_seeds, n_clips)
        With one row, of what has no seed, the interval is over shots.
    shots : array of shape (n_clips,)

    Returns
    -------
    mean, low, high : float
    """
    settings = load(MINIATURE).experiment
    n_bootstrap, seed = settings.evaluation.n_bootstrap, settings.seed
    if len(values) == 1:
        low, high = (float(end[0]) for end in bootstrap_intervals(values.T, n_bootstrap, seed, shots))
    else:
        low, high = bootstrap_interval_over_subjects(values, n_bootstrap, seed, shots)
    return float(values.mean()), low, high


def as_text(found: Sequence[float]) -> str:
    """Write a mean and its interval."""
    return "{:.3f} [{:.3f}, {:.3f}]".format(*found)


if __name__ == "__main__":
    main()
