"""Films from latents: against diffusers' inversion, the sampler of pictures, and closed forms; what flickers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from baselines.mind_animator.inflation import inflate
from baselines.mind_animator.sampler import (
    VideoSampler,
    clips_at_once,
    draw,
    draw_video_noise,
    open_video_sampler,
)
from minddiffuser.config import REPOSITORY, load
from minddiffuser.config.method import Sampler
from minddiffuser.config.mind_animator import Video
from minddiffuser.pretrained.stable_diffusion import open_unet, open_vae
from miniature import networks
from reconstruction.folder import to_uint8
from reconstruction.sampler import ImageToImage

N_FRAMES = 3
CPU = torch.device("cpu")
WEIGHTS = str(networks.WEIGHTS / "stable-diffusion")


def random(*shape, seed=1, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def stable_diffusions():
    """Scheduler of Stable Diffusion v1 itself."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012}  # the miniature has half of them
    return DDIMScheduler.from_config(networks.build_scheduler().config, **betas)


class Constant(torch.nn.Module):
    """A U-Net that predicts the same noise everywhere; what it is asked is kept."""

    def __init__(self, value=0.0):
        super().__init__()
        self.value, self.asked = value, []

    def forward(self, x, t, c):
        self.asked.append((x.clone(), int(t), c.clone()))
        return SimpleNamespace(sample=torch.full_like(x, self.value))


def sampler_with(unet, scheduler=None, **settings):
    scheduler, empty, negative = scheduler or stable_diffusions(), random(1, 9, 128, seed=3), random(1, 15, 128, seed=4)
    vae: object = None
    return VideoSampler(unet, vae, scheduler, empty, negative, Video(**settings), 2)


@pytest.fixture(scope="module")
def trained():
    """The miniature's U-Net, inflated, and its autoencoder."""
    unet = open_unet(WEIGHTS, None, CPU)
    inflate(unet, N_FRAMES, Video(), 0)
    return unet, open_vae(WEIGHTS, None, CPU)


def film(trained, **settings):
    """Sampler of the miniature's weights."""
    sampler = sampler_with(trained[0], networks.build_scheduler(), **{"n_steps": 5, "guidance_scale": 2, **settings})
    sampler.vae = trained[1]
    return sampler


def test_constants_of_the_noise_are_the_papers():
    alpha = stable_diffusions().alphas_cumprod[Video().renoise]
    assert alpha**0.5 == pytest.approx(0.86815, abs=5e-6)
    assert (1 - alpha) ** 0.5 == pytest.approx(0.49629, abs=5e-6)


