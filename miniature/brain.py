"""A simulated visual cortex that looks at scenes.

No voxel is built from a feature that is decoded (no network, no autoencoder, no caption enters here).
Early areas see the picture through population receptive fields: above all oriented contrast energy, which does not tell
dark from bright, and a little opponent colour (compressive spatial summation, Kay et al. 2013, doi
10.1152/jn.00105.2013; receptive fields that grow with eccentricity and from area to area, Dumoulin & Wandell 2008, doi
10.1016/j.neuroimage.2007.09.034). Higher areas respond to what is in the scene and roughly where; they are tuned to
many more dimensions of a thing than its name and its colour. Noise is set voxel by voxel from a target noise ceiling.
"""

from dataclasses import dataclass

import numpy as np
from scipy.fft import fft2, ifft2

from miniature.scenes import BACKGROUNDS, COLOURS, IMAGE_SIZE, KINDS, Scene

PIXELS_PER_DEGREE = IMAGE_SIZE / 8.4  # NSD shows stimuli 8.4 degrees wide
_GRID = IMAGE_SIZE // 2
_MARGIN = 10  # half the width of a Gabor filter
_PADDED = (IMAGE_SIZE + 2 * _MARGIN,) * 2
N_ATTRIBUTES = 48
_N_OPPONENT = 6
_CHANNEL_WEIGHTS = np.r_[np.full(_N_OPPONENT, 0.15), np.ones(8)]  # energy dominates
BLOCK = 32  # pictures that are multiplied with the fields at once: one alone takes four times as long
# How much of what higher areas are tuned to is told by the names of things.
NAMED = 0.06


@dataclass(frozen=True)
class Area:
    """What the voxels of one ROI are like.

    Attributes
    ----------
    n_voxels : int
        In NSD's subject 1, as counted with the ROI volumes of github.com/styvesg/nsd (2021).
    size, slope : float
        Receptive field size (degrees) at the fovea, and its growth with eccentricity.
    semantic : float
        Share of the response that comes from what is in the scene rather than from its contrast.
    ceiling : float
        Mean noise ceiling, percent of variance with three trials. The means over NSD's voxels that we found
        published are 16.9 % (median ncsnr .260, nsddatapaper issue 1) and 24.2 % (volume) or 36.2 % (surface,
        brain-score's notebook of the NSD benchmark). No table by ROI was found, so the order (early visual cortex
        is the most reliable, parietal the least) is ours; their mean is inside that range.
    """

    n_voxels: int
    size: float
    slope: float
    semantic: float
    ceiling: float


AREAS = {
    "V1": Area(2396, 0.25, 0.12, 0.0, 42.0),
    "V2": Area(2071, 0.30, 0.16, 0.0, 40.0),
    "V3": Area(1667, 0.40, 0.22, 0.05, 38.0),
    "hV4": Area(712, 0.60, 0.35, 0.3, 36.0),
    "VO": Area(480, 1.0, 0.45, 0.7, 30.0),
    "PHC": Area(374, 1.5, 0.5, 0.85, 26.0),
    "MST": Area(54, 1.8, 0.6, 0.6, 18.0),
    "MT": Area(281, 1.2, 0.5, 0.5, 24.0),
    "LO": Area(474, 1.0, 0.45, 0.65, 32.0),
    "V3ab": Area(945, 0.8, 0.4, 0.3, 26.0),
    "IPS": Area(2148, 1.8, 0.5, 0.7, 16.0),
}


