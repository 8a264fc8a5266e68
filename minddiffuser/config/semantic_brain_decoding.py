"""Semantic Brain Decoding, on Generic Object Decoding, and what sets its forms apart.

"original" is what its authors released.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from minddiffuser.config.section import Distinct, Name, Section


class SemanticBrainDecoding(Section):
    """The rival of Ferrante et al. (arXiv 2212.06726), in the forms of `CONCEPT_FORMS`; defaults are of "corrected".

    It has data of its own: Generic Object Decoding (Horikawa & Kamitani 2017).
    """

    forms: Annotated[tuple[Literal["original", "corrected", "classifier"], ...], Field(min_length=1), Distinct] = (
        "original", "corrected", "classifier",
    )  # fmt: skip
    subjects: Annotated[tuple[Name, ...], Field(min_length=1), Distinct] = Field(
        default=("Subject1", "Subject2", "Subject3", "Subject4", "Subject5"), description="as their files are called"
    )
    roi: str = "ROI_VC"
    run_grouping: Literal["by_type", "as_released"] = Field(
        default="by_type",
        description="which trials are scaled together: a run (of tests: all images); released: as_released, runs "
        "of equal number of training, test and imagery",
    )
    network: Literal["resnet50", "scoring_clip"] = Field(
        default="resnet50",
        description="whose pooled features are decoded (resnet50: torchvision's first weights)",
    )
    image_size: int = Field(default=224, ge=32, description="pixels, of the shorter side")
    batch_norm: Literal["evaluation", "training"] = Field(
        default="evaluation",
        description="statistics of the stimuli's features; released: training, those of a batch of 64 images",
    )
    bank_per_class: int = Field(default=500, ge=1, description="ImageNet images of each class in the bank, at random")
    bank_has_stimuli: bool = Field(
        default=False, description="may the bank have the very images of the experiment; released: true"
    )
    training_rows: Literal["all", "split"] = Field(
        default="all", description="trials to fit on; released: split, nine tenths, the others only for errors"
    )
    alpha: float = Field(default=1000.0, gt=0)
    restore_variance: Literal["train", "test", "none"] = Field(
        default="train",
        description="whose predictions' statistics bring decoded features to the training images' mean and deviation: "
        "of held-out training trials, for as many trials as were averaged; released: test (transductive)",
    )
    labels: Literal["neighbours", "classifier"] = Field(
        default="neighbours", description="nearest in the bank, or first by the network's own last layer"
    )
    n_labels: int = Field(default=5, ge=1, description="of each image; the first is what is scored")
    n_pictures: int = Field(default=5, ge=1, description="of each image: one of each of its first labels")
    prompt: str = "An image of a {label}"
    n_steps: int = Field(default=50, ge=2, description="of Stable Diffusion's PNDM sampler")
    guidance_scale: float = Field(default=7.5, ge=0)
    safety_checker: bool = Field(
        default=False, description="make pictures black that Stable Diffusion's checker flags, as the authors did"
    )

    @model_validator(mode="after")
    def _pictures_of_labels(self) -> "SemanticBrainDecoding":
        if self.prompt.replace("{label}", "").count("{") or "{label}" not in self.prompt:
            raise ValueError(f"prompt {self.prompt!r} must have {{label}}, and nothing else in braces")
        if self.n_pictures > self.n_labels:
            raise ValueError(f"n_pictures {self.n_pictures} must be at most n_labels {self.n_labels}")
        return self


CONCEPT_FORMS: dict[str, dict[str, Any]] = {
    "original": {
        "run_grouping": "as_released",
        "batch_norm": "training",
        "bank_has_stimuli": True,
        "training_rows": "split",
        "restore_variance": "test",
    },
    "corrected": {},
    "classifier": {"labels": "classifier"},
}


def concept_form(settings: SemanticBrainDecoding, form: str) -> SemanticBrainDecoding:
    """Give the settings of a form of Semantic Brain Decoding."""
    return settings.model_copy(update=CONCEPT_FORMS[form])
