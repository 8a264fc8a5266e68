"""Stage 2's batches: killed, they go on to the same bytes, and never from what other settings left."""

from pathlib import Path

import numpy as np
import pytest
import torch

from minddiffuser import stopping
from minddiffuser.cli import Run
from minddiffuser.config import Config, Experiment
from minddiffuser.config.execution import BatchSize, Execution
from minddiffuser.config.method import Guidance
from minddiffuser.recipe import Recipe
from minddiffuser.store import DataError, Shard
from reconstruction.guidance import Targets
from reconstruction.refining import Decoded, refine_images

N, LAYER = 3, "linear_1"
GUIDANCE = Guidance(n_iterations=7, learning_rate=0.05, layer_weights=(1,), save_every=3)


class Plain:
    """A sampler that adds a little noise, and draws three channels of the latents; CLIP has one layer, of the pixels.

    It counts its calls, and is killed at one of them.
    """

    def __init__(self, killed_at: int = -1) -> None:
        self.n_calls, self._killed_at = 0, killed_at

    def denoise(self, z: torch.Tensor, c: torch.Tensor, noise: torch.Tensor, *_: object) -> torch.Tensor:
        if self.n_calls == self._killed_at:
            raise KeyboardInterrupt
        self.n_calls += 1
        return z + 0.1 * noise + c.mean()

    def draw(self, latents: torch.Tensor) -> torch.Tensor:
        return latents[:, :3].sigmoid()

    def extract(self, images: torch.Tensor, resize: object) -> dict[str, torch.Tensor]:  # noqa: ARG002
        return {LAYER: images.flatten(start_dim=1)[:, None]}


def decoded() -> Decoded:
    generator = torch.Generator().manual_seed(0)
    z, c, target = (torch.randn(N, *shape, generator=generator) for shape in ((4, 2, 2), (1, 5), (12,)))
    return Decoded(np.array([7, 3, 9]), z, c, Targets({LAYER: target}, {LAYER: torch.arange(12)}))


def refine(folder, sampler, among_noises=False, overwrite=False, begin=lambda: None, **settings):
    config = Config(name="x", experiment=Experiment(), execution=Execution(batch_size=BatchSize(refine=N)))

    def models():
        begin()
        return sampler, sampler.extract

    refine_images(
        Run(config, ("subj01",), Shard(), "cpu", overwrite), decoded(),
        Recipe(folder, "stage2", "subj01", "some/script.py", settings), models, GUIDANCE, among_noises,
    )  # fmt: skip


def files_of(folder: Path) -> dict[str, bytes]:
    """Bytes of all that does not say how long it took."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if "records" not in name and "index" not in name}


@pytest.fixture(autouse=True)
def _release():
    yield
    stopping.release()


@pytest.mark.parametrize("among_noises", [False, True])
def test_a_batch_that_was_killed_goes_on_to_the_same_bytes(tmp_path, among_noises):
    refine(tmp_path / "quiet", Plain(), among_noises)
    with pytest.raises(KeyboardInterrupt):
        refine(tmp_path / "killed", Plain(killed_at=5), among_noises)
    rest = Plain()
    refine(tmp_path / "killed", rest, among_noises)
    assert rest.n_calls == 3  # the states of iterations 0 and 3 were kept
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "quiet")
    assert any("trajectory/00003/" in name for name in files_of(tmp_path / "quiet")) != among_noises


def test_a_batch_of_other_settings_is_not_gone_on_with(tmp_path):
    refine(tmp_path / "other", Plain(), rate=2)
    with pytest.raises(KeyboardInterrupt):
        refine(tmp_path / "killed", Plain(killed_at=5), rate=1)
    (state,) = tmp_path.glob("killed/stage2/state/*")
    content, again = state.read_bytes(), Plain()

    def put_back() -> None:
        state.parent.mkdir()
        state.write_bytes(content)  # as a process of before does that ends late

    refine(tmp_path / "killed", again, overwrite=True, begin=put_back, rate=2)
    assert again.n_calls == GUIDANCE.n_iterations
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "other")


def test_a_process_whose_folder_was_given_to_other_settings_stops_at_its_next_state(tmp_path):
    def give_away() -> None:
        with pytest.raises(KeyboardInterrupt):
            refine(tmp_path, Plain(killed_at=0), overwrite=True, rate=2)

    late = Plain()
    with pytest.raises(DataError, match="given to other settings, while this ran"):
        refine(tmp_path, late, begin=give_away, rate=1)
    assert late.n_calls < GUIDANCE.n_iterations
    assert [path.name for path in (tmp_path / "stage2").iterdir()] == ["settings.json"]
