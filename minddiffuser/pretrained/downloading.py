"""Downloading models, and checking what was downloaded: the only module that uses the network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from minddiffuser.config import REPOSITORY
from minddiffuser.config.method import Models
from minddiffuser.config.mind_animator import FilmMetrics
from minddiffuser.pretrained.classifiers import FILES as CLASSIFIER_FILES
from minddiffuser.pretrained.clip import CLIP_FILE, check_clip_names, clip_repository
from minddiffuser.pretrained.files import MissingModelError
from minddiffuser.pretrained.pooled import RESNET50_URL, resnet50_weights
from minddiffuser.pretrained.scoring import SCORING_URLS, read_weights, scoring_weights

_Wanted = tuple[str, str | None, list[str]]  # a repository of the hub, its revision, and patterns of its files
_STABLE_DIFFUSION_FILES = ["*/*.json", "*/merges.txt", "*/*model.safetensors"]  # fp16 variants have other names


def download(models: Models, safety_checker: bool = False) -> Iterator[Path]:
    """Download what a configuration names on the hub and is not here yet; yield the folder of each model.

    Stable Diffusion's safety checker (1.2 GB) only if it is asked for.

    Raises
    ------
    MissingModelError
        The licence was not accepted, nobody is logged in, or there is no network.
    """
    wanted = []
    if not (REPOSITORY / models.stable_diffusion).exists():
        wanted.append((models.stable_diffusion, models.stable_diffusion_revision, _STABLE_DIFFUSION_FILES))
    for clip in {(models.clip, models.clip_weights), (models.scoring_clip, models.scoring_clip_weights)}:
        wanted += _clip_wanted(*clip)
    yield from _fetch(wanted, None if safety_checker else ["safety_checker/*"])


def download_film_networks(metrics: FilmMetrics) -> Iterator[Path]:
    """Download the networks that score films, but for ViFi-CLIP, like `download`; nothing where they have stand-ins."""
    if metrics.networks == "scoring_clip":
        return
    named = (
        (metrics.image_classifier, metrics.image_classifier_revision),
        (metrics.video_classifier, metrics.video_classifier_revision),
    )
    wanted = [(name, revision, CLASSIFIER_FILES) for name, revision in named if not (REPOSITORY / name).exists()]
    yield from _fetch([*wanted, *_clip_wanted(metrics.clip, metrics.clip_weights)])


def _clip_wanted(name: str, weights: str | None) -> list[_Wanted]:
    """Say what to download for a CLIP that is not local."""
    check_clip_names(name, weights)
    if weights is None or (REPOSITORY / weights).is_file():
        return []
    return [(clip_repository(name, weights), None, [CLIP_FILE])]


def _fetch(wanted: list[_Wanted], ignored: list[str] | None = None) -> Iterator[Path]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    for repository, revision, patterns in wanted:
        try:
            yield Path(
                snapshot_download(repository, revision=revision, allow_patterns=patterns, ignore_patterns=ignored)
            )
        except HFValidationError as error:
            raise MissingModelError(f"{repository} is neither a path that exists nor a name on the hub") from error
        except Exception as error:  # the hub's own, and those of what it uses for the network
            raise MissingModelError(
                f"{repository} could not be downloaded: {_first_line(error)}; check the network, accept the licence on "
                f"https://huggingface.co/{repository} if it has one, and log in with `hf auth login`"
            ) from error


def download_scoring_weights(folder: Path | None) -> Iterator[Path]:
    """Download the networks that scores compare features of, where they are absent or broken; yield the path of each.

    Raises
    ------
    MissingModelError
        There is no network, or a file is not what its name says.
    """
    for name, path in scoring_weights(folder).items():
        yield _download_weights(name, SCORING_URLS[name], path)


def download_resnet50(folder: Path | None) -> Path:
    """Download torchvision's ResNet-50 like the networks that score."""
    return _download_weights("resnet50", RESNET50_URL, resnet50_weights(folder))


def _download_weights(name: str, url: str, path: Path) -> Path:
    checksum = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if not path.is_file() or (checksum and not _sha256(path).startswith(checksum[1])):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), checksum and checksum[1])
        except Exception as error:  # of the network, the disk, or the checksum
            raise MissingModelError(f"{path.name}: {url} could not be downloaded: {_first_line(error)}") from error
    if not checksum:
        read_weights(path, name)
    return path


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def damaged_files(folder: Path) -> list[Path]:
    """Files of a folder in the hub's cache whose content is not what the hub has.

    The cache stores each large file, as the hub gave it, under its SHA-256, and each small one under Git's checksum.
    """
    damaged = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.resolve().name
        if (re.fullmatch("[0-9a-f]{64}", name) and _sha256(path) != name) or (
            re.fullmatch("[0-9a-f]{40}", name) and _git_sha1(path) != name
        ):
            damaged.append(path)
    return damaged


def _git_sha1(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