def contrast_channels(image: np.ndarray) -> np.ndarray:
    """Local contrast of a picture.

    Parameters
    ----------
    image : array of shape (64, 64, 3), uint8

    Returns
    -------
    array of shape (14, 32, 32), float32
        Brighter, darker, red, green, blue, yellow (half-wave rectified), then the energy of quadrature Gabor
        pairs at four orientations and two spatial frequencies.
    """
    rgb = image.astype(np.float32) / 255
    light = rgb.mean(axis=-1) - 0.5
    red_green, blue_yellow = rgb[..., 0] - rgb[..., 1], rgb[..., 2] - rgb[..., :2].mean(axis=-1)
    opponent = [light, -light, red_green, -red_green, blue_yellow, -blue_yellow]
    energy = np.abs(ifft2(fft2(light, _PADDED) * _GABORS))[:, _MARGIN:, _MARGIN:][:, :IMAGE_SIZE, :IMAGE_SIZE]
    channels = np.concatenate([np.maximum(opponent, 0), energy])
    # Receptive fields are wider than two pixels: half the resolution is enough, and four times as fast.
    return channels.reshape(14, _GRID, 2, _GRID, 2).mean(axis=(2, 4)).astype(np.float32)


def gabor(wavelength: float, angle: float) -> np.ndarray:
    """Complex Gabor filter: the modulus of its response is the energy of a quadrature pair."""
    y, x = np.mgrid[-_MARGIN : _MARGIN + 1, -_MARGIN : _MARGIN + 1]
    along = x * np.cos(angle) + y * np.sin(angle)
    wave = np.exp(2j * np.pi * along / wavelength - (x**2 + y**2) / (2 * (0.45 * wavelength) ** 2))
    wave -= wave.mean()
    return wave / np.abs(wave).sum() * 4


_GABORS = fft2(np.stack([gabor(wavelength, np.pi * k / 4) for wavelength in (5.0, 10.0) for k in range(4)]), _PADDED)


@dataclass(frozen=True)
class Tuning:
    """What each voxel of a brain responds to.

    Attributes
    ----------
    fields : array of shape (32 * 32, n_voxels), float32
        Receptive fields, which sum to 1.
    contrast : array of shape (14, n_voxels)
        Weights of the channels of `contrast_channels`.
    things, place : arrays of shape (N_ATTRIBUTES, n_voxels)
        Weights of the attributes of objects, and of those of the place.
    place_share : array of shape (n_voxels,)
        Share of the place in what comes from the scene.
    scene_share : array of shape (n_voxels,)
        Share of the scene in the response; the rest is of its contrast.
    """

    fields: np.ndarray
    contrast: np.ndarray
    things: np.ndarray
    place: np.ndarray
    place_share: np.ndarray
    scene_share: np.ndarray


def sample_tuning(rois: np.ndarray, rng: np.random.Generator) -> Tuning:
    """Draw receptive fields and tunings for voxels of `rois`, (n_voxels,) str: another generator is another brain."""
    n_voxels = len(rois)
    areas = [AREAS[roi] for roi in rois]
    fields = _receptive_fields(areas, rng)
    # Few channels dominate a voxel: gamma-distributed weights with a shape below 1.
    contrast = rng.gamma(0.5, size=(14, n_voxels)) * _CHANNEL_WEIGHTS[:, None]
    things, place = rng.normal(size=(2, N_ATTRIBUTES, n_voxels))
    scene_share = np.clip([a.semantic for a in areas] + rng.normal(0, 0.08, n_voxels), 0, 1)
    return Tuning(fields, contrast, things, place, np.where(rois == "PHC", 0.7, 0.3), scene_share)


