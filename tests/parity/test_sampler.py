"""The image-to-image pass against diffusers' own pipeline, the paper's schedule, and finite differences."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline
from safetensors.torch import load, save

from feature_extraction.clip_layers import ClipLayers
from minddiffuser.config.method import Guidance, Sampler, layer_name
from minddiffuser.config.takagi import Takagi
from minddiffuser.pretrained.clip import Clip
from miniature import networks
from reconstruction import guidance
from reconstruction.guidance import Targets, best_of, feature_loss, learning_rate, refine
from reconstruction.sampler import ImageToImage, draw_noise


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    tokenizer = networks.build_tokenizer(["a red ball on the grass"])
    return {
        "vae": networks.build_vae().eval().requires_grad_(False),
        "unet": networks.build_unet().eval().requires_grad_(False),
        "text_encoder": networks.build_text_encoder(tokenizer).eval().requires_grad_(False),
        "tokenizer": tokenizer,
    }


def image_to_image(models, settings, checkpoint_steps=False, dtype=torch.float32):
    torch.manual_seed(1)
    return ImageToImage(
        models["unet"].to(dtype),
        models["vae"].to(dtype),
        networks.build_scheduler(),
        torch.randn(1, 15, 128, dtype=dtype),
        settings,
        checkpoint_steps,
    )


def inputs(n=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    z, noise = (torch.randn(n, 4, 8, 8, generator=generator, dtype=dtype) for _ in range(2))
    return z, torch.randn(n, 15, 128, generator=generator, dtype=dtype), noise


def test_timesteps_are_the_papers(models, monkeypatch):
    betas = {"beta_start": 0.00085, "beta_end": 0.012}  # the miniature has half of them
    scheduler = DDIMScheduler.from_config(networks.build_scheduler().config, **betas)
    monkeypatch.setattr(networks, "build_scheduler", lambda: scheduler)
    sampler = image_to_image(models, Sampler())
    assert sampler.noise_timestep == 741
    assert sampler.timesteps.tolist() == list(range(681, 0, -20))
    alphas = sampler.scheduler.alphas_cumprod
    assert alphas[741] == pytest.approx(0.0603556, abs=1e-7)
    assert alphas[681] == pytest.approx(0.0946369, abs=1e-7)


@pytest.mark.parametrize(
    "settings", [Sampler(n_steps=10, noise_index=7, denoise_steps=8, guidance_scale=5.0), Takagi().sampler]
)
def test_equals_diffusers_pipeline_when_the_levels_agree(models, monkeypatch, settings):
    """With start = noise level, this is StableDiffusionImg2ImgPipeline on the same latents, noise and text."""
    sampler = image_to_image(models, settings)
    z, c, noise = inputs()
    ours = sampler(z, c, noise)

    pipeline = StableDiffusionImg2ImgPipeline(
        **models,
        scheduler=networks.build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    monkeypatch.setattr(
        "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img.randn_tensor", lambda *_, **__: noise
    )
    theirs = pipeline(
        image=z,  # four channels are taken as latents
        prompt_embeds=c,
        negative_prompt_embeds=sampler.unconditional.expand_as(c),
        strength=0.8,
        num_inference_steps=settings.n_steps,
        guidance_scale=5.0,
        eta=0.0,
        output_type="pt",
    ).images
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


def test_checkpointing_changes_neither_value_nor_gradient(models):
    results = []
    for checkpoint_steps in (False, True):
        sampler = image_to_image(models, Sampler(n_steps=6, noise_index=4, denoise_steps=4), checkpoint_steps)
        z, c, noise = inputs()
        z.requires_grad_()
        c.requires_grad_()
        image = sampler(z, c, noise)
        results.append((image, *torch.autograd.grad(image.square().sum(), (z, c))))
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=0, atol=1e-6)
        assert plain.abs().sum() > 0


def test_a_picture_is_that_of_its_final_latents(models):
    """Which are on the scale of z, or they could not be compared with it."""
    sampler = image_to_image(models, Sampler(n_steps=6, noise_index=4, denoise_steps=4))
    z, c, noise = inputs()
    with torch.no_grad():
        latents = sampler.denoise(z, c, noise)
        assert latents.shape == z.shape
        assert torch.equal(sampler(z, c, noise), sampler.draw(latents))
        decoded = models["vae"].decode(latents / models["vae"].config.scaling_factor).sample
        torch.testing.assert_close(sampler.draw(latents), (decoded / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-6)


def test_an_image_does_not_depend_on_its_batch(models):
    sampler = image_to_image(models, Sampler(n_steps=6, noise_index=4, denoise_steps=4))
    z, c, noise = inputs(3)
    together = sampler(z, c, noise)
    alone = sampler(z[1:2], c[1:2], noise[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(3)
    clip = networks.build_clip(scoring=False, vocab_size=100).eval().requires_grad_(False)
    return ClipLayers(Clip(clip, (0.5,) * 3, (0.5,) * 3), (2, 4), "clip", antialias=True)


def targets_for(encoder, n, dtype=torch.float32):
    generator = torch.Generator().manual_seed(4)
    units = {layer_name(k): torch.randperm(65 * 96, generator=generator)[:300].sort().values for k in (2, 4)}
    values = {name: torch.randn(n, 300, generator=generator, dtype=dtype) for name in units}
    return Targets(values, units)


def restored_targets_for(encoder, n, dtype=torch.float32):
    """Targets of the loss "variance_restored": also latents, and deviations, which are far from 1 and from equal."""
    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(n, 4, 8, 8, generator=generator, dtype=dtype)
    deviations = {
        name: 0.2 + 2 * torch.rand(shape, generator=generator, dtype=dtype)
        for name, shape in {"linear_02": 300, "linear_04": 300, "latents": (4, 8, 8)}.items()
    }
    return replace(targets_for(encoder, n, dtype), latents=latents, deviations=deviations)


RESTORED = Guidance(loss="variance_restored", latent_weight=2.0)


@pytest.mark.parametrize("kind", ["weighted", "sum", "variance_restored"])
def test_gradients_of_the_loss_agree_with_finite_differences(models, encoder, kind):
    """Through CLIP, the decoder and every denoising step, in double precision."""
    double = torch.float64
    sampler = image_to_image(models, Sampler(n_steps=5, noise_index=3, denoise_steps=3), True, double)
    encoder.visual.double()
    targets = restored_targets_for(encoder, 1, double)
    settings = RESTORED if kind == "variance_restored" else Guidance(loss=kind, layer_weights=(1.5, 1.2))
    z, c, noise = inputs(1, double)

    def loss(z, c):
        latents = sampler.denoise(z, c, noise)
        return feature_loss(encoder(sampler.draw(latents), "bicubic"), targets, settings, latents).sum()

    z.requires_grad_()
    c.requires_grad_()
    gradients = torch.autograd.grad(loss(z, c), (z, c))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for k, gradient in enumerate(gradients):
            assert gradient.abs().max() > 0
            direction = torch.randn(gradient.shape, generator=generator, dtype=double)
            step = 1e-5
            moved = [[z + s * direction, c] if k == 0 else [z, c + s * direction] for s in (step, -step)]
            numeric = (loss(*moved[0]) - loss(*moved[1])) / (2 * step)
            torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-4, atol=1e-9)
    models["unet"].float(), models["vae"].float(), encoder.visual.float()


def test_refinement_lowers_the_loss_and_starts_from_stage_1(models, encoder):
    sampler = image_to_image(models, Sampler(n_steps=5, noise_index=3, denoise_steps=3))
    z, c, noise = inputs()
    settings = Guidance(n_iterations=8, learning_rate=0.05, noise="fixed", layer_weights=(1, 1), save_every=4)
    targets = targets_for(encoder, 2)
    pictures = {}
    extract = lambda x: encoder(x, "bicubic")  # noqa: E731
    keep = lambda k, images, _state: pictures.update({k: images})  # noqa: E731
    result = refine(z, c, sampler, extract, lambda _: noise, targets, settings, keep=keep)
    assert (result.losses[-1] < result.losses[0]).all()
    assert sorted(pictures) == [0, 4]
    torch.testing.assert_close(pictures[0], sampler(z, c, noise), rtol=0, atol=1e-6)
    assert result.iteration.tolist() == result.losses.argmin(dim=0).tolist()


def plain_losses(models, encoder, settings, refinement, z, c, noise, targets):
    """The released way: one image, two U-Net calls a step, nothing recomputed, gradients of the weights too."""
    scheduler = image_to_image(models, settings).scheduler
    sampler = image_to_image(models, settings)
    for model in (models["unet"], models["vae"], encoder.visual):
        model.requires_grad_(True)
    z, c = z.clone().requires_grad_(), c.clone().requires_grad_()
    optimizer, losses = torch.optim.Adam([z, c], lr=1.0), []
    for k in range(refinement.n_iterations):
        optimizer.param_groups[0]["lr"] = refinement.learning_rate * refinement.decay ** (k + 1)
        x = scheduler.add_noise(z, noise, sampler.noise_timestep.expand(1))
        for t in sampler.timesteps:
            without, with_text = (models["unet"](x, t, text).sample for text in (sampler.unconditional, c))
            x = scheduler.step(without + settings.guidance_scale * (with_text - without), t, x, eta=0.0).prev_sample
        images = ((models["vae"].decode(x / models["vae"].config.scaling_factor).sample + 1) / 2).clamp(0, 1)
        loss = feature_loss(encoder(images, "bicubic"), targets, refinement).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    for model in (models["unet"], models["vae"], encoder.visual):
        model.requires_grad_(False).zero_grad()
    return losses


@pytest.mark.parametrize(
    ("precision", "compiled", "tolerance"),
    [("float32", False, 1e-4), ("float16", False, 1e-2), pytest.param("float32", True, 1e-4, marks=pytest.mark.slow)],
)
def test_every_economy_has_the_losses_of_the_plain_loop(models, encoder, precision, compiled, tolerance):
    """Batches, merged guidance, frozen weights, recomputed steps and decoder; then float16, and torch.compile."""
    settings = Sampler(n_steps=6, noise_index=3, denoise_steps=2)
    refinement = Guidance(n_iterations=3, learning_rate=0.02, layer_weights=(1, 1))
    z, c, noise = inputs(2)
    targets = targets_for(encoder, 2)
    plain = [
        plain_losses(
            models, encoder, settings, refinement, z[k : k + 1], c[k : k + 1], noise[k : k + 1],
            targets.of(slice(k, k + 1)),
        )
        for k in range(2)
    ]  # fmt: skip
    sampler = image_to_image(models, settings.model_copy(update={"precision": precision}), checkpoint_steps=True)
    sampler.vae.enable_gradient_checkpointing()
    if compiled:
        sampler.unet = torch.compile(sampler.unet)
    result = refine(z, c, sampler, lambda x: encoder(x, "bicubic"), lambda _: noise, targets, refinement, precision)
    sampler.vae.disable_gradient_checkpointing()
    assert plain[0][-1] < plain[0][0]
    torch.testing.assert_close(result.losses.T, torch.tensor(plain), rtol=tolerance, atol=0)


class Plain:
    """A sampler of one function, whose final latents are its pictures."""

    def __init__(self, denoise):
        self.denoise = lambda z, c, noise, _gradient_steps: denoise(z, c, noise)

    def draw(self, latents):
        return latents


class Counted(Plain):
    """A sampler that does nothing, cheaply; its calls are counted, and some have gradients that are not finite."""

    def __init__(self, broken_from=None, broken_until=None):
        self.n_calls, self.broken = 0, range(broken_from or 0, 10**6 if broken_until is None else broken_until)

    def denoise(self, z, c, noise, _gradient_steps=None):
        factor = float("nan") if self.n_calls in self.broken else 1.0
        self.n_calls += 1
        return (z.mean() + c.mean()) * factor + noise


def refine_counted(sampler, precision, n_iterations=3, keep=None, **changes):
    targets = Targets({"layer": torch.ones(1, 5)}, {"layer": torch.arange(5)})
    z, c, noise = inputs(1)
    settings = Guidance(n_iterations=n_iterations, layer_weights=(1,), **changes)
    extract = lambda x: {"layer": x.flatten(start_dim=1)[:, :9]}  # noqa: E731
    return refine(z, c, sampler, extract, lambda _: noise, targets, settings, precision, keep=keep)


def test_gradients_that_overflow_in_float16_are_taken_again_with_a_smaller_scale():
    usual, sampler = refine_counted(Counted(broken_until=0), "float16"), Counted(broken_from=1, broken_until=3)
    assert torch.equal(refine_counted(sampler, "float16").losses, usual.losses)
    assert sampler.n_calls == 3 + 2
    sampler = Counted(broken_from=1)
    with pytest.raises(FloatingPointError, match=r"iteration 1; set experiment\.sampler\.precision to float32 or tf32"):
        refine_counted(sampler, "float16")
    assert sampler.n_calls == 1 + len(guidance._LOSS_SCALES)


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize(
    ("broken_from", "way_out"), [(0, "look at decoded/"), (2, r"lower experiment\.guidance\.learning_rate")]
)
def test_gradients_that_are_not_finite_without_a_scale_are_found_and_say_what_to_do(precision, broken_from, way_out):
    """At the next iteration of which pictures are kept, so that none waits for the GPU; these are not kept."""
    sampler, kept = Counted(broken_from), []
    with pytest.raises(FloatingPointError, match=f"iteration {broken_from}; .*{way_out}") as caught:
        refine_counted(sampler, precision, n_iterations=9, save_every=3, keep=lambda k, *_: kept.append(k))
    assert (sampler.n_calls, kept) == {0: (1, []), 2: (4, [0])}[broken_from]
    assert "precision" not in str(caught.value)


@pytest.mark.parametrize("optimise", ["z", "z_and_c"])
@pytest.mark.parametrize("after", [0, 3, 6])
def test_going_on_from_a_kept_state_ends_in_the_same_bytes(models, encoder, optimise, after):
    sampler = image_to_image(models, Sampler(n_steps=5, noise_index=3, denoise_steps=3))
    z, c, _ = inputs()
    settings = Guidance(n_iterations=7, learning_rate=0.05, optimise=optimise, layer_weights=(1, 1), save_every=3)
    noise = lambda k: torch.randn(z.shape, generator=torch.Generator().manual_seed(k))  # noqa: E731
    rest = (sampler, lambda x: encoder(x, "bicubic"), noise, targets_for(encoder, 2), settings)
    states = {}
    whole = refine(z, c, *rest, keep=lambda k, _images, state: states.update({k: save(state)}))
    resumed = refine(z, c, *rest, state=load(states[after]))
    for name in ("images", "iteration", "losses"):
        assert torch.equal(getattr(resumed, name), getattr(whole, name)), name


def test_images_stop_one_by_one_when_their_loss_no_longer_falls(encoder):
    """Losses are given: the first image's falls for three iterations, the second one's for six."""
    falls_for = torch.tensor([3, 6])
    sizes = []

    def extract(x):
        k, rows = len(sizes), slice(None) if len(x) == 2 else slice(1, 2)  # only the second image is left
        sizes.append(len(x))
        level = torch.where(k < falls_for, 10.0 - k, 20.0)[rows]
        return {name: level[:, None, None] + 0 * x.mean() + torch.zeros(len(x), 65, 96) for name in targets.values}

    targets = targets_for(encoder, 2)
    targets = Targets({name: torch.ones_like(value) for name, value in targets.values.items()}, targets.units)
    flat = lambda z, c, noise: (z.mean(dim=(1, 2, 3)) * 0 + c.mean() * 0)[:, None, None, None] + noise  # noqa: E731
    z, c, _ = inputs()
    settings = Guidance(n_iterations=50, patience=2, layer_weights=(1, 1))
    noise = lambda k: torch.full((2, 3, 8, 8), float(k))  # noqa: E731
    result = refine(z, c, Plain(flat), extract, noise, targets, settings)
    assert result.iteration.tolist() == [2, 5]
    assert len(result.losses) == 8  # six that fell and two of patience
    assert result.losses.isnan().sum(dim=0).tolist() == [3, 0]
    assert result.images.mean(dim=(1, 2, 3)).tolist() == [2, 5]
    assert sizes == [2] * 5 + [1] * 3  # an image that has stopped costs nothing


def test_stopping_does_not_change_what_goes_on(models, encoder):
    """Until it stops, an image takes the way that it takes without patience; what has stopped is not called again."""
    sampler = image_to_image(models, Sampler(n_steps=4, noise_index=2, denoise_steps=2))
    z, c, _ = inputs(3)
    settings = Guidance(n_iterations=8, learning_rate=1e-3, layer_weights=(1, 1), patience=2)
    rest = (sampler, lambda x: encoder(x, "bicubic"), lambda k: drawn([1, 2, 3], k), targets_for(encoder, 3))
    stopping, whole = (refine(z, c, *rest, each) for each in (settings, settings.model_copy(update={"patience": None})))
    stopped = stopping.losses.isnan()
    assert 0 < stopped[-1].sum() < 3
    together = whole.losses[: len(stopped)]
    torch.testing.assert_close(stopping.losses[~stopped], together[~stopped], rtol=1e-3, atol=0)


def test_reduced_precision_has_nearly_the_same_gradients(models, encoder):
    z, c, noise = inputs()
    gradients, losses = {}, {}
    for precision in ("float32", "float16"):
        sampler = image_to_image(models, Sampler(n_steps=5, noise_index=3, denoise_steps=3, precision=precision))
        z, c = z.detach().requires_grad_(), c.detach().requires_grad_()
        images = sampler(z, c, noise)
        assert images.dtype == torch.float32
        loss = feature_loss(encoder(images, "bicubic"), targets_for(encoder, 2), Guidance(layer_weights=(1, 1))).sum()
        gradients[precision] = torch.autograd.grad(loss * 2**12, (z, c))
        losses[precision] = loss.item()
    assert losses["float16"] == pytest.approx(losses["float32"], rel=0.01)
    assert losses["float16"] != losses["float32"]
    for exact, reduced in zip(*gradients.values(), strict=True):
        assert torch.nn.functional.cosine_similarity(exact.flatten(), reduced.flatten(), dim=0) > 0.995


def test_on_a_cpu_tf32_is_float32_bit_for_bit(models, encoder):
    z, c, noise = inputs(1)
    results = []
    for precision in ("float32", "tf32"):
        sampler = image_to_image(models, Sampler(n_steps=5, noise_index=3, denoise_steps=2, precision=precision))
        settings = Guidance(n_iterations=2, layer_weights=(1, 1))
        extract = lambda x: encoder(x, "bicubic")  # noqa: E731
        results.append(refine(z, c, sampler, extract, lambda _: noise, targets_for(encoder, 1), settings, precision))
    for name in ("images", "losses"):
        assert torch.equal(*(getattr(result, name) for result in results)), name


def flags():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("tf32", True), ("float16", False)])
def test_tf32_is_allowed_in_products_and_convolutions_of_the_sampler_or_in_neither(models, precision, allowed):
    sampler, before, seen = image_to_image(models, Sampler(n_steps=3, noise_index=1, denoise_steps=1)), flags(), []
    assert before == (False, True)  # torch's own: the two differ
    sampler.precision = precision
    hook = models["unet"].register_forward_pre_hook(lambda *_: seen.append(flags()))
    try:
        with torch.no_grad():
            sampler(*inputs(1))
        with pytest.raises(RuntimeError):
            sampler(torch.zeros(1, 3, 8, 8), *inputs(1)[1:])
    finally:
        hook.remove()
    assert seen[0] == (allowed, allowed)
    assert flags() == before


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("tf32", True), ("float16", False)])
def test_tf32_is_allowed_in_the_whole_refinement_also_backwards_or_in_none_of_it(precision, allowed):
    before, seen, plain = flags(), [], Counted(broken_until=0)

    def spy(z, c, noise):
        images = plain.denoise(z, c, noise)
        seen.append(flags())
        images.register_hook(lambda _: seen.append(flags()))
        return images

    refine_counted(Plain(spy), precision, n_iterations=1)
    assert seen == [(allowed, allowed)] * 2
    assert flags() == before
    with pytest.raises(FloatingPointError):
        refine_counted(Counted(), precision)
    assert flags() == before


def test_a_loss_of_targets_that_do_not_fit_is_refused_not_broadcast(encoder):
    targets, generated = targets_for(encoder, 2), {layer_name(k): torch.zeros(2, 65, 96) for k in (2, 4)}
    for weights in ((1.0,), (1.0, 1.0, 1.0)):
        with pytest.raises(ValueError, match=f"{len(weights)} layer_weights are for 2 layers"):
            feature_loss(generated, targets, Guidance(layer_weights=weights))
    with pytest.raises(ValueError, match="no target of the embedding"):
        feature_loss(generated, targets, Guidance(layer_weights=(1, 1), embedding_weight=0.5))
    for settings in (Guidance(layer_weights=(1, 1)), RESTORED):
        with pytest.raises(ValueError, match=r"linear_02: targets are \(1, 300\), what is generated \(2, 300\)"):
            feature_loss(generated, targets.of(slice(1)), settings)
    restored, latents = restored_targets_for(encoder, 2), torch.zeros(2, 4, 8, 8)
    for lacking, given in ((replace(restored, latents=None), latents), (restored, None)):
        with pytest.raises(ValueError, match=r"latent_weight is 2\.0, but there are no latents to compare"):
            feature_loss(generated, lacking, RESTORED, given)


def test_learning_rates():
    released = Guidance()
    assert learning_rate(0, released) == pytest.approx(0.00999)
    assert learning_rate(299, released) == pytest.approx(0.0074071, rel=1e-4)
    cosine = Guidance(schedule="cosine", n_iterations=100, learning_rate=0.04)
    assert [learning_rate(k, cosine) for k in (0, 50)] == pytest.approx([0.04, 0.02])
    assert 0 < learning_rate(99, cosine) < 1e-4


def test_refinement_uses_the_learning_rate_of_each_iteration(models, encoder, monkeypatch):
    seen = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: (seen.append(self.param_groups[0]["lr"]), step(self)))
    flat = lambda z, c, noise: z.mean() * 0 + c.mean() * 0 + noise  # noqa: E731
    settings = Guidance(n_iterations=3, layer_weights=(1, 1))
    targets = targets_for(encoder, 1)
    features = {name: torch.zeros(1, 65, 96) for name in targets.values}
    extract = lambda x: {name: value + x.mean() for name, value in features.items()}  # noqa: E731
    z, c, _ = inputs(1)
    refine(z, c, Plain(flat), extract, lambda _: torch.zeros(1, 3, 8, 8), targets, settings)
    assert seen == [learning_rate(k, settings) for k in range(3)]


def test_optimising_z_only_leaves_c(models, encoder):
    sampler = image_to_image(models, Sampler(n_steps=5, noise_index=3, denoise_steps=3))
    z, c, noise = inputs(1)
    seen = []

    def spy(z_now, c_now, noise_now):
        seen.append(c_now.detach().clone())
        return sampler(z_now, c_now, noise_now)

    settings = Guidance(n_iterations=3, optimise="z", layer_weights=(1, 1))
    refine(z, c, Plain(spy), lambda x: encoder(x, "bicubic"), lambda _: noise, targets_for(encoder, 1), settings)
    assert all(torch.equal(c, c_now) for c_now in seen)


def test_weighted_loss_is_the_released_formula(encoder):
    """A plain loop over dense, masked arrays, as the authors' code has it."""
    targets = targets_for(encoder, 1)
    generator = torch.Generator().manual_seed(6)
    generated = {name: torch.randn(1, 65, 96, generator=generator) for name in targets.values}
    settings = Guidance(layer_weights=(1.5, 1.2))
    inverse = [1 / value.norm() for value in targets.values.values()]
    expected = 0.0
    for k, (name, value) in enumerate(targets.values.items()):
        mask, dense = torch.zeros(6240), torch.zeros(6240)
        mask[targets.units[name]] = 1
        dense[targets.units[name]] = value[0]
        squared = (dense - mask * generated[name].reshape(-1)).square().mean()
        expected += inverse[k] / sum(inverse) * settings.layer_weights[k] * squared
    torch.testing.assert_close(feature_loss(generated, targets, settings)[0], expected)


