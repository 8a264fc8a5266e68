"""Architectures of the miniature's models: the classes of the real ones, with small configurations.

Each function builds one model with random weights; `miniature/train.py` trains it and
`minddiffuser.pretrained` opens the result. The folder `weights/stable-diffusion` has the layout of a
diffusers checkpoint on the hub, and `weights/clip*` that of an open_clip one.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, ResNetConfig, ResNetModel

from baselines.ozcelik.generator import Generator
from miniature.scenes import IMAGE_SIZE

WEIGHTS = Path(__file__).parent / "weights"
MAX_LENGTH = 15
_TEXT_WIDTH = 128


def build_tokenizer(corpus: list[str]) -> CLIPTokenizer:
    """Byte-pair tokenizer of CLIP's form, learned from `corpus`; end-of-text has the highest id, as in CLIP."""
    word_piece = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    word_piece.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(vocab_size=1000, end_of_word_suffix="</w>", show_progress=False)
    word_piece.train_from_iterator(corpus, trainer)
    learned = json.loads(word_piece.to_str())["model"]
    tokens = sorted(learned["vocab"], key=learned["vocab"].get)
    # Every letter must be a token with and without the suffix, or a word outside the corpus has no pieces.
    letters = [letter for c in "abcdefghijklmnopqrstuvwxyz,." for letter in (c, f"{c}</w>")]
    tokens = [*dict.fromkeys([*letters, *tokens]), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[tuple(merge) for merge in learned["merges"]],  # type: ignore[arg-type]
        model_max_length=MAX_LENGTH,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Causal CLIP text encoder; its last hidden state, (15, 128), conditions the U-Net."""
    special: dict[str, Any] = {
        name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=_TEXT_WIDTH,
        intermediate_size=4 * _TEXT_WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        projection_dim=_TEXT_WIDTH,
        **special,
    )
    return CLIPTextModel(config)


def build_vae() -> AutoencoderKL:
    """Autoencoder with downsampling 8: (3, 64, 64) to (4, 8, 8)."""
    # diffusers annotates these tuples as having one element.
    blocks: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (16, 32, 64, 96),
    }
    return AutoencoderKL(
        **blocks,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
    )


def build_unet() -> UNet2DConditionModel:
    """Noise-predicting U-Net on (4, 8, 8) latents with cross-attention to the text."""
    return UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(80, 120),
        layers_per_block=1,
        cross_attention_dim=_TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion v1's noise schedule with half of its betas.

    The same noise hides more of a small picture than of a large one, which has more pixels to average it away over. To
    leave as much, a picture with 1/64 of the pixels needs 64 times the signal-to-noise ratio (Hoogeboom et al. 2023,
    arXiv 2301.11093, section 3.1). Half of the betas gives 5 times the ratio at timestep 751: part of the way, because
    text to image begins from timestep 999, where 7 % of the variance is signal then (Stable Diffusion: .5 %).
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085 / 2,
        beta_end=0.012 / 2,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def clip_config(scoring: bool, vocab_size: int) -> dict[str, Any]:
    """Configure an open_clip CLIP.

    The guiding CLIP is a vision transformer like ViT-B/32, with the six blocks that guidance reads. The
    scoring CLIP is a ResNet, trained from another seed on other scenes, so that a score is not the
    optimised quantity again.
    """
    if scoring:
        vision: dict[str, Any] = {"layers": [1, 1, 1, 1], "width": 16, "head_width": 32, "image_size": IMAGE_SIZE}
    else:
        vision = {"layers": 6, "width": 96, "head_width": 32, "patch_size": 8, "image_size": IMAGE_SIZE}
    text = {"context_length": MAX_LENGTH, "vocab_size": vocab_size, "width": 96, "heads": 3, "layers": 3}
    return {"embed_dim": 96, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}


def build_clip(scoring: bool, vocab_size: int) -> open_clip.CLIP:
    """CLIP of `clip_config` with random weights."""
    return open_clip.CLIP(**clip_config(scoring, vocab_size))


def build_instance_encoder() -> ResNetModel:
    """ResNet whose pooled features, (128,), condition the generator: SwAV's ResNet-50 in small."""
    return ResNetModel(
        ResNetConfig(embedding_size=32, hidden_sizes=[32, 64, 96, 128], depths=[1, 1, 1, 1], layer_type="basic")
    )


def build_generator() -> Generator:
    """IC-GAN's generator of 32 pixels, which stand to Stable Diffusion's 64 as 256 do to 512."""
    return Generator([128, 96, 64, 32], attention_after=1, n_features=128, n_condition=64, n_chunk=8, classes=(10, 16))


class Discriminator(nn.Module):
    """Tells pictures from generated ones, given an instance's features (Miyato & Koyama 2018: by projection)."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 128)
        self.convolutions = nn.ModuleList(
            spectral_norm(nn.Conv2d(n_in, n_out, 3, padding=1))
            for pair in itertools.pairwise(widths)
            for n_in, n_out in (pair, (pair[1], pair[1]))
        )
        self.shortcuts = nn.ModuleList(
            spectral_norm(nn.Conv2d(n_in, n_out, 1)) for n_in, n_out in itertools.pairwise(widths)
        )
        self.score = spectral_norm(nn.Linear(widths[-1], 1))
        self.project = spectral_norm(nn.Linear(n_features, widths[-1]))

    def forward(self, pictures: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Scores of pictures (n, 3, 32, 32) with features (n, n_features): (n,)."""
        h = pictures
        for i, shortcut in enumerate(self.shortcuts):
            first, second = self.convolutions[2 * i : 2 * i + 2]
            path = second(functional.relu(first(functional.relu(h) if i else h)))
            h = functional.avg_pool2d(path, 2) + shortcut(functional.avg_pool2d(h, 2))
        h = functional.relu(h).sum(dim=(2, 3))
        return self.score(h)[:, 0] + (h * self.project(features)).sum(dim=1)
