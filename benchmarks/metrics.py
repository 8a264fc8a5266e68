"""Speed and memory of scoring, beside the loops that the field's scripts share.

    python benchmarks/metrics.py             # with layers of the miniature's CLIP as networks, as `make demo` scores
    python benchmarks/metrics.py --networks  # with AlexNet, Inception-v3, EfficientNet-B1 and SwAV, random weights

Stimuli of 425 pixels and PNG files of 512 pixels of some systems are made at random. The peer does as Brain-Diffuser's
and MindEye's scripts do: image by image PNG, resizing, np.corrcoef and scikit-image's SSIM (by columns, and in two
dimensions), features in batches of 64 (MindEye's of the stimuli again for every system), two-way identification by one
np.corrcoef of all stimuli and reconstructions, distances image by image. Ours computes the same and more: all that
evaluation/41_score.py writes. Printed are

    speedup_vs_peer_loop  seconds of the peer over ours, all systems, models opened already
    peak_memory_mb        of a process that scores one system of 982 images (`ru_maxrss`)

The last line is JSON. Peak memory is measured with the networks in either case: their features are what takes it.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.spatial.distance import correlation
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from torchvision import models
from torchvision.transforms import functional as transforms

from evaluation.metrics import dialects
from evaluation.metrics import scorer as scoring
from minddiffuser.config import REPOSITORY, Config, load
from minddiffuser.pretrained.scoring import scoring_weights
from minddiffuser.recipe import Recipe
from reconstruction import folder

MINIATURE = REPOSITORY / "configs" / "miniature.yaml"
CPU = torch.device("cpu")
N_MEMORY = 982


def main() -> None:
    """Measure, and print one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=96, help="test images of the timing (default: 96)")
    parser.add_argument("--systems", type=int, default=3, help="systems of the timing (default: 3)")
    parser.add_argument("--networks", action="store_true", help="time with the networks, not with layers of CLIP")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} CPU threads, {vars(args)}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        hub = Path(temporary) / "hub"
        write_random_networks(hub)
        config = open_config(hub if args.networks else Path(temporary), args.networks)
        stimuli, paths = make_pictures(Path(temporary), args.images, args.systems)
        scorer = scoring.Scorer(config, stimuli[:2], CPU)  # opens the models
        began = time.perf_counter()
        theirs = peer(scorer, stimuli, paths)
        seconds_peer = time.perf_counter() - began
        began = time.perf_counter()
        scorer.see(stimuli)
        ours = [score_folder(scorer, path) for path in paths]
        seconds = time.perf_counter() - began
        n = args.images * args.systems
        print(
            f"peer loop {seconds_peer:.1f} s, {n / seconds_peer:.1f} images/s; ours {seconds:.1f} s, {n / seconds:.1f}"
        )
        for name, value in theirs.items():
            print(f"  {name:<40} peer {value:.5f}  ours {np.mean([scores[name].mean() for scores in ours]):.5f}")

        with multiprocessing.get_context("spawn").Pool(1) as pool:
            before, peak = pool.apply(measure_memory, (temporary, str(hub)))
    print(f"memory: {peak:.0f} MB at {N_MEMORY} images with the networks, {before:.0f} MB before the stimuli are seen")
    print(json.dumps({"speedup_vs_peer_loop": round(seconds_peer / seconds, 2), "peak_memory_mb": round(peak)}))


def open_config(hub: Path, networks: bool) -> Config:
    """Take the miniature's models, and pictures of NSD's size."""
    chosen = "imagenet" if networks else "scoring_clip"
    overrides = [f"experiment.evaluation.networks={chosen}", "experiment.evaluation.image_size=425"]
    return load(MINIATURE, [*overrides, f"execution.torch_hub={hub}"])


def write_random_networks(hub: Path) -> None:
    """Write weight files of the right shapes."""
    torch.manual_seed(0)
    paths = scoring_weights(hub)
    paths["alexnet"].parent.mkdir(parents=True)
    made = {
        "alexnet": models.alexnet(),
        "inception_v3": models.inception_v3(init_weights=False),
        "efficientnet_b1_v1": models.efficientnet_b1(),
        "efficientnet_b1_v2": models.efficientnet_b1(),
        "swav_resnet50": models.resnet50(),
    }
    for name, model in made.items():
        torch.save(model.state_dict(), paths[name])


