"""Measure the miniature's models on held-out scenes, and write their model card.

    python benchmarks/assess_models.py

Reads `miniature/weights/` and the training curves in `runs/training/` (where they are absent, the card keeps the
figures of them that it has). Writes `miniature/weights/README.md` and the figures beside it. Held-out scenes have a
seed that no training uses. Takes about three minutes on two cores.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from torch.nn import functional

from baselines.ozcelik.features import instance_features, invert
from baselines.ozcelik.generator import open_generator
from feature_extraction.latents import decode, encode, to_model_range
from feature_extraction.text import embed_captions
from minddiffuser.config.method import Sampler
from minddiffuser.pretrained.clip import Clip, open_clip_model
from minddiffuser.pretrained.icgan import open_instance_encoder
from minddiffuser.pretrained.stable_diffusion import open_scheduler, open_text_encoder, open_unet, open_vae
from miniature.adversarial import small_pictures, two_views
from miniature.networks import WEIGHTS
from miniature.train import CONTINUED_STEPS, SCENE_SEEDS, STEPS, WORK, draw_scenes
from reconstruction.folder import to_uint8
from reconstruction.sampler import ImageToImage

CPU = torch.device("cpu")
DIFFUSION = str(WEIGHTS / "stable-diffusion")
N_HELD_OUT = 500


def main() -> None:
    """Measure, draw and write the card."""
    mpl.use("Agg")
    images, texts = draw_scenes("held_out", N_HELD_OUT)
    tokenizer, text_encoder = open_text_encoder(DIFFUSION, None, CPU)
    vae, unet = open_vae(DIFFUSION, None, CPU), open_unet(DIFFUSION, None, CPU)
    guide = open_clip_model(f"local-dir:{WEIGHTS / 'clip'}", None, CPU)
    scorer = open_clip_model(f"local-dir:{WEIGHTS / 'scoring_clip'}", None, CPU)

    def tokenise(captions: list[str]) -> torch.Tensor:
        return tokenizer(captions, padding="max_length", truncation=True, max_length=15, return_tensors="pt").input_ids

    def sampler(settings: Sampler) -> ImageToImage:
        unconditional = embed_captions([""], tokenizer, text_encoder, 15)
        scheduler = open_scheduler(DIFFUSION, None)
        return ImageToImage(unet, vae, scheduler, unconditional, settings, checkpoint_steps=False)

    rows = []
    with torch.no_grad():
        # The autoencoder.
        pixels = to_model_range(images, 64)
        z = torch.cat([encode(vae, batch) for batch in pixels.split(50)])
        decoded = np.concatenate([to_uint8(decode(vae, batch)) for batch in z.split(50)])
        psnr = [peak_signal_noise_ratio(a, b) for a, b in zip(images, decoded, strict=True)]
        rows.append(("autoencoder", f"PSNR of {N_HELD_OUT} held-out scenes", f"{np.mean(psnr):.1f} dB"))
        rows.append(("autoencoder", "deviation of latents times the scaling factor", f"{z.std():.2f}"))
        _sheet([*images[:10], *decoded[:10]], 10, WEIGHTS / "autoencoder.png")

        # Both CLIPs: which of 100 pictures does a caption belong to?
        for name, clip in (("guiding CLIP", guide), ("scoring CLIP", scorer)):
            features = torch.cat([_embed(clip, images[s : s + 100]) for s in range(0, N_HELD_OUT, 100)])
            captions = clip.model.encode_text(tokenise([t[1] for t in texts]), normalize=True)
            hits = [
                (captions[s : s + 100] @ features[s : s + 100].T).argmax(dim=1) == torch.arange(100)
                for s in range(0, N_HELD_OUT, 100)
            ]
            rows.append(
                (name, "caption to picture, top 1 of 100 (chance 1 %)", f"{torch.cat(hits).float().mean():.1%}")
            )

        # Text to image: the whole schedule from pure noise (latents of zero at the noisiest level).
        prompts = [
            f"a {colour} {kind} {place}"
            for colour in ("red", "yellow", "green", "blue", "purple", "white")
            for kind, place in (
                ("house", "on the grass"),
                ("ball", "by the sea"),
                ("fish", "at night"),
                ("car", "in the desert"),
            )
        ]
        c = embed_captions(prompts, tokenizer, text_encoder, 15)
        noise = torch.randn((len(prompts), 4, 8, 8), generator=torch.Generator().manual_seed(0))
        drawn = to_uint8(sampler(Sampler(noise_index=49, denoise_steps=50))(torch.zeros_like(noise), c, noise))
        _sheet(list(drawn), 12, WEIGHTS / "text_to_image.png")
        similarity = _embed(scorer, drawn) @ scorer.model.encode_text(tokenise(prompts), normalize=True).T
        own, others = similarity.diagonal(), similarity[~torch.eye(len(prompts), dtype=torch.bool)]
        two_way = (own[:, None] > others.reshape(len(prompts), -1)).float().mean()
        rows.append(
            (
                "diffusion",
                f"text to image, {len(prompts)} prompts: two-way accuracy by the scoring CLIP",
                f"{two_way:.1%}",
            )
        )

        # Image to image from the true z and c, with the paper's noise index and number of steps.
        c = torch.stack([embed_captions(t, tokenizer, text_encoder, 15).mean(dim=0) for t in texts[:100]])
        noise = torch.randn(z[:100].shape, generator=torch.Generator().manual_seed(1))
        redrawn = to_uint8(sampler(Sampler())(z[:100], c, noise))
        correlation = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, redrawn, strict=False)]
        rows.append(
            (
                "diffusion",
                "image to image from true z and c (37 / 35 of 50, scale 5): PixCorr",
                f"{np.mean(correlation):.3f}",
            )
        )
        _sheet([*images[:10], *redrawn[:10]], 10, WEIGHTS / "image_to_image.png")
    rows += _assess_icgan(images)
    _write_card(
        rows, _draw_curves(STEPS) + _draw_curves(CONTINUED_STEPS, "_continued") + _draw_curves(["diffusion"], "_cuda")
    )


def _assess_icgan(images: np.ndarray) -> list[tuple[str, str, str]]:
    """Rows of the card for the instance encoder and the generator, and a figure."""
    encoder = open_instance_encoder(str(WEIGHTS / "instance_encoder"), None, CPU)
    generator = open_generator(str(WEIGHTS / "icgan"), CPU)
    pictures, draw = small_pictures(torch.from_numpy(images)), torch.Generator().manual_seed(2)
    with torch.no_grad():
        a, b = instance_features(encoder, two_views(pictures[:100], draw)).chunk(2)
        found = ((a @ b.T).argmax(dim=1) == torch.arange(100)).float().mean()
        features = instance_features(encoder, pictures)
        noise = [torch.randn(N_HELD_OUT, generator.n_noise, generator=draw) for _ in range(2)]
        made = [generator(z, features) / 2 + 0.5 for z in noise]
        kept = (instance_features(encoder, made[0]) * features).sum(dim=1)
        others = (features @ features.T)[~torch.eye(N_HELD_OUT, dtype=torch.bool)]
    u, v, error = invert(generator, encoder, pictures[:100], features[:100], n_steps=20, learning_rate=0.2)
    inverted = generator(u, features[:100], v) / 2 + 0.5
    rows = [to_uint8(part[:10]) for part in (pictures, *made, inverted)]
    _sheet([picture for row in rows for picture in row], 10, WEIGHTS / "icgan.png")
    return [
        ("instance encoder", "one crop to another of the same picture, top 1 of 100 (chance 1 %)", f"{found:.1%}"),
        ("IC-GAN", "cosine of what is made with what was asked for, of two pictures otherwise",
         f"{kept.mean():.3f}, {others.mean():.3f}"),
        ("IC-GAN", "inversion of 100 scenes in 20 steps: mean absolute difference, of 1", f"{error.mean():.3f}"),
    ]  # fmt: skip


def _embed(clip: Clip, images: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (clip.mean, clip.std))
    return functional.normalize(clip.model.encode_image((pixels - mean) / std), dim=-1)


def _sheet(images: list[np.ndarray], n_columns: int, path: Path) -> None:
    """Tile pictures row by row, at twice their size."""
    rows = [np.concatenate(images[s : s + n_columns], axis=1) for s in range(0, len(images), n_columns)]
    Image.fromarray(np.concatenate(rows).repeat(2, axis=0).repeat(2, axis=1)).save(path)


def _draw_curves(models: Iterable[str], suffix: str = "") -> str:
    """Draw the losses of all trainings, of those that were continued, or of those on a GPU, where they are there.

    Gives the lines of the card on the figure, which may be there from an earlier time.
    """
    curves = {name: WORK / f"{name}{suffix}" / "curve.csv" for name in models}
    path, n_columns = WEIGHTS / f"curves{suffix}.png", min(len(curves), 3)
    if all(curve.exists() for curve in curves.values()):
        n_rows = -(-len(curves) // n_columns)
        size = (10 / 3 * n_columns, 2.5 * n_rows)
        figure, axes = plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)
        for axis, (name, curve_path) in zip(axes.flat, curves.items(), strict=True):
            curve = pd.read_csv(curve_path)
            axis.plot(curve["step"], curve["loss"])
            axis.set(title=name + suffix.replace("_", ", "), xlabel="step", ylabel="training loss", yscale="log")
        figure.savefig(path, dpi=80, metadata={"Software": None})
    return f"\n![Training loss]({path.name})\n" if path.exists() else ""


def _write_card(rows: list[tuple[str, str, str]], curves: str) -> None:
    sizes = {p.parent.name: p.stat().st_size / 1e6 for p in sorted(WEIGHTS.rglob("*.safetensors"))}
    scale = json.loads((WEIGHTS / "stable-diffusion" / "vae" / "config.json").read_text())["scaling_factor"]
    table = "\n".join(f"| {model} | {measure} | {value} |" for model, measure, value in rows)
    card = f"""# The miniature's models

