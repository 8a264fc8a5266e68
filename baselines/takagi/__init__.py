"""Takagi & Nishimoto 2023 (CVPR): ridge regressions to latents and text embeddings, then image-to-image diffusion."""
