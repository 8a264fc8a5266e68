"""The networks that score films, those of published tables or the miniature's stand-ins, as far as they are there.

    score                     published                                   stand-in
    image_2_way, image_50_way ViT-B/16 on ImageNet-1k                     CLIP that scores, zero-shot, 90 classes
    video_2_way, video_50_way VideoMAE-base on Kinetics-400               a regression fitted on training films
    vifi                      ViFi-CLIP ViT-B/16, mean over frames        CLIP that scores, mean over frames
    clip_consistency          CLIP ViT-B/32                               CLIP that scores

Frames are resized as wholes, with antialiasing; only ViFi-CLIP sees the middle 224 of 256 pixels, as published.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import interpolate

from data import cc2017
from evaluation.catalogue import STAND_IN
from evaluation.metrics.features import clip_embeddings, normalise
from evaluation.videos import stand_ins
from feature_extraction.optical_flow import flows
from minddiffuser.config import REPOSITORY, Config
from minddiffuser.config.mind_animator import MindAnimator
from minddiffuser.pretrained.classifiers import Network, open_image_classifier, open_video_classifier, open_vifi
from minddiffuser.pretrained.clip import Clip, open_clip_model
from minddiffuser.pretrained.files import MissingModelError
from minddiffuser.pretrained.stable_diffusion import open_text_encoder
from minddiffuser.progress import progress

FIT_STEP = 2  # the stand-in's regression is fitted on every second training clip, for time
_VIFI_WHOLE = 256  # pixels that ViFi-CLIP's frames are resized to before they are cropped
_NEEDS = {  # which scores need which network
    "image": ("image_2_way", "image_50_way"),
    "video": ("video_2_way", "video_50_way"),
    "vifi": ("vifi", "clip_consistency_gated"),
    "clip": ("clip_consistency", "clip_consistency_gated"),
}

Look = Callable[[np.ndarray], np.ndarray]


class FilmNetworks(NamedTuple):
    """All networks that are there.

    Attributes
    ----------
    look : callable
        From videos (n, n_frames, h, w, 3), uint8, to what networks say of them, float64: "image" (n, n_frames,
        n_classes), "video" (n, n_classes), "vifi" (n, n_dimensions) and "clip" (n, n_frames, n_dimensions), without
        those whose network is absent.
    absent : dict of str to str
        Scores that are absent, and why.
    suffix : str
        What ends the names of scores: empty, or that of a stand-in.
    """

    look: Callable[[np.ndarray], dict[str, np.ndarray]]
    absent: dict[str, str]
    suffix: str


def open_networks(config: Config, device: torch.device) -> FilmNetworks:
    """Open the networks that score films. With stand-ins, training films are read, and take some 15 s.

    Raises
    ------
    MissingModelError
        A stand-in, or CLIP, is absent or broken; or a file that is there of another network is broken.
    """
    settings, batch = config.experiment.mind_animator, config.execution.batch_size.score
    if settings is None:
        raise ValueError("experiment.mind_animator is null")
    if settings.metrics.networks == "scoring_clip":
        return _stand_ins(config, settings, device)
    names, n_frames = settings.metrics, settings.clips.n_frames
    openers: dict[str, Callable[[], Look]] = {
        "image": lambda: _of_frames(
            open_image_classifier(names.image_classifier, names.image_classifier_revision, device), device, batch
        ),
        "video": lambda: _of_videos(
            open_video_classifier(names.video_classifier, names.video_classifier_revision, n_frames, device),
            device,
            batch,
        ),
        "vifi": lambda: _mean_of_frames(
            _of_frames(open_vifi(_vifi_path(names.vifi), device), device, batch, through=_VIFI_WHOLE)
        ),
        "clip": lambda: _of_clip(open_clip_model(names.clip, names.clip_weights, device), device, batch),
    }
    looks, absent = {}, {}
    for name, opener in openers.items():
        try:
            looks[name] = opener()
        except MissingModelError as error:
            if error.path is not None and error.path.is_file():
                raise  # it is there, and broken
            absent |= dict.fromkeys(_NEEDS[name], str(error))
    return FilmNetworks(lambda videos: {name: look(videos) for name, look in looks.items()}, absent, "")


def _vifi_path(name: str | None) -> Path:
    if name is None:
        raise MissingModelError(
            "ViFi-CLIP is not named: set experiment.mind_animator.metrics.vifi to its checkpoint, "
            "k400_seed1_vifi_clip_base2novel.pth of github.com/muzairkhattak/ViFi-CLIP"
        )
    return REPOSITORY / name


def _of_frames(network: Network, device: torch.device, batch: int, through: int | None = None) -> Look:
    """Look at each frame by itself: (n, n_frames, n_outputs)."""

    def look(videos: np.ndarray) -> np.ndarray:
        frames = videos.reshape(-1, *videos.shape[2:])
        found = [network.forward(_pixels(part, network, device, through)) for part in _batches(frames, batch)]
        return torch.cat(found).double().cpu().numpy().reshape(*videos.shape[:2], -1)

    return look


def _of_videos(network: Network, device: torch.device, batch: int) -> Look:
    """Look at each video as a whole, as many at a time as have `batch` frames: (n, n_outputs)."""

    def look(videos: np.ndarray) -> np.ndarray:
        found = []
        for part in _batches(videos, max(1, batch // videos.shape[1])):
            pixels = _pixels(part.reshape(-1, *part.shape[2:]), network, device)
            found.append(network.forward(pixels.reshape(*part.shape[:2], *pixels.shape[1:])))
        return torch.cat(found).double().cpu().numpy()

    return look


def _mean_of_frames(look: Look) -> Look:
    return lambda videos: look(videos).mean(axis=1)


def _of_clip(clip: Clip, device: torch.device, batch: int) -> Look:
    """Embed each frame by CLIP: (n, n_frames, n_dimensions)."""

    def look(videos: np.ndarray) -> np.ndarray:
        found = clip_embeddings(clip, videos.reshape(-1, *videos.shape[2:]), device, batch)
        return found.reshape(*videos.shape[:2], -1)

    return look


def _batches(items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _pixels(images: np.ndarray, network: Network, device: torch.device, through: int | None = None) -> torch.Tensor:
    """Resize and normalise images (n, h, w, 3) uint8: (n, 3, size, size), the middle of `through` pixels if given."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float() / 255
    whole = through or network.size
    if pixels.shape[2:] != (whole, whole):
        pixels = interpolate(pixels, (whole, whole), mode="bilinear", antialias=True)
    start = (whole - network.size) // 2
    middle = slice(start, start + network.size)
    return normalise(pixels[:, :, middle, middle], network.mean, network.std)