Small models of the classes of the real ones, trained on procedurally drawn scenes (`miniature/scenes.py`):
`AutoencoderKL`, `UNet2DConditionModel`, `CLIPTextModel` with its tokenizer (a Stable Diffusion folder of the
hub's layout, scaling factor {scale}), two open_clip CLIPs, one to guide and one, of another architecture, to score,
and, for the rival that needs it, IC-GAN's generator with the ResNet whose features condition it, trained without labels
(32 pixels). They are for trying the methods on a laptop; they know nothing but these scenes.

Made by, in this order (steps {STEPS}, continued for {CONTINUED_STEPS}; scene seeds
{SCENE_SEEDS}, 30,000 scenes of each where nothing else is said; weights and batches seeded in `miniature/train.py`):

    python miniature/train.py vae
    python miniature/train.py clip
    python miniature/train.py scoring_clip
    python miniature/train.py diffusion
    python miniature/train.py instance_encoder
    python miniature/train.py generator
    python miniature/train.py vae --continued
    python miniature/train.py diffusion --continued
    python miniature/train.py diffusion --continued --steps 4900 --seed 20 --batch-size 256 --scenes 60000 --device cuda
    python miniature/train.py diffusion --continued --steps 1800 --seed 20 --batch-size 256 --scenes 60000 --device cuda

The last two ran on an H100, in 301 and 103 seconds; all others on two CPU cores. Before those two, the noise schedule
had all of Stable Diffusion's betas; they and all that uses the weights have half of them (`build_scheduler` in
`miniature/networks.py` says why).

