"""The three targets of decoding: text embeddings c, latents z and CLIP's low-level features."""
