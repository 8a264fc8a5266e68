"""Count what each kind of work takes of a card's memory, by batch size and precision.

    python benchmarks/card_memory.py --table          # count, some minutes; writes minddiffuser/needs/card_memory.csv
    python benchmarks/card_memory.py --check          # the count beside what the miniature takes on this CPU
    python benchmarks/card_memory.py --device cuda    # the prediction beside what this card takes

Counted are the storages that are alive at the same time, weights with them, while the project's own functions run on
tensors without numbers (benchmarks/pretended_gpu.py), at the sizes of Stable Diffusion v1-4 at 512 pixels, CLIP
ViT-B/32, and IC-GAN at 256 pixels. A backward pass is counted on a CPU without numbers; in float16 norms and softmax
are float32, as on a card. The count does not see what libraries take for themselves, such as cuDNN's workspaces: the
ratio of what a card took to what was counted (minddiffuser/needs/card_measured.csv) corrects it, and
`minddiffuser/needs/card_memory.py` gives the product.
"""

import argparse
import csv
import gc
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch.nn import functional

from baselines.ozcelik.features import instance_features, invert
from benchmarks import pretended_gpu, stage2
from benchmarks.pretended_gpu import MODE, LiveMemory, without_numbers
from feature_extraction.clip_layers import ClipLayers
from feature_extraction.latents import encode
from minddiffuser.config import load
from minddiffuser.config.method import LAYERS, Guidance, Precision, Sampler
from minddiffuser.needs import card_memory
from minddiffuser.pretrained.checkpoint import STABLE_DIFFUSION_V1
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.pretrained.stable_diffusion import open_scheduler
from minddiffuser.store import write_atomically
from reconstruction.guidance import refine
from reconstruction.sampler import ImageToImage

SIZES = (1, 2, 4, 8, 16)
CPU = torch.device("cpu")
N_STEPS = 2  # denoising steps: with checkpoints more take no more
BY_PRECISION = ("stage 1", "stage 2")  # the rest is float32


class Job(NamedTuple):
    """One batch of a kind of work.

    Attributes
    ----------
    models : list of Module
        Which are on the device before.
    run : callable
    """

    models: list[torch.nn.Module]
    run: Callable[[], object]


def main() -> None:
    """Count, check or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--table", action="store_true", help="count, and write the table")
    what.add_argument(
        "--check", action="store_true", help="compare with the miniature on the CPU; exit code 1 above 10 %%"
    )
    what.add_argument("--device", help="measure on this device, such as cuda, what fits there")
    args = parser.parse_args()
    if args.table:
        write_atomically(card_memory.TABLE, as_csv(table()))
    elif args.check:
        for work in ("VAE encoding", "stage 1", "stage 2"):
            counted, measured = check(work)
            print(f"{work}: counted {counted / 2**20:.1f} MiB, measured {measured / 2**20:.1f} MiB", flush=True)
            if abs(counted / measured - 1) > 0.1:
                sys.exit("that is more than a tenth apart")
    else:
        measure(torch.device(args.device))


def table() -> Iterator[tuple[str, str, int, int]]:
    """Count every kind of work: its name, precision, batch size, and bytes."""
    for work in card_memory.WORKS:
        for precision in ("float32", "float16") if work in BY_PRECISION else ("float32",):
            for n in SIZES:
                weights, peak = count(work, n, precision)
                if n == SIZES[0]:
                    yield work, precision, 0, weights
                n_bytes = weights + peak
                print(f"{work:<20}{precision:<10}{n:>4}{n_bytes / 2**30:8.2f} GiB", flush=True)
                yield work, precision, n, n_bytes


def as_csv(rows: Iterator[tuple[str, str, int, int]]) -> str:
    """Lay out the table."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["work", "precision", "batch_size", "bytes"])
    writer.writerows(rows)
    return file.getvalue()


def count(work: str, n: int, precision: Precision) -> tuple[int, int]:
    """Count the bytes of the weights, and those of the peak of a batch of n pictures beyond them."""
    with without_numbers(), as_on_a_card():
        found = count_of(job(work, n, precision, CPU))
    gc.collect()
    return found


def count_of(made: Job) -> tuple[int, int]:
    """Count the bytes of weights, and the peak beyond them."""
    memory = LiveMemory()
    for model in made.models:
        for tensor in (*model.parameters(), *model.buffers()):
            memory.add(tensor)
    weights = memory.now
    with memory:
        made.run()
    return weights, memory.peak - weights


