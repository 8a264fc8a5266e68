"""Lu et al. 2025 (ICLR, arXiv 2405.03280), Mind-Animator: films of two seconds from fMRI, on CC2017."""
