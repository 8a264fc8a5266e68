"""What the switches of Mind-Animator's sampler do to films, and what they cost: without decoding, on validation clips.

    python benchmarks/film_sampler.py [--n-clips 16] > docs/film_sampler.txt       # about four minutes on one core

Needs the miniature's films, and their targets by baselines/mind_animator/11_features.py. The true latents and c of
clips go through the sampler, so that what is lost is its own. Clips are spread over those of validation; no test clip
is used. In the table: the correlation of pixels with the true film's; the flow cosine; the speed as a share of the
true one; `still`, the same of films whose latents stand still; and the seconds of one core that a clip takes.

The last line is JSON: pixels, cosine, speed, still and seconds, by setting.
"""

import argparse
import json
import sys
import time

import numpy as np
import torch
from diffusers import AutoencoderKL

from baselines.mind_animator import recipes
from baselines.mind_animator.sampler import VideoSampler, clips_at_once, draw, draw_video_noise, open_video_sampler
from baselines.mind_animator.targets import frames_of
from data import cc2017
from evaluation.videos.motion import measure
from minddiffuser.config import REPOSITORY, Config, load
from minddiffuser.config.mind_animator import ANIMATOR_FORMS, Video
from minddiffuser.correlation import correlate_pairs
from minddiffuser.pretrained.stable_diffusion import open_vae
from minddiffuser.store import DataError, open_made
from reconstruction.folder import to_uint8

CPU = torch.device("cpu")
INVERSION = {"start": "inversion"}
# What is changed in the miniature's `mind_animator.video`; None: the autoencoder alone.
SETTINGS = {
    "autoencoder alone": None,
    "latents": {"start": "latents"},
    "latents, 10 steps": {"start": "latents", "n_steps": 10},
    "latents, guidance 1": {"start": "latents", "guidance_scale": 1},
    "inversion": INVERSION,
    "inversion, 10 steps": {**INVERSION, "n_steps": 10},
    "inversion, guidance 1": {**INVERSION, "guidance_scale": 1},
    "inversion, empty negative prompt": {**INVERSION, "negative_prompt": ""},
    "inversion, noise by frame": {**INVERSION, "noise": "per_frame"},
    "inversion, norms by frame": {**INVERSION, "group_norm": "per_frame"},
    "inversion, keys of the first frame": {**INVERSION, "keys": "first"},
    "original": ANIMATOR_FORMS["original"]["video"],
}


def main() -> None:
    """Measure each setting, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-clips", type=int, default=16)
    n_clips = parser.parse_args().n_clips
    torch.set_num_threads(1)
    config = load(REPOSITORY / "configs" / "miniature.yaml")
    found = {}
    try:
        ids, z, c, true = read_clips(config, n_clips)
    except DataError as error:
        sys.exit(f"error: {error}")
    base, models = recipes.settings_of(config).video, config.experiment.models
    vae = open_vae(models.stable_diffusion, models.stable_diffusion_revision, CPU)
    print(f"$ python benchmarks/film_sampler.py\n{len(ids)} validation clips, {base.n_steps} steps unless said")
    print(f"{'':<36}{'pixels':>8}{'cosine':>8}{'speed':>8}{'still':>8}{'seconds':>9}", flush=True)
    for name, change in SETTINGS.items():
        settings = base if change is None else Video.model_validate({**base.model_dump(), **change})
        sampler = None if change is None else open_video_sampler(config, CPU, settings, z.shape[1], c.shape[1])
        began = time.process_time()
        made = films(config, settings, sampler or vae, ids, z, c)
        seconds = (time.process_time() - began) / len(ids)
        still = films(config, settings, sampler or vae, ids, z[:, :1].expand_as(z), c)
        motion, of_still = (measure(part, true, orders=False).scores for part in (made, still))
        pixels = (part.reshape(-1, part[0, 0].size).astype(np.float32) for part in (made, true))
        found[name] = row = {
            "pixels": float(correlate_pairs(*pixels).mean()),
            "cosine": float(motion["flow_cosine"].mean()),
            "speed": float(motion["speed_ratio"].mean()),
            "still": float(of_still["speed_ratio"].mean()),
            "seconds": seconds,
        }
        numbers = "".join(f"{value:>8.3f}" for key, value in row.items() if key != "seconds")
        print(f"{name:<36}{numbers}{seconds:>9.2f}", flush=True)
    print(json.dumps({name: {key: round(value, 4) for key, value in row.items()} for name, row in found.items()}))


def read_clips(config: Config, n: int) -> tuple[np.ndarray, torch.Tensor, torch.Tensor, np.ndarray]:
    """Read validation clips.

    Returns
    -------
    stimulus_ids : array of shape (n,)
    z : tensor of shape (n, n_frames, 4, height, width)
    c : tensor of shape (n, n_tokens, width)
    true : array of shape (n, n_frames, 8 * height, 8 * width, 3), uint8
    """
    own = recipes.settings_of(config)
    with open_made(recipes.clips(config)) as file:
        last = len(file["stimulus_id"])
        rows = np.unique(np.linspace(last - own.n_validation, last - 1, n).astype(int))
        ids, z, c = (file[key][rows] for key in ("stimulus_id", "z_mean", "c"))
    in_order = sorted(cc2017.films(config.cc2017).values(), key=lambda film: not film.is_test)
    frames = enumerate(frames_of(in_order, slice(rows[0], last), own.clips), start=rows[0])
    wanted = set(rows.tolist())
    true = np.stack([clip for row, clip in frames if row in wanted])
    return ids, torch.from_numpy(z.astype(np.float32)), torch.from_numpy(c.astype(np.float32)), true


def films(
    config: Config,
    settings: Video,
    model: VideoSampler | AutoencoderKL,
    ids: np.ndarray,
    z: torch.Tensor,
    c: torch.Tensor,
) -> np.ndarray:
    """Make films of latents, by a sampler or by an autoencoder alone: (n, n_frames, 8 * height, 8 * width, 3) uint8."""
    found, at_once = [], clips_at_once(config)
    for start in range(0, len(ids), at_once):
        part = slice(start, start + at_once)
        if isinstance(model, VideoSampler):
            noise = draw_video_noise(z.shape[1:], settings.noise, config.experiment.seed, ids[part], CPU)
            made = model(z[part], c[part], noise)
        else:
            made = draw(model, z[part], config.execution.batch_size.generate, settings)
        found.append(to_uint8(made))
    return np.concatenate(found)


if __name__ == "__main__":
    main()
