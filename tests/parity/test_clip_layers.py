"""Features by hooks against transformers' CLIP with the same weights."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from feature_extraction.clip_layers import ClipLayers
from minddiffuser.config import EMBEDDING, layer_name
from minddiffuser.pretrained import Clip
from minddiffuser.store import DataError
from miniature import networks


def copy_of(visual):
    """transformers' vision model with the weights of an open_clip one."""
    config = CLIPVisionConfig(
        hidden_size=96, intermediate_size=384, num_hidden_layers=6, num_attention_heads=3, image_size=64, patch_size=8,
        projection_dim=96, hidden_act="quick_gelu",
    )  # fmt: skip
    model = CLIPVisionModelWithProjection(config).eval()
    theirs, ours = {}, visual.state_dict()
    prefix = "vision_model."
    theirs[f"{prefix}embeddings.class_embedding"] = ours["class_embedding"]
    theirs[f"{prefix}embeddings.patch_embedding.weight"] = ours["conv1.weight"]
    theirs[f"{prefix}embeddings.position_embedding.weight"] = ours["positional_embedding"]
    for a, b in (("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post")):
        for part in ("weight", "bias"):
            theirs[f"{prefix}{a}.{part}"] = ours[f"{b}.{part}"]
    for k in range(6):
        old, new = f"transformer.resblocks.{k}.", f"{prefix}encoder.layers.{k}."
        for part in ("weight", "bias"):
            for name, piece in zip("qkv", ours[f"{old}attn.in_proj_{part}"].chunk(3), strict=True):
                theirs[f"{new}self_attn.{name}_proj.{part}"] = piece
            pairs = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2"}
            for a, b in {**pairs, "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}.items():
                theirs[f"{new}{b}.{part}"] = ours[f"{old}{a}.{part}"]
    theirs["visual_projection.weight"] = ours["proj"].T
    result = model.load_state_dict(theirs, strict=False)
    assert not result.unexpected_keys
    assert all("position_ids" in key for key in result.missing_keys)
    return model


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    model = networks.build_clip(scoring=False, vocab_size=100).eval().requires_grad_(False)
    return Clip(model, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))


def test_linear_2k_is_the_mlp_output_of_block_k(clip):
    encoder = ClipLayers(clip, (2, 4, 6, 8, 10, 12), "clip", antialias=False)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    ours = encoder(images, "bicubic")

    model, seen = copy_of(clip.model.visual), {}
    for k, layer in enumerate(model.vision_model.encoder.layers):
        layer.mlp.fc2.register_forward_hook(lambda _m, _i, out, k=k: seen.__setitem__(k, out))
    normalised = (images - torch.tensor(clip.mean)[:, None, None]) / torch.tensor(clip.std)[:, None, None]
    with torch.no_grad():
        embedding = model(pixel_values=normalised).image_embeds
    for k in range(6):
        assert ours[layer_name(2 * k + 2)].shape == (3, 65, 96)  # token-major, class token first
        torch.testing.assert_close(ours[layer_name(2 * k + 2)], seen[k], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[EMBEDDING], embedding, rtol=1e-4, atol=1e-5)


def test_constants_and_resize_are_those_asked_for(clip):
    images = torch.rand(1, 3, 90, 90, generator=torch.Generator().manual_seed(2))
    features = [
        ClipLayers(clip, (2,), normalisation, antialias)(images, resize)["linear_02"]
        for normalisation, antialias, resize in (
            ("clip", True, "bicubic"),
            ("imagenet", True, "bicubic"),
            ("clip", False, "bicubic"),
            ("clip", True, "bilinear"),
        )
    ]
    assert all(not torch.allclose(features[0], other, atol=1e-3) for other in features[1:])


def test_a_layer_that_is_not_there_is_an_error(clip):
    with pytest.raises(DataError, match=r"Linear-2 \.\.\. 12"):
        ClipLayers(clip, (14,), "clip", antialias=True)
