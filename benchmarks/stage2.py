"""Time and memory of stage 2, beside the U-Net calls it cannot do without and the authors' way of running it.

    python benchmarks/stage2.py                      # the miniature's models, on the CPU
    python benchmarks/stage2.py --full --device cuda # Stable Diffusion v1-4's size at 512 px, random weights

Both use the paper's schedule (50 steps, the last 35 run). Printed are

    overhead_over_bare_unet  an iteration's time over that of its U-Net calls alone: each step forward, once more
                             forward for the backward pass, and backward to its inputs only; the rest is the
                             scheduler, the decoder, CLIP, and the optimiser
    memory_growth_per_step   growth of the peak memory of an iteration with each further denoising step, over the peak
                             of one step. On the CPU the peak is of torch's own allocations (its profiler)
    speedup_vs_as_released   seconds an image of one iteration as released (one image, float32, two U-Net calls a step,
                             gradients of all weights), over those of ours, in batches
    fraction_of_peak         with --full on a GPU: the share of the float16 matrix rate, measured here by a large
                             product, that the operations of an iteration, counted, reach
    speedup_at_equal_quality without --full: TFLOP of the paper's run over those of the cheapest second stage that is
                             not worse, by what benchmarks/frontier.py found (docs/frontier.csv)

It also prints seconds an image of ways that cost less (`guidance.method`, `gradient_steps`, `sampler.solver`), timed
once. Without --full it prints the operations that an image takes at Stable Diffusion's size, counted and not timed. The
last line is JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from feature_extraction.clip_layers import ClipLayers
from feature_extraction.latents import decode
from minddiffuser.config import REPOSITORY, load
from minddiffuser.config.method import LAYERS, Guidance, Sampler, layer_name
from minddiffuser.precision import autocast, products
from minddiffuser.pretrained.clip import open_clip_model, random_clip
from minddiffuser.pretrained.stable_diffusion import random_stable_diffusion
from reconstruction.guidance import Targets, feature_loss, refine, refine_before, steer
from reconstruction.sampler import ImageToImage, open_sampler

FRONTIER = REPOSITORY / "docs" / "frontier.csv"
MINIATURE = REPOSITORY / "configs" / "miniature.yaml"


def main() -> None:
    """Measure, and print one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="Stable Diffusion v1-4's size, with random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=8, help="images of ours in one batch (default: 8)")
    parser.add_argument("--precision", default="float32", choices=["float32", "tf32", "float16"])
    parser.add_argument("--compile", action="store_true", help="compile the U-Net")
    parser.add_argument("--steps", type=int, default=35, help="denoising steps (default: the paper's 35)")
    args = parser.parse_args()
    if args.full and args.compile:
        parser.error("--full and --compile exclude each other: the comparison needs a U-Net that is not compiled")
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, {name}, {vars(args)}", flush=True)

    sampler, encoder, shapes = open_models(args.full, device, args.precision, args.steps)
    if args.compile:
        sampler.unet.compile()
    problem = make_problem(encoder, shapes, args.batch_size, device)
    ours = Iteration(sampler, encoder, *problem)
    bare = BareUNet(sampler, args.batch_size, shapes)
    ours_seconds, bare_seconds = alternate([ours, bare], device, n_times=3 if args.full else 5)
    overhead = ours_seconds / bare_seconds
    print(f"ours: {ours_seconds:.3f} s an iteration of {args.batch_size} images; bare U-Net {bare_seconds:.3f} s")

    if not args.full:
        operations = count_operations()
        for name in ("nsd", "nsd_fast", "nsd_restored"):
            experiment = load(REPOSITORY / "configs" / f"{name}.yaml").experiment
            calls, stage2 = operations.stage2(experiment.guidance, experiment.sampler)
            stage1 = operations.stage1(experiment.sampler.solver_steps or experiment.sampler.denoise_steps)
            text = (
                f"by count, {name}.yaml: stage 1 {stage1:.1f} TFLOP an image; stage 2 {calls:,.0f} guided U-Net calls "
                f"and {stage2 / 1e3:.2f} PFLOP an image, {982 * stage2 / 1e6:.2f} EFLOP for 982"
            )
            if experiment.decoding.restore_variance == "train":
                k, n = experiment.restored.guidance.n_iterations, experiment.restored.guidance.n_images or 982
                text += f"; the best of {k} noises of {n} restored images {n * k * stage1 / 1e6:.2f} EFLOP"
            print(text, flush=True)

    counts = (1, 6, 11) if device.type == "cpu" else (1, 18, 35)
    peaks = [peak_memory(ours, sampler, n, device) for n in counts]
    for n, peak in zip(counts, peaks, strict=True):
        print(f"peak memory with {n} denoising steps: {peak / 2**20:.1f} MiB", flush=True)
    growth = (peaks[-1] - peaks[0]) / (counts[-1] - counts[0]) / peaks[0]
    result: dict[str, float | None] = {
        "overhead_over_bare_unet": round(overhead, 3),
        "memory_growth_per_step": round(growth, 5),
    }

    for name, seconds in other_ways(sampler, encoder, problem, device).items():
        print(f"{name}: {seconds:.2f} s an image, {86400 / seconds:,.0f} images a day", flush=True)
    per_image = ours_seconds / args.batch_size
    if args.full and device.type == "cuda":
        one = Guidance(n_iterations=1), Sampler(denoise_steps=args.steps)
        rate = args.batch_size * count_operations().stage2(*one)[1] / ours_seconds
        limit = matrix_rate(device) / 1e12
        print(f"{rate:.0f} of {limit:.0f} TFLOP/s")
        result["fraction_of_peak"] = round(rate / limit, 3)
    released_sampler, _, _ = (sampler, None, None) if args.full else open_models(False, device, "float32", args.steps)
    released = AsReleased(released_sampler, encoder, *make_problem(encoder, shapes, 1, device))
    (released_seconds,) = alternate([released], device, n_times=3)
    result["speedup_vs_as_released"] = round(released_seconds / per_image, 2)
    print(f"as released: {released_seconds:.3f} s an iteration of one image; ours {per_image:.3f} s an image")
    days = per_image * 300 / 86400
    print(f"images a day at 300 iterations: {1 / days:.0f}", flush=True)
    if not args.full:
        result["speedup_at_equal_quality"] = speedup_at_equal_quality(pd.read_csv(FRONTIER))
    print(json.dumps(result))


