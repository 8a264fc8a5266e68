"""Train the miniature's IC-GAN and the network whose features condition it; `miniature/train.py` calls these.

IC-GAN (Casanova et al. 2021, arXiv 2109.05070): the generator is given the features of a picture, and has to make
pictures that cannot be told from that picture's nearest neighbours in those features.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file
from torch.nn import functional

from minddiffuser.progress import progress
from miniature import networks

SIZE = 32  # pixels, of generated pictures and of what the encoder sees
_BATCH, _N_NEIGHBOURS = 64, 10


def small_pictures(images: torch.Tensor) -> torch.Tensor:
    """uint8 (n, 64, 64, 3) to [0, 1] (n, 3, 32, 32)."""
    return functional.avg_pool2d(images.permute(0, 3, 1, 2).float() / 255, images.shape[1] // SIZE)


def two_views(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Two random crops of each picture, of 40 to 100 % of its sides, a little brighter or darker: (2 n, 3, 32, 32)."""
    n = 2 * len(pictures)
    scale = 0.4 + 0.6 * torch.rand(n, generator=generator)
    shift = (2 * torch.rand(n, 2, generator=generator) - 1) * (1 - scale)[:, None]
    transform = torch.zeros(n, 2, 3)
    transform[:, 0, 0] = transform[:, 1, 1] = scale
    transform[:, :, 2] = shift
    grid = functional.affine_grid(transform, [n, 3, SIZE, SIZE], align_corners=False)
    views = functional.grid_sample(pictures.repeat(2, 1, 1, 1), grid, align_corners=False, padding_mode="reflection")
    return (views * (0.8 + 0.4 * torch.rand(n, 1, 1, 1, generator=generator))).clamp(0, 1)


def contrast(a: torch.Tensor, b: torch.Tensor, temperature: float) -> torch.Tensor:
    """Two views of a picture should be more alike than views of two (InfoNCE, as in SimCLR): a scalar."""
    both = functional.normalize(torch.cat([a, b]), dim=1)
    logits = both @ both.T / temperature
    logits.fill_diagonal_(-torch.inf)
    n = len(a)
    return functional.cross_entropy(logits, torch.arange(2 * n).roll(n))


def instance_features(encoder: networks.ResNetModel, pictures: torch.Tensor) -> torch.Tensor:
    """Features of pictures in [0, 1] (n, 3, 32, 32), of length 1: (n, 128)."""
    return functional.normalize(encoder((pictures - 0.5) / 0.5).pooler_output.flatten(1), dim=1)


def train_generator(work: Path, encoder: networks.ResNetModel, images: torch.Tensor, n_steps: int, seed: int) -> None:
    """Hinge losses, and a term that what is generated has the features that were asked for.

    Checkpoints hold all that is needed to go on; the moving average of the generator's weights is what is stored.
    """
    torch.manual_seed(seed)
    generator, discriminator = networks.build_generator(), networks.Discriminator(n_features=128)
    average = networks.build_generator()
    average.load_state_dict(generator.state_dict())
    optimizers = {
        "generator": torch.optim.Adam(generator.parameters(), lr=3e-4, betas=(0.0, 0.99)),
        "discriminator": torch.optim.Adam(discriminator.parameters(), lr=6e-4, betas=(0.0, 0.99)),
    }
    parts = {"generator": generator, "discriminator": discriminator, "average": average}
    pictures = small_pictures(images)
    with torch.no_grad():
        features = torch.cat([instance_features(encoder, part) for part in pictures.split(500)])
        nearest = [(part @ features.T).topk(_N_NEIGHBOURS).indices for part in features.split(500)]
    neighbours = torch.cat(nearest)  # the first is the picture itself
    pictures = pictures * 2 - 1

    checkpoint, start, curve = work / "checkpoint.pt", 0, []
    work.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        start, curve = state["step"], state["curve"]
        for name, part in {**parts, **{f"{key}_optimizer": value for key, value in optimizers.items()}}.items():
            part.load_state_dict(state[name])
    began = time.monotonic()
    for step in progress(range(start, n_steps), initial=start, total=n_steps, desc="generator"):
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * min(1.0, 2 * (1 - step / n_steps))
        rows = torch.randint(len(pictures), (_BATCH,), generator=draw)
        which = torch.randint(_N_NEIGHBOURS, (_BATCH,), generator=draw)
        real, asked = pictures[neighbours[rows, which]], features[rows]
        made = generator(torch.randn(_BATCH, generator.n_noise, generator=draw), asked)

        score_real, score_made = discriminator(torch.cat([real, made.detach()]), asked.repeat(2, 1)).chunk(2)
        loss_discriminator = functional.relu(1 - score_real).mean() + functional.relu(1 + score_made).mean()
        optimizers["discriminator"].zero_grad()
        loss_discriminator.backward()
        optimizers["discriminator"].step()

        discriminator.requires_grad_(False)
        missed = 1 - (instance_features(encoder, made / 2 + 0.5) * asked).sum(dim=1).mean()
        loss_generator = 4 * missed - discriminator(made, asked).mean()
        optimizers["generator"].zero_grad()
        loss_generator.backward()
        optimizers["generator"].step()
        discriminator.requires_grad_(True)

        decay = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            for ours, value in zip(average.state_dict().values(), generator.state_dict().values(), strict=True):
                ours.lerp_(value, 1 - decay)
        if (step + 1) % 100 == 0 or step + 1 == n_steps:
            done = max(step + 1 - start, 1)
            losses = [loss_discriminator.item(), loss_generator.item(), missed.item()]
            curve.append([step + 1, *losses, (time.monotonic() - began) / done])
            state = {name: part.state_dict() for name, part in parts.items()}
            state |= {f"{name}_optimizer": optimizer.state_dict() for name, optimizer in optimizers.items()}
            torch.save({**state, "step": step + 1, "curve": curve}, checkpoint.with_suffix(".partial"))
            os.replace(checkpoint.with_suffix(".partial"), checkpoint)
            columns = ["step", "loss", "loss_generator", "missed", "seconds_per_step"]  # loss: the discriminator's
            pd.DataFrame(curve, columns=columns).to_csv(work / "curve.csv", index=False)
    folder = networks.WEIGHTS / "icgan"
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.half().contiguous() for key, value in average.state_dict().items()}
    save_file(weights, folder / "generator.safetensors")
