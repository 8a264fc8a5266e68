"""Choose the miniature's settings on validation images, which are training images; test images are not used.

    python benchmarks/choose_settings.py

The paper's settings are for 11,694 voxels, 8,859 images and Stable Diffusion. For the miniature this script holds out
the last 100 training images of subj01 (`experiment.data.validation_rows`), and goes through three grids, each with
the best of the one before:

    decoders   voxels per unit and ridge penalty, by the correlation of decoded with true targets in each image
    stage 1    steps and guidance scale for each noise level, by the mean of PixCorr and two-way identification
    stage 2    noise level, learning rate and choice of the result, by the mean of PixCorr and SSIM
    takagi     noise level and guidance scale of the rival's form "corrected", by the same mean as stage 1's

The sampler is the same in both stages, as in the paper, and it is the final picture, stage 2's, that decides the noise
level. Stage 1 alone may be better at another one; `docs/settings.csv` shows both.

It prints and writes `docs/settings.csv` (grid, settings, scores, chosen). About 15 minutes on two cores.
"""

import itertools
import subprocess
import sys

import numpy as np
import pandas as pd
import torch

from baselines.takagi.pictures import encode_again
from data.nsd import Stimuli
from evaluation.metrics import features
from evaluation.metrics.images import pixcorr, ssim
from feature_decoding.ridge import Gram, Scaler, fit, predict
from feature_extraction.clip_layers import ClipLayers
from minddiffuser.config import REPOSITORY, Config, load
from minddiffuser.config.method import Guidance, Sampler, layer_name
from minddiffuser.correlation import correlate, correlate_pairs
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.store import open_arrays, write_atomically
from reconstruction.folder import to_uint8
from reconstruction.guidance import Targets, refine
from reconstruction.sampler import ImageToImage, draw_noise, open_sampler

SUBJECT, N_VALIDATION, N_STAGE_1, N_STAGE_2, N_ITERATIONS = "subj01", 100, 64, 40, 40
OVERRIDES = ["name=miniature_validation", f"experiment.data.validation_rows={N_VALIDATION}"]
N_VOXELS, ALPHAS = (100, 200, 400, 1000, 6000), (0.15, 1000.0, 3000.0, 10000.0, 30000.0)  # 6000: all voxels
NOISE_INDICES, LEARNING_RATES = (2, 4, 6), (0.005, 0.01)
CPU = torch.device("cpu")


def main() -> None:
    """Go through the grids."""
    config = load(REPOSITORY / "configs" / "miniature.yaml", OVERRIDES)
    for script in ("data/02_prepare_subject", "feature_extraction/11_semantic", "feature_extraction/12_detail",
                   "feature_extraction/13_structural", "feature_decoding/21_select_units"):  # fmt: skip
        options = [word for override in OVERRIDES for word in ("--set", override)]
        subprocess.run([sys.executable, str(REPOSITORY / f"{script}.py"), "--subject", SUBJECT, *options], check=True)

    tried: list[dict] = []
    ids, decoded, units = choose_decoders(config, tried)
    stimuli = Stimuli(config.nsd).read(ids)
    scorer = open_clip_model(config.experiment.models.scoring_clip, None, CPU)
    stimulus_embeddings = features.clip_embeddings(scorer, stimuli, CPU, 50)

    def score(images: torch.Tensor) -> dict[str, float]:
        pictures, own = to_uint8(images), np.arange(len(images))
        embeddings = features.clip_embeddings(scorer, pictures, CPU, 50)
        return {
            "pixcorr": pixcorr(stimuli[own], pictures).mean(),
            "ssim": ssim(stimuli[own], pictures).mean(),
            "two_way": features.identification(correlate(embeddings, stimulus_embeddings), own, n_way=2).mean(),
        }

    samplers = choose_stage_1(config, ids, decoded, score, tried)
    choose_stage_2(config, ids, decoded, units, samplers, score, tried)
    choose_takagi(config, score, tried)
    table = pd.DataFrame(tried)
    write_atomically(REPOSITORY / "docs" / "settings.csv", table.to_csv(index=False, float_format="%.4f"))
    print(table.to_string())


def choose_decoders(config: Config, tried: list[dict]) -> tuple:
    """Grid over voxels per unit and penalty, for each target family; returns what the best decodes."""
    folder = config.folder(SUBJECT)
    with open_arrays(folder / "prepared.h5", "", SUBJECT) as prepared:
        betas, is_test, ids = prepared["betas"][:], prepared["is_test"][:], prepared["nsd_id"][:]
    scaler = Scaler.of(betas[~is_test])
    X, X_test = Gram(scaler.apply(betas[~is_test])), scaler.apply(betas[is_test])
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
    decoded = {}
    for name, (scale, Y, _) in standardised.items():
        best = max(N_VOXELS, key=lambda n, name=name: r[name, n, alpha])
        for n_voxels, a in itertools.product(N_VOXELS, ALPHAS):
            row = {"grid": f"decoder {name}", "settings": f"n_voxels {n_voxels}, alpha {a}", "r": r[name, n_voxels, a]}
            tried.append({**row, "chosen": (n_voxels, a) == (best, alpha)})
        print(f"{name}: alpha {alpha}, n_voxels {best}, r {r[name, best, alpha]:.3f}", flush=True)
        decoded[name] = scale.undo(predict(X_test, fit(X, Y, alpha, best))).astype(np.float32)
    tokens = decoded["semantic"].reshape(len(X_test), shapes["semantic"][0] - 1, -1)
    decoded["semantic"] = np.concatenate([first, tokens], axis=1).astype(np.float32)
    decoded["detail"] = decoded["detail"].reshape(len(X_test), *shapes["detail"])
    return ids[is_test], {k: torch.from_numpy(v) for k, v in decoded.items()}, units


