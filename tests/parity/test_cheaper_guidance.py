"""Ways of stage 2 that cost less: against diffusers' solver, finite differences, and the equations written out."""

import traceback
from functools import partial

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from safetensors.torch import load, save
from torch.utils._python_dispatch import TorchDispatchMode

from feature_extraction.clip_layers import ClipLayers
from minddiffuser.config.method import Guidance, Sampler, layer_name
from minddiffuser.pretrained.clip import Clip
from miniature import networks
from reconstruction.guidance import Targets, best_of, feature_loss, refine, refine_before, steer
from reconstruction.refining import kind_of_noise
from reconstruction.sampler import ImageToImage, draw_noise

SHORT = Sampler(n_steps=6, noise_index=4, denoise_steps=4, guidance_scale=3.0)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return networks.build_unet().eval().requires_grad_(False), networks.build_vae().eval().requires_grad_(False)


def image_to_image(models, settings, checkpoint_steps=False):
    torch.manual_seed(1)
    return ImageToImage(*models, networks.build_scheduler(), torch.randn(1, 15, 128), settings, checkpoint_steps)


def inputs(n=2):
    generator = torch.Generator().manual_seed(2)
    z, noise = (torch.randn(n, 4, 8, 8, generator=generator) for _ in range(2))
    return z, torch.randn(n, 15, 128, generator=generator), noise


@pytest.fixture(scope="module")
def extract():
    torch.manual_seed(3)
    clip = networks.build_clip(scoring=False, vocab_size=100).eval().requires_grad_(False)
    return partial(ClipLayers(Clip(clip, (0.5,) * 3, (0.5,) * 3), (2, 4), "clip", antialias=True), resize="bicubic")


