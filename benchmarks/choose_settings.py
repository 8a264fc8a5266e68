"""Choose the miniature's settings on validation images, which are training images; test images are not used.

    python benchmarks/choose_settings.py

The paper's settings are for 11,694 voxels, 8,859 images and Stable Diffusion. For the miniature this script holds out
the last 100 training images of subj01 (benchmarks/validation.py), and goes through grids, each with the best of the one
before:

    decoders   voxels per unit and ridge penalty, by the correlation of decoded with true targets in each image
    stage 1    noise level and guidance scale, by the sum of PixCorr and two-way identification, of what is decoded as
               published; all stages share the sampler
    restored   at that sampler, how much of the variance of z and c is restored, by the same sum
    stage 2    learning rate, noise and choice of the result of the released loss, by the sum of PixCorr and SSIM
    takagi     noise level and guidance scale of the rival's form "corrected", by the same sum as stage 1's

It prints and writes `docs/settings.csv` (grid, settings, scores, chosen). About 15 minutes on two cores. What a second
stage does beyond is benchmarks/second_stage.py's.
"""

import itertools

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import KFold
from validation import CPU, LEVELS, N_VALIDATION, TARGETS, Scores, prepare, sampler_of

from baselines.takagi.pictures import encode_again
from feature_decoding.ridge import Gram, Scaler, fit, predict
from feature_decoding.variance import restore_variance
from feature_extraction.clip_layers import ClipLayers
from minddiffuser.config import REPOSITORY, Config
from minddiffuser.config.method import Guidance, Sampler, layer_name
from minddiffuser.correlation import correlate_pairs
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.store import open_arrays, write_atomically
from reconstruction.guidance import Targets, refine
from reconstruction.sampler import draw_noise, open_sampler

SUBJECT, N_STAGE_1, N_STAGE_2 = "subj01", 100, 48
N_VOXELS, ALPHAS = (100, 200, 400, 1000, 6000), (0.15, 1000.0, 3000.0, 10000.0, 30000.0)  # 6000: all voxels
STRENGTHS = (0.0, 0.5, 1.0)


def main() -> None:
    """Go through the grids."""
    config = prepare([SUBJECT], TARGETS)
    tried: list[dict] = []
    ids, decoded, restored, units = choose_decoders(config, tried)
    scores = Scores(config, ids)

    def score(images: torch.Tensor) -> dict[str, float]:
        return dict(zip(("pixcorr", "ssim", "two_way"), scores.of(images).mean(axis=0).tolist(), strict=False))

    sampler = choose_stage_1(config, ids, decoded, score, tried)
    choose_strength(config, ids, decoded, restored, sampler, score, tried)
    choose_stage_2(config, ids, decoded, units, sampler, score, tried)
    choose_takagi(config, score, tried)
    table = pd.DataFrame(tried)
    write_atomically(REPOSITORY / "docs" / "settings.csv", table.to_csv(index=False, float_format="%.4f"))
    print(table.to_string())


