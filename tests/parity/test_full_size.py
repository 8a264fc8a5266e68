"""Stable Diffusion v1-4 and OpenAI's CLIP at their real sizes, with random weights."""

import gc
import json
import pickle
import resource
import shutil
import sys
import types

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPTextConfig, CLIPTextModel

from feature_extraction.clip_layers import ClipLayers
from feature_extraction.text import embed_captions
from minddiffuser.config.method import LAYERS, Guidance, Sampler, layer_name
from minddiffuser.pretrained import checkpoint
from minddiffuser.pretrained.clip import random_clip
from minddiffuser.pretrained.stable_diffusion import (
    clip_tokenizer,
    open_scheduler,
    open_text_encoder,
    open_unet,
    open_vae,
    random_stable_diffusion,
)
from minddiffuser.store import DataError
from reconstruction.guidance import Targets, refine
from reconstruction.sampler import ImageToImage

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.fixture(scope="module")
def on_meta():
    return random_stable_diffusion(META)


def test_numbers_of_weights_are_those_of_the_public_models(on_meta):
    counts = {name: sum(p.numel() for p in on_meta[name].parameters()) for name in ("unet", "vae", "text_encoder")}
    assert counts == {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}
    assert len(on_meta["unet"].state_dict()) == 686
    assert len(on_meta["vae"].state_dict()) == 248
    clip = random_clip("ViT-B-32-quickgelu", CPU)
    assert sum(p.numel() for p in clip.model.visual.parameters()) == 87_849_216
    assert clip.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))


def test_weights_have_the_public_names_and_shapes(on_meta):
    unet, vae = on_meta["unet"].state_dict(), on_meta["vae"].state_dict()
    assert unet["conv_in.weight"].shape == (320, 4, 3, 3)
    assert unet["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape == (320, 768)
    assert unet["mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight"].shape == (10240, 1280)
    assert unet["up_blocks.3.resnets.2.conv_shortcut.weight"].shape == (320, 640, 1, 1)
    assert vae["decoder.up_blocks.3.resnets.2.conv2.weight"].shape == (128, 128, 3, 3)
    assert vae["post_quant_conv.weight"].shape == (4, 4, 1, 1)
    assert on_meta["vae"].config.scaling_factor == 0.18215


def test_attention_is_the_fused_kind_that_does_not_store_its_matrix(on_meta):
    kinds = {type(p).__name__ for part in ("unet", "vae") for p in on_meta[part].attn_processors.values()}
    assert kinds == {"AttnProcessor2_0"}


def test_one_pass_has_the_papers_shapes(on_meta):
    scheduler = open_scheduler(str(checkpoint.STABLE_DIFFUSION_V1), None)
    sampler = ImageToImage(
        on_meta["unet"], on_meta["vae"], scheduler, torch.empty(1, 15, 768, device=META), Sampler(), False
    )
    assert sampler.noise_timestep == 741
    assert sampler.timesteps.tolist() == list(range(681, 0, -20))
    assert scheduler.alphas_cumprod[741] == pytest.approx(0.0603556, abs=1e-7)
    assert scheduler.alphas_cumprod[681] == pytest.approx(0.0946369, abs=1e-7)
    x, c = torch.empty(2, 4, 64, 64, device=META), torch.empty(2, 15, 768, device=META)
    assert sampler.unet(x, 681, c).sample.shape == x.shape
    assert sampler.vae.decode(x).sample.shape == (2, 3, 512, 512)
    assert sampler.vae.encode(torch.empty(2, 3, 512, 512, device=META)).latent_dist.mean.shape == x.shape


def test_features_have_the_papers_shapes():
    encoder = ClipLayers(random_clip("ViT-B-32-quickgelu", CPU), LAYERS, "clip", True)
    with torch.no_grad():
        features = encoder(torch.rand(1, 3, 512, 512), "bicubic")
    assert {features[layer_name(n)].shape for n in LAYERS} == {(1, 50, 768)}
    assert features["embedding"].shape == (1, 512)


def test_text_embedding_at_15_tokens(on_meta):
    encoder = CLIPTextModel(
        CLIPTextConfig.from_pretrained(str(checkpoint.STABLE_DIFFUSION_V1), subfolder="text_encoder")
    )
    c = embed_captions(["a man on a wave", "two dogs"], clip_tokenizer(), encoder.eval(), 15)
    assert c.shape == (2, 15, 768)
    torch.testing.assert_close(c[0, 0], c[1, 0])  # begin of text does not see what follows


@pytest.mark.parametrize(
    "text", ["A man riding a wave.", "Two  dogs, 3 birds -- isn't it?!", "ÅÄÖ café", "", "word " * 30]
)
def test_tokenizer_equals_open_clips_own(text):
    ours = clip_tokenizer()(text, padding="max_length", truncation=True, max_length=15).input_ids
    pieces = [49406, *SimpleTokenizer().encode(text)[:13], 49407]
    assert ours == pieces + [49407] * (15 - len(pieces))


class ModelCheckpoint:
    """The class that CompVis' checkpoint names."""


class OldNumpy(types.ModuleType):
    """Pickle as with NumPy 1, which called its inner module numpy.core."""

    class Pickler(pickle._Pickler):
        def save_global(self, obj, name=None):
            if getattr(obj, "__name__", "") == "scalar":
                self.write(b"cnumpy.core.multiarray\nscalar\n")
                self.memoize(obj)
            else:
                super().save_global(obj, name)

        dispatch = {**pickle._Pickler.dispatch, types.FunctionType: save_global}  # noqa: RUF012


def original_names(part: str, names: list[str]) -> dict[str, str]:
    """CompVis' names of weights, by diffusers' names."""
    resnet = {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
    }  # fmt: skip
    top = {
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    }  # fmt: skip
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}

    def unet(words: list[str]) -> str:
        side, i, kind, j, *rest = words
        if side == "mid_block":
            kind, j, rest = i, kind, [j, *rest]
            place = {"resnets0": "0", "attentions0": "1", "resnets1": "2"}[kind + j]
            head = f"middle_block.{place}"
        elif side == "down_blocks":
            sampler = kind == "downsamplers"
            number = 3 * int(i) + (3 if sampler else int(j) + 1)
            head = f"input_blocks.{number}.{1 if kind == 'attentions' else 0}"
            rest = ["op", *rest[1:]] if sampler else rest
        else:
            sampler = kind == "upsamplers"
            place = {"resnets": "0", "attentions": "1", "upsamplers": "1" if i == "0" else "2"}[kind]
            head = f"output_blocks.{3 * int(i) + (2 if sampler else int(j))}.{place}"
        if kind == "resnets":
            rest = [resnet[rest[0]], *rest[1:]]
        return ".".join([head, *rest])

    def vae(name: str) -> str:
        for k in range(4):
            name = name.replace(f"encoder.down_blocks.{k}.", f"encoder.down.{k}.")
            name = name.replace(f"decoder.up_blocks.{k}.", f"decoder.up.{3 - k}.")
        name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        if "mid_block.attentions.0" in name:
            head, rest = name.split("mid_block.attentions.0.")
            key, kind = rest.rsplit(".", 1)
            return f"{head}mid.attn_1.{attention[key]}.{kind}"
        for a, b in {
            ".resnets.": ".block.", "downsamplers.0": "downsample", "upsamplers.0": "upsample",
            "conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out",
        }.items():  # fmt: skip
            name = name.replace(a, b)
        return name

    if part == "text_encoder":
        return {name: f"cond_stage_model.transformer.text_model.{name}" for name in names}
    if part == "vae":
        return {name: f"first_stage_model.{vae(name)}" for name in names}
    found = {}
    for name in names:
        head, kind = name.rsplit(".", 1)
        original = f"{top[head]}.{kind}" if head in top else unet(name.split("."))
        found[name] = f"model.diffusion_model.{original}"
    return found