def make_pictures(root: Path, n_images: int, n_systems: int) -> tuple[np.ndarray, list[Path]]:
    """Make smooth random stimuli, and folders of noisy copies."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (n_images, 14, 14, 3), dtype=np.uint8)
    stimuli = np.stack([np.asarray(Image.fromarray(image).resize((425, 425))) for image in small])
    paths = []
    for system in range(n_systems):
        recipe = Recipe(root, f"system{n_images}_{system}", "subj01", "benchmarks/metrics.py", {})
        paths.append(recipe.path)
        output = folder.ReconstructionFolder(recipe, n_images)
        for i, image in enumerate(stimuli):
            noise = rng.normal(0, 40, (32, 32, 3)).repeat(16, axis=0).repeat(16, axis=1)
            picture = np.asarray(Image.fromarray(image).resize((512, 512))) + noise
            output.save([i], picture.clip(0, 255).astype(np.uint8)[None], seed=0)
        output.write_index()
    return stimuli, paths


def score_folder(scorer: scoring.Scorer, path: Path) -> dict[str, np.ndarray]:
    """Score a folder as evaluation/41_score.py does."""
    ids, images = folder.read(path)
    return scorer.score(ids, images)


def peer(scorer: scoring.Scorer, stimuli: np.ndarray, paths: list[Path]) -> dict[str, float]:
    """Mean scores over systems, by image loops."""
    totals: dict[str, list[float]] = {}
    brain_diffuser, mindeye = scorer.dialects
    seen = dialects.features(brain_diffuser, scorer.networks, stimuli, CPU, 64)  # once, as they store them
    for path in paths:
        files = sorted(path.glob("*.png"))
        images = np.stack([np.asarray(Image.open(file)) for file in files])
        made = dialects.features(brain_diffuser, scorer.networks, images, CPU, 64)
        found = {"pixcorr": [], "ssim_columns": []}
        for stimulus, file in zip(stimuli, files, strict=True):
            a, b = stimulus / 255.0, np.asarray(Image.open(file).resize((425, 425))) / 255.0
            found["pixcorr"].append(np.corrcoef(a.reshape(1, -1), b.reshape(1, -1))[0, 1])
            found["ssim_columns"].append(ssim(rgb2gray(b), rgb2gray(a), channel_axis=-1))
        collect(totals, brain_diffuser, found, seen, made)

        pair = [torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (stimuli, images)]
        pair = [
            transforms.resize(transforms.resize(x, [256, 256], antialias=False), [425, 425], antialias=False)
            for x in pair
        ]
        a, b = pair
        found = {
            "pixcorr": [np.corrcoef(x, y)[0][1] for x, y in zip(a.flatten(1), b.flatten(1), strict=True)],
            "ssim": [
                ssim(rgb2gray(y.permute(1, 2, 0).numpy()), rgb2gray(x.permute(1, 2, 0).numpy()))
                for x, y in zip(a, b, strict=True)
            ],
        }
        features = [dialects.features(mindeye, scorer.networks, x, CPU, 64) for x in (stimuli, images)]
        collect(totals, mindeye, found, *features)
    return {name: float(np.mean(values)) for name, values in totals.items()}


def ssim(a: np.ndarray, b: np.ndarray, **options: Any) -> float:
    """Call scikit-image as the field does."""
    return structural_similarity(  # type: ignore[return-value]
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, **options
    )


def collect(totals: dict, dialect: dialects.Dialect, found: dict, seen: dict, made: dict) -> None:
    """Add the means of a system, with identification and distances as the field's scripts compute them."""
    for name in dialect.layers:
        a, b = seen[name], made[name]
        if name.startswith(("efficientnet", "swav")):
            found[name] = [correlation(x, y) for x, y in zip(a, b, strict=True)]
        else:
            r = np.corrcoef(a, b)[: len(a), len(a) :]
            found[name] = (r < np.diag(r)).sum(axis=0) / (len(a) - 1)
    for name, values in found.items():
        totals.setdefault(f"{dialect.name}/{name}", []).append(float(np.mean(values)))


def measure_memory(temporary: str, hub: str) -> tuple[float, float]:
    """Peak memory of this process in MB, before the images and after they are scored."""
    stimuli, (path,) = make_pictures(Path(temporary), N_MEMORY, 1)
    scorer = scoring.Scorer(open_config(Path(hub), networks=True), stimuli[:2], CPU)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    scorer.see(stimuli)
    score_folder(scorer, path)
    return before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
