"""What the miniature simulates."""

from pydantic import Field

from minddiffuser.config.section import Section


class Miniature(Section):
    """Size of the simulated NSD (real NSD: 1000 shared, 9000 own, 40 sessions, ROI scale 1)."""

    n_shared: int = Field(default=110, ge=2)
    n_own: int = Field(default=1050, ge=2)
    sessions: int = Field(default=40, ge=1, description="sessions recorded, of which data.sessions are used")
    roi_scale: float = Field(default=0.2, gt=0, le=1, description="voxels, as a share of those of NSD's subject 1")
    quality: float = Field(
        default=1.0,
        gt=0,
        le=2,
        description="of the voxels: a factor of their noise ceilings, which are NSD's at 1. Below 1 noise stands in "
        "for what makes photographs harder to decode than drawn scenes",
    )


class MiniatureGod(Section):
    """Size of the simulated Generic Object Decoding, and of the ImageNet beside it.

    The real one: 150 training categories of 8 images, 50 test categories of one image, 35 and 10 repetitions.
    """

    n_training: int = Field(default=24, ge=2, description="training images of a category, each shown once")
    n_test: int = Field(default=2, ge=1, description="test images of a category")
    n_repetitions: int = Field(default=16, ge=1, description="of each test image")
    n_imagery: int = Field(default=2, ge=0, description="times that each test image is imagined")
    n_bank: int = Field(default=60, ge=1, description="ImageNet's images of a class, besides those of the experiment")
    roi_scale: float = Field(default=0.5, gt=0, le=1, description="voxels, as a share of those of Subject1")


class MiniatureCc2017(Section):
    """Size of the simulated CC2017.

    The real one: 18 training films and 5 test films of 240 clips of 2 s; 2 and 10 repetitions; 59,412 vertices.
    """

    n_segments: int = Field(default=10, ge=1, description="training films")
    clips: int = Field(default=120, ge=4, description="of a training film; a clip is 2 s, 8 frames of 64 x 64")
    n_tests: int = Field(default=2, ge=1, description="test films")
    test_clips: int = Field(default=60, ge=4, description="of a test film")
    mean_shot: int = Field(default=3, ge=1, description="clips of a shot: 1 to 2 mean_shot - 1")
    alone: float = Field(
        default=1.0, ge=0, le=1, description="share of shots with one large object; others have two smaller ones"
    )
    named: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share of what higher areas are tuned to that the names of things tell. With .06, as in the "
        "miniature NSD, and alone .6 captions are as hard to decode as in the real experiment (docs/films.md)",
    )
    repetitions: int = Field(default=2, ge=2, description="of a training film")
    test_repetitions: int = Field(default=10, ge=1, description="of a test film")
    vertex_share: float = Field(default=0.35, gt=0, le=1, description="of the vertices of each visual area")
    n_silent: int = Field(default=900, ge=0, description="vertices that see nothing, in areas A1, 4 and 3b")
    direction: tuple[bool, ...] = Field(
        default=(True, True, False),
        description="of each subject, whether motion-sensitive vertices tell directions apart. A subject without has "
        "the first subject's brain otherwise, with the same noise",
    )
