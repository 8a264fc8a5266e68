"""The trainer: what it computes, and that a run which was killed ends with the same bytes."""

import itertools
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from feature_decoding.training import Plan, seeded, train
from minddiffuser.config import REPOSITORY
from minddiffuser.seeds import torch_generator
from minddiffuser.store import DataError

N_ROWS = 50
X = torch.randn(N_ROWS, 6, generator=torch_generator(0, "X"))
W = torch.randn(6, 3, generator=torch_generator(0, "W"))
Y = X @ W
PLAN = Plan(n_epochs=6, batch_size=16, rate=lambda _, epoch: 0.02 * 0.9**epoch)


def build() -> nn.Sequential:
    with seeded(0, "weights"):
        return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Linear(8, 3))


def fit(path, plan=PLAN, network=None, stop_at=None, name="a", made_of="x", seed=0, **options):
    """Train on the planted regression, with noise that is drawn in each step; be killed in a step, if asked to."""
    network = build() if network is None else network

    def losses(start):
        for epoch in itertools.count(start):
            scale = 1 + 0.1 * epoch  # what is prepared once an epoch

            def loss(rows, generator, epoch=epoch, scale=scale):
                if stop_at == epoch and 3 in rows:
                    raise KeyboardInterrupt
                noise = 0.1 * torch.randn(len(rows), 6, generator=generator)
                return (network(X[rows] + noise) - scale * Y[rows]).square().mean()

            yield loss

    def validate():
        assert not network.training
        return (network(X) - Y).square().mean().item()

    curve = train(network, losses, validate, plan, N_ROWS, seed, name, path, made_of, **options)
    return network, curve


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_a_linear_network_finds_a_planted_map(tmp_path):
    with seeded(1):
        network = nn.Linear(6, 3)
    plan = Plan(n_epochs=150, batch_size=10, rate=lambda *_: 0.02)

    def losses(start):
        while True:
            yield lambda rows, _: (network(X[rows]) - Y[rows]).square().mean()

    curve = train(
        network, losses, lambda: float((network(X) - Y).square().mean()), plan, N_ROWS, 0, "a", tmp_path / "s", ""
    )
    torch.testing.assert_close(network.weight.detach(), W.T, atol=1e-3, rtol=0)
    assert curve["loss"].iloc[-1] < 1e-5 < curve["loss"].iloc[0]
    assert not network.training


def test_a_step_is_adams(tmp_path):
    network, reference = build().eval(), build().eval()
    plan = Plan(2, N_ROWS, lambda step, _: 0.01 * step, betas=(0.8, 0.9), epsilon=1e-4, checkpoint="fixed_epoch")
    network[1].p = 0.0

    def losses(start):
        while True:
            yield lambda *_: (network(X) - Y).square().mean()

    train(network, losses, None, plan, N_ROWS, 0, "a", tmp_path / "s", "")
    m, v = ([torch.zeros_like(p) for p in reference.parameters()] for _ in range(2))
    for t in (1, 2):
        reference.zero_grad()
        (reference(X) - Y).square().mean().backward()
        with torch.no_grad():
            for i, p in enumerate(reference.parameters()):
                m[i] = 0.8 * m[i] + 0.2 * p.grad
                v[i] = 0.9 * v[i] + 0.1 * p.grad.square()
                p -= 0.01 * t * (m[i] / (1 - 0.8**t)) / ((v[i] / (1 - 0.9**t)).sqrt() + 1e-4)
    for p, q in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("checkpoint", ["best_validation", "fixed_epoch"])
@pytest.mark.parametrize("stop_at", [0, 3, 5])
def test_killed_and_resumed_gives_the_same_bytes(tmp_path, stop_at, checkpoint):
    plan = PLAN._replace(checkpoint=checkpoint)
    whole, curve = fit(tmp_path / "whole", plan)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "killed", plan, stop_at=stop_at)
    torch.rand(7)  # whatever else has happened since
    resumed, again = fit(tmp_path / "killed", plan)
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert same(whole, resumed)
    assert again.equals(curve)
    assert curve["epoch"].tolist() == list(range(6))


