"""Ozcelik et al.'s method, and what sets its forms apart.

"original" is what its authors released, "minddiffuser" what MindDiffuser's authors compared with.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from minddiffuser.config.section import Distinct, Section


class Ozcelik(Section):
    """The rival of Ozcelik et al. (IJCNN 2022), in the forms of `OZCELIK_FORMS`; defaults are of "corrected"."""

    forms: Annotated[tuple[Literal["original", "corrected", "minddiffuser"], ...], Field(min_length=1), Distinct] = (
        "original", "corrected", "minddiffuser",
    )  # fmt: skip
    generator: str = Field(
        default="models/icgan_biggan_imagenet_res256", description="folder of IC-GAN's public checkpoint"
    )
    instance_encoder: str = Field(
        default="swav_resnet50", description="SwAV's network, or a transformers folder with a ResNet"
    )
    decoder: Literal["ridge", "voxel_selection"] = Field(default="ridge", description="as bundled: voxel_selection")
    alpha_instance: float = Field(default=500.0, gt=0)
    alpha_noise: float = Field(default=1.0, gt=0)
    alpha_dense: float = Field(default=100.0, gt=0)
    restore_variance: Literal["train", "test", "none"] = Field(
        default="train",
        description="whose predictions' statistics bring decoded instance features to the training images' mean and "
        "deviation; released: test (transductive); as bundled: none",
    )
    unit_length: bool = Field(default=True, description="bring them to length 1; released: false; as bundled: false")
    noise: Literal["decoded", "random"] = Field(
        default="decoded", description="decoded noise and dense vectors, or fresh noise alone; as bundled: random"
    )
    n_voxels: int = Field(default=200, ge=1, description="of decoder voxel_selection")
    n_training: int | None = Field(
        default=None, ge=2, description="first training images (None: all; as bundled: 8000)"
    )
    test_scaling: Literal["train", "test"] = Field(default="train", description="of test voxels; as bundled: test")
    inversion_steps: int = Field(default=200, ge=1, description="to find the noise and dense vectors of a picture")
    inversion_rate: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _held_out_by_the_same_regression(self) -> "Ozcelik":
        if self.decoder == "voxel_selection" and self.restore_variance == "train":
            raise ValueError("restore_variance: train is of decoder: ridge; set it to test or none")
        return self


OZCELIK_FORMS: dict[str, dict[str, Any]] = {
    "original": {"restore_variance": "test", "unit_length": False},
    "corrected": {},
    "minddiffuser": {
        "decoder": "voxel_selection",
        "restore_variance": "none",
        "unit_length": False,
        "noise": "random",
        "n_training": 8000,
        "test_scaling": "test",
    },
}


def ozcelik_form(settings: Ozcelik, form: str) -> Ozcelik:
    """Give the settings of a form of Ozcelik's method."""
    return settings.model_copy(update=OZCELIK_FORMS[form])
