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