def test_a_process_that_is_killed_leaves_a_state_to_go_on_from(tmp_path):
    code = f"""
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("job", {__file__!r})
job = importlib.util.module_from_spec(spec)
spec.loader.exec_module(job)
class Kill(Exception):
    def __init__(self): os.kill(os.getpid(), signal.SIGKILL)
job.KeyboardInterrupt = Kill
from pathlib import Path
job.fit(Path({str(tmp_path / "killed")!r}), stop_at=4)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]
    before = (tmp_path / "killed").read_bytes()
    resumed, _ = fit(tmp_path / "killed")
    whole, _ = fit(tmp_path / "whole")
    assert same(resumed, whole)
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes() != before


def test_a_kill_in_the_middle_of_writing_loses_one_epoch_and_no_more(tmp_path, monkeypatch):
    whole, _ = fit(tmp_path / "whole")
    with monkeypatch.context() as patched:
        calls = itertools.count()

        def write(path, content):
            if next(calls) == 3:
                path.with_name(f".{path.name}.0.partial").write_bytes(content[: len(content) // 2])
                raise KeyboardInterrupt
            path.write_bytes(content)

        patched.setattr("feature_decoding.training.write_atomically", write)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "killed")
    resumed, _ = fit(tmp_path / "killed")
    assert same(whole, resumed)


def test_a_finished_training_is_not_repeated(tmp_path):
    first, curve = fit(tmp_path / "s")
    content = (tmp_path / "s").read_bytes()
    again, same_curve = fit(tmp_path / "s", stop_at=6)
    assert same(first, again)
    assert same_curve.equals(curve)
    assert (tmp_path / "s").read_bytes() == content


def scripted(path, errors, checkpoint):
    """Train a number that grows by about .1 an epoch, with given validation errors."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    given = iter(errors)

    def losses(start):
        while True:
            yield lambda *_: -network.weight.sum()

    plan = Plan(len(errors), 4, lambda *_: 0.1, checkpoint=checkpoint)
    curve = train(network, losses, lambda: next(given), plan, 4, 0, "a", path, "")
    return network.weight.item(), curve


def test_the_best_epoch_is_kept_of_equals_the_first_or_the_last_one(tmp_path):
    errors = [3.0, 1.0, 2.0, 1.0, 5.0]
    weight, curve = scripted(tmp_path / "best", errors, "best_validation")
    assert weight == pytest.approx(0.2)
    assert curve["is_kept"].tolist() == [False, True, False, False, False]
    assert curve["validation"].tolist() == errors
    weight, curve = scripted(tmp_path / "last", errors, "fixed_epoch")
    assert weight == pytest.approx(0.5)
    assert curve["is_kept"].tolist() == [False, False, False, False, True]


def test_every_epoch_takes_every_row_once_in_an_order_of_its_own(tmp_path):
    def orders(name, seed):
        network, seen = nn.Linear(1, 1), []

        def losses(start):
            for _ in itertools.count(start):
                seen.append([])
                yield lambda rows, _: seen[-1].append(rows.tolist()) or network.weight.sum()

        plan = Plan(3, 16, lambda *_: 0.1, checkpoint="fixed_epoch")
        train(network, losses, None, plan, N_ROWS, seed, name, tmp_path / f"{name}{seed}", "")
        return seen

    found = orders("a", 0)
    assert [len(batch) for batch in found[0]] == [16, 16, 16, 2]
    flat = [list(itertools.chain(*epoch)) for epoch in found]
    assert all(sorted(order) == list(range(N_ROWS)) for order in flat)
    assert flat[0] != flat[1]
    assert orders("b", 0) != found
    assert orders("a", 1) != found


def test_rates_are_of_steps_from_1_and_epochs_from_0_also_when_resumed(tmp_path):
    asked = []
    plan = PLAN._replace(rate=lambda step, epoch: asked.append((step, epoch)) or 0.01 * step)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "s", plan, stop_at=2)
    del asked[8:]  # those of the epoch that was lost
    _, curve = fit(tmp_path / "s", plan)
    assert asked == [(4 * epoch + step, epoch) for epoch in range(6) for step in (1, 2, 3, 4)]
    assert curve["learning_rate"].tolist() == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2, 0.24])