def open_models(
    full: bool, device: torch.device, precision: str, n_denoise: int
) -> tuple[ImageToImage, ClipLayers, dict[str, tuple[int, ...]]]:
    """Open sampler and guiding CLIP, and the shapes of z and c: the miniature's, or full size with random weights."""
    settings = Sampler.model_validate({"denoise_steps": n_denoise, "precision": precision})
    if full:
        models = random_stable_diffusion(device)
        models["vae"].enable_gradient_checkpointing()
        sampler = ImageToImage(
            models["unet"], models["vae"], models["scheduler"], torch.randn(1, 15, 768, device=device), settings, True
        )
        clip = random_clip("ViT-B-32-quickgelu", device)
        shapes = {"z": (4, 64, 64), "c": (15, 768)}
    else:
        overrides = [f"experiment.sampler={settings.model_dump_json()}", "execution.checkpoint_steps=true"]
        config = load(MINIATURE, overrides)
        sampler = open_sampler(config, device)
        clip = open_clip_model(config.experiment.models.clip, None, device)
        shapes = {"z": (4, 8, 8), "c": tuple(sampler.unconditional.shape[1:])}
    return sampler, ClipLayers(clip, LAYERS, "clip", True), shapes


def make_problem(
    encoder: ClipLayers, shapes: dict[str, tuple[int, ...]], n: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Targets]:
    """Random z, c and noise of n images, and targets at a random quarter of each layer's units."""
    generator = torch.Generator().manual_seed(0)
    z, noise = (torch.randn(n, *shapes["z"], generator=generator).to(device) for _ in range(2))
    c = torch.randn(n, *shapes["c"], generator=generator).to(device)
    with torch.no_grad():
        layers = encoder(torch.rand(1, 3, 64, 64, device=device), "bicubic")
    values, units = {}, {}
    for name in map(layer_name, LAYERS):
        size = layers[name][0].numel()
        units[name] = torch.randperm(size, generator=generator)[: size // 4].sort().values.to(device)
        values[name] = torch.randn(n, size // 4, generator=generator).to(device)
    return z, c, noise, Targets(values, units)


@dataclass(frozen=True)
class Operations:
    """TFLOP of one picture at Stable Diffusion v1-4's size; multiplications and additions both count.

    Attributes
    ----------
    unet, decoder : float
        A guided call of the U-Net, and of the autoencoder's decoder.
    unet_back, decoder_back : float
        The same with its gradients, forward and backward.
    """

    unet: float
    unet_back: float
    decoder: float
    decoder_back: float

    def stage1(self, n_steps: int) -> float:
        """TFLOP of one pass of the sampler, and its picture."""
        return n_steps * self.unet + self.decoder

    def stage2(self, guidance: Guidance, sampler: Sampler, n_iterations: float | None = None) -> tuple[float, float]:
        """Count guided U-Net calls (forward, again, and back are one each) and TFLOP of one image.

        Where gradients pass several steps, each is computed anew on the way back, and so is the decoder.
        `n_iterations` is how many there are on average where images stop earlier.
        """
        n_iterations = n_iterations or guidance.n_iterations
        n_steps = sampler.solver_steps or sampler.denoise_steps
        picture = self.decoder + self.decoder_back
        if guidance.method == "in_sampler":
            n = n_steps * guidance.repeats
            return 2 * n, n * (self.unet_back + picture) + self.decoder
        if guidance.method == "before_sampler":
            return n_steps, n_iterations * picture + self.stage1(n_steps)
        n_back = min(guidance.gradient_steps or n_steps, n_steps)
        iteration = n_steps * self.unet + n_back * self.unet_back + picture
        return n_iterations * (n_steps + 2 * n_back), n_iterations * iteration


def count_operations() -> Operations:
    """Count operations on the meta device, where nothing is computed.

    On a GPU torch's counter undoes what checkpoints save, and the memory does not suffice.
    """
    models = random_stable_diffusion(torch.device("meta"))
    teraflops = {}
    for backward in (False, True):
        x, c = (torch.empty(shape, device="meta", requires_grad=backward) for shape in ((2, 4, 64, 64), (2, 15, 768)))
        z = torch.empty(1, 4, 64, 64, device="meta", requires_grad=backward)
        calls = {"unet": (models["unet"], x, 1, c), "decoder": (models["vae"].decode, z)}
        for name, (function, *arguments) in calls.items():
            with FlopCounterMode(display=False) as counter:
                out = function(*arguments).sample
                if backward:
                    out.sum().backward()
            teraflops[f"{name}_back" if backward else name] = counter.get_total_flops() / 1e12
    return Operations(**teraflops)


def speedup_at_equal_quality(rows: pd.DataFrame) -> float | None:
    """TFLOP of the paper's run over those of the cheapest second stage of equal quality; None if there is none.

    `rows` are those of benchmarks/frontier.py.
    """
    stage2 = rows[rows["kind"] == "stage 2"].set_index("way")
    equal = stage2[stage2["equal"]].drop(index="paper")
    return round(float(stage2.loc["paper", "tflop"] / equal["tflop"].min()), 1) if len(equal) else None


class Iteration:
    """One iteration of stage 2, as reconstruction/32_stage2.py makes it."""

    def __init__(self, sampler: ImageToImage, encoder: ClipLayers, z, c, noise, targets: Targets) -> None:
        self.scheduler: Any = sampler.scheduler  # diffusers' annotations are of its NumPy days
        self.sampler, self.arguments = sampler, (z, c)
        self.rest = (lambda x: encoder(x, "bicubic"), lambda _: noise, targets, Guidance(n_iterations=1))

    def __call__(self) -> None:
        """Run it."""
        refine(*self.arguments, self.sampler, *self.rest, precision=self.sampler.precision)


def other_ways(sampler: ImageToImage, encoder: ClipLayers, problem: Any, device: torch.device) -> dict[str, float]:
    """Time ways of stage 2 that cost less: seconds an image, of what they do as often as they do it."""
    z, c, noise, targets = problem
    n_iterations, n_steps = 20, 8
    settings = Sampler(solver="dpm_solver_pp_2m", solver_steps=n_steps, precision=sampler.precision)
    parts = sampler.unet, sampler.vae, sampler.scheduler, sampler.unconditional
    few = ImageToImage(*parts, settings, sampler.checkpoint_steps)

    def seconds(way: Callable[..., Any], of: ImageToImage, guidance: Guidance) -> float:
        given = (z, c, of, lambda x: encoder(x, "bicubic"), lambda _: noise, targets, guidance, of.precision)
        (taken,) = alternate([lambda: way(*given)], device, n_times=1)
        return taken / len(z)

    once, thrice = (seconds(refine_before, sampler, Guidance(method="before_sampler", n_iterations=n)) for n in (1, 3))
    one, in_sampler = Guidance(n_iterations=1), Guidance(method="in_sampler")
    last = Guidance(n_iterations=1, gradient_steps=1)
    return {
        f"{n_iterations} iterations": n_iterations * seconds(refine, sampler, one),
        f"{n_iterations} iterations, gradient of 1 step": n_iterations * seconds(refine, sampler, last),
        f"{n_iterations} iterations, {n_steps} steps of DPM-Solver++": n_iterations * seconds(refine, few, one),
        "in the sampler": seconds(steer, sampler, in_sampler),
        f"in the sampler, {n_steps} steps of DPM-Solver++": seconds(steer, few, in_sampler),
        f"before the sampler, {n_iterations} iterations": once + (n_iterations - 1) * (thrice - once) / 2,
    }


class BareUNet:
    """The U-Net calls of one iteration, and nothing else."""

    def __init__(self, sampler: ImageToImage, n: int, shapes: dict[str, tuple[int, ...]]) -> None:
        device = sampler.unconditional.device
        self.sampler = sampler
        self.x, self.both = (
            torch.randn(2 * n, *shapes["z"], device=device),
            torch.randn(2 * n, *shapes["c"], device=device),
        )

    def __call__(self) -> None:
        """Run them."""
        x, both = self.x.requires_grad_(), self.both.requires_grad_()
        unet, precision, device = self.sampler.unet, self.sampler.precision, x.device
        with products(precision):
            for t in self.sampler.timesteps:
                with torch.no_grad(), autocast(precision, device):
                    unet(x, t, both)
            for t in self.sampler.timesteps:
                with autocast(precision, device):
                    out = unet(x, t, both).sample
                torch.autograd.grad(out, (x, both), torch.ones_like(out))


class AsReleased:
    """One iteration of one image the released way: two U-Net calls a step, and gradients of every weight."""

    def __init__(self, sampler: ImageToImage, encoder: ClipLayers, z, c, noise, targets: Targets) -> None:
        self.scheduler: Any = sampler.scheduler  # diffusers' annotations are of its NumPy days
        self.sampler, self.encoder, self.problem = sampler, encoder, (z, c, noise, targets)
        for model in (sampler.unet, sampler.vae, encoder.visual):
            model.requires_grad_(True)

    def step(self, x: torch.Tensor, c: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """One denoising step."""
        s = self.sampler
        without, with_text = s.unet(x, t, s.unconditional).sample, s.unet(x, t, c).sample
        return self.scheduler.step(without + s.guidance_scale * (with_text - without), t, x, eta=0.0).prev_sample

    def __call__(self) -> None:
        """Run it."""
        z, c, noise, targets = self.problem
        z, c = z.clone().requires_grad_(), c.clone().requires_grad_()
        x = self.scheduler.add_noise(z, noise, self.sampler.noise_timestep.expand(1))
        for t in self.sampler.timesteps:
            x = checkpoint(self.step, x, c, t, use_reentrant=False)
        loss = feature_loss(self.encoder(decode(self.sampler.vae, x), "bicubic"), targets, Guidance()).sum()
        loss.backward()
        for model in (self.sampler.unet, self.sampler.vae, self.encoder.visual):
            model.zero_grad()


def alternate(functions: list[Callable[[], None]], device: torch.device, n_times: int) -> list[float]:
    """Median seconds of each, called in turn, after one call that is not timed."""
    seconds: list[list[float]] = [[] for _ in functions]
    for k in range(n_times + 1):
        for function, times in zip(functions, seconds, strict=True):
            synchronise(device)
            began = time.perf_counter()
            function()
            synchronise(device)
            if k:
                times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in seconds]


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, if there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(function: Callable[[], None], sampler: ImageToImage, n_steps: int, device: torch.device) -> int:
    """Peak of torch's allocations in bytes, with the last n steps only (on the CPU beyond what was there before)."""
    every, sampler.timesteps = sampler.timesteps, sampler.timesteps[-n_steps:]
    try:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            function()
            return torch.cuda.max_memory_allocated(device)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            function()
    finally:
        sampler.timesteps = every
    now = peak = 0
    inner: Any = profiler.profiler
    for event in sorted(inner.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def matrix_rate(device: torch.device, n: int = 8192) -> float:
    """Operations a second of a large product in float16."""
    a = torch.randn(n, n, device=device, dtype=torch.float16)
    (seconds,) = alternate([lambda: [a @ a for _ in range(10)]], device, 3)  # type: ignore[list-item]
    return 10 * 2 * n**3 / seconds


if __name__ == "__main__":
    main()