@contextmanager
def as_on_a_card() -> Iterator[None]:
    """Let a CPU's autocast keep in float32 what that of a card does: norms, softmax."""
    names = ("group_norm", "layer_norm", "softmax")
    before = {name: getattr(functional, name) for name in names}

    def in_float32(name: str) -> Callable[..., torch.Tensor]:
        def wide(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            return before[name](x.float() if torch.is_autocast_enabled("cpu") else x, *args, **kwargs)

        return wide

    with ExitStack() as stack:
        for name in names:
            stack.enter_context(patch.object(functional, name, in_float32(name)))
        yield


def job(work: str, n: int, precision: Precision, device: torch.device) -> Job:
    """Make the models of a kind of work, and a batch for them."""
    if work == "IC-GAN inversion":
        generator = pretended_gpu.generator("", device)
        encoder = pretended_gpu.instance_encoder("", None, device)
        pictures = torch.rand(n, 3, generator.size, generator.size, device=device)

        def inverted() -> object:
            with torch.no_grad():
                features = instance_features(encoder, pictures)
            return invert(generator, encoder, pictures, features, n_steps=2, learning_rate=0.1)

        return Job([generator, encoder.forward], inverted)  # type: ignore[list-item]
    if work == "CLIP":
        clip = pretended_gpu.clip("", None, device)
        return of_clip(clip, torch.rand(n, 3, 425, 425, device=device))
    vae = pretended_gpu.open_part("vae", device)
    if work == "VAE encoding":
        return of_vae(vae, torch.rand(n, 3, 512, 512, device=device))
    unet = pretended_gpu.open_part("unet", device)
    vae.enable_gradient_checkpointing()
    settings = Sampler(denoise_steps=N_STEPS, precision=precision)
    scheduler = open_scheduler(str(STABLE_DIFFUSION_V1), None)
    sampler = ImageToImage(
        unet, vae, scheduler, torch.randn(1, 15, 768, device=device), settings, checkpoint_steps=True
    )
    shapes = {"z": (4, 64, 64), "c": (15, 768)}
    if work == "stage 1":
        return of_stage1(sampler, n, shapes)
    return of_stage2(sampler, pretended_gpu.clip("", None, device), n, shapes)


def of_vae(vae: Any, pixels: torch.Tensor) -> Job:
    """Encode pictures."""
    return Job([vae], torch.no_grad()(lambda: encode(vae, pixels)))


def of_clip(clip: Any, pixels: torch.Tensor) -> Job:
    """Extract the layers of CLIP."""
    layers = ClipLayers(clip, LAYERS, "clip", True)
    return Job([clip.model], torch.no_grad()(lambda: layers(pixels, "bicubic")))


def of_stage1(sampler: ImageToImage, n: int, shapes: dict[str, tuple[int, ...]]) -> Job:
    """Sample pictures."""
    device = sampler.unconditional.device
    z, noise = (torch.randn(n, *shapes["z"], device=device) for _ in range(2))
    c = torch.randn(n, *shapes["c"], device=device)
    return Job([sampler.unet, sampler.vae], torch.no_grad()(lambda: sampler(z, c, noise)))


def of_stage2(sampler: ImageToImage, clip: Any, n: int, shapes: dict[str, tuple[int, ...]]) -> Job:
    """Make two iterations: in the second, Adam has its averages."""
    encoder = ClipLayers(clip, LAYERS, "clip", True)
    z, c, noise, targets = stage2.make_problem(encoder, shapes, n, sampler.unconditional.device)

    def run() -> object:
        extract, settings = (lambda x: encoder(x, "bicubic")), Guidance(n_iterations=2)
        return refine(z, c, sampler, extract, lambda _: noise, targets, settings, sampler.precision)

    return Job([sampler.unet, sampler.vae, clip.model], run)


def check(work: str) -> tuple[int, int]:
    """Count a batch of the miniature, and measure it on this CPU with torch's profiler: both in bytes."""
    sampler, _, shapes = stage2.open_models(False, CPU, "float32", N_STEPS)
    clip = open_clip_model(load(stage2.MINIATURE).experiment.models.clip, None, CPU)
    real = of_miniature(work, sampler, clip, shapes)
    measured = stage2.peak_memory(real.run, sampler, N_STEPS, CPU)  # type: ignore[arg-type]
    with without_numbers():
        for model in real.models:
            model._apply(MODE.from_tensor)
        sampler.unconditional = MODE.from_tensor(sampler.unconditional)
        _, counted = count_of(of_miniature(work, sampler, clip, shapes))
    return counted, measured


def of_miniature(work: str, sampler: ImageToImage, clip: Any, shapes: dict[str, tuple[int, ...]]) -> Job:
    """Make a batch of eight pictures for the miniature's models."""
    n = 8
    if work == "VAE encoding":
        return of_vae(sampler.vae, torch.rand(n, 3, 64, 64))
    return of_stage1(sampler, n, shapes) if work == "stage 1" else of_stage2(sampler, clip, n, shapes)


def measure(device: torch.device) -> None:
    """Print what each kind of work takes on a card, beside what was predicted, for all batches that should fit."""
    name, total = torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory
    print(f"torch {torch.__version__}, {name}\nwork,precision,batch_size,predicted,measured")
    for work in card_memory.WORKS:
        for precision in ("float32", "tf32", "float16") if work in BY_PRECISION else ("float32",):
            for n in SIZES:
                predicted = card_memory.predicted(work, precision, n)
                if predicted > card_memory.SHARE * total:
                    continue
                made = job(work, n, precision, device)
                torch.cuda.reset_peak_memory_stats(device)
                made.run()
                print(f"{work},{precision},{n},{predicted:.0f},{torch.cuda.max_memory_allocated(device)}", flush=True)
                del made
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