@pytest.fixture
def original_checkpoint(tmp_path, monkeypatch):
    """A checkpoint in CompVis' format, of the same shape but narrow, and the models that it is made from."""
    folder = tmp_path / "narrow"
    shutil.copytree(checkpoint.STABLE_DIFFUSION_V1, folder)
    for part, change in {
        "unet": {"block_out_channels": [32, 32, 64, 64], "cross_attention_dim": 24, "attention_head_dim": 4},
        "vae": {"block_out_channels": [32, 32, 32, 64]},
        "text_encoder": {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2},
    }.items():
        path = folder / part / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    monkeypatch.setattr(checkpoint, "STABLE_DIFFUSION_V1", folder)
    models = {
        "unet": UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder, subfolder="unet")),
        "vae": AutoencoderKL.from_config(AutoencoderKL.load_config(folder, subfolder="vae")),
        "text_encoder": CLIPTextModel(CLIPTextConfig.from_pretrained(folder, subfolder="text_encoder")),
    }
    weights = {}
    for part, model in models.items():
        tensors = model.state_dict()
        for name, original in original_names(part, list(tensors)).items():
            tensor = tensors[name]
            if part == "vae" and "attn_1" in original and tensor.ndim == 2:
                tensor = tensor[:, :, None, None]  # there they are convolutions
            weights[original] = tensor.clone()
    ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"
    path = tmp_path / "sd-v1-4.ckpt"
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks", ModelCheckpoint.__module__):
            module = types.ModuleType(name)
            module.__dict__.update(ModelCheckpoint=ModelCheckpoint, __path__=[])
            patch.setitem(sys.modules, name, module)
        saved = {"state_dict": weights, "callbacks": {ModelCheckpoint: {"best_model_score": np.float64(1)}}}
        torch.save(saved, path, pickle_module=OldNumpy)
    return path, models


