"""What must be there to score pictures of any dataset, and how long a picture takes."""

import math
from typing import Any

import torch

from minddiffuser.config import Config
from minddiffuser.needs.findings import Findings
from minddiffuser.needs.models import device_of
from minddiffuser.needs.speed import ENOUGH, now, room_for, weight_bytes
from minddiffuser.pretrained.clip import open_clip_model
from minddiffuser.pretrained.scoring import feature_network, open_lpips, require_stand_ins, scoring_weights

SCORE_PICTURE = 5e8  # bytes of a picture in the networks that score, of 425 pixels, by count and by measurement


def networks(findings: Findings) -> None:
    """Open everything."""
    scoring_clip(findings)
    findings.check("networks that score", check_networks, findings.run.config)


def scoring_clip(findings: Findings) -> Any:
    """Give the CLIP that scores, on the CPU."""
    return findings.check("CLIP that scores", check_scoring_clip, findings.run.config)


def scoring(findings: Findings) -> tuple[float, float]:
    """Give the seconds a picture of the CLIP that scores (NaN if not timed), and the bytes of its weights."""
    config, clip, device = findings.run.config, scoring_clip(findings), device_of(findings)
    seconds = findings.check("speed of the CLIP that scores", time_clip, config, device, clip)
    size = weight_bytes(clip.model) if clip else findings.assume("size of the CLIP that scores", 1.7e9, "ViT-L/14")
    return seconds or math.nan, size


def check_scoring_clip(config: Config) -> tuple[Any, str]:
    """Open the CLIP that scores."""
    models = config.experiment.models
    clip = open_clip_model(models.scoring_clip, models.scoring_clip_weights, torch.device("cpu"))
    if config.experiment.evaluation.networks == "scoring_clip":
        require_stand_ins(clip)
    return clip, models.scoring_clip


def check_networks(config: Config) -> tuple[bool, str]:
    """Open the networks of other scores; name those that are absent, which does not stop a run."""
    hub, cpu = config.execution.torch_hub, torch.device("cpu")
    weights = scoring_weights(hub)
    used = list(weights) if config.experiment.evaluation.networks == "imagenet" else ["alexnet"]
    there = [name for name in used if weights[name].is_file()]
    for name in there:
        feature_network(name, hub, cpu)
    if "alexnet" in there:
        open_lpips(hub, cpu)
    absent = [weights[name].name for name in used if name not in there]
    folder, is_real = next(iter(weights.values())).parent, config.experiment.evaluation.networks == "imagenet"
    note = f"; metrics will be absent for want of {', '.join(absent)} in {folder}" if absent else ""
    note += " (`make models` downloads them)" if absent and is_real else ""
    return True, f"{', '.join(there) or 'none'}{note}"


def time_clip(config: Config, device: torch.device, clip: Any) -> tuple[float, str]:
    """Time a picture of the CLIP that scores; the least of up to three times."""
    n, size, times = config.execution.batch_size.score, clip.model.visual.image_size, []
    try:
        with room_for("score", config, device), torch.no_grad():
            pixels = torch.rand(n, 3, *(size if isinstance(size, tuple) else (size, size)), device=device)
            clip.model.to(device)
            while len(times) < 3 and sum(times) < ENOUGH:
                began = now(device)
                clip.model.encode_image(pixels)
                times.append(now(device) - began)
    finally:
        clip.model.to("cpu")
    return min(times) / n, f"{min(times) / n:.3g} s a picture"
