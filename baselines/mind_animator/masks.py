"""Which frames the motion generator may look at: the sparse causal mask of Mind-Animator."""

import torch


def visible(n_frames: int, keep: float, generator: torch.Generator | None = None, n: int = 1) -> torch.Tensor:
    """Draw masks of self-attention over frames.

    visible(i, j) = j <= i and (i <= 1 or j = 0 or U_ij < keep),  U_ij uniform in [0, 1)

    Frame i, counted from 0, never sees a later one, and always sees the first; frames 0 and 1 see all that there is to
    them. From frame 2 on each other frame is seen with the chance `keep`, and so is the frame itself. With `keep` 1
    the mask is the lower triangle; with 0 frames from 2 on see the first alone.

    Parameters
    ----------
    n_frames : int
    keep : float
        In [0, 1]. What the authors call mask ratio is this chance to be kept: .6 in training, and 0 when films are
        made, where the paper's figure has the lower triangle.
    generator : torch.Generator, optional
        Of the CPU; needed where `keep` is neither 0 nor 1.
    n : int
        Masks to draw: one for each clip.

    Returns
    -------
    tensor of shape (n, n_frames, n_frames), bool
        True where frame i (row) sees frame j (column).

    Raises
    ------
    ValueError
        `keep` is between 0 and 1, and there is no generator.

    References
    ----------
    Lu et al. 2025 (arXiv 2405.03280), its figure of the masks; the authors' models/Decoder.py.
    """
    frame = torch.arange(n_frames)
    if keep in (0, 1):
        drawn = torch.full((n, n_frames, n_frames), bool(keep))
    elif generator is None:
        raise ValueError(f"keep is {keep}: masks are drawn, and need a generator")
    else:
        drawn = torch.rand(n, n_frames, n_frames, generator=generator) < keep
    always = (frame[:, None] <= 1) | (frame == 0)
    return (frame <= frame[:, None]) & (always | drawn)
