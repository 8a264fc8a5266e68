"""Takagi & Nishimoto's method, and what sets its forms apart.

"original" is what its authors released, "minddiffuser" what MindDiffuser's authors compared with; "restored" is
"corrected" with the variance given back that regression takes from decoded z and c, which is this project's.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from minddiffuser.config.method import Sampler
from minddiffuser.config.section import Distinct, Penalty, Section


class Takagi(Section):
    """The rival of Takagi & Nishimoto (CVPR 2023), in the forms of `TAKAGI_FORMS`; defaults are of "corrected"."""

    forms: Annotated[
        tuple[Literal["original", "corrected", "restored", "minddiffuser"], ...], Field(min_length=1), Distinct
    ] = ("original", "corrected", "restored", "minddiffuser")
    decoder: Literal["ridge_cv", "voxel_selection"] = Field(
        default="ridge_cv",
        description="z from voxels of the stream `early` and c from `ventral`, single trials; as bundled: "
        "voxel_selection, both from the voxels, and with the decoders, of MindDiffuser",
    )
    center_targets: bool = Field(default=True, description="released: false, without an intercept either")
    alphas: Annotated[tuple[Penalty, ...], Field(min_length=1), Distinct] = Field(
        default=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0), description="of which each output gets its own"
    )
    restore_variance: Literal["none", "train"] = Field(
        default="none",
        description="train: bring each output of decoder ridge_cv to the training images' mean and deviation, by "
        "those of cross-validated predictions (ours); penalties are chosen five times more",
    )
    n_voxels_semantic: int = Field(default=250, ge=1, description="of decoder voxel_selection")
    n_voxels_detail: int = Field(default=4000, ge=1, description="of decoder voxel_selection")
    test_scaling: Literal["train", "test"] = Field(
        default="train", description="of decoder voxel_selection; as bundled: test"
    )
    image_share: float = Field(
        default=0.625,
        gt=0,
        le=1,
        description="size of the pictures that z is of: 320 of detail.image_size's 512; voxel_selection: all",
    )
    max_length: int | None = Field(
        default=None,
        ge=3,
        description="tokens of c (None: all that the encoder has, 77); voxel_selection: those of semantic",
    )
    posterior: Literal["mean", "sample"] = Field(
        default="mean", description="released: sample; as bundled: sample, when encoding again"
    )
    encoded_range: Literal["model", "unit"] = Field(
        default="model", description="what is encoded again: [-1, 1], or [0, 1] (as bundled: unit)"
    )
    sampler: Sampler = Field(
        default=Sampler(n_steps=50, noise_index=39, denoise_steps=40, guidance_scale=5.0),
        description="strength .8 of 50 steps; released: noise_index 40, one step noisier than denoising takes it to be",
    )
    n_samples: int = Field(default=5, ge=1, description="of each image; as bundled: 1")

    @model_validator(mode="after")
    def _with_a_noisier_step(self) -> "Takagi":
        if self.sampler.denoise_steps >= self.sampler.n_steps:
            raise ValueError(
                f"denoise_steps {self.sampler.denoise_steps} must be below n_steps {self.sampler.n_steps}: the form "
                "`original` starts one step noisier"
            )
        return self

    @model_validator(mode="after")
    def _restored_is_what_trials_give(self) -> "Takagi":
        if self.decoder == "voxel_selection" and self.restore_variance == "train":
            raise ValueError("restore_variance: train is of decoder: ridge_cv; set it to none")
        return self


# What sets the forms apart; everything else is as the configuration says.
TAKAGI_FORMS: dict[str, dict[str, Any]] = {
    "original": {"center_targets": False, "posterior": "sample"},
    "corrected": {},
    "restored": {"decoder": "ridge_cv", "restore_variance": "train"},
    "minddiffuser": {
        "decoder": "voxel_selection",
        "restore_variance": "none",
        "test_scaling": "test",
        "encoded_range": "unit",
        "posterior": "sample",
        "n_samples": 1,
    },
}


def takagi_form(sampler: Sampler, settings: Takagi, form: str) -> Takagi:
    """Give the settings of a form of Takagi's method, one of which has the sampler of the experiment."""
    changes = dict(TAKAGI_FORMS[form])
    if form == "original":  # CompVis' script counts steps, and takes the noise level after the last of them
        changes["sampler"] = settings.sampler.model_copy(update={"noise_index": settings.sampler.denoise_steps})
    if form == "minddiffuser":
        changes["sampler"] = sampler
    return settings.model_copy(update=changes)
