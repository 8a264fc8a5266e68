"""The inflated U-Net against the flat one, attention written out, and statistics of all frames by hand."""

import copy

import numpy as np
import pytest
import torch

from baselines.mind_animator.inflation import FrameAttention, PooledGroupNorm, inflate
from minddiffuser.config.mind_animator import Video
from miniature import networks

N_FRAMES = 4
T = torch.tensor(301)


@pytest.fixture(scope="module")
def flat():
    torch.manual_seed(0)
    return networks.build_unet().eval().requires_grad_(False)


def inflated(flat, n_frames=N_FRAMES, seed=0, **settings):
    unet = copy.deepcopy(flat)
    inflate(unet, n_frames, Video(**settings), seed)
    return unet


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def predict(unet, x, c):
    """Noise predicted in clips (n_clips, n_frames, 4, h, w), each with its c."""
    with torch.no_grad():
        found = unet(x.flatten(0, 1), T, c.repeat_interleave(x.shape[1], dim=0)).sample
    return found.reshape(x.shape)


ALL = [
    {"group_norm": norm, "keys": keys} for norm in ("pooled", "per_frame") for keys in ("first_and_previous", "first")
]


@pytest.mark.parametrize("settings", ALL)
def test_one_frame_and_equal_frames_are_the_flat_unets(flat, settings):
    x, c = random(2, 1, 4, 8, 8), random(2, 15, 128, seed=2)
    expected = predict(flat, x, c)
    torch.testing.assert_close(predict(inflated(flat, 1, **settings), x, c), expected, rtol=1e-6, atol=1e-6)
    frames = x.expand(-1, N_FRAMES, -1, -1, -1)
    found = predict(inflated(flat, **settings), frames, c)
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-6, atol=1e-6)


def test_frames_that_differ_are_not_those_of_a_unet_frame_by_frame(flat):
    x, c = random(2, N_FRAMES, 4, 8, 8), random(2, 15, 128, seed=2)
    expected = predict(flat, x, c)
    error = [(predict(inflated(flat, **s), x, c) - expected).norm() / expected.norm() for s in ALL]
    assert min(error) > 0.005


def changed(unet, frame):
    """Frames of a clip whose prediction changes with a frame."""
    x, c = random(1, N_FRAMES, 4, 8, 8), random(1, 15, 128, seed=2)
    other = x.clone()
    other[:, frame] += 1
    return ((predict(unet, x, c) - predict(unet, other, c)).abs().amax(dim=(0, 2, 3, 4)) > 1e-5).tolist()


def test_a_frame_reaches_the_frames_that_look_at_it(flat):
    """Several transformer blocks, each one frame on; all others only by the pooled statistics."""
    by_previous, by_first = (
        inflated(flat, group_norm="per_frame", keys=keys) for keys in ("first_and_previous", "first")
    )
    assert changed(by_previous, 0) == changed(by_first, 0) == [True] * 4
    assert changed(by_previous, 1) == [False, True, True, True]
    assert changed(by_previous, 3) == [False, False, False, True]
    assert changed(by_first, 1) == [False, True, False, False]
    assert changed(inflated(flat), 3) == [True] * 4


def test_clips_of_a_batch_do_not_see_each_other(flat):
    unet, x, c = inflated(flat, temporal_bias="random"), random(3, N_FRAMES, 4, 8, 8), random(3, 15, 128, seed=2)
    together = predict(unet, x, c)
    torch.testing.assert_close(predict(unet, x.flip(0), c.flip(0)).flip(0), together, rtol=0, atol=1e-5)
    torch.testing.assert_close(predict(unet, x[1:2], c[1:2]), together[1:2], rtol=0, atol=1e-5)


def attend_by_hand(attn, hidden, seen_of):
    """Attention of a clip (n_frames, n_places, width) in NumPy; `seen_of(i)` gives the frames that frame i meets."""
    weights = {name: parameter.numpy().astype(np.float64) for name, parameter in attn.named_parameters()}
    hidden, n_heads = hidden.numpy().astype(np.float64), attn.heads
    found = []
    for i, frame in enumerate(hidden):
        seen = np.concatenate([hidden[k] for k in seen_of(i)])
        q, k, v = (
            np.einsum("lc,dc->ld", tokens, weights[f"to_{name}.weight"]).reshape(len(tokens), n_heads, -1)
            for name, tokens in (("q", frame), ("k", seen), ("v", seen))
        )
        logits = np.einsum("lhd,mhd->hlm", q, k) / np.sqrt(q.shape[2])
        share = np.exp(logits - logits.max(axis=2, keepdims=True))
        share /= share.sum(axis=2, keepdims=True)
        heads = np.einsum("hlm,mhd->lhd", share, v).reshape(len(frame), -1)
        found.append(heads @ weights["to_out.0.weight"].T + weights["to_out.0.bias"])
    return np.stack(found)