def _stand_ins(config: Config, settings: MindAnimator, device: torch.device) -> FilmNetworks:
    models, batch = config.experiment.models, config.execution.batch_size.score
    clip = open_clip_model(models.scoring_clip, models.scoring_clip_weights, device)
    embed = _of_clip(clip, device, batch)
    tokenizer, _ = open_text_encoder(models.stable_diffusion, models.stable_diffusion_revision, device)
    options = {"padding": "max_length", "truncation": True, "max_length": clip.model.context_length}
    weights = stand_ins.class_weights(clip, tokenizer(stand_ins.prompts(), return_tensors="pt", **options).input_ids)
    classifier = _fit(config, settings, embed)

    def look(videos: np.ndarray) -> dict[str, np.ndarray]:
        embeddings = embed(videos)
        of_frames = stand_ins.zero_shot(weights, embeddings.reshape(-1, embeddings.shape[-1]))
        pairs = zip(embeddings, videos, strict=True)
        features = np.stack([stand_ins.features_of(of_one, flows(video)) for of_one, video in pairs])
        return {
            "image": of_frames.reshape(*videos.shape[:2], -1),
            "video": classifier.classify(features),
            "vifi": embeddings.mean(axis=1),
            "clip": embeddings,
        }

    return FilmNetworks(look, {}, STAND_IN)


def _fit(config: Config, settings: MindAnimator, embed: Look) -> stand_ins.VideoClassifier:
    """Fit the stand-in for the classifier of videos on training films, which are read a clip at a time."""
    films = [film for film in cc2017.films(config.cc2017).values() if not film.is_test]
    captions = cc2017.read_captions(config.cc2017, "training", sum(film.n_clips for film in films))
    clips = settings.clips
    videos = (v for film in films for _, v in cc2017.read_clips(film, clips.n_frames, clips.frame_step, clips.size))
    features, labels = [], []
    for row, video in enumerate(progress(videos, desc="stand-in for the classifier of videos", total=len(captions))):
        if row % FIT_STEP == 0:
            flow = flows(video)
            features.append(stand_ins.features_of(embed(video[None])[0], flow))
            labels.append(stand_ins.labels_of(captions[row], flow))
    return stand_ins.fit_video_classifier(features, labels)