def test_the_original_checkpoint_opens_to_the_same_weights(original_checkpoint):
    path, models = original_checkpoint
    tokenizer, text_encoder = open_text_encoder(str(path), None, CPU)
    opened = {
        "unet": open_unet(str(path), None, CPU),
        "vae": open_vae(str(path), None, CPU),
        "text_encoder": text_encoder,
    }
    for part, model in models.items():
        for name, tensor in model.state_dict().items():
            assert torch.equal(opened[part].state_dict()[name], tensor), (part, name)
        assert not any(p.requires_grad for p in opened[part].parameters())
    assert tokenizer("a dog").input_ids == [49406, 320, 1929, 49407]
    scheduler = open_scheduler(str(path), None)
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(981, 0, -20))


@pytest.mark.parametrize("cut", [0, 1000])
def test_a_broken_checkpoint_is_named(original_checkpoint, cut):
    path, _ = original_checkpoint
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"sd-v1-4\.ckpt cannot be read as a checkpoint of Stable Diffusion v1"):
        open_unet(str(path), None, CPU)


OPENERS = {
    "text_encoder": lambda path: open_text_encoder(str(path), None, CPU),
    "vae": lambda path: open_vae(str(path), None, CPU),
    "unet": lambda path: open_unet(str(path), None, CPU),
}


@pytest.mark.parametrize("part", OPENERS)
def test_a_checkpoint_without_one_weight_of_a_part_or_with_one_more_is_refused(original_checkpoint, part):
    path, _ = original_checkpoint
    saved = checkpoint._read_checkpoint(path)
    prefix = checkpoint._PREFIXES[part]
    names = [name for name in saved if name.startswith(prefix)]
    own = {name: tensor.clone() for name, tensor in saved.items()}
    for k in (0, len(names) // 2, len(names) - 1):
        torch.save({"state_dict": {name: tensor for name, tensor in own.items() if name != names[k]}}, path)
        with pytest.raises(DataError, match=r"sd-v1-4\.ckpt .*(missing|lacks|shape|are known)"):
            OPENERS[part](path)
    for changed in (
        {f"{prefix}of.another.model": torch.ones(2, 2)},
        {names[1]: own[names[1]].repeat(2, *[1] * (own[names[1]].ndim - 1))},
        {names[1]: own[names[1]] * float("nan")},
    ):
        torch.save({"state_dict": {**own, **changed}}, path)
        with pytest.raises(DataError, match=r"sd-v1-4\.ckpt "):
            OPENERS[part](path)
    torch.save({"state_dict": {name: own[name] for name in own if name not in names}}, path)
    with pytest.raises(DataError, match=r"sd-v1-4\.ckpt .*has no weights"):
        OPENERS[part](path)
    # Older versions of transformers stored the positions, and checkpoints of a training hold other things.
    extra = {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save({"state_dict": {**own, **extra, "betas": torch.ones(1000)}}, path)
    OPENERS[part](path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_stage_1_and_one_iteration_of_stage_2_at_full_size_within_20_gib():
    """512 px, two denoising steps, on the CPU."""
    torch.manual_seed(0)
    models = random_stable_diffusion(CPU)
    del models["text_encoder"]
    models["vae"].enable_gradient_checkpointing()
    models["scheduler"] = open_scheduler(str(checkpoint.STABLE_DIFFUSION_V1), None)
    settings = Sampler(n_steps=4, noise_index=2, denoise_steps=2)
    sampler = ImageToImage(models["unet"], models["vae"], models["scheduler"], torch.randn(1, 15, 768), settings, True)
    encoder = ClipLayers(random_clip("ViT-B-32-quickgelu", CPU), LAYERS, "clip", True)
    z, c, noise = torch.randn(1, 4, 64, 64), torch.randn(1, 15, 768), torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        stage1 = sampler(z, c, noise)
    assert stage1.shape == (1, 3, 512, 512)
    gc.collect()
    names = [layer_name(n) for n in LAYERS]
    units = {name: torch.arange(0, 38400, 4) for name in names}
    targets = Targets({name: torch.randn(1, 9600) for name in names}, units)
    states = []
    result = refine(
        z, c, sampler, lambda x: encoder(x, "bicubic"), lambda _: noise, targets, Guidance(n_iterations=1),
        keep=lambda _k, _images, state: states.append(state),
    )  # fmt: skip
    torch.testing.assert_close(result.images, stage1, rtol=0, atol=1e-4)
    for name in ("z", "c"):
        gradient = states[0][f"{name}_mean"] / 0.1  # Adam's first average is a tenth of the gradient
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
    assert np.isfinite(result.losses.item())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 20 * 2**20  # KiB