@pytest.mark.parametrize("latent_weight", [0.0, 2.0])
def test_restored_loss_is_its_formula(encoder, latent_weight):
    """In numpy, image by image and layer by layer; weights of layers, which are of another loss, do not matter."""
    targets, generator = restored_targets_for(encoder, 3), torch.Generator().manual_seed(6)
    generated = {name: torch.randn(3, 65, 96, generator=generator) for name in targets.values}
    latents = torch.randn(3, 4, 8, 8, generator=generator)
    expected = []
    for k in range(3):
        of_layers = []
        for name, value in targets.values.items():
            found = generated[name][k].numpy().ravel()[targets.units[name].numpy()]
            of_layers.append(np.mean(((value[k].numpy() - found) / targets.deviations[name].numpy()) ** 2))
        off = (targets.latents[k].numpy() - latents[k].numpy()) / targets.deviations["latents"].numpy()
        expected.append(np.mean(of_layers) + latent_weight * np.mean(off**2))
    settings = Guidance(loss="variance_restored", latent_weight=latent_weight, layer_weights=(5,))
    losses = feature_loss(generated, targets, settings, latents)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    if not latent_weight:
        assert torch.equal(feature_loss(generated, targets, settings), losses)  # it asks for no latents
    last = {name: values[2:] for name, values in generated.items()}
    torch.testing.assert_close(feature_loss(last, targets.of(slice(2, 3)), settings, latents[2:]), losses[2:])