@pytest.mark.parametrize(
    ("keys", "seen_of"), [("first_and_previous", lambda i: (0, max(i - 1, 0))), ("first", lambda _: (0,))]
)
def test_attention_is_that_written_out(flat, keys, seen_of):
    attn = flat.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    hidden = 3 * random(2, N_FRAMES, 7, 80)
    with torch.no_grad():
        found = FrameAttention(N_FRAMES, keys)(attn, hidden.flatten(0, 1)).reshape(hidden.shape)
    for clip, expected in zip(found, hidden, strict=True):
        np.testing.assert_allclose(clip.numpy(), attend_by_hand(attn, expected, seen_of), atol=1e-5)


def test_statistics_are_those_of_all_frames_of_a_clip():
    torch.manual_seed(3)
    norm = torch.nn.GroupNorm(2, 6)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    x = random(2, N_FRAMES, 6, 5, 3) * torch.arange(1, N_FRAMES + 1)[:, None, None, None] + 2
    with torch.no_grad():
        found = PooledGroupNorm(norm, N_FRAMES)(x.flatten(0, 1)).reshape(x.shape).numpy()
    groups = x.numpy().reshape(2, N_FRAMES, 2, 3, 5, 3)
    mean, variance = (f(groups, axis=(1, 3, 4, 5), keepdims=True) for f in (np.mean, np.var))
    scaled = ((groups - mean) / np.sqrt(variance + norm.eps)).reshape(x.shape)
    weight, bias = (part.detach().numpy()[:, None, None] for part in (norm.weight, norm.bias))
    np.testing.assert_allclose(found, scaled * weight + bias, atol=1e-5)


@pytest.mark.parametrize("group_norm", ["pooled", "per_frame"])
def test_what_is_inflated_is_self_attention_and_the_norms_of_residual_blocks(flat, group_norm):
    unet = inflated(flat, group_norm=group_norm)
    assert list(unet.state_dict()) == list(flat.state_dict())
    for name, processor in unet.attn_processors.items():
        assert isinstance(processor, FrameAttention) == ("attn1" in name)
    pooled = {name for name, module in unet.named_modules() if isinstance(module, PooledGroupNorm)}
    norms = {name for name, module in flat.named_modules() if isinstance(module, torch.nn.GroupNorm)}
    of_transformers = {name for name in norms if ".attentions." in name}
    assert of_transformers
    assert pooled == (norms - of_transformers if group_norm == "pooled" else set())


def bias_of(flat, seed, part="down_blocks"):
    """What the temporal bias adds to a transformer block of width 80, at one of both ends of the U-Net."""
    inputs = {"hidden_states": random(N_FRAMES, 64, 80), "encoder_hidden_states": random(N_FRAMES, 15, 128)}
    outputs = []
    for bias in ("random", "zero"):
        unet = inflated(flat, temporal_bias=bias, seed=seed)
        block = getattr(unet, part)[0 if part == "down_blocks" else -1].attentions[0].transformer_blocks[0]
        with torch.no_grad():
            outputs.append(block(**inputs))
    return outputs[0] - outputs[1]


def test_the_temporal_bias_adds_a_vector_to_each_transformer_block(flat):
    added = bias_of(flat, seed=5)
    torch.testing.assert_close(added, added[:1, :1].expand_as(added), rtol=0, atol=1e-5)
    vector = added[0, 0]
    assert vector.abs().max() <= 1 / 80**0.5 + 1e-5
    assert vector.std() == pytest.approx(1 / (3 * 80) ** 0.5, rel=0.3)
    torch.testing.assert_close(bias_of(flat, seed=5), added, rtol=0, atol=0)
    for other in (bias_of(flat, seed=6), bias_of(flat, seed=5, part="up_blocks")):
        assert not torch.allclose(other[0, 0], vector, atol=0.02)


def test_the_temporal_bias_changes_films_somewhat(flat):
    x, c = random(1, N_FRAMES, 4, 8, 8), random(1, 15, 128, seed=2)
    without = predict(inflated(flat), x, c)
    change = (predict(inflated(flat, temporal_bias="random"), x, c) - without).norm() / without.norm()
    assert 0.001 < change < 1
