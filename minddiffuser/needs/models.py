"""The device and Stable Diffusion, which most rooms need."""

from typing import Any

import torch

from minddiffuser.cli import Run
from minddiffuser.config import Config
from minddiffuser.needs import speed
from minddiffuser.needs.findings import Findings
from minddiffuser.needs.rows import Means, Models
from minddiffuser.needs.speed import name_of, weight_bytes
from minddiffuser.pretrained.stable_diffusion import open_scheduler, open_text_encoder, open_unet, open_vae
from minddiffuser.store import DataError

V1_4 = Models(4, 768, 77, 3.44e9, 3.35e8, 4.92e8)  # sizes of Stable Diffusion v1-4, in float32


def device_of(findings: Findings) -> torch.device | None:
    """Give the device that was asked for, where it is there."""
    return findings.check("device", check_device, findings.run)


def stable_diffusion(findings: Findings) -> dict[str, Any] | None:
    """Give Stable Diffusion's parts, on the CPU: "unet", "vae", "tokenizer" and "text_encoder"."""
    return findings.check("Stable Diffusion", open_stable_diffusion, findings.run.config)


def means(findings: Findings) -> Means:
    """Give Stable Diffusion's sizes and the machine's speed with it; without what is of a room's own models.

    What could not be found out is assumed: the sizes are those of version 1-4, and the speed is NaN.
    """
    config, device, parts = findings.run.config, device_of(findings), stable_diffusion(findings)
    models = sizes_of(parts) if parts else findings.assume("size of Stable Diffusion", V1_4, "version 1-4")
    found = findings.check("speed", speed.measure_speed, config, device, parts, models)
    if found is None:
        found = findings.assume("speed", speed.not_measured(config, models), "memory and disk alone; no times")
    return Means(config, models, found, torch.get_num_threads())


def check_device(run: Run) -> tuple[torch.device, str]:
    """Check that the device is there."""
    device = run.device
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return device, f"{name_of(device)}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free, torch {torch.__version__}"
    return device, f"{name_of(device)}, torch {torch.__version__}"


def open_stable_diffusion(config: Config) -> tuple[dict[str, Any], str]:
    """Open every part of Stable Diffusion."""
    experiment, cpu = config.experiment, torch.device("cpu")
    source = (experiment.models.stable_diffusion, experiment.models.stable_diffusion_revision)
    parts: dict[str, Any] = {"unet": open_unet(*source, cpu), "vae": open_vae(*source, cpu)}
    parts["tokenizer"], parts["text_encoder"] = open_text_encoder(*source, cpu)
    open_scheduler(*source).set_timesteps(experiment.sampler.n_steps)
    width = parts["text_encoder"].config.hidden_size
    if parts["unet"].config.cross_attention_dim != width:
        raise DataError(
            f"{source[0]}: the U-Net expects text of another width than {width}: parts of two models; get both again"
        )
    n = sum(p.numel() for name in ("unet", "vae", "text_encoder") for p in parts[name].parameters())
    return parts, f"{source[0]}, {n / 1e6:,.1f} million weights"


def sizes_of(parts: dict[str, Any]) -> Models:
    """Count what rows need to know of Stable Diffusion."""
    unet, text = parts["unet"].config, parts["text_encoder"].config
    weights = [weight_bytes(parts[name]) for name in ("unet", "vae", "text_encoder")]
    return Models(unet.in_channels, unet.cross_attention_dim, text.max_position_embeddings, *weights)