def choose_decoders(config: Config, tried: list[dict]) -> tuple:
    """Grid over voxels per unit and penalty, for each target family; returns what the best decodes."""
    folder = config.folder(SUBJECT)
    with open_arrays(folder / "prepared.h5", "", SUBJECT) as prepared:
        betas, is_test, ids = prepared["betas"][:], prepared["is_test"][:], prepared["stimulus_id"][:]
    scaler = Scaler.of(betas[~is_test])
    voxels = scaler.apply(betas[~is_test])
    X, X_test = Gram(voxels), scaler.apply(betas[is_test])
    targets, shapes, units = {}, {}, {}
    with open_arrays(folder / "features" / "semantic.h5", "", SUBJECT) as file:
        c = file["c"][:]
    targets["semantic"], first = (
        c[:, 1:].reshape(len(c), -1),
        np.repeat(c[~is_test, :1].mean(axis=0)[None], N_VALIDATION, axis=0),
    )
    shapes["semantic"] = c.shape[1:]
    with open_arrays(folder / "features" / "detail.h5", "", SUBJECT) as file:
        targets["detail"], shapes["detail"] = file["z"][:].reshape(len(c), -1), file["z"].shape[1:]
    with (
        open_arrays(folder / "features" / "structural.h5", "", SUBJECT) as file,
        open_arrays(folder / "decoders" / "units.h5", "", SUBJECT) as selection,
    ):
        for name in map(layer_name, config.experiment.structural.layers):
            units[name] = selection[f"{name}_units"][:]
            targets[name] = file[name][:].reshape(len(c), -1)[:, units[name]]
    standardised = {}
    for name, values in targets.items():
        scale = Scaler.of(values[~is_test].astype(np.float64))
        standardised[name] = scale, scale.apply(values[~is_test]), scale.apply(values[is_test])
    r = {}
    for name, (_, Y, Y_test) in standardised.items():
        some = np.random.default_rng(0).permutation(Y.shape[1])[:100]
        for n_voxels, alpha in itertools.product(N_VOXELS, ALPHAS):
            predicted = predict(X_test, fit(X, Y[:, some], alpha, n_voxels))
            r[name, n_voxels, alpha] = correlate_pairs(predicted, Y_test[:, some]).mean()
    # One penalty for all targets, as in the paper; then the number of voxels of each.
    alpha = max(ALPHAS, key=lambda a: np.mean([max(r[name, n, a] for n in N_VOXELS) for name in targets]))
    decoded, restored = {}, {}
    for name, (scale, Y, _) in standardised.items():
        best = max(N_VOXELS, key=lambda n, name=name: r[name, n, alpha])
        for n_voxels, a in itertools.product(N_VOXELS, ALPHAS):
            row = {"grid": f"decoder {name}", "settings": f"n_voxels {n_voxels}, alpha {a}", "r": r[name, n_voxels, a]}
            tried.append({**row, "chosen": (n_voxels, a) == (best, alpha)})
        print(f"{name}: alpha {alpha}, n_voxels {best}, r {r[name, best, alpha]:.3f}", flush=True)
        predicted = predict(X_test, fit(X, Y, alpha, best))
        decoded[name] = scale.undo(predicted)
        if name in shapes:
            held_out = np.empty_like(Y)
            for train, test in KFold(5, shuffle=True, random_state=0).split(Y):
                held_out[test] = predict(voxels[test], fit(voxels[train], Y[train], alpha, best))
            ones = Scaler(np.zeros(Y.shape[1]), np.ones(Y.shape[1]))
            for strength in STRENGTHS:
                found = restore_variance(predicted, Scaler.of(held_out), ones, strength=strength)
                restored[name, strength] = scale.undo(found)

    def shaped(name: str, values: np.ndarray) -> torch.Tensor:
        if name == "semantic":
            tokens = values.reshape(len(X_test), shapes[name][0] - 1, -1)
            values = np.concatenate([first, tokens], axis=1)
        elif name == "detail":
            values = values.reshape(len(X_test), *shapes[name])
        return torch.from_numpy(values.astype(np.float32))

    return (
        ids[is_test],
        {name: shaped(name, values) for name, values in decoded.items()},
        {(name, strength): shaped(name, values) for (name, strength), values in restored.items()},
        units,
    )


def choose_stage_1(config: Config, ids: np.ndarray, decoded: dict, score, tried: list[dict]) -> Sampler:
    """Grid over noise levels and guidance scales; returns the best sampler."""
    n, seed = N_STAGE_1, config.experiment.seed
    noise = draw_noise(decoded["detail"].shape[1:], seed, ids[:n], CPU)

    def run(settings: Sampler) -> dict[str, float]:
        with torch.no_grad():
            return score(sampler_of(config, settings)(decoded["detail"][:n], decoded["semantic"][:n], noise))

    results, samplers = [], []
    for (timestep, steps), scale in itertools.product(LEVELS.items(), (1.0, 2.0, 4.0, 8.0)):
        samplers.append(Sampler(**steps, guidance_scale=scale))
        text = f"timestep {timestep}: {samplers[-1].model_dump_json()}"
        results.append({"grid": "stage 1", "settings": text, **run(samplers[-1])})
    best = samplers[mark_best(results, tried, "pixcorr", "two_way")]
    # For comparison, not for choice: with as many steps as the paper has, and as it has them.
    for denoise_steps in (38, 35):
        settings = Sampler(denoise_steps=denoise_steps, guidance_scale=best.guidance_scale)
        row = {"grid": "stage 1, the paper's steps", "settings": settings.model_dump_json(), **run(settings)}
        tried.append({**row, "chosen": False})
        print(row, flush=True)
    return best


