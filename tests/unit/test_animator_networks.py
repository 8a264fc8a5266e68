"""Mind-Animator's networks, losses, augmentation and mover: properties, gradients, what is refused."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from baselines.mind_animator.augment import candidates, crop, crop_corners, eda, sparsified, sparsify, synonyms
from baselines.mind_animator.losses import bi_info_nce, l1_norm, semantic_loss
from baselines.mind_animator.masks import visible
from baselines.mind_animator.mover import Mover, fit_mover, shift
from baselines.mind_animator.networks import (
    EmbeddingDecoder,
    MotionGenerator,
    SemanticDecoder,
    StructureDecoder,
    from_released,
    open_released,
)
from baselines.semantic_brain_decoding.wordnet import WordNet, open_wordnet
from feature_decoding.training import seeded
from minddiffuser.config.mind_animator import ANIMATOR_FORMS, MindAnimator, animator_form
from minddiffuser.config.section import Section
from minddiffuser.seeds import numpy_generator, torch_generator
from minddiffuser.store import DataError

# Two meanings of "dog", and a third that data.noun lacks.
NOUNS = WordNet(
    {
        "n02084071": "02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 000 | a member of the genus Canis",
        "n07676602": "07676602 13 n 03 frank 0 hot-dog 0 dog 1 000 | a smooth-textured sausage",
    },
    {
        "dog": "n 3 1 @ 3 1 02084071 07676602 10114209",
        "frank": "n 1 1 @ 1 0 07676602",
        "the": "n 1 1 @ 1 0 07676602",  # as "a" and "in" have meanings in WordNet
        "is": "n 0",
    },
)


def generator(**options) -> MotionGenerator:
    with seeded(0, "weights"):
        return MotionGenerator(6, 16, inner=8, d_ff=8, **options).eval()


@pytest.fixture
def voxels():
    return torch.randn(3, 6, generator=torch_generator(1))


@pytest.fixture
def frames():
    return torch.randn(3, 7, 16, generator=torch_generator(2))


def test_several_tokens_of_memory_answer_different_frames_differently(voxels, frames):
    network = generator(n_memory=4)
    memory = network.memory(voxels)
    assert memory.shape == (3, 4, 16)
    output = network.layers[0].memory_attention(frames, memory)
    assert (output - output[:, :1]).abs().max() > 1e-3


@pytest.mark.parametrize("n_memory", [1, 4])
def test_films_depend_on_the_voxels_and_not_on_other_clips(voxels, frames, n_memory):
    network = generator(n_memory=n_memory)
    films = network.roll_out(voxels, frames[:, 0])
    alone = network.roll_out(voxels[1:2], frames[1:2, 0])
    torch.testing.assert_close(films[1:2], alone)
    other = network.roll_out(voxels + 1, frames[:, 0])
    assert (films - other)[:, 1:].abs().amax((1, 2)).min() > 1e-3
    assert not films.requires_grad


def test_change_starts_from_films_that_do_not_move(voxels, frames):
    network = generator(output="change")
    films = network.roll_out(voxels, frames[:, 0])
    assert torch.equal(films, frames[:, :1].expand(3, 8, 16))


def test_change_can_be_of_any_size_where_the_released_output_has_one_amplitude(voxels, frames):
    network = generator(output="change")
    assert network.change is not None
    nn.init.normal_(network.change.last.weight, std=1e-3)
    small = (network.roll_out(voxels, frames[:, 0])[:, 1] - frames[:, 0]).std()
    assert 0 < small < 0.05
    released = generator().roll_out(voxels, frames[:, 0])
    torch.testing.assert_close(released[:, 1:].std(-1), torch.ones(3, 7), atol=1e-4, rtol=0)


def test_a_frame_is_made_with_no_knowledge_of_later_ones(voxels, frames):
    network = generator(output="change")
    assert network.change is not None
    nn.init.normal_(network.change.last.weight)
    plain = network(voxels, frames, visible(7, 1))
    changed = frames.clone()
    changed[:, 4:] += 1
    found = network(voxels, changed, visible(7, 1))
    assert torch.equal(found[:, :4], plain[:, :4])
    assert not torch.equal(found[:, 4], plain[:, 4])


def test_a_random_mask_is_one_for_a_film_and_the_same_for_the_same_generator(voxels, frames):
    network = generator()
    films = [network.roll_out(voxels, frames[:, 0], keep=0.5, generator=torch_generator(seed)) for seed in (3, 3, 4)]
    assert torch.equal(films[0], films[1])
    assert not torch.equal(films[0], films[2])
    with pytest.raises(ValueError, match=r"keep is 0\.5: masks are drawn, and need a generator"):
        network.roll_out(voxels, frames[:, 0], keep=0.5)


def test_masks_of_clips_differ_and_are_the_same_for_the_same_generator():
    masks = visible(7, 0.6, torch_generator(5), n=2)
    assert not torch.equal(masks[0], masks[1])
    assert torch.equal(masks, visible(7, 0.6, torch_generator(5), n=2))


def test_more_frames_than_positions_are_refused(voxels):
    network = generator()
    assert network.roll_out(voxels, torch.zeros(3, 16), n_frames=11).shape == (3, 11, 16)  # ten are looked at
    with pytest.raises(ValueError, match="11 frames: there are 10 positions"):
        network.roll_out(voxels, torch.zeros(3, 16), n_frames=12)


@pytest.mark.parametrize(("d", "heads"), [(15, 4), (16, 3)])
def test_sizes_that_do_not_fit_are_refused(d, heads):
    with pytest.raises(ValueError, match="must be a multiple of heads"):
        MotionGenerator(6, d, inner=8, heads=heads)


def test_first_weights_depend_on_the_seed_and_leave_torchs_randomness_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    states = []
    for seed in (1, 1, 2):
        with seeded(seed, "weights"):
            states.append(StructureDecoder(5, 4, 6).state_dict())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["trunk.first.0.weight"], states[2]["trunk.first.0.weight"])


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({}, "not a network of Mind-Animator: KeyError 'lin0.0.weight'"),
        (
            {"lin0.0.weight": torch.zeros(6, 5), "logit_scale": torch.tensor(1.0)},
            r"not a EmbeddingDecoder of Mind-Animator: \d of the weights are missing \(such as trunk.first.0.bias\)",
        ),
        (
            {"lin0.0.weight": torch.zeros(6, 5), "logit_scale": torch.tensor(1.0), "lin1.0.weight": torch.zeros(6)},
            "not a network of Mind-Animator",
        ),
        (
            {"lin0.0.weight": torch.zeros(6, 5), "lin1.2.weight": torch.zeros(4, 6)},
            r"not a StructureDecoder of Mind-Animator: \d of the weights are missing \(such as to_latents.0.bias\)",
        ),
    ],
)
def test_what_is_no_state_of_theirs_is_refused(state, said):
    with pytest.raises(ValueError, match=said):
        from_released(state)


def test_an_unknown_or_reshaped_weight_is_named():
    shapes = {"lin0.0.weight": (6, 5), "lin0.0.bias": (6,), "lin1.0.weight": (6,), "lin1.0.bias": (6,)}
    shapes |= {"lin1.2.weight": (4, 6), "lin1.2.bias": (4,)}
    state = {key: torch.ones(shape) for key, shape in shapes.items()}
    decoder = from_released(state)
    assert decoder(torch.zeros(2, 5)).shape == (2, 4)
    assert not decoder.training
    assert not any(parameter.requires_grad for parameter in decoder.parameters())
    with pytest.raises(ValueError, match=r"unknown to it \(such as lin2\.weight"):
        from_released({**state, "lin2.weight": torch.ones(2)})
    with pytest.raises(ValueError, match=r"of another shape \(such as to_latents\.2\.bias"):
        from_released({**state, "lin1.2.bias": torch.ones(5)})


def retrieval_state(n_in=5):
    shapes = {}
    for layer, n in (("lin0", n_in), ("mlp.0", 6), ("mlp.1", 6)):
        shapes |= {f"{layer}.0.weight": (6, n)} | {f"{layer}.{key}": (6,) for key in ("0.bias", "1.weight", "1.bias")}
    return {key: torch.ones(shape) for key, shape in shapes.items()} | {"logit_scale": torch.tensor(2.0)}


def test_a_checkpoint_is_opened_where_it_decodes_from_as_many_vertices(tmp_path):
    path = tmp_path / "sub1.pth"
    torch.save(retrieval_state(), path)
    network = open_released(path, 5)
    assert isinstance(network, EmbeddingDecoder)
    assert network(torch.zeros(2, 5)).shape == (2, 6)
    with pytest.raises(DataError, match=r"sub1\.pth decodes from 5 vertices, and the rows have 7; .*voxels\.n to 5"):
        open_released(path, 7)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is missing: expected .*x.pth"),
        (b"<html>no</html>", "x.pth cannot be read as a checkpoint of Mind-Animator: it is a web page"),
        ({"epoch": 3, "model": {}}, "x.pth is not a checkpoint of Mind-Animator: it has more, or other things"),
        ({"weight": torch.ones(2)}, "x.pth: not a network of Mind-Animator: KeyError"),
        ({**retrieval_state(), "lin0.1.bias": torch.ones(7)}, r"x.pth: not a Emb.* another shape .such as trunk.first"),
    ],
)
def test_a_bad_checkpoint_is_told_by_one_error_that_names_it(tmp_path, content, said):
    path = tmp_path / "x.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(DataError, match=said) as caught:
        open_released(path, 5)
    assert caught.value.path == path


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch_generator(seed, *shape)).requires_grad_()


@pytest.mark.parametrize("same", [None, torch.tensor([0, 1, 0, 2])])
def test_gradients_of_the_contrast_are_those_of_finite_differences(same):
    f, target, scale = random(4, 3), random(4, 3, seed=1), torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *parts: bi_info_nce(*parts, same), (f, target, scale))


def test_gradients_of_the_semantic_loss_are_those_of_finite_differences():
    f, c, t, v, true_c = (
        random(4, 3),
        random(4, 2, 2),
        random(4, 3, seed=1),
        random(4, 3, seed=2),
        random(4, 2, 2, seed=1),
    )
    log_scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    same = torch.tensor([0, 1, 1, 2])

    def loss(f, c, log_scale):
        return semantic_loss(f, c, t.detach(), v.detach(), true_c.detach(), log_scale.exp(), 0.1, 0.5, same)

    assert torch.autograd.gradcheck(loss, (f, c, log_scale))


def test_gradients_of_the_penalty_are_signs():
    network = nn.Linear(3, 2)
    l1_norm(network).backward()
    for parameter in network.parameters():
        assert torch.equal(parameter.grad, parameter.detach().sign())


@pytest.mark.parametrize("output", ["normalised", "change"])
def test_gradients_of_the_generator_are_those_of_finite_differences(output):
    network = generator(output=output, n_memory=2).double()
    if network.change is not None:
        nn.init.normal_(network.change.last.weight)
    x, frames = random(2, 6), random(2, 3, 16)
    assert torch.autograd.gradcheck(lambda x, frames: network(x, frames, visible(3, 1)), (x, frames))


def test_right_answers_cost_less_than_wrong_ones():
    f = torch.eye(4)
    right, wrong = (bi_info_nce(f, target, 14.3).item() for target in (f, f.roll(1, 0)))
    assert right < 1e-4 < 5 < wrong
    both = torch.cat([f, f])  # each clip's target is there twice
    assert bi_info_nce(both, both, 14.3, torch.arange(4).repeat(2)).item() == pytest.approx(np.log(2), abs=1e-3)


def test_a_semantic_decoder_learns_what_it_is_shown():
    with seeded(3, "weights"):
        network = SemanticDecoder(6, 8, 1, (8,), 3, 4)
    rng = torch_generator(0)
    x, t, c = torch.randn(16, 6, generator=rng), torch.randn(16, 8, generator=rng), torch.randn(16, 2, 4, generator=rng)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        f, decoded = network(x)
        losses.append(semantic_loss(f, decoded, t, t, c, network.scale, 0.01, 0.5))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.6 * losses[0]


# Augmentation.


def test_sparsification_in_place_is_that_of_a_copy():
    X = np.ones((30, 20))
    copy = sparsify(X, 0.4, 0.5, numpy_generator(0))
    assert (X == 1).all()
    found = sparsify(X, 0.4, 0.5, numpy_generator(0), in_place=True)
    assert found is X
    np.testing.assert_array_equal(X, copy)


@pytest.mark.parametrize("accumulate", [False, True])
def test_sparsification_from_a_later_epoch_is_that_of_all_epochs(accumulate):
    X = np.ones((30, 20))
    settings = (0.4, 0.5, accumulate, 7, "structure")
    whole = [found.copy() for found in itertools.islice(sparsified(X, *settings), 5)]
    later = [found.copy() for found in itertools.islice(sparsified(X, *settings, start=3), 2)]
    np.testing.assert_array_equal(whole[3:], later)
    zeros = [(found == 0).sum() for found in whole]
    assert zeros == sorted(zeros) if accumulate else zeros == [120] * 5
    assert any((whole[0] == 0)[whole[1] != 0]) != accumulate
    assert (X == 1).all()


def test_zeros_are_anywhere():
    n = sum(sparsify(np.ones((10, 8)), 0.4, 0.5, numpy_generator(seed)) == 0 for seed in range(500))
    assert n.min() > 60  # of 100 on average
    assert n.max() < 145


def test_synonyms_are_of_all_meanings_in_small_letters():
    assert synonyms("dog", NOUNS) == ["canis familiaris", "domestic dog", "frank", "hot dog"]
    assert synonyms("frank", NOUNS) == ["dog", "hot dog"]
    assert synonyms("is", NOUNS) == synonyms("unheard", NOUNS) == []


def test_candidates_with_synonyms():
    seen = [candidates("The dog is here", numpy_generator(seed), NOUNS) for seed in range(60)]
    replaced = {text for found in seen for text in found[1:4]}
    assert replaced == {f"the {other} is here" for other in synonyms("dog", NOUNS)}
    inserted = {text for found in seen for text in found[4:7]} - {"the dog is here"}  # where ten tries found no noun
    nouns = [*synonyms("dog", NOUNS), *synonyms("the", NOUNS)]
    for text in inserted:
        assert any(sorted(f"{other} the dog is here".split()) == sorted(text.split()) for other in nouns)
        assert text.endswith("here")  # as released, never after the last word
    assert len(inserted) > 8


def test_without_a_dictionary_words_are_swapped_and_left_out():
    for seed in range(40):
        first, *others = candidates("a man and a woman walk", numpy_generator(seed), None)
        assert len(others) == 6
        assert first == "a man and a woman walk"
        for text in others[:3]:
            assert sorted(text.split()) == sorted(first.split())
            assert sum(a != b for a, b in zip(text.split(), first.split(), strict=True)) in (0, 2)  # a with a: 0
        assert all(set(text.split()) <= set(first.split()) and text for text in others[3:])


def test_of_fifty_words_ten_pairs_are_swapped_or_a_fifth_is_left_out():
    words = [f"word{i}" for i in range(50)]
    varied = [candidates(" ".join(words), numpy_generator(seed), None) for seed in range(40)]
    moved = [sum(np.array(text.split()) != words) for found in varied for text in found[1:4]]
    assert np.mean(moved) == pytest.approx(50 * (1 - (48 / 50) ** 10), abs=0.7)  # a few of them go back
    n_left = [len(text.split()) for found in varied for text in found[4:]]
    assert np.mean(n_left) == pytest.approx(40, abs=1)


@pytest.mark.parametrize("text", ["", "dog", "  "])
def test_texts_of_no_or_one_word_stay(text):
    assert set(candidates(text, numpy_generator(0), None)) == {text.strip()}
    assert len(candidates(text, numpy_generator(0), NOUNS)) == 13


def test_one_in_seven_captions_stays_and_the_same_generator_gives_the_same():
    text = "one two three four five six seven eight nine ten"
    found = [eda(text, numpy_generator(seed), None) for seed in range(400)]
    assert found == [eda(text, numpy_generator(seed), None) for seed in range(400)]
    expected = (1 + 3 * 0.8**10) / 7  # itself, and where no word happens to be left out; two swaps may undo each other
    assert np.mean([other == text for other in found]) == pytest.approx(expected, abs=0.06)


def test_captions_are_varied_with_the_whole_of_wordnet(wordnet_folder):
    nouns = open_wordnet(wordnet_folder)
    assert "canis familiaris" in synonyms("dog", nouns)
    found = candidates("a man is riding a horse on the beach", numpy_generator(0), nouns)
    assert len(found) == 13
    for text in found[1:4]:
        assert text.split()[0] == "a"  # a vitamin, to WordNet
        assert text != found[0]


def test_crops_do_not_depend_on_the_batch():
    images = torch.rand(5, 3, 64, 64, generator=torch_generator(0))
    corners = crop_corners(5, 64, torch_generator(1), per_image=True)
    assert corners.max() <= 14  # windows of 50 of 64
    whole = crop(images, corners, 32)
    assert whole.shape == (5, 3, 32, 32)
    torch.testing.assert_close(crop(images[3:4], corners[3:4], 32), whole[3:4])


def test_a_crop_without_resizing_is_the_window():
    images = torch.arange(64 * 64).reshape(1, 1, 64, 64).float()
    found = crop(images, torch.tensor([[3, 9]]), 50)
    assert torch.equal(found[0, 0], images[0, 0, 3:53, 9:59])


# The mover.


def weights_of(mover, d):
    """A_k, transposed: what becomes of each single number at a velocity of which one term is 1."""
    return np.stack([mover.change(np.eye(d), np.tile(np.eye(5)[k], (d, 1))) for k in range(5)])


def planted(n_clips, d):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, d, d)) * 0.3 / d
    mover = Mover(lambda z, terms: np.einsum("nk,kde,nd->ne", terms, weights, z))
    first, velocity = rng.normal(size=(n_clips, d)), rng.uniform(-1, 1, size=(n_clips, 2))
    return mover, mover.roll_out(first, velocity), velocity


@pytest.mark.parametrize(("n_clips", "d"), [(40, 6), (60, 16)])
def test_the_mover_recovers_a_planted_map(n_clips, d):
    true, Z, velocity = planted(n_clips, d)
    found = fit_mover(Z, velocity, alpha=1e-9)
    np.testing.assert_allclose(found.roll_out(Z[:, 0], velocity), Z, atol=1e-4)
    np.testing.assert_allclose(weights_of(found, d), weights_of(true, d), atol=1e-3)


@pytest.mark.parametrize("n_clips", [3, 60])
def test_the_movers_two_ways_of_solving_are_ridge_regression(n_clips):
    rng = np.random.default_rng(1)
    Z, velocity = rng.normal(size=(n_clips, 4, 5)), rng.normal(size=(n_clips, 2))
    rows, targets = [], []
    for z, (x, y) in zip(Z, velocity, strict=True):
        for t in range(3):
            rows.append(np.concatenate([term * z[t] for term in (x, y, x * x, y * y, x * y)]))
            targets.append(z[t + 1] - z[t])
    X, Y = np.array(rows), np.array(targets)
    W = np.linalg.solve(X.T @ X + 0.7 * np.eye(25), X.T @ Y)
    assert (len(X) >= 25) == (n_clips == 60)
    np.testing.assert_allclose(weights_of(fit_mover(Z, velocity, 0.7), 5), W.reshape(5, 5, 5), atol=1e-10)


def test_the_mover_does_not_move_at_velocity_0_and_follows_its_direction():
    true, Z, velocity = planted(60, 6)
    mover = fit_mover(Z, velocity, 1e-9)
    still = mover.roll_out(Z[:, 0], np.zeros((60, 2)), n_frames=5)
    np.testing.assert_array_equal(still, np.repeat(Z[:, :1], 5, axis=1))
    there = mover.roll_out(Z[:1, 0], np.array([[1e-4, 0]]), 2) - still[:1, :2]
    back = mover.roll_out(Z[:1, 0], np.array([[-1e-4, 0]]), 2) - still[:1, :2]
    np.testing.assert_allclose(there, -back, atol=1e-6)
    np.testing.assert_allclose(there[0, 1], 1e-4 * Z[0, 0] @ weights_of(true, 6)[0], rtol=0.05, atol=1e-7)


def test_the_mover_finds_what_a_linear_map_of_frame_and_velocity_does_not():
    _, Z, velocity = planted(800, 6)
    train, test = slice(0, 400), slice(400, 800)
    X, change = np.column_stack([Z[:, 0], velocity, np.ones(800)]), Z[:, 1] - Z[:, 0]
    linear = X[test] @ np.linalg.lstsq(X[train], change[train], rcond=None)[0]
    moved = fit_mover(Z[train], velocity[train], 1e-9).roll_out(Z[test, 0], velocity[test], 2)
    scale = (change[test] ** 2).mean()
    assert ((moved[:, 1] - Z[test, 1]) ** 2).mean() < 1e-6 * scale
    assert ((linear - change[test]) ** 2).mean() > 0.3 * scale


def test_a_first_frame_that_is_moved_as_a_whole_is_where_its_velocity_takes_it():
    first = np.zeros((2, 4, 8, 8), np.float32)
    first[:, :, 3, 2] = 1
    moved = shift(first, np.array([[8.0, 0.0], [0.0, -4.0]]), n_frames=3)  # a cell to the right, half a cell up
    np.testing.assert_array_equal(moved[:, 0], first)
    assert moved.shape == (2, 3, 4, 8, 8)
    np.testing.assert_allclose(moved[0, 2, :, 3, 4], 1, atol=1e-5)
    np.testing.assert_allclose(moved[1, 1, :, 2:4, 2], 0.5, atol=1e-5)
    np.testing.assert_allclose(moved[1, 2, :, 2, 2], 1, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "n_velocities", "alpha", "said"),
    [((4, 3, 2), 5, 1.0, "n_clips each"), ((4, 1, 2), 4, 1.0, "at least two frames"), ((4, 3, 2), 4, 0.0, "above 0")],
)
def test_what_no_mover_fits_is_refused(shape, n_velocities, alpha, said):
    with pytest.raises(ValueError, match=said):
        fit_mover(np.ones(shape), np.ones((n_velocities, 2)), alpha)


# Settings.


def fields(settings: Section, prefix: str = ""):
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Section):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.description or "", value


def test_the_original_form_sets_every_field_whose_description_names_a_released_value():
    corrected = {name: value for name, _, value in fields(animator_form(MindAnimator(), "corrected"))}
    documented = set()
    for name, description, value in fields(animator_form(MindAnimator(), "original")):
        if "released: " in description:
            released = description.split("released: ")[1].split(";")[0].split(" ")[0].strip(",")
            assert str(value).lower() == released or float(released) == value, name
            documented.add(name)
        if value != corrected[name]:
            assert name in documented, f"{name} does not say what was released"
    assert len(documented) >= 15


def test_forms_are_valid_settings_and_only_change_what_they_say():
    base = MindAnimator(motion={"inner": 64, "learning_rate": 1e-3, "n_memory": 8})
    for form in ANIMATOR_FORMS:
        settings = animator_form(base, form)
        assert MindAnimator.model_validate(settings.model_dump()) == settings
        assert settings.motion.inner == 64
        as_released = settings.motion.learning_rate == "noam", settings.motion.n_memory == 1
        assert as_released == ((form == "original"),) * 2  # which does not follow the miniature's own settings
    assert animator_form(base, "corrected") == base
    assert animator_form(base, "change").motion.output == "change"


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="inner 62 must be a multiple of heads 4"):
        MindAnimator(motion={"inner": 62})


def test_more_frames_than_the_generator_has_positions_for_are_refused():
    assert MindAnimator(clips={"n_frames": 11}).clips.n_frames == 11
    with pytest.raises(ValueError, match="less than or equal to 11"):
        MindAnimator(clips={"n_frames": 12})