@pytest.mark.parametrize("result", ["lowest_loss", "last"])
def test_the_loss_is_of_the_latents_whose_picture_is_returned(models, encoder, monkeypatch, result):
    sampler, seen = image_to_image(models, Sampler(n_steps=5, noise_index=3, denoise_steps=3)), []
    z, c, noise = inputs()

    def spy(generated, targets, settings, latents):
        seen.append(latents.detach().clone())
        return feature_loss(generated, targets, settings, latents)

    monkeypatch.setattr(guidance, "feature_loss", spy)
    settings = RESTORED.model_copy(update={"n_iterations": 3, "learning_rate": 0.3, "result": result})
    targets = restored_targets_for(encoder, 2)
    found = refine(z, c, sampler, lambda x: encoder(x, "bicubic"), lambda _: noise, targets, settings)
    assert len(seen) == 3
    torch.testing.assert_close(seen[0], sampler.denoise(z, c, noise), rtol=0, atol=1e-6)
    assert result == "lowest_loss" or found.iteration.tolist() == [2, 2]
    for k, iteration in enumerate(found.iteration):
        torch.testing.assert_close(found.images[k], sampler.draw(seen[iteration])[k], rtol=0, atol=1e-6)


def test_the_latents_alone_can_be_descended(models):
    """With features that do not depend on the picture, the loss is that of the latents, and it falls."""
    sampler = image_to_image(models, Sampler(n_steps=5, noise_index=3, denoise_steps=3))
    z, c, noise = inputs(1)
    aim = sampler.denoise(z + 0.3, c, noise).detach()
    deviations = {"layer": torch.ones(5), "latents": torch.ones(4, 8, 8)}
    targets = Targets({"layer": torch.zeros(1, 5)}, {"layer": torch.arange(5)}, None, aim, deviations)
    settings = RESTORED.model_copy(update={"n_iterations": 12, "learning_rate": 0.05})
    extract = lambda x: {"layer": torch.zeros(len(x), 1, 9)}  # noqa: E731
    losses = refine(z, c, sampler, extract, lambda _: noise, targets, settings).losses[:, 0]
    assert losses[-1] < losses[0] / 2


