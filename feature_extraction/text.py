"""The semantic target c: Stable Diffusion's text embedding of captions (paper, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from minddiffuser.store import DataError

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer


def embed_captions(
    captions: Sequence[str], tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, max_length: int
) -> torch.Tensor:
    """Last hidden state of the text encoder, after its final normalisation.

    No attention mask is given, as in Stable Diffusion: attention is causal, so padding does not reach what is
    before it, and token 0 (begin of text) is the same for every caption.

    Parameters
    ----------
    captions : sequence of n str
        The empty caption "" gives the unconditional embedding.
    max_length : int
        Tokens with begin and end of text; longer captions are cut, shorter ones padded with end of text.

    Returns
    -------
    tensor of shape (n, max_length, width)

    Raises
    ------
    DataError
        The text encoder has fewer tokens than `max_length`.
    """
    if max_length > (n := text_encoder.config.max_position_embeddings):
        raise DataError(f"c is to have {max_length} tokens (max_length), but the text encoder has {n}")
    ids = tokenizer(
        list(captions), padding="max_length", truncation=True, max_length=max_length, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        return text_encoder(ids.to(text_encoder.device)).last_hidden_state