Sizes in MB (float16, opened as float32): {", ".join(f"{name} {size:.1f}" for name, size in sizes.items())};
together {sum(sizes.values()):.1f}.
{curves}
The first figure is of the first trainings (of the generator it is the discriminator's loss; of scoring_clip what came
after step 600 was lost), the second of those that were continued (diffusion's began with the schedules of 5,000 and
4,000 steps, and was shortened after 225, for time), the third of the two on the H100, one after the other (losses
of another noise schedule are not comparable). Both of these drew the same batches for 1,800 steps, having one seed.

## Quality on held-out scenes

Printed by `python benchmarks/assess_models.py`:

| model | measure | value |
|---|---|---|
{table}

Originals above what the autoencoder makes of them:

![Autoencoder](autoencoder.png)

Text to image: red, yellow, green (first row), blue, purple, white (second); each as a house on the grass, a ball by
the sea, a fish at night, a car in the desert.

![Text to image](text_to_image.png)

Originals above image to image from the true z and c, noised to index 37 of 50:

![Image to image](image_to_image.png)

IC-GAN, 32 pixels: originals, two pictures of each from other noise with the original's features, and the original
inverted:

![IC-GAN](icgan.png)
"""
    (WEIGHTS / "README.md").write_text(card)
    print(table)


if __name__ == "__main__":
    main()
