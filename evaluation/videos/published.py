"""What papers print of films reconstructed from brains, quoted with its source.

Numbers of one metric are of one kind only where their source is the same: CLIP consistency is printed with Mind-
Animator's gate (`clip_consistency_gated`) and without it; hue is a cosine, and .75 for unrelated pictures; chance of
2-way is .75, as three classes count as right; the end-point error is of films of 512 pixels, and better for films that
do not move. `evaluation/videos/dialects.py` computes scores as published.
"""

import pandas as pd

from minddiffuser.config import REPOSITORY

PATH = "baselines/published_films.csv"
METRICS = {
    "image_2_way": "2-way, frames (chance .75)",
    "image_50_way": "50-way, frames (chance .058)",
    "video_2_way": "2-way, videos (chance .75)",
    "video_50_way": "50-way, videos (chance .058)",
    "2_way": "2-way; frames or videos is not said",
    "50_way": "50-way; frames or videos is not said",
    "vifi": "VIFI score",
    "ssim": "SSIM",
    "psnr": "PSNR, dB",
    "hue": "Hue-pcc (a cosine)",
    "clip_consistency_gated": "CLIP-pcc, gated",
    "clip_consistency": "CLIP-pcc, not gated",
    "epe": "EPE ↓, pixels",
    "flow_cosine": "cosine of optical flow",
    "retrieval_small_top_10": "top-10 of 1,200 clips (chance .008)",
    "retrieval_small_top_100": "top-100 of 1,200 clips (chance .083)",
    "retrieval_large_top_10": "top-10 of 4,240 clips (chance .002)",
    "retrieval_large_top_100": "top-100 of 4,240 clips (chance .024)",
    "shuffle_p_epe": "p of the shuffle test, by EPE",
    "shuffle_p_clip_consistency": "p of the shuffle test, by CLIP-pcc",
}


def read_published() -> pd.DataFrame:
    """Read the quoted numbers.

    Returns
    -------
    DataFrame
        dataset, system; metric, a key of `METRICS`; subjects ("1 2 3", empty where the source does not say), value,
        spread (what the source prints behind ±, empty where nothing), source, and read_from: in what form the number
        was read, such as "notes on the paper".
    """
    kinds = {"subjects": str, "source": str}
    return pd.read_csv(REPOSITORY / PATH, dtype=kinds).fillna({"subjects": ""})