def choose_stage_1(config: Config, ids: np.ndarray, decoded: dict, score, tried: list[dict]) -> list[ImageToImage]:
    """Grid over steps and guidance scale for each noise level; returns the best sampler of each level."""
    n, seed = N_STAGE_1, config.experiment.seed
    noise = draw_noise(decoded["detail"].shape[1:], seed, ids[:n], CPU)
    best = []
    for noise_index in NOISE_INDICES:
        results, samplers = [], []
        for mismatch, scale in itertools.product((0, 1), (2.0, 4.0, 8.0)):
            settings = Sampler(
                n_steps=20, noise_index=noise_index, denoise_steps=noise_index + 1 - mismatch, guidance_scale=scale
            )
            experiment = config.experiment.model_copy(update={"sampler": settings})
            sampler = open_sampler(config.model_copy(update={"experiment": experiment}), CPU)
            with torch.no_grad():
                scores = score(sampler(decoded["detail"][:n], decoded["semantic"][:n], noise))
            results.append({"grid": "stage 1", "settings": settings.model_dump_json(), **scores})
            samplers.append(sampler)
        best.append(samplers[mark_best(results, tried, "pixcorr", "two_way")])
    return best


def choose_stage_2(config: Config, ids, decoded, units, samplers: list[ImageToImage], score, tried) -> None:
    """Grid over noise level, learning rate and choice of the result; stage 1 on the same images for comparison."""
    n, experiment = N_STAGE_2, config.experiment
    clip = open_clip_model(experiment.models.clip, experiment.models.clip_weights, CPU)
    encoder = ClipLayers(clip, experiment.structural.layers, experiment.structural.normalisation, True)
    layers = {name: decoded[name][:n] for name in units}
    targets = Targets(layers, {name: torch.from_numpy(values) for name, values in units.items()})
    z, c = decoded["detail"][:n], decoded["semantic"][:n]
    results = []
    for (sampler, noise_index), rate in itertools.product(zip(samplers, NOISE_INDICES, strict=True), LEARNING_RATES):
        settings = Guidance(n_iterations=N_ITERATIONS, learning_rate=rate, save_every=1)
        pictures: dict[int, torch.Tensor] = {}
        result = refine(
            z,
            c,
            sampler,
            lambda x: encoder(x, "bicubic"),
            lambda k: draw_noise(z.shape[1:], experiment.seed, ids[:n], CPU, "fresh", k),
            targets,
            settings,
            keep=lambda k, images, _state, pictures=pictures: pictures.update({k: images}),
        )
        here = f"noise_index {noise_index}, learning_rate {rate}"
        for chosen, images in (("lowest_loss", result.images), ("last", pictures[N_ITERATIONS - 1])):
            text = f"{here}, result {chosen}, {N_ITERATIONS} iterations"
            stage1 = {f"stage1_{key}": value for key, value in score(pictures[0]).items()}
            results.append({"grid": "stage 2", "settings": text, **score(images), **stage1})
            print(results[-1], flush=True)
    mark_best(results, tried, "pixcorr", "ssim")


def choose_takagi(config: Config, score, tried: list[dict]) -> None:
    """Grid over noise level and guidance scale of Takagi & Nishimoto's method, one sample an image."""
    overrides = [*OVERRIDES, "experiment.takagi.forms=[corrected]"]
    options = [word for override in overrides for word in ("--set", override)]
    script = str(REPOSITORY / "baselines" / "takagi" / "35_decode_takagi.py")
    subprocess.run([sys.executable, script, "--subject", SUBJECT, *options], check=True)
    with open_arrays(config.folder(SUBJECT) / "takagi" / "decoded" / "corrected.h5", "", SUBJECT) as file:
        ids, z, c = (file[key][:N_STAGE_1] for key in ("nsd_id", "z", "c"))
    z, c = torch.from_numpy(z), torch.from_numpy(c)
    results = []
    for denoise_steps, scale in itertools.product((1, 2, 4, 6, 8), (2.0, 5.0)):
        settings = Sampler(n_steps=10, noise_index=denoise_steps - 1, denoise_steps=denoise_steps, guidance_scale=scale)
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