def test_the_released_training_has_63_steps_an_epoch(tmp_path):
    steps = []
    plan = Plan(2, 64, lambda step, _: steps.append(step) or 0.1, checkpoint="fixed_epoch")
    network = nn.Linear(1, 1)
    train(
        network,
        lambda _: itertools.repeat(lambda *_: network.weight.sum()),
        None,
        plan,
        4000,
        0,
        "a",
        tmp_path / "s",
        "",
    )
    assert steps == list(range(1, 127))


def test_training_leaves_torchs_randomness_alone_and_does_not_depend_on_it(tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, _ = fit(tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second, _ = fit(tmp_path / "b")
    assert same(first, second)
    other, _ = fit(tmp_path / "c", seed=1)
    assert not same(first, other)


def test_the_loss_of_an_epoch_is_the_mean_over_its_rows(tmp_path):
    network = nn.Linear(1, 1, bias=False)
    nn.init.ones_(network.weight)
    plan = Plan(2, 16, lambda *_: 0.0, checkpoint="fixed_epoch")
    losses = itertools.repeat(lambda rows, _: rows.double().mean() * network.weight.sum())
    curve = train(network, lambda _: losses, None, plan, N_ROWS, 0, "a", tmp_path / "s", "")
    assert curve["loss"].tolist() == pytest.approx([24.5, 24.5])
    assert curve["validation"].isna().all()


def test_dropout_and_what_a_loss_draws_are_new_in_each_epoch(tmp_path):
    network, drawn = nn.Linear(1, 1), []

    def loss(rows, generator):
        drawn.extend([torch.rand(1).item(), torch.rand(1, generator=generator).item()])
        return network.weight.sum()

    plan = Plan(3, 4, lambda *_: 0.1, checkpoint="fixed_epoch")
    train(network, lambda _: itertools.repeat(loss), None, plan, 8, 0, "a", tmp_path / "s", "")
    assert len(set(drawn)) == len(drawn) == 12


def test_a_training_of_something_else_is_refused(tmp_path):
    fit(tmp_path / "s")
    content = (tmp_path / "s").read_bytes()
    with pytest.raises(DataError, match="is of a training with other settings or data; delete it") as caught:
        fit(tmp_path / "s", made_of="y")
    assert caught.value.path == tmp_path / "s"
    assert (tmp_path / "s").read_bytes() == content


@pytest.mark.parametrize("damage", ["empty", "half", "zeros"])
def test_a_broken_state_is_refused_by_name(tmp_path, damage):
    fit(tmp_path / "s")
    whole = (tmp_path / "s").read_bytes()
    broken = {"empty": b"", "half": whole[: len(whole) // 2], "zeros": bytes(len(whole))}
    (tmp_path / "s").write_bytes(broken[damage])
    with pytest.raises(DataError, match=r"/s cannot be read as a state of training.*delete it"):
        fit(tmp_path / "s")


def test_the_state_of_another_network_is_refused(tmp_path):
    fit(tmp_path / "s")
    with pytest.raises(DataError, match="cannot be read as a state of training"):
        fit(tmp_path / "s", network=nn.Linear(6, 3))


@pytest.mark.parametrize("where", ["loss", "validation"])
def test_what_is_not_finite_ends_the_training_and_spoils_no_state(tmp_path, where):
    network = nn.Linear(6, 3)
    epochs = itertools.count()
    errors = iter([1.0, math.nan if where == "validation" else 1.0])

    def losses(start):
        for epoch in epochs:
            factor = math.inf if epoch == 1 and where == "loss" else 1.0
            yield lambda rows, _, factor=factor: factor * network(X[rows]).square().mean()

    with pytest.raises(FloatingPointError, match=r"a: in epoch 1 the loss is .*learning rate"):
        train(network, losses, lambda: next(errors), PLAN, N_ROWS, 0, "a", tmp_path / "s", "")
    resumed, curve = nn.Linear(6, 3), None
    plan = PLAN._replace(n_epochs=1)
    curve = train(resumed, losses, lambda: 1.0, plan, N_ROWS, 0, "a", tmp_path / "s", "")
    assert len(curve) == 1
    assert all(p.isfinite().all() for p in resumed.parameters())


def test_the_best_epoch_needs_a_validation(tmp_path):
    with pytest.raises(ValueError, match="needs a function that validates"):
        train(nn.Linear(1, 1), lambda _: iter(()), None, PLAN, 4, 0, "a", tmp_path / "s", "")
