"""From decoded targets to pictures: Stable Diffusion image-to-image, then guidance by CLIP features."""
