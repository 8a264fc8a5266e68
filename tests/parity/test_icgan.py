"""IC-GAN's generator against the public checkpoints' keys and shapes, and against torch's own spectral norm."""

from pathlib import Path

import pytest
import torch
from torch import nn

from baselines.ozcelik.generator import CHANNELS_256, Generator, _Conv, _Linear, generator_of

# Names and shapes of icgan_biggan_imagenet_res256, as its public code defines them.
KEYS = [line.split(" ", 1) for line in Path(__file__).with_name("icgan_generator_keys.txt").read_text().splitlines()]


def of_width(width: int) -> Generator:
    with torch.device("meta"):
        return Generator([width * k for k in CHANNELS_256], attention_after=3)


@pytest.fixture(scope="module")
def small() -> Generator:
    """A generator of 32 pixels."""
    torch.manual_seed(0)
    model = Generator([16, 16, 8, 8], attention_after=1, n_features=12, n_condition=10, n_chunk=5, classes=(4, 3))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def test_keys_and_shapes_are_those_of_the_public_checkpoint():
    state = of_width(96).state_dict()
    assert len(state) == 198
    assert {key: str(list(value.shape)) for key, value in state.items()} == dict(KEYS)


@pytest.mark.parametrize(("width", "n_weights"), [(96, 90_014_340), (64, 42_860_804)])
def test_number_of_weights(width, n_weights):
    assert sum(p.numel() for p in of_width(width).parameters()) == n_weights


def test_a_picture_of_the_real_size():
    torch.manual_seed(0)
    model = Generator([8 * k for k in CHANNELS_256], attention_after=3, n_features=16).eval()  # a twelfth of the width
    assert model.n_noise == 119
    with torch.no_grad():
        picture = model(torch.zeros(2, 119), torch.eye(16)[:2])
    assert picture.shape == (2, 3, 256, 256)
    assert picture.abs().max() <= 1


def test_dense_in_place_of_the_first_chunk_is_the_same_bits(small):
    z, features = torch.randn(3, small.n_noise), nn.functional.normalize(torch.randn(3, 12))
    with torch.no_grad():
        plain = small(z, features)
        assert torch.equal(small(z, features, small.dense(z)), plain)
        other = z.clone()
        other[:, :5] = torch.randn(3, 5)
        assert not torch.equal(small(other, features), plain)
        assert torch.equal(small(other, features, small.dense(z)), plain)  # the first chunk is dead
        other[:, 5] += 1
        assert not torch.equal(small(other, features, small.dense(z)), plain)  # the second is not
        assert torch.equal(small(z, features), plain)  # evaluation changes no state


@pytest.mark.parametrize(("ours", "theirs"), [(_Linear(7, 5), nn.Linear(7, 5)), (_Conv(4, 6, 3), nn.Conv2d(4, 6, 3))])
def test_spectral_norm_is_torchs_with_the_same_vector(ours, theirs):
    theirs.load_state_dict({"weight": ours.weight, "bias": ours.bias})
    normalised = nn.utils.spectral_norm(theirs, eps=1e-6).train()  # in training it makes one step from its vector
    normalised.weight_u.copy_(ours.u0[0])
    x = torch.randn(2, 7) if isinstance(theirs, nn.Linear) else torch.randn(2, 4, 8, 8)
    normalised(x)
    ours.eval()
    torch.testing.assert_close(ours.normalised(), normalised.weight)
    before = ours.u0.clone()
    assert torch.equal(ours.u0, before)
    ours.train()
    for _ in range(200):
        ours.normalised()
    largest = torch.linalg.matrix_norm(ours.weight.flatten(1), ord=2)
    torch.testing.assert_close(ours.sv0[0], largest.detach())


def test_a_state_is_opened_with_its_own_sizes(small):
    state = {f"module.{key}": value for key, value in small.state_dict().items()}
    opened = generator_of(state)
    z, features = torch.randn(2, small.n_noise), nn.functional.normalize(torch.randn(2, 12))
    assert torch.equal(opened(z, features), small(z, features).detach())
    assert not any(p.requires_grad for p in opened.parameters())


def test_what_does_not_fit_is_named(small):
    state = small.state_dict()
    with pytest.raises(ValueError, match=r"linear\.weight"):
        generator_of({"conv.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"blocks\.1\.0\.bn2\.stored_var"):
        generator_of({key: value for key, value in state.items() if key != "blocks.1.0.bn2.stored_var"})
    with pytest.raises(ValueError, match="surplus"):
        generator_of({**state, "surplus": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"output_layer\.2\.weight"):
        generator_of({**state, "output_layer.2.weight": torch.zeros(3, 9, 3, 3)})