def test_without_noise_predicted_a_film_is_that_of_the_schedule():
    """All that the sampler does to latents and noise, in closed form; and each step is asked for once, in order."""
    z, c, noise = random(2, N_FRAMES, 4, 8, 8), random(2, 15, 128, seed=2), random(2, N_FRAMES, 4, 8, 8, seed=5)
    unet = Constant()
    sampler = sampler_with(unet)
    found, alphas = sampler.denoise(z, c, noise), sampler.scheduler.alphas_cumprod
    scale = (alphas[0] / alphas[981]) ** 0.5  # of noise, from the first step to behind the last
    torch.testing.assert_close(found, 0.868147 * z + 0.496294 * scale * noise, rtol=1e-4, atol=1e-4)
    steps = [t for _, t, _ in unet.asked]
    assert steps == [*range(1, 982, 20), *range(981, 0, -20)]
    assert [len(x) for x, _, _ in unet.asked] == [2 * N_FRAMES] * 50 + [2 * 2 * N_FRAMES] * 50
    empty, both = unet.asked[0][2], unet.asked[-1][2]
    torch.testing.assert_close(empty, sampler.empty.expand(6, -1, -1))
    torch.testing.assert_close(both[:6], sampler.negative.expand(6, -1, -1))
    for k, own in enumerate(both[6:]):
        torch.testing.assert_close(own, c[k // N_FRAMES])


@pytest.mark.parametrize(("n_steps", "level"), [(50, 201), (5, 201), (10, 201), (20, 201), (4, 251)])
def test_from_latents_the_level_of_the_noise_is_that_of_the_first_step(n_steps, level):
    z, c, noise = random(1, N_FRAMES, 4, 8, 8), random(1, 15, 128, seed=2), random(1, N_FRAMES, 4, 8, 8, seed=5)
    unet = Constant()
    sampler = sampler_with(unet, n_steps=n_steps, start="latents")
    found, alphas = sampler.denoise(z, c, noise), sampler.scheduler.alphas_cumprod
    assert [t for _, t, _ in unet.asked] == list(range(level, 0, -1000 // n_steps))
    noised = alphas[level] ** 0.5 * z + (1 - alphas[level]) ** 0.5 * noise
    torch.testing.assert_close(found, noised * (alphas[0] / alphas[level]) ** 0.5, rtol=1e-5, atol=1e-5)


def test_guidance_leads_from_the_negative_prompt_to_c():
    """A U-Net that predicts the mean of its text: e_u + s (e_c - e_u)."""

    class OfText(Constant):
        def forward(self, x, _, c):
            return SimpleNamespace(sample=c.mean(dim=(1, 2))[:, None, None, None].expand_as(x))

    z, c, noise = random(1, N_FRAMES, 4, 8, 8), random(1, 15, 128, seed=2) + 1, random(1, N_FRAMES, 4, 8, 8, seed=5)
    by_text = sampler_with(OfText(), n_steps=5, start="latents", guidance_scale=3)
    e = by_text.negative.mean() + 3 * (c.mean() - by_text.negative.mean())
    by_hand = sampler_with(Constant(float(e)), n_steps=5, start="latents", guidance_scale=7)
    torch.testing.assert_close(by_text.denoise(z, c, noise), by_hand.denoise(z, c, noise), rtol=1e-5, atol=1e-5)


def test_inversion_is_that_of_diffusers(trained):
    z = random(2, N_FRAMES, 4, 8, 8)
    sampler = film(trained, n_steps=6)
    inverse = DDIMInverseScheduler.from_config(sampler.scheduler.config)
    inverse.set_timesteps(6)
    assert inverse.timesteps.tolist() == sampler.scheduler.timesteps.flip(0).tolist()
    x = z.flatten(0, 1)
    with torch.no_grad():
        for t in inverse.timesteps:
            e = trained[0](x, t, sampler.empty.expand(len(x), -1, -1)).sample
            x = inverse.step(e, t, x).prev_sample
    torch.testing.assert_close(sampler.invert(z).flatten(0, 1), x, rtol=0, atol=1e-5)


def back_again(sampler, z):
    """Invert latents, and denoise them without new noise, with the empty caption and guidance 1."""
    sampler.negative = sampler.empty
    sampler.scheduler.add_noise = lambda x, _noise, _level: x
    return sampler.denoise(z, sampler.empty, torch.zeros_like(z))


def test_inversion_and_back_is_exact_for_constant_noise_and_better_with_more_steps(trained):
    z = random(1, N_FRAMES, 4, 8, 8, dtype=torch.float64)
    sampler = sampler_with(Constant(0.3), guidance_scale=1)
    torch.testing.assert_close(back_again(sampler, z), z, rtol=0, atol=1e-12)
    z, errors = z.float(), []
    for n_steps in (5, 10, 20):
        found = back_again(film(trained, n_steps=n_steps, guidance_scale=1), z)
        errors.append(float((found - z).norm() / z.norm()))
    assert errors == sorted(errors, reverse=True)
    assert 0.1 < errors[1] < 0.4
    assert errors[2] < 0.25


def test_a_film_of_one_frame_from_latents_is_a_picture_of_the_image_to_image_sampler():
    unet, vae = open_unet(WEIGHTS, None, CPU), open_vae(WEIGHTS, None, CPU)
    z, c, noise = random(2, 1, 4, 8, 8), random(2, 15, 128, seed=2), random(2, 1, 4, 8, 8, seed=5)
    settings = Sampler(n_steps=5, noise_index=1, denoise_steps=2, guidance_scale=2)
    negative = random(1, 15, 128, seed=4)
    pictures = ImageToImage(unet, vae, networks.build_scheduler(), negative, settings, False)
    with torch.no_grad():
        expected = pictures(z[:, 0], c, noise[:, 0])
    inflate(unet, 1, Video(), 0)
    own = Video(n_steps=5, start="latents", guidance_scale=2)
    found = VideoSampler(unet, vae, networks.build_scheduler(), negative, negative, own, 4)(z, c, noise)
    torch.testing.assert_close(found[:, 0], expected, rtol=0, atol=1e-5)


def flicker(films):
    """Mean difference of neighbouring frames, in grey levels."""
    return float(np.abs(np.diff(to_uint8(films).astype(float), axis=1)).mean())


@pytest.mark.parametrize("start", ["inversion", "latents"])
def test_still_latents_stay_still_with_shared_noise_and_flicker_with_noise_by_frame(trained, start):
    c, ids = random(1, 15, 128, seed=2), np.array([102001])
    z = random(1, 1, 4, 8, 8).expand(-1, N_FRAMES, -1, -1, -1)
    speeds = {}
    for kind in ("shared", "per_frame"):
        noise = draw_video_noise(z.shape[1:], kind, 0, ids, CPU)
        speeds[kind] = flicker(film(trained, start=start)(z, c, noise))
    assert speeds["shared"] < 0.05
    assert speeds["per_frame"] > 2


def test_noise_is_that_of_the_clip_and_shared_noise_that_of_all_its_frames():
    shape, ids = (N_FRAMES, 4, 8, 8), np.array([102001, 102007])
    for kind in ("shared", "per_frame"):
        both = draw_video_noise(shape, kind, 7, ids, CPU)
        assert both.shape == (2, *shape)
        assert torch.equal(draw_video_noise(shape, kind, 7, ids[1:], CPU), both[1:])
        assert not torch.equal(both[0], both[1])
        assert not torch.equal(draw_video_noise(shape, kind, 8, ids, CPU), both)
        assert torch.equal(both[:, 0], both[:, 1]) == (kind == "shared")
        assert both.std() == pytest.approx(1, abs=0.1)


def test_a_clip_does_not_depend_on_its_batch(trained):
    z, c, noise = random(3, N_FRAMES, 4, 8, 8), random(3, 15, 128, seed=2), random(3, N_FRAMES, 4, 8, 8, seed=5)
    sampler = film(trained)
    together = sampler(z, c, noise)
    assert together.shape == (3, N_FRAMES, 3, 64, 64)
    torch.testing.assert_close(sampler(z[1:2], c[1:2], noise[1:2]), together[1:2], rtol=0, atol=1e-4)


def test_half_precision_is_near_and_keeps_float32_latents(trained):
    z, c, noise = random(1, N_FRAMES, 4, 8, 8), random(1, 15, 128, seed=2), random(1, N_FRAMES, 4, 8, 8, seed=5)
    full, half = (film(trained, precision=name).denoise(z, c, noise) for name in ("float32", "float16"))
    assert half.dtype == torch.float32
    assert 0 < (half - full).norm() / full.norm() < 0.02


def test_equal_frames_are_decoded_once_and_few_at_a_time(trained, monkeypatch):
    sizes, vae = [], trained[1]
    decode = vae.decode
    monkeypatch.setattr(vae, "decode", lambda z: sizes.append(len(z)) or decode(z))
    z = random(2, N_FRAMES, 4, 8, 8)
    z[1] = z[1, :1]
    found = draw(vae, z, 3, Video())
    assert sizes == [3, 1]
    with torch.no_grad():
        expected = (decode(z.flatten(0, 1) / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(found.flatten(0, 1), expected, rtol=0, atol=1e-5)
    assert torch.equal(found[1], found[1, :1].expand_as(found[1]))


def test_models_are_opened_as_the_settings_say():
    config = load(REPOSITORY / "configs" / "miniature.yaml")
    lengths = {}
    for length in ("c", "encoder"):
        settings = Video(n_steps=5, inversion_length=length, group_norm="per_frame")
        sampler = open_video_sampler(config, CPU, settings, 8, 11)
        lengths[length] = sampler.empty.shape[1], sampler.negative.shape[1]
        assert len(sampler.scheduler.timesteps) == 5
    assert lengths == {"c": (11, 11), "encoder": (15, 11)}
    assert clips_at_once(config) == 2
    assert clips_at_once(load(REPOSITORY / "configs" / "cc2017_subject01.yaml")) == 1
