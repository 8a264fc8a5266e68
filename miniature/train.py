"""Train the miniature's models; the weights in this repository are what these commands made.

    python miniature/train.py vae
    python miniature/train.py clip
    python miniature/train.py scoring_clip
    python miniature/train.py diffusion        # needs the VAE; trains the text encoder with the U-Net
    python miniature/train.py instance_encoder
    python miniature/train.py generator        # needs the instance encoder
    python miniature/train.py vae --continued        # goes on from the stored weights, with a schedule of its own
    python miniature/train.py diffusion --continued
    python miniature/train.py diffusion --continued --steps 4900 --seed 20 --batch-size 256 --scenes 60000 --device cuda
    python miniature/train.py diffusion --continued --steps 1800 --seed 20 --batch-size 256 --scenes 60000 --device cuda

Reads nothing (the scenes are drawn from seeds that no NSD stimulus of the miniature uses); writes
`miniature/weights/` and, while it trains, `runs/training/<model>/`: a checkpoint every 100 steps, from
which a killed run goes on as if it had not been killed (removed when a continued training ends), and `curve.csv`.
"""

import minddiffuser.help  # noqa: F401  # answers --help before what takes seconds is imported

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from minddiffuser.arguments import plain_parser
from minddiffuser.progress import progress
from miniature import adversarial, networks
from miniature.scenes import captions, render, sample_scene

WORK = Path(__file__).parents[1] / "runs" / "training"
# Scenes of stimuli have seeds (0, ...); these are apart from them and from one another.
SCENE_SEEDS = {"guide": 1, "score": 2, "held_out": 3}


def draw_scenes(purpose: str, n_scenes: int) -> tuple[np.ndarray, list[list[str]]]:
    """Draw training or held-out scenes (kept on disk after the first time).

    Returns
    -------
    images : array of shape (n_scenes, 64, 64, 3), uint8
    texts : list of n_scenes lists of five captions
    """
    path = WORK / f"scenes_{purpose}_{n_scenes}.npz"
    if not path.exists():
        rng = np.random.default_rng(SCENE_SEEDS[purpose])
        images, texts = [], []
        for _ in progress(range(n_scenes), desc="drawing scenes"):
            scene = sample_scene(rng)
            images.append(render(scene)[0])
            texts.append(captions(scene, rng))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, images=np.stack(images), texts=np.array(texts))
        os.replace(partial, path)
    with np.load(path) as stored:
        return stored["images"], stored["texts"].tolist()


