"""An experiment: all sections, of which each rival has one.

`experiment` holds what changes results and enters the fingerprints of the files made with it; `execution` holds how it
is run.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from minddiffuser.config.execution import Execution
from minddiffuser.config.method import (
    Controls,
    Data,
    Decoding,
    Detail,
    Evaluation,
    Guidance,
    Models,
    Restored,
    Sampler,
    Search,
    Semantic,
    Structural,
    Units,
)
from minddiffuser.config.mind_animator import MindAnimator
from minddiffuser.config.miniature import Miniature, MiniatureCc2017, MiniatureGod
from minddiffuser.config.ozcelik import Ozcelik
from minddiffuser.config.section import REPOSITORY, Distinct, Name, Section
from minddiffuser.config.semantic_brain_decoding import SemanticBrainDecoding
from minddiffuser.config.takagi import Takagi


class Experiment(Section):
    """All that changes results."""

    subjects: Annotated[tuple[Name, ...], Distinct] = Field(
        default=("subj01",), description="of NSD; none where only semantic_brain_decoding or mind_animator is run"
    )
    seed: int = 42
    miniature: Miniature | None = Field(
        default=None, description="what miniature/01_make_miniature.py makes; absent for real NSD"
    )
    data: Data = Data()
    models: Models = Models()
    semantic: Semantic = Semantic()
    detail: Detail = Detail()
    structural: Structural = Structural()
    units: Units = Units()
    decoding: Decoding = Decoding()
    search: Search = Search()
    sampler: Sampler = Sampler()
    guidance: Guidance = Guidance()
    restored: Restored = Restored()
    evaluation: Evaluation = Evaluation()
    controls: Controls = Controls()
    takagi: Takagi | None = Field(default=Takagi(), description="null: not run")
    ozcelik: Ozcelik | None = Field(default=Ozcelik(), description="null: not run; needs IC-GAN's weights")
    miniature_god: MiniatureGod | None = Field(
        default=None, description="what miniature/03_make_god.py makes; absent for the real dataset"
    )
    semantic_brain_decoding: SemanticBrainDecoding | None = Field(
        default=None, description="null: not run; needs Generic Object Decoding and ImageNet"
    )
    miniature_cc2017: MiniatureCc2017 | None = Field(
        default=None, description="what miniature/04_make_cc2017.py makes; absent for the real dataset"
    )
    mind_animator: MindAnimator | None = Field(default=None, description="null: not run; needs CC2017")

    @model_validator(mode="after")
    def _of_somebody(self) -> "Experiment":
        if not self.subjects and self.semantic_brain_decoding is None and self.mind_animator is None:
            raise ValueError(
                "subjects are empty, and semantic_brain_decoding and mind_animator are null: nothing would be run"
            )
        return self

    @model_validator(mode="after")
    def _one_direction_a_subject(self) -> "Experiment":
        if self.miniature_cc2017 is not None and self.mind_animator is not None:
            n, n_subjects = len(self.miniature_cc2017.direction), len(self.mind_animator.subjects)
            if n != n_subjects:
                raise ValueError(
                    f"miniature_cc2017.direction has {n} values for {n_subjects} mind_animator.subjects: one each is "
                    "needed"
                )
        return self

    @model_validator(mode="after")
    def _one_number_a_layer(self) -> "Experiment":
        n_layers, ours = len(self.structural.layers), self.restored.guidance
        of_ours = [("restored.guidance.layer_weights", ours.layer_weights)] if ours.loss == "weighted" else []
        for name, values in (
            ("decoding.n_voxels_structural", self.decoding.n_voxels_structural),
            ("guidance.layer_weights", self.guidance.layer_weights),
            *of_ours,
        ):
            if len(values) != n_layers:
                raise ValueError(
                    f"{name} has {len(values)} numbers for {n_layers} structural.layers: one each is needed"
                )
        return self

    @model_validator(mode="after")
    def _restored_targets_are_decoded(self) -> "Experiment":
        if self.guidance.loss == "variance_restored" and self.decoding.restore_variance == "none":
            raise ValueError("guidance.loss: variance_restored needs decoding.restore_variance: train")
        if self.restored.guidance.embedding_weight and not self.guidance.embedding_weight:
            raise ValueError("restored.guidance.embedding_weight needs guidance.embedding_weight, or it is not decoded")
        return self


class Config(Section):
    """One experiment."""

    name: Name
    preset: Literal["as_released", "as_loaded", "fast"] | None = None
    experiment: Experiment = Experiment()
    execution: Execution = Execution()

    def folder(self, subject: str | None = None) -> Path:
        """Folder of the experiment's results, or of one subject's."""
        folder = REPOSITORY / self.execution.runs / self.name
        return folder / subject if subject else folder

    @property
    def nsd(self) -> Path:
        """Root of the Natural Scenes Dataset."""
        return REPOSITORY / self.execution.nsd

    @property
    def god(self) -> Path:
        """Root of Generic Object Decoding."""
        return REPOSITORY / self.execution.god

    @property
    def cc2017(self) -> Path:
        """Root of CC2017, the dataset of films."""
        return REPOSITORY / self.execution.cc2017

    @property
    def wordnet(self) -> Path:
        """Folder of WordNet."""
        if self.execution.wordnet is not None:
            return REPOSITORY / self.execution.wordnet
        unpacked = REPOSITORY / "models" / "wordnet" / "usr" / "share" / "wordnet"
        return unpacked if unpacked.is_dir() else Path("/usr/share/wordnet")
