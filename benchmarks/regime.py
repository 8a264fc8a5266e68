"""Is the miniature as hard as NSD? How well it is decoded, and which noise level validation chooses.

    python benchmarks/regime.py       # about four minutes on two cores

The paper's regime is that of NSD: c and z are decoded poorly (authors' r of c about .26), so that much noise must be
added for the generator to have its say (timestep 741 of 1000). A miniature that is decoded too well chooses little
noise, and then says nothing about the method. Aims, for each subject: r of c by image .25 to .40, of z .30 to .55, a
chosen timestep of 500 or more, and stage 1 from true targets clearly above stage 1 from decoded ones.

All is on the last 100 training images of each subject (benchmarks/validation.py), with the settings of
configs/miniature.yaml; no test image is used. The noise level is chosen by benchmarks/choose_settings.py's rule (the
sum of PixCorr and two-way identification of stage 1, from what was decoded as published), among timesteps 101, 251, 501
and 751. Beside it stands the level that z and c with restored variance would choose.

The last line is JSON: c_r, z_r, chosen_timestep, chosen_timestep_restored by subject, ceiling_pixcorr and
stage1_pixcorr by subject at the configured noise level.
"""

import json

import numpy as np
import torch
from validation import CPU, DECODED, LEVELS, TARGETS, Scores, prepare, rule, sampler_of, true_targets

from feature_decoding import recipes
from feature_decoding.ridge import Scaler
from minddiffuser.config import Config
from minddiffuser.correlation import correlate_pairs
from minddiffuser.store import open_made
from reconstruction.sampler import draw_noise


def main() -> None:
    """Measure both subjects."""
    config = prepare(("subj01", "subj02"), (*TARGETS, *DECODED))
    found: dict[str, dict[str, float]] = {}
    for subject in config.experiment.subjects:
        for name, value in measure(config, subject).items():
            found.setdefault(name, {})[subject] = value
    print(json.dumps(found))


def measure(config: Config, subject: str) -> dict[str, float]:
    """Measure a subject, and print the scores of each noise level."""
    experiment = config.experiment
    decoded, restored = (read(config, subject, of) for of in (recipes.decoded, recipes.restored))
    z, c = true_targets(config, subject)
    with open_made(recipes.decoded(config, subject, "detail")) as file:
        ids = file["stimulus_id"][:]
    scores = Scores(config, ids)
    noise = draw_noise(z.shape[1:], experiment.seed, ids, CPU)
    forms = {"true": (z, c), "as decoded": decoded, "restored": restored}
    by_level: dict[str, dict[int, float]] = {name: {} for name in forms}
    found = {}
    for timestep, steps in LEVELS.items():
        settings = experiment.sampler.model_copy(update=steps)
        sampler = sampler_of(config, settings)
        for name, targets in forms.items():
            with torch.no_grad():
                values = scores.of(sampler(*targets, noise))
            by_level[name][timestep] = rule(values)
            means = ", ".join(f"{mean:.3f}" for mean in values.mean(axis=0))
            print(f"{subject}, timestep {timestep}, {name}: PixCorr, SSIM, two-way, CLIP {means}", flush=True)
            if settings == experiment.sampler and name != "restored":
                found["ceiling_pixcorr" if name == "true" else "stage1_pixcorr"] = round(float(values[:, 0].mean()), 4)
    return {
        "c_r": round(r_by_image(config, subject, "semantic", decoded[1][:, 1:], c[:, 1:]), 4),
        "z_r": round(r_by_image(config, subject, "detail", decoded[0], z), 4),
        "chosen_timestep": max(by_level["as decoded"], key=lambda t: by_level["as decoded"][t]),
        "chosen_timestep_restored": max(by_level["restored"], key=lambda t: by_level["restored"][t]),
        **found,
    }


def read(config: Config, subject: str, of) -> tuple[torch.Tensor, torch.Tensor]:
    """Read decoded z and c."""
    with open_made(of(config, subject, "detail")) as detail, open_made(of(config, subject, "semantic")) as semantic:
        return torch.from_numpy(detail["z"][:]), torch.from_numpy(semantic["c"][:])


def r_by_image(config: Config, subject: str, family: str, decoded: torch.Tensor, true: torch.Tensor) -> float:
    """Correlate decoded with true targets across standardised units, and take the mean over images."""
    with open_made(recipes.decoder(config, subject, family)) as file:
        scaler = Scaler(file["mean"][:], file["std"][:])
    rows = [scaler.apply(part.numpy().reshape(len(part), -1)) for part in (decoded, true)]
    return float(np.mean(correlate_pairs(*rows)))


if __name__ == "__main__":
    main()