def optimise(
    name: str,
    model: nn.Module,
    loss_at: Callable[[torch.Generator], torch.Tensor],
    n_steps: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Train `model` by AdamW with a cosine schedule; leave the moving average of its weights in it.

    Every step has its own generator, from (seed, step), and the checkpoint holds all the rest of the state, so
    that a killed run ends with the same weights as an uninterrupted one.
    """
    checkpoint = WORK / name / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, fused=True)
    average = {key: value.detach().clone() for key, value in model.state_dict().items()}
    start, curve = 0, []
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=next(model.parameters()).device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, start, curve = state["average"], state["step"], state["curve"]
    began, losses = time.monotonic(), []
    model.train()
    for step in progress(range(start, n_steps), initial=start, total=n_steps, desc=name):
        rate = learning_rate * min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * step / n_steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_at(torch.Generator().manual_seed(seed * 1_000_003 + step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(0.998, (step + 1) / (step + 10))
        now = model.state_dict()
        floats = [key for key in now if now[key].is_floating_point()]
        torch._foreach_lerp_([average[key] for key in floats], [now[key] for key in floats], 1 - decay)
        for key in now.keys() - floats:
            average[key].copy_(now[key])
        losses.append(loss.detach())  # read below, a hundred at once: each reading would wait for a GPU
        if (step + 1) % 100 == 0 or step + 1 == n_steps:
            curve.append([step + 1, torch.stack(losses).mean().item(), (time.monotonic() - began) / len(losses)])
            began, losses = time.monotonic(), []
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
            torch.save({**state, "step": step + 1, "curve": curve}, checkpoint.with_suffix(".partial"))
            os.replace(checkpoint.with_suffix(".partial"), checkpoint)
            table = pd.DataFrame(curve, columns=["step", "loss", "seconds_per_step"])
            table.to_csv(checkpoint.with_name("curve.csv"), index=False)
    model.load_state_dict(average)
    model.eval()


def _forget(name: str) -> None:
    """Remove a finished continuation's checkpoint, from which the next would go on instead of from the weights."""
    (WORK / name / "checkpoint.pt").unlink()


def _pick(images: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, len(images), (n,), generator=generator)


def _pixels(images: torch.Tensor) -> torch.Tensor:
    """Scale uint8 (n, 64, 64, 3) to [-1, 1] (n, 3, 64, 64)."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(images: torch.Tensor, n_steps: int, seed: int, continued: bool) -> None:
    """Absolute error in pixels and in their differences (edges), a little Kullback-Leibler, and a linear preview.

    The preview is a learned 1x1 convolution from latents to the picture averaged over 8x8 pixels. In Stable
    Diffusion's latents such a map exists after training at scale; here a term of the loss sees to it.
    """
    torch.manual_seed(seed)
    vae: Any = networks.build_vae()  # diffusers' annotations do not say what encode and decode give
    preview = nn.Conv2d(vae.config.latent_channels, 3, kernel_size=1)
    if continued:
        stored = networks.AutoencoderKL.from_pretrained(networks.WEIGHTS / "stable-diffusion" / "vae")
        vae.load_state_dict(stored.state_dict())
        _fit_preview(preview, vae, images[:2000])

    def loss_at(generator: torch.Generator) -> torch.Tensor:
        x = _pixels(images[_pick(images, 16, generator)])
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
            y = vae.decode(latents).sample
            small = preview(latents)
        y, mean, logvar = y.float(), posterior.mean.float(), posterior.logvar.float()
        edges = sum((y.diff(dim=d) - x.diff(dim=d)).abs().mean() for d in (2, 3))
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        coarse = (small.float() - functional.avg_pool2d(x, 8)).square().mean()
        return (y - x).abs().mean() + 0.5 * edges + (y - x).square().mean() + coarse + 5e-3 * divergence

    model = nn.ModuleDict({"vae": vae, "preview": preview})
    name = "vae_continued" if continued else "vae"
    optimise(name, model, loss_at, n_steps, 1e-3 if continued else 1.5e-3, seed)
    with torch.no_grad():
        latents = torch.cat([vae.encode(_pixels(batch)).latent_dist.mean for batch in images[:2000].split(100)])
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    vae.half().save_pretrained(networks.WEIGHTS / "stable-diffusion" / "vae")
    if continued:
        _forget(name)


def _fit_preview(preview: nn.Conv2d, vae: Any, images: torch.Tensor) -> None:
    """Set the preview, which is not stored, to the least-squares map from latents to coarse pictures."""
    x = _pixels(images)
    with torch.no_grad():
        latents = torch.cat([vae.encode(batch).latent_dist.mean for batch in x.split(100)])
        inputs = torch.cat([latents, torch.ones_like(latents[:, :1])], dim=1).movedim(1, -1).flatten(end_dim=2)
        outputs = functional.avg_pool2d(x, 8).movedim(1, -1).flatten(end_dim=2)
        solution = torch.linalg.lstsq(inputs, outputs).solution.T  # (3, n_channels + 1)
        preview.weight.copy_(solution[:, :-1, None, None])
        preview.bias.copy_(solution[:, -1])  # type: ignore[union-attr]


def train_clip(images: torch.Tensor, texts: list[list[str]], n_steps: int, seed: int, scoring: bool) -> None:
    """Symmetric contrastive loss between pictures, slightly noisy, and one of their captions."""
    tokenizer = _tokenizer()
    ids = _tokenize(tokenizer, texts)
    torch.manual_seed(seed)
    clip = networks.build_clip(scoring, len(tokenizer))

    def loss_at(generator: torch.Generator) -> torch.Tensor:
        rows = _pick(images, 128, generator)
        which = torch.randint(0, ids.shape[1], (128,), generator=generator)
        x = _pixels(images[rows])
        x = x + 0.1 * torch.rand(1, generator=generator) * torch.randn(x.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            image_features = clip.encode_image(x, normalize=True).float()
            text_features = clip.encode_text(ids[rows, which], normalize=True).float()
        logits = clip.logit_scale.exp().clamp(max=100) * image_features @ text_features.T
        target = torch.arange(128)
        return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2

    name = "scoring_clip" if scoring else "clip"
    optimise(name, clip, loss_at, n_steps, 1e-3, seed)
    folder = networks.WEIGHTS / name
    folder.mkdir(parents=True, exist_ok=True)
    mean_std = {"mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"model_cfg": networks.clip_config(scoring, len(tokenizer)), "preprocess_cfg": mean_std}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = {key: value.half() if value.is_floating_point() else value for key, value in clip.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


def train_diffusion(
    images: torch.Tensor,
    texts: list[list[str]],
    n_steps: int,
    seed: int,
    continued: bool,
    device: torch.device,
    batch_size: int,
) -> None:
    """Predict the noise in the latents from the caption, which is left out one time in ten.

    Errors are weighted by min(SNR, 5) / SNR (Hang et al. 2023, arXiv 2303.09556, equation for noise prediction):
    pictures take shape at middle and high noise, and training time should go there.
    """
    from minddiffuser.pretrained.stable_diffusion import open_vae

    tokenizer = _tokenizer()
    ids = _tokenize(tokenizer, texts)
    empty = _tokenize(tokenizer, [[""]])[0]
    vae: Any = open_vae(str(networks.WEIGHTS / "stable-diffusion"), None, device)
    with torch.no_grad():
        parts = [
            vae.encode(_pixels(batch).to(device)).latent_dist.mean.cpu()
            for batch in progress(images.split(100), desc="encoding")
        ]
    latents = torch.cat(parts) * vae.config.scaling_factor
    scheduler = networks.build_scheduler()
    snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    weights = snr.clamp(max=5) / snr
    torch.manual_seed(seed)
    unet, text_encoder = networks.build_unet(), networks.build_text_encoder(tokenizer)
    if continued:
        stored = networks.WEIGHTS / "stable-diffusion"
        unet.load_state_dict(networks.UNet2DConditionModel.from_pretrained(stored / "unet").state_dict())
        text_encoder.load_state_dict(networks.CLIPTextModel.from_pretrained(stored / "text_encoder").state_dict())
    model = nn.ModuleDict({"unet": unet, "text": text_encoder}).to(device)

    def loss_at(generator: torch.Generator) -> torch.Tensor:
        rows = _pick(latents, batch_size, generator)
        which = torch.randint(0, ids.shape[1], (batch_size,), generator=generator)
        dropped = torch.rand(batch_size, generator=generator) < 0.1
        tokens = torch.where(dropped[:, None], empty, ids[rows, which])
        noise = torch.randn(latents[rows].shape, generator=generator)
        t = torch.randint(0, 1000, (batch_size,), generator=generator)
        noisy = scheduler.add_noise(latents[rows], noise, t)  # type: ignore[arg-type]
        noisy, noise, t, tokens, weight = (x.to(device) for x in (noisy, noise, t, tokens, weights[t]))
        predicted = unet(noisy, t, text_encoder(tokens).last_hidden_state).sample
        return (weight * (predicted - noise).square().mean(dim=(1, 2, 3))).mean()

    name = ("diffusion_cuda" if device.type == "cuda" else "diffusion_continued") if continued else "diffusion"
    optimise(name, model, loss_at, n_steps, 1e-3, seed)
    model.cpu()
    folder = networks.WEIGHTS / "stable-diffusion"
    unet.half().save_pretrained(folder / "unet")
    text_encoder.half().save_pretrained(folder / "text_encoder")
    scheduler.save_pretrained(folder / "scheduler")
    tokenizer.save_pretrained(folder / "tokenizer")
    if continued:
        _forget(name)


def train_instance_encoder(images: torch.Tensor, n_steps: int, seed: int) -> None:
    """Contrast of two random crops of the same picture; no label is used, as in SwAV."""
    torch.manual_seed(seed)
    encoder = networks.build_instance_encoder()
    head = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64))
    pictures = adversarial.small_pictures(images)

    def loss_at(generator: torch.Generator) -> torch.Tensor:
        views = adversarial.two_views(pictures[_pick(pictures, 256, generator)], generator)
        a, b = head(adversarial.instance_features(encoder, views)).chunk(2)
        return adversarial.contrast(a, b, temperature=0.2)

    optimise("instance_encoder", nn.ModuleDict({"encoder": encoder, "head": head}), loss_at, n_steps, 2e-3, seed)
    folder = networks.WEIGHTS / "instance_encoder"
    encoder.half().save_pretrained(folder)
    size = {"height": adversarial.SIZE, "width": adversarial.SIZE}
    processing = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": size}  # as instance_features has it
    (folder / "preprocessor_config.json").write_text(json.dumps(processing, indent=2) + "\n")


def _tokenizer() -> networks.CLIPTokenizer:
    rng = np.random.default_rng(SCENE_SEEDS["guide"])
    return networks.build_tokenizer([text for _ in range(3000) for text in captions(sample_scene(rng), rng)])


def _tokenize(tokenizer: networks.CLIPTokenizer, texts: list[list[str]]) -> torch.Tensor:
    """Token ids of shape (n_scenes, n_captions, 15)."""
    flat = [text for five in texts for text in five]
    ids = tokenizer(flat, padding="max_length", truncation=True, max_length=networks.MAX_LENGTH)["input_ids"]
    return torch.tensor(ids).reshape(len(texts), -1, networks.MAX_LENGTH)


STEPS = {
    "vae": 5000, "clip": 2000, "scoring_clip": 1500, "diffusion": 8500, "instance_encoder": 3000, "generator": 2000,
}  # fmt: skip
CONTINUED_STEPS = {"vae": 5000, "diffusion": 2500}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this program."""
    parser.add_argument("model", choices=list(STEPS))
    parser.add_argument("--steps", type=int, help=f"optimiser steps (default: {STEPS}; continued: {CONTINUED_STEPS})")
    parser.add_argument(
        "--continued", action="store_true", help=f"go on from the stored weights ({' and '.join(CONTINUED_STEPS)})"
    )
    parser.add_argument("--scenes", type=int, default=30_000, help="number of training scenes")
    of_diffusion = parser.add_argument_group("of diffusion alone")
    of_diffusion.add_argument("--seed", type=int, help="seed of the batches (default: 13; continued: 19)")
    of_diffusion.add_argument("--batch-size", type=int, help="captions and pictures a step (default: 64)")
    of_diffusion.add_argument("--device", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")


def main(argv: list[str] | None = None) -> None:
    """Train one model."""
    parser = plain_parser(__doc__)
    add_arguments(parser)
    args = parser.parse_args(argv)
    if args.continued and args.model not in CONTINUED_STEPS:
        parser.error(f"--continued is for {' and '.join(CONTINUED_STEPS)}")
    if args.model != "diffusion" and (args.seed, args.batch_size, args.device) != (None, None, None):
        parser.error("--seed, --batch-size and --device are of diffusion alone")
    torch.set_num_threads(args.threads)
    images, texts = draw_scenes("score" if args.model == "scoring_clip" else "guide", args.scenes)
    pictures = torch.from_numpy(images)
    n_steps = args.steps or (CONTINUED_STEPS if args.continued else STEPS)[args.model]
    if args.model == "vae":
        train_vae(pictures, n_steps, 18 if args.continued else 11, args.continued)
    elif args.model == "diffusion":
        default = 19 if args.continued else 13
        seed = default if args.seed is None else args.seed
        torch.set_float32_matmul_precision("high")  # TF32, on GPUs
        device = torch.device(args.device or "cpu")
        train_diffusion(pictures, texts, n_steps, seed, args.continued, device, args.batch_size or 64)
    elif args.model == "instance_encoder":
        train_instance_encoder(pictures, n_steps, seed=16)
    elif args.model == "generator":
        folder = networks.WEIGHTS / "instance_encoder"
        encoder = networks.ResNetModel.from_pretrained(folder).float().eval().requires_grad_(False)
        adversarial.train_generator(WORK / "generator", encoder, pictures, n_steps, seed=17)
    else:
        scoring = args.model == "scoring_clip"
        train_clip(pictures, texts, n_steps, seed=15 if scoring else 14, scoring=scoring)


if __name__ == "__main__":
    main()