def choose_strength(config: Config, ids, decoded, restored, settings: Sampler, score, tried: list[dict]) -> None:
    """How much of the variance of z and of c to restore; 0 is as decoded."""
    n, results = N_STAGE_1, []
    noise = draw_noise(decoded["detail"].shape[1:], config.experiment.seed, ids[:n], CPU)
    sampler = sampler_of(config, settings)
    for of_z, of_c in itertools.product(STRENGTHS, STRENGTHS):
        with torch.no_grad():
            scores = score(sampler(restored["detail", of_z][:n], restored["semantic", of_c][:n], noise))
        results.append({"grid": "restored", "settings": f"strength {of_z} of z, {of_c} of c", **scores})
    mark_best(results, tried, "pixcorr", "two_way")


def choose_stage_2(config: Config, ids, decoded, units, settings: Sampler, score, tried: list[dict]) -> None:
    """Grid over learning rate, noise and choice of the result; stage 1 on the same images for comparison."""
    n, experiment, sampler = N_STAGE_2, config.experiment, sampler_of(config, settings)
    clip = open_clip_model(experiment.models.clip, experiment.models.clip_weights, CPU)
    encoder = ClipLayers(clip, experiment.structural.layers, experiment.structural.normalisation, True)
    layers = {name: decoded[name][:n] for name in units}
    targets = Targets(layers, {name: torch.from_numpy(values) for name, values in units.items()})
    z, c = decoded["detail"][:n], decoded["semantic"][:n]
    results = []
    for rate, kind in itertools.product((0.01, 0.03, 0.1), ("fresh", "fixed")):
        guidance = Guidance(n_iterations=10, learning_rate=rate, schedule="cosine", noise=kind, save_every=1)
        pictures: dict[int, torch.Tensor] = {}
        result = refine(
            z,
            c,
            sampler,
            lambda x: encoder(x, "bicubic"),
            lambda k, kind=kind: draw_noise(z.shape[1:], experiment.seed, ids[:n], CPU, kind, k),
            targets,
            guidance,
            keep=lambda k, images, _state, pictures=pictures: pictures.update({k: images}),
        )
        for chosen, images in (("lowest_loss", result.images), ("last", pictures[guidance.n_iterations - 1])):
            text = f"10 iterations, cosine from {rate}, noise {kind}, result {chosen}"
            stage1 = {f"stage1_{key}": value for key, value in score(pictures[0]).items()}
            results.append({"grid": "stage 2", "settings": text, **score(images), **stage1})
            print(results[-1], flush=True)
    mark_best(results, tried, "pixcorr", "ssim")


def choose_takagi(config: Config, score, tried: list[dict]) -> None:
    """Grid over noise level and guidance scale of Takagi & Nishimoto's method, one sample an image."""
    prepare([SUBJECT], ["baselines/takagi/35_decode_takagi"], ["experiment.takagi.forms=[corrected]"])
    with open_arrays(config.folder(SUBJECT) / "takagi" / "decoded" / "corrected.h5", "", SUBJECT) as file:
        ids, z, c = (file[key][:N_STAGE_1] for key in ("stimulus_id", "z", "c"))
    z, c = torch.from_numpy(z), torch.from_numpy(c)
    results = []
    for denoise_steps, scale in itertools.product((1, 2, 3, 4), (2.0, 5.0)):  # timesteps 1, 201, 401 and 601
        settings = Sampler(n_steps=5, noise_index=denoise_steps - 1, denoise_steps=denoise_steps, guidance_scale=scale)
        sampler = open_sampler(config, CPU, settings, c.shape[1])
        with torch.no_grad():
            start = encode_again(sampler.vae, z, config.experiment.detail.image_size, "model")
            scores = score(sampler(start, c, draw_noise(start.shape[1:], config.experiment.seed, ids, CPU)))
        results.append({"grid": "takagi", "settings": settings.model_dump_json(), **scores})
    mark_best(results, tried, "pixcorr", "two_way")


def mark_best(results: list[dict], tried: list[dict], *by: str) -> int:
    """Note which row of a grid has the highest sum of scores, and print the grid."""
    best = int(np.argmax([sum(row[key] for key in by) for row in results]))
    tried.extend({**row, "chosen": k == best} for k, row in enumerate(results))
    print(pd.DataFrame(results).assign(chosen=[k == best for k in range(len(results))]).to_string(), flush=True)
    return best


if __name__ == "__main__":
    main()
