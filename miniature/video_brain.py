"""A simulated visual cortex that watches films: the brain of `miniature/brain.py` in time, with a sense of motion.

What is seen of a still picture is seen here of frames of a clip. Beside it vertices see motion energy: how the phase of
local contrast advances from frame to frame, for each orientation and sign (Adelson & Bergen 1985, doi
10.1364/JOSAA.2.000284; van Santen & Sperling 1985, doi 10.1364/JOSAA.2.000300). A motion-blind brain sees the same
energy without its sign. No vertex sees a latent, an embedding, a caption, or optical flow as it is scored.

Timing is that of CC2017: the first frame is held for 12 s before the film and the last one after it, a volume takes
2 s, and the haemodynamic response peaks at 4 s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import legvander
from scipy.fft import fft2, ifft2
from scipy.signal import lfilter
from scipy.special import gammainc

from miniature.brain import (
    BLOCK,
    Tuning,
    combine,
    contrast_channels,
    gabor,
    noise_deviation,
    respond_to_contrast,
    respond_to_scene,
    sample_tuning,
    standardise,
)
from miniature.movies import FRAMES_PER_CLIP, Film
from miniature.scenes import IMAGE_SIZE, Scene

# The paper's areas of HCP-MMP 1.0, the area of `miniature/brain.py` that each is like, and the share of motion in its
# response. We found no table of these shares; that V3A, V3B, MT and MST have most of it is well known.
AREAS = {
    "V1": ("V1", 0.15),
    "V2": ("V2", 0.12),
    "V3": ("V3", 0.12),
    "V4": ("hV4", 0.05),
    "V3A": ("V3ab", 0.35),
    "V3B": ("V3ab", 0.35),
    "LO1": ("LO", 0.05),
    "LO2": ("LO", 0.05),
    "MT": ("MT", 0.65),
    "MST": ("MST", 0.65),
    "TPOJ1": ("VO", 0.2),
    "TPOJ2": ("VO", 0.3),
}
_VOLUME = 2.0  # seconds from volume to volume; a clip is as long
_HELD = 6  # volumes before the film that its first frame is shown for, and after it its last
_SAMPLED = (0, 2, 5, 7)  # frames of a clip whose contrast is averaged: the same in a film that runs backwards
_GRID = IMAGE_SIZE // 2  # motion is seen at half the resolution, so that wavelengths are 10 and 20 pixels
_MARGIN = 10
_PADDED = (_GRID + 2 * _MARGIN,) * 2
_GABORS = fft2(
    np.stack([gabor(wavelength, np.pi * k / 4) for wavelength in (5.0, 10.0) for k in range(4)]), _PADDED
).astype(np.complex64)
_NOISE_SCALE = 0.7  # of the noise of single trials in NSD, for one volume
_AUTOCORRELATION = 0.3  # of noise, from volume to volume
_DRIFT_ORDER = 4
_BASELINE = 10_000.0
_DURATION = 32.0  # seconds of the haemodynamic response


@dataclass(frozen=True)
class View:
    """What there is to see in a film: in its first frame, held still, in each of its clips, and in its last frame.

    Attributes
    ----------
    contrast : array of shape (n_clips + 2, 14, 32, 32), float32
        Of `contrast_channels`, averaged over frames.
    motion : array of shape (n_clips + 2, 16, 32, 32), float32
        Of `motion_channels`.
    scenes : list of n_clips + 2 lists of (share, Scene, array of shape (n_objects, 64, 64))
        The scenes of a clip (two where it has a cut), the share of the clip that each takes, and how much each of its
        objects is seen in each pixel.
    """

    contrast: np.ndarray
    motion: np.ndarray
    scenes: list[list[tuple[float, Scene, np.ndarray]]]


@dataclass(frozen=True)
class Brain:
    """The vertices of a subject.

    Attributes
    ----------
    sees : array of shape (n_vertices,), bool
        Others have noise alone. `n_seeing` is their number.
    tuning : Tuning
        Of those that see.
    motion : array of shape (16, n_seeing)
        Weights of the channels of `motion_channels`.
    motion_share : array of shape (n_seeing,)
        Share of motion in the response.
    noise : array of shape (n_vertices,)
        Deviation of the noise of a volume, for responses of deviation 1.
    shared : array of shape (5, n_vertices)
        Loadings of the noise that vertices have in common.
    """

    sees: np.ndarray
    tuning: Tuning
    motion: np.ndarray
    motion_share: np.ndarray
    noise: np.ndarray
    shared: np.ndarray


def sample_brain(areas: np.ndarray, quality: float, rng: np.random.Generator) -> Brain:
    """Draw a brain.

    Parameters
    ----------
    areas : array of shape (n_vertices,), str
        Those that are not in AREAS see nothing.
    quality : float
        Factor of the noise ceilings.
    rng : Generator
    """
    sees = np.isin(areas, list(AREAS))
    like = np.array([AREAS.get(area, AREAS["V1"])[0] for area in areas])
    n_vertices, n_seeing = len(areas), int(sees.sum())
    return Brain(
        sees,
        sample_tuning(like[sees], rng),
        rng.gamma(0.3, size=(len(_GABORS) * 2, n_seeing)),  # few directions dominate a vertex
        np.array([AREAS[area][1] for area in areas[sees]]),
        _NOISE_SCALE * noise_deviation(like, quality, rng),
        rng.normal(size=(5, n_vertices)) / np.sqrt(5),
    )


def motion_channels(frames: np.ndarray) -> np.ndarray:
    """Motion energy of a clip.

    The response of a quadrature pair of Gabors to a frame is a complex number. From frame to frame its phase advances
    by an angle; the sine of the angle times both moduli is positive for motion one way and negative for the other.

    Parameters
    ----------
    frames : array of shape (n_frames, 64, 64, 3), uint8

    Returns
    -------
    array of shape (16, 32, 32), float32
        Energies of eight Gabors (wavelengths of 10 and 20 pixels, four orientations) for motion one way, then the
        other way: square roots, averaged over the steps from frame to frame.
    """
    light = frames.mean(axis=-1, dtype=np.float32) / 255 - np.float32(0.5)
    light = light.reshape(len(frames), 1, _GRID, 2, _GRID, 2).mean(axis=(3, 5))
    response = ifft2(fft2(light, _PADDED) * _GABORS)[..., _MARGIN:, _MARGIN:][..., :_GRID, :_GRID]
    advance = (response[1:] * response[:-1].conj()).imag  # (n_frames - 1, 8, 32, 32)
    both = np.maximum(np.concatenate([advance, -advance], axis=1), 0)
    return np.sqrt(both).mean(axis=0).astype(np.float32)


def view(film: Film, frames: np.ndarray) -> View:
    """Work out what there is to see in a film.

    Parameters
    ----------
    film : Film
        What its frames show.
    frames : array of shape (n_frames, 64, 64, 3), uint8
        The film as it is on disk.
    """
    contrast, motion, scenes = [], [], []
    for start in range(0, len(frames), FRAMES_PER_CLIP):
        sampled = [start + frame for frame in _SAMPLED]
        contrast.append(np.mean([contrast_channels(frames[frame]) for frame in sampled], axis=0))
        motion.append(motion_channels(frames[start : start + FRAMES_PER_CLIP]))
        by_shot = [[frame for frame in sampled if film.shot[frame] == shot] for shot in np.unique(film.shot[sampled])]
        scenes.append(
            [
                (len(own) / len(sampled), film.scenes[own[0]], np.mean([film.visible[k] for k in own], axis=0))
                for own in by_shot
            ]
        )
    first, last = ([(1.0, film.scenes[k], film.visible[k])] for k in (0, -1))
    still = np.zeros_like(motion[0])
    return View(
        np.stack([contrast_channels(frames[0]), *contrast, contrast_channels(frames[-1])]),
        np.stack([still, *motion, still]),
        [first, *scenes, last],
    )


def drive(views: Sequence[View], brain: Brain, named: float, direction: bool = True) -> list[np.ndarray]:
    """Noise-free neural response to films.

    Parameters
    ----------
    views : sequence of View
        All films that the subject watches: responses are standardised over them.
    brain : Brain
    named : float
        Share of what higher areas are tuned to that the names of things tell (`miniature.brain.attributes`).
    direction : bool
        Whether the two signs of motion are told apart.

    Returns
    -------
    list of arrays of shape (n_clips + 2, n_vertices), float32
        For each film, to its first frame, its clips, and its last frame; mean 0 and deviation 1 over all of them.
    """
    contrast = np.concatenate([each.contrast for each in views])
    motion = np.concatenate([each.motion for each in views])
    # One deviation from 0 for both signs of a channel.
    energy = np.sqrt((motion.reshape(len(motion), 2, -1, _GRID**2) ** 2).mean(axis=(0, 1, 3)))
    scale, of_motion = contrast.std(axis=(0, 2, 3)), np.tile(np.maximum(energy, 1e-6), 2)
    to_contrast = np.empty((len(contrast), int(brain.sees.sum())), np.float32)
    moved = np.empty_like(to_contrast)
    for start in range(0, len(contrast), BLOCK):
        rows = slice(start, start + BLOCK)
        to_contrast[rows] = respond_to_contrast(contrast[rows], brain.tuning, scale)
        moved[rows] = respond_to_motion(motion[rows] / of_motion[:, None, None], brain, direction)
    things, places = np.zeros_like(moved), np.zeros_like(moved)
    for row, scenes in enumerate(scenes for each in views for scenes in each.scenes):
        for share, scene, seen in scenes:
            to_things, to_place = respond_to_scene(scene, seen, brain.tuning, named)
            things[row] += share * to_things
            places[row] += share * to_place
    static, share = combine(to_contrast, things, places, brain.tuning), brain.motion_share
    responses = np.zeros((len(static), len(brain.sees)), np.float32)
    responses[:, brain.sees] = standardise(np.sqrt(1 - share) * static + np.sqrt(share) * standardise(moved))
    return np.split(responses, np.cumsum([len(each.contrast) for each in views])[:-1])


def respond_to_motion(channels: np.ndarray, brain: Brain, direction: bool = True) -> np.ndarray:
    """Responses to motion energy, (n_clips, n_seeing), not standardised.

    Parameters
    ----------
    channels : array of shape (n_clips, 16, 32, 32), float32
        Of `motion_channels`.
    brain : Brain
    direction : bool
        Without it the two signs of each channel are replaced by their mean, which has the same energy in all.
    """
    if not direction:
        both = channels.reshape(len(channels), 2, -1, _GRID, _GRID).mean(axis=1)
        channels = np.concatenate([both, both], axis=1)
    pooled = channels.reshape(-1, _GRID**2) @ brain.tuning.fields
    return np.einsum("ncv,cv->nv", pooled.reshape(*channels.shape[:2], -1), brain.motion.astype(np.float32))


def haemodynamic_step(time: np.ndarray) -> np.ndarray:
    """Response to a stimulus that begins at 0 s and stays, at other times in seconds; 1 in the end.

    Its derivative is SPM's difference of two gamma densities with the parameters of Wen et al.'s own
    AlexNet_feature_processing_encoding.m, spm_hrf with p = [5 16 1 1 6 0 32]: the peak is at 4 s.
    """
    within = np.clip(time, 0, _DURATION)
    return (gammainc(5, within) - gammainc(16, within) / 6) / (gammainc(5, _DURATION) - gammainc(16, _DURATION) / 6)


def haemodynamic_response(drive: np.ndarray) -> np.ndarray:
    """BOLD response in the middle of each volume to a drive that is constant within volumes.

    It is the same in all vertices. Where its delay differs from vertex to vertex, by .5 s, a linear decoder compares
    vertices that see the same place a moment apart, and even a motion-blind brain tells directions (r about .4 without
    noise, and 0 without delays): such a brain would be no control.

    Parameters
    ----------
    drive : array of shape (n_volumes, n_vertices)

    Returns
    -------
    array of shape (n_volumes, n_vertices), float32
    """
    response = np.zeros(drive.shape, np.float32)
    for lag in range(min(int(_DURATION / _VOLUME) + 1, len(drive))):
        # The drive of `lag` volumes ago lasted from _VOLUME * (lag + .5) to _VOLUME * (lag - .5) seconds ago.
        ended, began = haemodynamic_step(_VOLUME * (lag + np.array([-0.5, 0.5])))
        response[lag:] += np.float32(began - ended) * drive[: len(drive) - lag]
    return response


def record(drive: np.ndarray, brain: Brain, start: int, n_volumes: int, rng: np.random.Generator) -> np.ndarray:
    """Record a subject who watches a film.

    Noise of a volume is like that of the volume before; a tenth of its variance is common to vertices. Slow drifts are
    Legendre polynomials.

    Parameters
    ----------
    drive : array of shape (n_clips + 2, n_vertices)
        Of one film, of `drive`.
    brain : Brain
    start : int
        Volumes from the beginning of the film to that of the recording.
    n_volumes : int
    rng : Generator

    Returns
    -------
    array of shape (n_volumes, n_vertices), float32
        Around 10,000; a response of 1 is a change by 1 %.
    """
    session = np.concatenate([drive[:1].repeat(_HELD, axis=0), drive[1:-1], drive[-1:].repeat(_HELD, axis=0)])
    first = _HELD + start
    after = np.zeros((max(first + n_volumes - len(session), 0), session.shape[1]), np.float32)
    response = haemodynamic_response(np.concatenate([session, after]))[first : first + n_volumes]
    private = _autocorrelated(rng.standard_normal(response.shape, np.float32))
    common = _autocorrelated(rng.standard_normal((n_volumes, len(brain.shared)), np.float32)) @ brain.shared
    noise = np.sqrt(0.9) * private + np.sqrt(0.1) * common
    drifts = rng.normal(size=(_DRIFT_ORDER, response.shape[1]))
    drift = legvander(np.linspace(-1, 1, n_volumes), _DRIFT_ORDER)[:, 1:] @ drifts
    percent = response + brain.noise * (noise + drift)
    return (_BASELINE * (1 + percent / 100)).astype(np.float32)


def _autocorrelated(white: np.ndarray) -> np.ndarray:
    """Filter white noise, (n_volumes, ...), into noise of the same variance, of which each volume is like the last."""
    innovations = white * np.sqrt(1 - _AUTOCORRELATION**2)
    innovations[0] = white[0]
    return np.asarray(lfilter([1.0], [1.0, -_AUTOCORRELATION], innovations, axis=0))
