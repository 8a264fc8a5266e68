"""Mind-Animator's networks, losses, masks and schedules against what its authors released.

Keys and shapes are those of their checkpoints, numbers those of their scripts. `released_*` below compute their three
networks in NumPy from a state under the authors' names, and know nothing of ours.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from scipy.special import erf, log_softmax, softmax
from torch import nn
from torchvision.transforms import functional as transforms

from baselines.mind_animator.augment import candidates, crop, crop_corners, sparsified, sparsify
from baselines.mind_animator.inflation import FrameAttention, PooledGroupNorm, inflate
from baselines.mind_animator.losses import bi_info_nce, l1_norm, l1_weight, noam, semantic_loss
from baselines.mind_animator.masks import visible
from baselines.mind_animator.networks import (
    MOST_FRAMES,
    EmbeddingDecoder,
    MotionGenerator,
    SemanticDecoder,
    StructureDecoder,
    from_released,
    positions,
)
from baselines.semantic_brain_decoding.wordnet import open_wordnet
from minddiffuser.config import REPOSITORY
from minddiffuser.config.mind_animator import MindAnimator, animator_form
from minddiffuser.pretrained.checkpoint import STABLE_DIFFUSION_V1
from minddiffuser.pretrained.stable_diffusion import clip_tokenizer
from minddiffuser.seeds import numpy_generator, torch_generator

N_VOXELS, N_LATENTS = 4500, 4 * 64 * 64


def semantic_keys(n_in=N_VOXELS, width=512, hidden=(2048, 4096), n_out=19 * 768, n_blocks=3) -> dict[str, tuple]:
    shapes: dict[str, tuple] = {"logit_scale": ()}
    for layer, n in [("lin0", n_in), *((f"mlp.{k}", width) for k in range(n_blocks))]:
        shapes |= linear(f"{layer}.0", width, n) | norm(f"{layer}.1", width)
    sizes = [width, *hidden, n_out]
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        shapes |= norm(f"lin1.{3 * k}", n) | linear(f"lin1.{3 * k + 2}", m, n)
    return shapes


def retrieval_keys(**sizes) -> dict[str, tuple]:
    """Keys of the checkpoints for retrieval: the trunk of the semantic decoder, with two blocks, and nothing more."""
    shapes = semantic_keys(n_blocks=2, **sizes)
    return {key: shape for key, shape in shapes.items() if not key.startswith("lin1.")}


def structure_keys(n_in=N_VOXELS, width=1024, n_out=N_LATENTS, n_blocks=2) -> dict[str, tuple]:
    shapes = linear("lin0.0", width, n_in)
    for k in range(n_blocks):
        shapes |= linear(f"mlp.{k}.0", width, width)
    return shapes | norm("lin1.0", width) | linear("lin1.2", n_out, width)


def motion_keys(n_in=N_VOXELS, d=N_LATENTS, inner=1024, d_ff=768, n_layers=2) -> dict[str, tuple]:
    shapes = linear("encoder.lin0.0", d_ff, n_in) | norm("encoder.lin0.1", d_ff)
    shapes |= linear("encoder.mlp.0.0", d_ff, d_ff) | norm("encoder.mlp.0.1", d_ff) | linear("encoder.lin1", d, d_ff)
    for layer in (f"decoder.layers.{i}" for i in range(n_layers)):
        for attention in ("self_attn", "src_attn"):
            for k in range(3):
                shapes |= linear(f"{layer}.{attention}.linears.{k}", inner, d)
            shapes |= linear(f"{layer}.{attention}.linears1", d, inner)
        shapes |= linear(f"{layer}.feed_forward.w_1", d_ff, d) | linear(f"{layer}.feed_forward.w_2", d, d_ff)
        for k in range(3):
            shapes |= {f"{layer}.sublayer.{k}.norm.a_2": (d,), f"{layer}.sublayer.{k}.norm.b_2": (d,)}
    return shapes | {"decoder.norm.a_2": (d,), "decoder.norm.b_2": (d,), "tgt_embed.1.pe": (1, 10, d)}


def linear(name, n_out, n_in):
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def norm(name, n):
    return {f"{name}.weight": (n,), f"{name}.bias": (n,)}


SMALL = {
    SemanticDecoder: semantic_keys(n_in=7, width=6, hidden=(8, 5), n_out=3 * 4, n_blocks=2),
    StructureDecoder: structure_keys(n_in=7, width=6, n_out=10, n_blocks=3),
    MotionGenerator: motion_keys(n_in=7, d=10, inner=8, d_ff=6, n_layers=2),
}


def draw(shapes, seed=0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {key: torch.tensor(rng.normal(size=shape), dtype=torch.float32) for key, shape in shapes.items()}


def on_meta(build):
    with torch.device("meta"):
        return build()


def n_weights(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# The authors' networks in NumPy.


def apply(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def layer_norm(state, name, x):
    deviation = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return (x - x.mean(-1, keepdims=True)) / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]


def gelu(x):
    return x / 2 * (1 + erf(x / math.sqrt(2)))


def branch_norm(state, name, x):
    deviation = x.std(-1, ddof=1, keepdims=True) + 1e-6
    return state[f"{name}.a_2"] * (x - x.mean(-1, keepdims=True)) / deviation + state[f"{name}.b_2"]


def released_trunk(state, prefix, x, n_blocks):
    def layer(name, x):
        return gelu(layer_norm(state, f"{prefix}{name}.1", apply(state, f"{prefix}{name}.0", x)))

    x = layer("lin0", x)
    for k in range(n_blocks):
        x = layer(f"mlp.{k}", x) + x
    return x


def released_semantic(state, x):
    f = y = released_trunk(state, "", x, n_blocks=2)
    for k in (0, 3, 6):
        y = apply(state, f"lin1.{k + 2}", gelu(layer_norm(state, f"lin1.{k}", y)))
    return f, y


def released_structure(state, x):
    x = apply(state, "lin0.0", x)
    for k in range(3):
        x = apply(state, f"mlp.{k}.0", x) + x
    return apply(state, "lin1.2", np.maximum(layer_norm(state, "lin1.0", x), 0))


def released_attention(state, name, tokens, seen, mask):
    heads = 4
    q, k, v = (apply(state, f"{name}.linears.{i}", part) for i, part in enumerate((tokens, seen, seen)))
    width = q.shape[-1] // heads
    parts = []
    for h in range(heads):
        of = slice(h * width, (h + 1) * width)
        logits = q[:, of] @ k[:, of].T / math.sqrt(width)
        parts.append(softmax(np.where(mask, logits, -1e9), axis=-1) @ v[:, of])
    return apply(state, f"{name}.linears1", np.concatenate(parts, axis=-1))


def released_motion(state, x, frames, mask):
    """Of one clip: x (n_in,), frames (n_frames, d), mask (n_frames, n_frames)."""
    memory = apply(state, "encoder.lin1", released_trunk(state, "encoder.", x[None], n_blocks=1))  # one token
    d = frames.shape[1]
    h = frames.copy()
    for t in range(len(frames)):
        for k in range(0, d, 2):
            h[t, k] += math.sin(t * 10000 ** (-k / d))
            h[t, k + 1] += math.cos(t * 10000 ** (-k / d))
    for i in range(2):
        name = f"decoder.layers.{i}"
        branch = released_attention(state, f"{name}.self_attn", h, h, mask)
        h = h + branch_norm(state, f"{name}.sublayer.0.norm", branch)
        branch = released_attention(state, f"{name}.src_attn", h, memory, np.ones((len(h), 1), bool))
        h = h + branch_norm(state, f"{name}.sublayer.1.norm", branch)
        branch = apply(state, f"{name}.feed_forward.w_2", np.maximum(apply(state, f"{name}.feed_forward.w_1", h), 0))
        h = h + branch_norm(state, f"{name}.sublayer.2.norm", branch)
    return branch_norm(state, "decoder.norm", h)


def as_numpy(state):
    return {key: value.double().numpy() for key, value in state.items()}


@pytest.mark.parametrize(
    ("build", "keys", "n"),
    [
        (lambda: SemanticDecoder(N_VOXELS), semantic_keys(), 72_336_641),
        (lambda: EmbeddingDecoder(N_VOXELS), retrieval_keys(), 2_832_897),
        (lambda: StructureDecoder(N_VOXELS, N_LATENTS), structure_keys(), 23_503_872),
        (lambda: MotionGenerator(N_VOXELS, N_LATENTS), motion_keys(), 335_758_336),
    ],
)
def test_checkpoints_of_real_size_load_with_every_key_used_and_none_missing(build, keys, n):
    network = on_meta(build)
    assert n_weights(network) == n
    assert sum(math.prod(shape) for key, shape in keys.items() if key != "tgt_embed.1.pe") == n
    loaded = from_released({key: torch.empty(shape, device="meta") for key, shape in keys.items()})
    assert type(loaded) is type(network)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert {key: value.shape for key, value in loaded.state_dict().items()} == shapes


def test_weights_of_the_generators_parts():
    network = on_meta(lambda: MotionGenerator(N_VOXELS, N_LATENTS))
    assert n_weights(network.trunk) + n_weights(network.to_memory) == 16_649_728
    for layer in network.layers:
        assert n_weights(layer) == 159_537_920
        assert n_weights(layer.self_attention) == n_weights(layer.memory_attention) == 67_128_320
        assert n_weights(layer.feed_forward) == 25_182_976
        assert layer.self_attention.query.weight.shape[0] / layer.self_attention.heads == 256
    assert n_weights(network.norm) == 2 * N_LATENTS


def test_defaults_of_the_settings_are_the_released_sizes_and_constants():
    settings = MindAnimator()
    semantic, structure, motion, sparse = settings.semantic, settings.structure, settings.motion, settings.sparsify
    assert (settings.voxels.n, settings.batch_size, settings.max_length, settings.n_validation) == (4500, 64, 20, 320)
    assert (semantic.width, semantic.n_blocks, semantic.hidden) == (512, 3, (2048, 4096))
    assert (semantic.learning_rate, semantic.decay, semantic.contrast_weight) == (2e-4, 0.999, 0.01)
    assert semantic.projection_weight == 0.5
    assert (structure.width, structure.n_blocks, structure.learning_rate, structure.decay) == (1024, 2, 1e-6, 0.999)
    assert (structure.l1, structure.l1_rate, motion.l1, motion.l1_rate) == (4e-6, 5e-5, 6e-7, 1e-3)
    assert (motion.inner, motion.heads, motion.d_ff, motion.n_layers, motion.n_memory) == (1024, 4, 768, 2, 1)
    assert (motion.train_keep, motion.warm_up, motion.learning_rate) == (0.6, 50, "noam")
    assert (sparse.semantic, sparse.structure, sparse.zeroed) == (0.2, 0.4, 0.5)
    assert (semantic.epochs, structure.epochs, motion.epochs) == (31, 76, 71)  # epochs 30, 75 and 70, counted from 0
    original = animator_form(settings, "original")
    assert (original.motion.infer_keep, original.motion.train_mask, original.sparsify.accumulate) == (0, "once", True)


def test_shapes_of_what_is_decoded():
    semantic = on_meta(lambda: SemanticDecoder(N_VOXELS))
    structure = on_meta(lambda: StructureDecoder(N_VOXELS, N_LATENTS))
    motion = on_meta(lambda: MotionGenerator(N_VOXELS, N_LATENTS))
    x = torch.empty(2, N_VOXELS, device="meta")
    f, c = semantic(x)
    assert (f.shape, c.shape) == ((2, 512), (2, 19, 768))
    assert structure(x).shape == (2, N_LATENTS)
    assert motion.memory(x).shape == (2, 1, N_LATENTS)
    frames, mask = torch.empty(2, 7, N_LATENTS, device="meta"), torch.empty(1, 7, 7, device="meta", dtype=torch.bool)
    assert motion(x, frames, mask).shape == (2, 7, N_LATENTS)


def test_a_released_semantic_decoder_decodes_as_theirs():
    state, x = draw(SMALL[SemanticDecoder]), torch.randn(5, 7, generator=torch_generator(0))
    network = from_released(state, n_text=4)
    assert isinstance(network, SemanticDecoder)
    f, c = network(x)
    true_f, true_c = released_semantic(as_numpy(state), x.double().numpy())
    np.testing.assert_allclose(f, true_f, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(c, true_c.reshape(5, 3, 4), rtol=1e-4, atol=1e-4)  # a token's numbers are neighbours
    assert network.scale == state["logit_scale"].exp()


def test_a_released_decoder_for_retrieval_gives_f_as_theirs():
    state, x = draw(retrieval_keys(n_in=7, width=6)), torch.randn(5, 7, generator=torch_generator(0))
    network = from_released(state)
    assert isinstance(network, EmbeddingDecoder)
    f = released_trunk(as_numpy(state), "", x.double().numpy(), n_blocks=2)
    np.testing.assert_allclose(network(x), f, rtol=1e-4, atol=1e-5)


def test_a_released_structure_decoder_decodes_as_theirs():
    state, x = draw(SMALL[StructureDecoder]), torch.randn(5, 7, generator=torch_generator(0))
    decoded = from_released(state)(x)
    np.testing.assert_allclose(decoded, released_structure(as_numpy(state), x.double().numpy()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("keep", [0.0, 0.6, 1.0])
def test_a_released_motion_generator_decodes_as_theirs(keep):
    state = draw(SMALL[MotionGenerator]) | {"tgt_embed.1.pe": positions(10)[None]}
    network = from_released({f"module.{key}": value for key, value in state.items()})
    assert isinstance(network, MotionGenerator)
    x, frames = torch.randn(3, 7, generator=torch_generator(1)), torch.randn(3, 7, 10, generator=torch_generator(2))
    mask = visible(7, keep, torch_generator(3), n=3)
    decoded = network(x, frames, mask)
    for i in range(3):
        theirs = released_motion(as_numpy(state), x[i].double().numpy(), frames[i].double().numpy(), mask[i].numpy())
        np.testing.assert_allclose(decoded[i], theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_films_are_decoded_frame_by_frame_as_theirs_and_the_first_stays(keep):
    state = draw(SMALL[MotionGenerator])
    network = from_released(state)
    assert isinstance(network, MotionGenerator)
    x, first = torch.randn(2, 7, generator=torch_generator(1)), torch.randn(2, 10, generator=torch_generator(2))
    films = network.roll_out(x, first, n_frames=8, keep=keep)
    assert films.shape == (2, 8, 10)
    assert torch.equal(films[:, 0], first)
    for i in range(2):
        frames = first[i : i + 1].double().numpy()
        for n in range(1, 8):
            mask = np.tril(np.ones((n, n), bool))
            mask[2:, 1:] &= bool(keep)
            following = released_motion(as_numpy(state), x[i].double().numpy(), frames, mask)[-1:]
            frames = np.concatenate([frames, following])
        np.testing.assert_allclose(films[i], frames, rtol=1e-3, atol=1e-3)


def test_dropout_is_where_the_authors_have_it():
    def rates(module):
        return [part.p for part in module.modules() if isinstance(part, nn.Dropout)]

    assert rates(on_meta(lambda: SemanticDecoder(9, 8, 3, (8,), 3, 4))) == [0.3, 0.15, 0.15, 0.15]
    assert rates(on_meta(lambda: StructureDecoder(9, 8, 8))) == [0.2, 0.2, 0.2]
    motion = on_meta(lambda: MotionGenerator(9, 8, 8))
    assert rates(motion.trunk) == [0.3, 0.15]
    for layer in motion.layers:
        assert rates(layer.self_attention) == rates(layer.memory_attention) == [0.15]
        assert rates(layer.feed_forward) == [0.2]
        assert layer.dropout.p == 0.2
    assert motion.dropout.p == 0.2


def test_first_weights_are_glorots_and_biases_torchs():
    network = MotionGenerator(40, 64, inner=32, d_ff=48)
    for layer in (part for part in network.modules() if isinstance(part, nn.Linear)):
        n_out, n_in = layer.weight.shape
        assert 0.9 < layer.weight.abs().max() / math.sqrt(6 / (n_in + n_out)) <= 1
        assert layer.bias.abs().max() <= 1 / math.sqrt(n_in)
        assert layer.bias.abs().max() > 0
    assert SemanticDecoder(5, 8, 1, (8,), 3, 4).scale.item() == pytest.approx(1 / 0.07)


def test_the_norm_of_a_branch_has_the_deviation_of_n_minus_1_and_epsilon_outside():
    network = MotionGenerator(5, 4, inner=4, d_ff=4)
    assert network.norm is not None
    x = torch.tensor([[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 0.0, 4e-6]])
    deviation = np.std(x.double().numpy(), axis=1, ddof=1, keepdims=True)
    expected = (x.double().numpy() - x.double().numpy().mean(1, keepdims=True)) / (deviation + 1e-6)
    np.testing.assert_allclose(network.norm(x).detach(), expected, rtol=1e-5)
    assert expected[1, 3] == pytest.approx(1.0)  # 3e-6 / (2e-6 + 1e-6): with epsilon in a root it would be another


def test_at_the_start_each_frame_leaves_with_mean_0_and_deviation_1():
    network = MotionGenerator(6, 32, inner=16, d_ff=16).eval()
    decoded = network(torch.randn(3, 6), 5 + 3 * torch.randn(3, 7, 32), visible(7, 1))
    torch.testing.assert_close(decoded.mean(-1), torch.zeros(3, 7), atol=1e-5, rtol=0)
    torch.testing.assert_close(decoded.std(-1), torch.ones(3, 7), atol=1e-5, rtol=0)


def test_the_structure_decoder_is_linear_up_to_its_norm():
    trunk = StructureDecoder(6, 8, 5).eval().trunk
    a, b, zero = torch.randn(6), torch.randn(6), torch.zeros(6)
    torch.testing.assert_close(trunk(2 * a - b), 2 * trunk(a) - trunk(b))
    assert not torch.allclose(trunk(zero), zero[:5])
    trunk = SemanticDecoder(6, 5, 2, (8,), 3, 4).eval().trunk
    assert not torch.allclose(trunk(2 * a - b), 2 * trunk(a) - trunk(b), atol=1e-3)


def test_positions_are_10_sinusoids():
    table = positions(16384)
    assert table.shape == (MOST_FRAMES, 16384) == (10, 16384)
    assert table[0, ::2].abs().max() == 0
    assert (table[0, 1::2] == 1).all()
    assert table[3, 0].item() == pytest.approx(math.sin(3), abs=1e-6)
    assert table[3, 101].item() == pytest.approx(math.cos(3 * 10000 ** (-100 / 16384)), abs=1e-6)


def test_with_one_token_of_memory_attention_is_the_same_for_any_query():
    network = MotionGenerator(6, 16, inner=8, d_ff=8).eval()
    memory = network.memory(torch.randn(2, 6))
    attention = network.layers[0].memory_attention
    outputs = attention(torch.randn(2, 7, 16), memory)
    others = attention(100 * torch.randn(2, 7, 16), memory)
    assert (outputs - others).abs().max() == 0.0
    assert (outputs - outputs[:, :1]).abs().max() == 0.0
    plain = attention.output(attention.value(memory))
    torch.testing.assert_close(outputs, plain.expand_as(outputs))


def test_with_one_token_of_memory_its_queries_and_keys_learn_nothing():
    network = MotionGenerator(6, 16, inner=8, d_ff=8).eval()
    network(torch.randn(2, 6), torch.randn(2, 7, 16), visible(7, 1)).square().mul(torch.randn(16)).sum().backward()
    for layer in network.layers:
        attention = layer.memory_attention
        assert attention.query.weight.grad.abs().max() == attention.key.weight.grad.abs().max() == 0
        assert attention.value.weight.grad.abs().max() > 0


@pytest.mark.parametrize(("keep", "matters"), [(0, [0, 6]), (1, [0, 1, 2, 3, 4, 5, 6])])
def test_as_released_only_the_first_and_the_last_frame_matter_for_the_next(keep, matters):
    network = MotionGenerator(6, 16, inner=8, d_ff=8).eval()
    x, frames, mask = torch.randn(1, 6), torch.randn(1, 7, 16), visible(7, keep)
    plain = network(x, frames, mask)[:, -1]
    found = []
    for i in range(7):
        changed = frames.clone()
        changed[:, i] += torch.randn(16)
        if not torch.equal(network(x, changed, mask)[:, -1], plain):
            found.append(i)
    assert found == matters


def test_masks_of_keep_0_and_1():
    lower = np.tril(np.ones((7, 7), bool))
    first_only = lower & ((np.arange(7)[:, None] <= 1) | (np.arange(7) == 0))
    np.testing.assert_array_equal(visible(7, 1)[0], lower)
    np.testing.assert_array_equal(visible(7, 0)[0], first_only)
    assert first_only.sum(1).tolist() == [1, 2, 1, 1, 1, 1, 1]


def test_random_masks_keep_three_of_five_also_on_the_diagonal_and_never_the_future():
    masks = visible(7, 0.6, torch_generator(0), n=4000).numpy()
    row, column = np.indices((7, 7))
    assert not masks[:, column > row].any()
    assert masks[:, :, 0].all()
    assert masks[:, 1, 1].all()
    free = (row > 1) & (column > 0) & (column <= row)
    assert free.sum() == 20
    np.testing.assert_allclose(masks[:, free].mean(0), 0.6, atol=0.03)  # each place
    assert masks[:, free].mean() == pytest.approx(0.6, abs=0.01)
    diagonal = masks[:, np.arange(2, 7), np.arange(2, 7)]
    assert diagonal.mean() == pytest.approx(0.6, abs=0.02)
    share = masks[:, free].mean(1)
    assert abs(np.corrcoef(share[:-1], share[1:])[0, 1]) < 0.06  # one mask tells nothing of the next


@pytest.mark.parametrize(("epoch", "weight"), [(0, 4e-6), (75, 3.48e-6), (200, 1.48e-6), (400, 7.4e-8)])
def test_schedule_of_the_structure_decoders_penalty(epoch, weight):
    assert l1_weight(4e-6, 5e-5, epoch, compounds=True) == pytest.approx(weight, rel=5e-3)
    now = 4e-6
    for e in range(epoch):
        now *= math.exp(-5e-5 * e)
    assert l1_weight(4e-6, 5e-5, epoch, compounds=True) == pytest.approx(now)
    assert l1_weight(4e-6, 5e-5, epoch, compounds=False) == pytest.approx(4e-6 * math.exp(-5e-5 * epoch))


@pytest.mark.parametrize(("epoch", "weight"), [(0, 6e-7), (50, 1.76e-7), (70, 5.36e-8), (100, 4.25e-9)])
def test_schedule_of_the_generators_penalty(epoch, weight):
    assert l1_weight(6e-7, 1e-3, epoch, compounds=True) == pytest.approx(weight, rel=5e-3)


@pytest.mark.parametrize(
    ("step", "rate"), [(1, 2.21e-5), (50, 1.105e-3), (63, 9.84e-4), (63 * 71, 1.17e-4), (63 * 301, 5.67e-5)]
)
def test_noams_rates(step, rate):
    assert noam(step, 16384, 50) == pytest.approx(rate, rel=5e-3)
    assert max(range(1, 500), key=lambda step: noam(step, 16384, 50)) == 50


def test_the_penalty_is_of_every_weight():
    network = on_meta(lambda: SemanticDecoder(5, 6, 1, (7,), 3, 4)).to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.constant_(parameter, -2.0)
    assert l1_norm(network).item() == 2 * n_weights(network)


def test_equal_logits_cost_the_logarithm_of_the_batch():
    f, target = torch.eye(20)[:10], torch.eye(20)[10:]  # all at right angles
    assert bi_info_nce(f, target, 14.3).item() == pytest.approx(math.log(10))
    assert bi_info_nce(torch.randn(10, 4), torch.randn(10, 4), 0.0).item() == pytest.approx(math.log(10))


def plain_info_nce(f, target, scale):
    total = 0.0
    n = len(f)
    cosines = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in target] for a in f]
    for i in range(n):
        row = [math.exp(scale * cosines[i][j]) for j in range(n)]
        column = [math.exp(scale * cosines[j][i]) for j in range(n)]
        total -= (math.log(row[i] / sum(row)) + math.log(column[i] / sum(column))) / 2
    return total / n


def test_the_contrast_is_that_of_a_plain_transcription():
    rng = np.random.default_rng(0)
    f, target = rng.normal(size=(8, 5)), 3 * rng.normal(size=(8, 5))
    ours = bi_info_nce(torch.tensor(f), torch.tensor(target), 14.3).item()
    assert ours == pytest.approx(plain_info_nce(f, target, 14.3))
    order = rng.permutation(8)
    assert bi_info_nce(torch.tensor(f[order]), torch.tensor(target[order]), 14.3).item() == pytest.approx(ours)
    assert bi_info_nce(torch.tensor(target), torch.tensor(f), 14.3).item() == pytest.approx(ours)


def test_the_semantic_loss_is_that_of_a_plain_transcription():
    rng = np.random.default_rng(1)
    f, t, v = (rng.normal(size=(6, 4)) for _ in range(3))
    c, true_c = (rng.normal(size=(6, 3, 2)) for _ in range(2))
    contrast = 0.5 * (plain_info_nce(f, t, 9.0) + plain_info_nce(f, v, 9.0))
    expected = ((f - t) ** 2).mean() + 0.01 * contrast + 0.5 * ((c - true_c) ** 2).mean()
    ours = semantic_loss(*(torch.tensor(part) for part in (f, c, t, v, true_c)), 9.0, 0.01, 0.5)
    assert ours.item() == pytest.approx(expected)


def test_clips_of_one_caption_are_right_answers_in_equal_parts():
    rng = np.random.default_rng(2)
    f, target = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    same = np.array([7, 3, 7, 5, 7])
    unit_f, unit_t = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (f, target))
    S = 4 * unit_f @ unit_t.T
    rows, columns = log_softmax(S, axis=1), log_softmax(S, axis=0)
    expected = 0.0
    for i in range(5):
        right = np.flatnonzero(same == same[i])
        expected -= (rows[i, right].mean() + columns[right, i].mean()) / 2 / 5
    ours = bi_info_nce(torch.tensor(f), torch.tensor(target), 4.0, torch.tensor(same))
    assert ours.item() == pytest.approx(expected)
    apart = bi_info_nce(torch.tensor(f), torch.tensor(target), 4.0, torch.arange(5))
    assert apart == bi_info_nce(torch.tensor(f), torch.tensor(target), 4.0)


@pytest.mark.parametrize(("chosen", "n_zeros"), [(0.2, int(0.5 * int(0.2 * 989))), (0.4, int(0.5 * int(0.4 * 989)))])
def test_sparsification_zeroes_half_of_the_chosen_ones(chosen, n_zeros):
    X = np.ones((43, 23))
    found = sparsify(X, chosen, 0.5, numpy_generator(0))
    assert (found == 0).sum() == n_zeros
    assert (found[found != 0] == 1).all()
    assert (X == 1).all()


def test_zeros_of_the_released_semantic_decoder_accumulate_and_its_validation_rows_stay():
    X = np.ones((480, 450), np.float32)
    training = X[:400]
    for epoch, found in zip(range(31), sparsified(training, 0.2, 0.5, True, 0, "semantic"), strict=False):
        assert (found != 0).mean() == pytest.approx(0.9 ** (epoch + 1), rel=0.03)
    assert (X == 1).all()


def test_zeros_of_the_released_structure_decoder_accumulate_after_those_of_its_validation():
    X = np.ones((432, 450), np.float32)
    validation = sparsify(X, 0.4, 0.5, numpy_generator(0, "validation"), in_place=True)[400:].copy()
    assert (validation != 0).mean() == pytest.approx(0.8, abs=0.01)
    shares = [
        (found != 0).mean() for _, found in zip(range(21), sparsified(X, 0.4, 0.5, True, 0, "structure"), strict=False)
    ]
    np.testing.assert_allclose(shares, 0.8 ** (np.arange(21) + 2), rtol=0.06)
    assert shares[0] == pytest.approx(0.64, abs=0.005)
    assert shares[20] == pytest.approx(0.0073, abs=0.0005)
    assert (validation != 0).mean() == pytest.approx(0.8, abs=0.01)


def test_eda_has_13_candidates():
    wordnet = open_wordnet(REPOSITORY / "miniature" / "wordnet")
    found = candidates("A black dog runs over the green grass", numpy_generator(0), wordnet)
    assert len(found) == 13
    assert found[0] == "a black dog runs over the green grass"
    words = [text.split() for text in found]
    assert all(len(text) >= 8 for text in words[4:7])  # three that words may be inserted into, which can have spaces
    for text in words[7:10]:  # three that are swapped
        assert sorted(text) == sorted(words[0])
    for text in words[10:]:  # three that lack words
        remaining = iter(words[0])
        assert all(word in remaining for word in text)


def test_a_crop_is_torchvisions_without_antialiasing():
    images = torch.rand(3, 3, 512, 512, generator=torch_generator(0))
    corners = crop_corners(3, 512, torch_generator(1), per_image=True)
    found = crop(images, corners, 224)
    for image, (top, left), ours in zip(images, corners.tolist(), found, strict=True):
        theirs = transforms.resized_crop(image, top, left, 400, 400, [224, 224], antialias=False)
        torch.testing.assert_close(ours, theirs)


def test_corners_are_anywhere_and_as_released_one_for_all_images():
    corners = crop_corners(4000, 512, torch_generator(0), per_image=True)
    assert (corners.min(), corners.max()) == (0, 112)
    assert corners.double().mean() == pytest.approx(56, abs=2)
    one = crop_corners(4000, 512, torch_generator(0), per_image=False)
    assert one.shape == (4000, 2)
    assert (one == one[0]).all()


def test_the_negative_prompt_has_25_tokens_and_is_cut_where_the_authors_code_cuts_it():
    tokenizer, settings = clip_tokenizer(), MindAnimator()
    assert len(tokenizer(settings.video.negative_prompt).input_ids) == 25
    kept = tokenizer(settings.video.negative_prompt, truncation=True, max_length=settings.max_length).input_ids
    text = "not like the real scene , distorted and blurred body , blurry , bad proportions , out"
    assert tokenizer.decode(kept, skip_special_tokens=True) == text


def test_constants_and_switches_of_the_released_sampler():
    video = animator_form(MindAnimator(), "original").video
    assert (video.n_steps, video.start, video.renoise, video.guidance_scale) == (50, "inversion", 200, 12.5)
    assert (video.noise, video.group_norm, video.keys) == ("per_frame", "pooled", "first_and_previous")
    assert (video.temporal_bias, video.inversion_length) == ("random", "encoder")
    assert clip_tokenizer().model_max_length == 77
    corrected = animator_form(MindAnimator(), "corrected").video
    assert (corrected.noise, corrected.temporal_bias, corrected.inversion_length) == ("shared", "zero", "c")


def test_stable_diffusion_is_inflated_in_16_attentions_and_45_norms_with_the_keys_it_has():
    unet = UNet2DConditionModel.load_config(STABLE_DIFFUSION_V1, subfolder="unet")
    unet = on_meta(lambda: UNet2DConditionModel.from_config(unet))
    keys = list(unet.state_dict())
    inflate(unet, 8, animator_form(MindAnimator(), "original").video, seed=0)
    assert list(unet.state_dict()) == keys
    assert len(keys) == 686
    assert n_weights(unet) == 859_520_964
    assert sum(isinstance(processor, FrameAttention) for processor in unet.attn_processors.values()) == 16
    assert sum(isinstance(module, PooledGroupNorm) for module in unet.modules()) == 2 * 22 + 1
    assert sum(bool(module._forward_hooks) for module in unet.modules()) == 16  # of the temporal bias