def drawn(ids, k=0):
    """Noise of a draw, of each image's own generator."""
    return draw_noise((4, 8, 8), 42, ids, torch.device("cpu"), "fresh", k)


def test_the_best_of_several_noises_is_the_lowest_of_all_their_losses(models, encoder):
    sampler = image_to_image(models, Sampler(n_steps=4, noise_index=2, denoise_steps=2))
    (z, c, _), targets, ids = inputs(3), restored_targets_for(encoder, 3), [5, 11, 70]
    extract = lambda x: encoder(x, "bicubic")  # noqa: E731
    settings = RESTORED.model_copy(update={"n_iterations": 6})
    found = best_of(z, c, sampler, extract, lambda k: drawn(ids, k), targets, settings)
    with torch.no_grad():
        latents = [sampler.denoise(z, c, drawn(ids, k)) for k in range(6)]
        pictures = [sampler.draw(each) for each in latents]
        pairs = zip(pictures, latents, strict=True)
        losses = torch.stack([feature_loss(extract(x), targets, settings, each) for x, each in pairs])
    torch.testing.assert_close(found.losses, losses)
    assert found.iteration.tolist() == losses.argmin(dim=0).tolist()
    assert len(set(found.iteration.tolist())) > 1  # it is chosen image by image
    for k, draw in enumerate(found.iteration):
        torch.testing.assert_close(found.images[k], pictures[draw][k], rtol=0, atol=1e-6)

    first = best_of(z, c, sampler, extract, lambda k: drawn(ids, k), targets, Guidance(n_iterations=1, loss="sum"))
    torch.testing.assert_close(first.images, sampler(z, c, drawn(ids)), rtol=0, atol=1e-6)  # stage 1's picture
    assert not first.iteration.any()

    own = slice(1, 2)
    alone = best_of(z[own], c[own], sampler, extract, lambda k: drawn(ids[own], k), targets.of(own), settings)
    torch.testing.assert_close(alone.losses, found.losses[:, own], rtol=1e-4, atol=0)
    assert torch.equal(alone.iteration, found.iteration[own])
    torch.testing.assert_close(alone.images, found.images[own], rtol=0, atol=1e-5)