def targets_for(extract, n):
    """Features of other random pictures."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        layers = extract(torch.rand(n, 3, 64, 64, generator=generator))
    units = {layer_name(k): torch.randperm(65 * 96, generator=generator)[:300].sort().values for k in (2, 4)}
    return Targets({name: layers[name].flatten(start_dim=1)[:, units[name]] for name in units}, units)


def settings_of(method, **changes):
    return Guidance(method=method, layer_weights=(1, 1), **changes)


@pytest.mark.parametrize("n", [2, 8, 12])
def test_dpm_solver_is_diffusers(models, n):
    """From the same latents, over the same timesteps, with the same (guided) noise estimates."""
    sampler = image_to_image(models, Sampler(solver="dpm_solver_pp_2m", solver_steps=n))
    theirs = DPMSolverMultistepScheduler.from_config(
        dict(sampler.scheduler.config), algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint",
        final_sigmas_type="sigma_min", lower_order_final=True,
    )  # fmt: skip
    theirs.set_timesteps(timesteps=sampler.timesteps.tolist())
    z, c, noise = inputs()
    with torch.no_grad():
        x = sampler.noised(z, noise)
        both = torch.cat([sampler.unconditional.expand_as(c), c])
        for k, t in enumerate(sampler.timesteps):
            x = theirs.step(sampler.estimate(k, x, both)[0], t, x).prev_sample
        ours = sampler.denoise(z, c, noise)
    assert len(sampler.timesteps) == n
    assert sampler.timesteps[0] == image_to_image(models, Sampler()).timesteps[0]
    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-4)


def test_a_step_of_the_first_order_is_ddims(models):
    """Both steps of two are; where the steps end is the same as well."""
    solvers = [
        image_to_image(models, SHORT.model_copy(update={"denoise_steps": 2, "solver": solver}))
        for solver in ("ddim", "dpm_solver_pp_2m")
    ]
    with torch.no_grad():
        ddim, dpm = (sampler.denoise(*inputs()) for sampler in solvers)
    torch.testing.assert_close(dpm, ddim, rtol=1e-4, atol=1e-5)


def test_the_second_order_is_nearer_to_many_steps(models):
    """With trained weights the U-Net is smooth in time; random ones suffice to tell orders apart."""
    many, few = {"n_steps": 200, "noise_index": 147, "denoise_steps": 140}, {"solver": "dpm_solver_pp_2m"}
    truth = image_to_image(models, Sampler(**many, guidance_scale=1.0))
    second = image_to_image(models, Sampler(**many, **few, solver_steps=10, guidance_scale=1.0))
    first = image_to_image(models, Sampler(**many, **few, solver_steps=10, guidance_scale=1.0))
    advance = first.advance
    first.advance = lambda k, x, e, _last=None: advance(k, x, e)
    with torch.no_grad():
        aim, by_second, by_first = (sampler.denoise(*inputs()) for sampler in (truth, second, first))
    assert (by_second - aim).norm() < (by_first - aim).norm() / 2


@pytest.mark.parametrize("checkpoint_steps", [False, True])
@pytest.mark.parametrize("solver", ["ddim", "dpm_solver_pp_2m"])
def test_gradients_of_the_last_steps(models, checkpoint_steps, solver):
    """They are those of the sampler with earlier estimates held fixed; in all steps, the full gradients."""
    sampler = image_to_image(models, SHORT.model_copy(update={"solver": solver}), checkpoint_steps)
    z, c, noise = inputs()

    def gradients(of):
        leaves = z.clone().requires_grad_(), c.clone().requires_grad_()
        out = of(*leaves)
        return out.detach(), *torch.autograd.grad((out * noise).sum(), leaves)

    def by_hand(z, c, n_last=2):
        x, clean = sampler.noised(z, noise), None
        for k in range(4):
            e, _ = sampler.estimate(k, x, torch.cat([sampler.unconditional.expand_as(c), c]))
            x, clean = sampler.advance(k, x, e if k >= 4 - n_last else e.detach(), clean)
        return x

    full = gradients(lambda z, c: sampler.denoise(z, c, noise))
    for found, wanted in zip(gradients(lambda z, c: sampler.denoise(z, c, noise, 4)), full, strict=True):
        torch.testing.assert_close(found, wanted)
    held = gradients(lambda z, c: sampler.denoise(z, c, noise, 2))
    for found, wanted in zip(held, gradients(by_hand), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(held[0], full[0])  # the picture is the same
    assert (held[1] - full[1]).norm() > 0.01 * full[1].norm()
    assert held[1].abs().sum() > 0


def test_fewer_gradients_take_fewer_calls_backward(models):
    sampler, calls = image_to_image(models, SHORT), []
    z, c, noise = inputs()
    estimate = sampler.estimate

    def spy(*args):
        e, by_text = estimate(*args)
        if e.requires_grad:
            e.register_hook(calls.append)
        return e, by_text

    sampler.estimate = spy
    sampler.denoise(z.requires_grad_(), c.requires_grad_(), noise, 1).sum().backward()
    assert len(calls) == 1


def loss_of(sampler, extract, targets, settings, latents):
    return feature_loss(extract(sampler.draw(latents)), targets, settings, latents)


@pytest.mark.parametrize(("solver", "repeats"), [("ddim", 1), ("dpm_solver_pp_2m", 2)])
def test_steering_is_its_equation(models, extract, solver, repeats):
    """Step by step, for one image, with the gradient by finite differences along itself."""
    sampler = image_to_image(models, SHORT.model_copy(update={"solver": solver}))
    settings = settings_of("in_sampler", steering=0.5, repeats=repeats)
    (z, c, _), targets = inputs(1), targets_for(extract, 1)

    def noise(n):
        return torch.randn(z.shape, generator=torch.Generator().manual_seed(n))

    x, last = sampler.noised(z, noise(0)), None
    both = torch.cat([sampler.unconditional, c])
    for move in range(len(sampler.timesteps) * repeats):
        k = move // repeats
        alpha = sampler.scheduler.alphas_cumprod[sampler.timesteps[k]]

        def predict(x, k=k, alpha=alpha):
            e, by_text = sampler.estimate(k, x, both)
            return e, by_text, (x - (1 - alpha).sqrt() * e) / alpha.sqrt()

        leaf = x.clone().requires_grad_()
        loss = loss_of(sampler, extract, targets, settings, predict(leaf)[2])
        (g,) = torch.autograd.grad(loss, leaf)
        with torch.no_grad():
            d = 1e-2 * g / g.norm()
            high, low = (loss_of(sampler, extract, targets, settings, predict(x + s * d)[2]) for s in (1, -1))
            torch.testing.assert_close((high - low) / 2e-2, g.norm()[None], rtol=0.05, atol=0)
            e, by_text, _ = predict(x)
            e = e + 0.5 * by_text.square().mean().sqrt() / g.square().mean().sqrt() * g
            after, clean = sampler.advance(k, x, e, last)
            if (move + 1) % repeats:
                x = sampler.noised_again(k, after, noise(move + 1))
            else:
                x, last = after, clean
    found = steer(z, c, sampler, extract, noise, targets, settings)
    torch.testing.assert_close(found.images, sampler.draw(x), rtol=0, atol=1e-4)
    assert found.iteration.tolist() == [4 * repeats]
    assert found.losses.shape == (4 * repeats + 1, 1)
    torch.testing.assert_close(found.losses[-1], loss_of(sampler, extract, targets, settings, x), rtol=1e-3, atol=0)


@pytest.mark.parametrize("solver", ["ddim", "dpm_solver_pp_2m"])
def test_steering_lowers_the_loss_of_stage_1(models, extract, solver):
    sampler = image_to_image(models, SHORT.model_copy(update={"solver": solver}))
    (z, c, noise), targets = inputs(3), targets_for(extract, 3)
    settings, none = settings_of("in_sampler", steering=0.3), settings_of("in_sampler", steering=1e-9)
    steered, plain = (steer(z, c, sampler, extract, lambda _: noise, targets, each) for each in (settings, none))
    torch.testing.assert_close(plain.images, sampler(z, c, noise), rtol=0, atol=1e-4)
    assert (steered.losses[-1] < plain.losses[-1]).all()
    alone = steer(z[1:2], c[1:2], sampler, extract, lambda _: noise[1:2], targets.of(slice(1, 2)), settings)
    torch.testing.assert_close(alone.images, steered.images[1:2], rtol=0, atol=1e-3)


def test_repeated_steps_go_back_by_the_schedule(models, extract):
    """Variance is what the schedule has at the level that is gone back to; each repeat has noise of its own."""
    sampler = image_to_image(models, SHORT)
    before, after = (sampler.scheduler.alphas_cumprod[sampler.timesteps[k]] for k in (1, 2))
    x = after.sqrt() * 3 + (1 - after).sqrt() * torch.randn(20000, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    back = sampler.noised_again(1, x, torch.randn(x.shape, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(back.mean(), before.sqrt() * 3, rtol=0, atol=0.01)
    torch.testing.assert_close(back.var(), 1 - before, rtol=0.02, atol=0)
    (z, c, _), asked, kept = inputs(), [], []

    def noise(k):
        asked.append(k)
        return draw_noise((4, 8, 8), 0, [1, 2], torch.device("cpu"), "fresh", k)

    settings = settings_of("in_sampler", repeats=3, save_every=5)
    found = steer(z, c, sampler, extract, noise, targets_for(extract, 2), settings, keep=lambda k, *_: kept.append(k))
    assert len(asked) == len(set(asked)) == 1 + 4 * 2
    assert found.losses.shape == (13, 2)
    assert kept == [0, 5, 10]


def test_repeats_have_new_noise_also_where_a_descent_keeps_its_own():
    """The noise that a picture has already is not noise for going back."""
    assert kind_of_noise(settings_of("in_sampler", noise="fixed"), among_noises=False) == "fresh"
    assert kind_of_noise(settings_of("descent", noise="fixed"), among_noises=True) == "fresh"
    assert kind_of_noise(settings_of("descent", noise="fixed"), among_noises=False) == "fixed"


def test_a_steered_pass_that_is_not_finite_stops(models, extract):
    (z, c, noise), targets = inputs(1), targets_for(extract, 1)
    values = {name: value * torch.nan for name, value in targets.values.items()}
    with pytest.raises(FloatingPointError, match=r"guidance.steering \(now .*decoded/"):
        steer(
            z, c, image_to_image(models, SHORT), extract, lambda _: noise, Targets(values, targets.units),
            settings_of("in_sampler"),
        )  # fmt: skip


def test_before_the_sampler_z_descends_through_the_decoder_alone(models, extract):
    sampler, calls = image_to_image(models, SHORT), []
    (z, c, noise), targets = inputs(), targets_for(extract, 2)
    settings = settings_of("before_sampler", n_iterations=6, learning_rate=0.05, save_every=3)
    states = {}
    handle = models[0].register_forward_hook(lambda *_: calls.append(1))
    rest = (sampler, extract, lambda _: noise, targets, settings)
    found = refine_before(z, c, *rest, keep=lambda k, _, state: states.update({k: save(state)}))
    handle.remove()
    assert len(calls) == 4  # one pass
    assert found.iteration.tolist() == [6, 6]
    with torch.no_grad():
        start = loss_of(sampler, extract, targets, settings, z)
    torch.testing.assert_close(found.losses[0], start, rtol=1e-5, atol=0)
    assert (found.losses[5] < found.losses[0]).all()

    def alone(z):
        return loss_of(sampler, extract, targets, settings, z).sum()

    leaf = z.clone().requires_grad_()
    optimizer = torch.optim.Adam([leaf])
    for k in range(6):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.999 ** (k + 1)
        optimizer.zero_grad()
        alone(leaf).backward()
        optimizer.step()
    torch.testing.assert_close(found.images, sampler(leaf.detach(), c, noise), rtol=0, atol=1e-3)
    resumed = refine_before(z, c, *rest, state=load(states[3]))
    assert torch.equal(resumed.images, found.images)


class HostReads(TorchDispatchMode):
    """Counts operators whose result the host reads, or whose shape depends on values: a GPU would be waited for.

    But for those of the scheduler, of `_alpha` and of Adam, which count steps in tensors that stay on the CPU.
    """

    OWN = ("scheduling_ddim.py", "adam.py", "_alpha")

    def __init__(self):
        super().__init__()
        self.n_reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(part in str(func) for part in ("_local_scalar_dense", "nonzero", "equal")):
            frames = traceback.extract_stack()
            own = any(frame.filename.endswith(self.OWN) or frame.name in self.OWN for frame in frames)
            self.n_reads += not own
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("way", [refine, steer, best_of])
def test_no_iteration_waits_for_the_gpu(models, extract, way):
    """As many reads by the host in nine iterations, or steps, as in three."""
    (z, c, noise), targets, reads = inputs(1), targets_for(extract, 1), []
    for n in (3, 9):
        sampler = image_to_image(models, Sampler(n_steps=10, noise_index=8, denoise_steps=n if way is steer else 2))
        settings = settings_of("in_sampler" if way is steer else "descent", n_iterations=n)
        with HostReads() as host:
            way(z, c, sampler, extract, lambda _: noise, targets, settings)
        reads.append(host.n_reads)
    assert reads[0] == reads[1] <= 1
    with HostReads() as host:
        settings = settings_of("descent", n_iterations=3, patience=1)  # which must be looked for
        refine(z, c, sampler, extract, lambda _: noise, targets, settings)
    assert host.n_reads > 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("way", [refine, steer])
def test_no_iteration_waits_for_this_gpu(models, extract, way):
    device = torch.device("cuda")
    moved = [model.to(device) for model in models]
    torch.manual_seed(1)
    scheduler, empty = networks.build_scheduler(), torch.randn(1, 15, 128, device=device)
    sampler = ImageToImage(*moved, scheduler, empty, SHORT, True)
    z, c, noise = (part.to(device) for part in inputs())
    extract.func.visual.to(device)
    targets = targets_for(extract, 2).to(device)
    settings = settings_of("in_sampler" if way is steer else "descent", n_iterations=3)
    noise = partial(draw_noise, (4, 8, 8), 0, [1, 2], device)
    way(z, c, sampler, extract, noise, targets, settings)  # what is set up once may wait
    seen = []

    def look(k, *_):
        torch.cuda.set_sync_debug_mode("error" if k == 0 else "default")
        seen.append(k)

    try:
        settings = settings.model_copy(update={"save_every": 3})
        way(z, c, sampler, extract, noise, targets, settings, keep=look)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        for model in (*models, extract.func.visual):
            model.to("cpu")
    assert seen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "in_sampler", "patience": 3}, "patience is of method descent"),
        ({"method": "before_sampler", "gradient_steps": 3}, "gradient_steps is of method descent"),
        ({"gradient_steps": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_a_method_does_not_have_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Guidance(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solver_steps": 3}, "with ddim lower n_steps"),
        ({"solver": "dpm_solver_pp_2m", "solver_steps": 36}, "at most denoise_steps 35"),
    ],
)
def test_steps_that_a_solver_does_not_have_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Sampler(**change)