def simulate_signal(
    images: np.ndarray,
    scenes: list[Scene],
    visible: list[np.ndarray],
    rois: np.ndarray,
    rng: np.random.Generator,
    named: float = NAMED,
) -> np.ndarray:
    """Noise-free response of each voxel to each scene.

    Parameters
    ----------
    images : array of shape (n_images, 64, 64, 3), uint8
    scenes : list of n_images Scene
    visible : list of arrays of shape (n_objects, 64, 64), bool
        The pixels in which each object is seen.
    rois : array of shape (n_voxels,), str
    rng : Generator
        Draws the receptive fields and tunings: another generator is another brain.
    named : float
        How much of what higher areas are tuned to the names of things tell (`attributes`).

    Returns
    -------
    array of shape (n_images, n_voxels), float32; mean 0 and deviation 1 over images
    """
    tuning, scale = sample_tuning(rois, rng), channel_deviations(images)
    contrast = np.empty((len(images), len(rois)), np.float32)
    things, places = np.empty_like(contrast), np.empty_like(contrast)
    for start in range(0, len(images), BLOCK):
        channels = np.stack([contrast_channels(image) for image in images[start : start + BLOCK]])
        contrast[start : start + BLOCK] = respond_to_contrast(channels, tuning, scale)
    for row, (scene, seen) in enumerate(zip(scenes, visible, strict=True)):
        things[row], places[row] = respond_to_scene(scene, seen, tuning, named)
    return combine(contrast, things, places, tuning)


def respond_to_contrast(channels: np.ndarray, tuning: Tuning, scale: np.ndarray) -> np.ndarray:
    """Responses to local contrast, (n_images, n_voxels), not standardised.

    Parameters
    ----------
    channels : array of shape (n_images, 14, 32, 32), float32
        Of `contrast_channels`. As many images as BLOCK are as fast as more, and take less memory.
    tuning : Tuning
    scale : array of shape (14,)
        What each channel is divided by.
    """
    pooled = (channels.reshape(-1, _GRID**2) @ tuning.fields).reshape(*channels.shape[:2], -1) / scale[:, None]
    responses = np.empty((len(channels), pooled.shape[-1]), np.float32)
    for row, of_image in enumerate(pooled):
        # A voxel's drive is divided by the energy in its field (Heeger 1992, doi 10.1017/S0952523800009640).
        drive = (tuning.contrast * of_image).sum(axis=0) / (1 + of_image[_N_OPPONENT:].mean(axis=0))
        responses[row] = drive**0.7
    return responses


def respond_to_scene(
    scene: Scene, seen: np.ndarray, tuning: Tuning, named: float = NAMED
) -> tuple[np.ndarray, np.ndarray]:
    """Responses to the objects of a scene and to its place, each (n_voxels,), not standardised.

    Parameters
    ----------
    scene : Scene
    seen : array of shape (n_objects, 64, 64)
        How much each object is seen in each pixel, 0 to 1.
    tuning : Tuning
    named : float
        See `simulate_signal`.
    """
    coarse = seen.reshape(-1, _GRID, 2, _GRID, 2).mean(axis=(2, 4)).reshape(len(seen), -1).astype(np.float32)
    in_field = np.sqrt(coarse @ tuning.fields)  # (n_objects, n_voxels)
    objects, place = attributes(scene, named)
    things = (in_field * np.maximum(objects @ tuning.things, 0)).sum(axis=0)
    return things, np.maximum(place @ tuning.place, 0)


def combine(contrast: np.ndarray, things: np.ndarray, places: np.ndarray, tuning: Tuning) -> np.ndarray:
    """Weigh the three responses, each (n_images, n_voxels), by each voxel's shares; mean 0 and deviation 1."""
    semantic = (1 - tuning.place_share) * standardise(things) + tuning.place_share * standardise(places)
    share = tuning.scene_share
    return standardise(np.sqrt(1 - share) * standardise(contrast) + np.sqrt(share) * standardise(semantic))


def _receptive_fields(areas: list[Area], rng: np.random.Generator) -> np.ndarray:
    """Gaussian fields that sum to 1, of shape (32 * 32, n_voxels); more voxels near the fovea."""
    eccentricity = 5.0 * rng.uniform(size=len(areas)) ** 1.3
    angle = rng.uniform(0, 2 * np.pi, size=len(areas))
    size = np.array([a.size + a.slope * e for a, e in zip(areas, eccentricity, strict=True)])
    size *= rng.lognormal(0, 0.15, size=len(areas))
    grid = np.mgrid[:_GRID, :_GRID].reshape(2, -1) - (_GRID - 1) / 2
    y, x = grid * 2 / PIXELS_PER_DEGREE  # degrees from the fovea
    dx = x[:, None] - eccentricity * np.cos(angle)
    dy = y[:, None] - eccentricity * np.sin(angle)
    fields = np.exp(-(dx**2 + dy**2) / (2 * size**2))
    return (fields / np.maximum(fields.sum(axis=0), 1e-3)).astype(np.float32)


def channel_deviations(images: np.ndarray) -> np.ndarray:
    """Deviation of each contrast channel over pixels and the first pictures: (14,)."""
    return np.stack([contrast_channels(image) for image in images[:200]]).std(axis=(0, 2, 3))


def attributes(scene: Scene, named: float) -> tuple[np.ndarray, np.ndarray]:
    """Place each object, and the place, in the space of many dimensions that higher areas are tuned to.

    A name tells little of where a thing lies in it. The rest is its own, as an object has a pose, a material and a
    history that no caption tells; it is the same whenever the scene is seen, and for every subject.

    Parameters
    ----------
    scene : Scene
    named : float
        Share of the variance that names tell: of an object half by its kind and half by its colour.

    Returns
    -------
    objects : array of shape (n_objects, N_ATTRIBUTES)
    place : array of shape (N_ATTRIBUTES,)
    """
    own = np.random.default_rng([scene.texture_seed, 1]).normal(size=(len(scene.objects) + 1, N_ATTRIBUTES))
    kinds = [_KIND_ATTRIBUTES[KINDS.index(item.kind)] for item in scene.objects]
    colours = [_COLOUR_ATTRIBUTES[list(COLOURS).index(item.colour)] for item in scene.objects]
    place = _PLACE_ATTRIBUTES[BACKGROUNDS.index(scene.background)]
    of_names, of_own = np.sqrt(named), np.sqrt(1 - named)
    objects = of_names * (np.stack(kinds) + np.stack(colours)) / np.sqrt(2) + of_own * own[1:]
    return objects, of_names * place + of_own * own[0]


_WORLD = np.random.default_rng(1959)
_KIND_ATTRIBUTES, _COLOUR_ATTRIBUTES, _PLACE_ATTRIBUTES = (
    _WORLD.normal(size=(len(names), N_ATTRIBUTES)) for names in (KINDS, COLOURS, BACKGROUNDS)
)


def standardise(responses: np.ndarray) -> np.ndarray:
    """Give each column of responses, (n_images, n_voxels), mean 0 and deviation 1; constant ones become 0."""
    deviation = responses.std(axis=0)
    return (responses - responses.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def noise_deviation(rois: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Deviation of single-trial noise for a signal of deviation 1: (n_voxels,).

    The noise ceiling of NSD's manual with three trials is 100 * s / (s + 1/3), where s is the variance of the
    signal over that of the noise. `quality` scales a subject's ceilings.
    """
    mean = np.array([AREAS[roi].ceiling for roi in rois]) / 100 * quality
    ceiling = rng.beta(4 * mean, 4 * (1 - mean)).clip(0.005, 0.9)
    return np.sqrt(3 * (1 - ceiling) / ceiling)


def simulate_trials(signal: np.ndarray, noise: np.ndarray, shared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Betas of one session in percent signal change: (n_trials, n_voxels), float32.

    A tenth of the noise variance is common to the voxels (five components with loadings `shared`); the gain and
    the mean of the session drift, as they do between scanning days.
    """
    common = rng.normal(size=(len(signal), len(shared))) @ shared
    private = rng.normal(size=signal.shape)
    response = signal + noise * (np.sqrt(0.9) * private + np.sqrt(0.1) * common)
    gain = rng.normal(1, 0.1) * 1.5 / np.sqrt(1 + noise**2)
    return (rng.normal(0.5, 0.2, size=signal.shape[1]) + gain * response).astype(np.float32)
