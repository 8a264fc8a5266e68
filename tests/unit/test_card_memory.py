"""The memory of a card: counted without one, corrected by what cards took, and said where it does not suffice."""

import re
import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks import card_memory as benchmark
from benchmarks import stage2
from benchmarks.pretended_gpu import pretended
from doctor import machine
from minddiffuser import cli
from minddiffuser.cli import execute, parse
from minddiffuser.config import Config
from minddiffuser.needs import card_memory
from minddiffuser.needs.card_memory import CARDS, MOST, OF_KIND, SHARE, WORKS, largest_batch, predicted
from minddiffuser.needs.rows import n_kept

GIB = 2.0**30


@pytest.mark.parametrize("work", ["VAE encoding", "stage 1", "stage 2"])
def test_the_count_is_within_a_tenth_of_what_the_miniature_takes_on_a_cpu(work):
    counted, measured = benchmark.check(work)
    assert counted == pytest.approx(measured, rel=0.1)


def test_the_memory_of_stage_2_does_not_grow_with_its_steps():
    """Each is recomputed on the way back, and nothing of it stays."""
    sampler, encoder, shapes = stage2.open_models(False, benchmark.CPU, "float32", 6)
    iteration = stage2.Iteration(sampler, encoder, *stage2.make_problem(encoder, shapes, 1, benchmark.CPU))
    one, six = (stage2.peak_memory(iteration, sampler, n, benchmark.CPU) for n in (1, 6))
    assert six == pytest.approx(one, rel=0.025)


@pytest.mark.parametrize(
    ("work", "precision"),
    [("VAE encoding", "float32"), ("CLIP", "float32"), pytest.param("stage 2", "float16", marks=pytest.mark.slow)],
)
def test_the_table_has_what_is_counted_now(work, precision):
    weights, peak = benchmark.count(work, 2, precision)
    counts = card_memory.table()[work, precision]
    assert (weights, weights + peak) == (counts[0], counts[2])


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS)
def test_what_is_measured_on_a_card_has_its_tensors_there(work):
    with pretended() as answers:
        benchmark.job(work, 2, "float16", torch.device("cuda")).run()
    assert answers.used_gpu


def test_all_works_are_in_the_table():
    assert {work for work, _ in card_memory.table()} == set(WORKS)
    for counts in card_memory.table().values():
        assert list(counts) == [0, *benchmark.SIZES]
        assert sorted(counts.values()) == list(counts.values())


@pytest.mark.parametrize("row", card_memory.measured())
def test_what_is_predicted_is_never_less_than_what_a_card_took_and_not_much_more(row):
    ratio = predicted(row.work, row.precision, row.batch_size) / row.n_bytes
    assert 1 - 1e-9 <= ratio < 1.1


def test_a_correction_is_that_of_the_work_or_of_its_precision(monkeypatch):
    n_bytes = int(3 * card_memory.counted("stage 2", "float32", 2))
    row = card_memory.Measured("a card", "2", "stage 2", "tf32", 2, n_bytes)
    monkeypatch.setattr(card_memory, "measured", lambda: (row,))
    correction = card_memory.correction.__wrapped__
    assert correction("stage 2", "float32") == pytest.approx(3)
    assert correction("stage 1", "float32") == pytest.approx(3), "of another work, for want of its own"
    assert correction("CLIP", "float16") == pytest.approx(3), "CLIP is float32 whatever the precision"
    assert correction("stage 2", "float16") == 1


@pytest.mark.parametrize("kind", OF_KIND)
@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_the_largest_batch_fits_and_one_more_does_not(kind, precision):
    most = [largest_batch(kind, precision, card * GIB) for card in CARDS]
    assert most == sorted(most)
    for n, card in zip(most, CARDS, strict=True):
        takes = [max(predicted(work, precision, k) for work in OF_KIND[kind]) for k in (n, n + 1)]
        assert takes[0] <= SHARE * card * GIB
        assert takes[1] > SHARE * card * GIB or n == MOST
    assert largest_batch(kind, precision, 1e8) == 0


def test_default_batches_fit_a_card_of_16_gib():
    size = Config(name="x").execution.batch_size
    assert all(getattr(size, kind) <= largest_batch(kind, "float32", 16 * GIB) for kind in OF_KIND)


@pytest.fixture
def card(monkeypatch):
    """A card of 24 GiB."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card 24")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=int(24 * GIB)))


def said(tmp_path, monkeypatch, script, *settings):
    path = tmp_path / "experiment.yaml"
    path.write_text("name: x\nexecution: {batch_size: 50}")
    monkeypatch.setattr(sys, "argv", [f"some/where/{script}"])

    def main():
        parse("", ["--config", str(path), "--device", "cuda", *(w for s in settings for w in ("--set", s))])
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(SystemExit) as stopped:
        execute(main)
    cli._latest = None
    return str(stopped.value.code)


@pytest.mark.parametrize(
    ("script", "kind", "precision"),
    [
        ("reconstruction/32_stage2.py", "refine", "float16"),
        ("reconstruction/31_stage1.py", "generate", "float16"),
        ("feature_extraction/12_detail.py", "encode", "float32"),
        ("takagi/36_reconstruct_takagi.py", "generate", "float32"),
    ],
)
def test_where_memory_does_not_suffice_the_batch_size_of_the_table_is_named(
    tmp_path, monkeypatch, card, script, kind, precision
):
    text = said(tmp_path, monkeypatch, script, "experiment.sampler.precision=float16")
    n = largest_batch(kind, precision, 24 * GIB)
    wanted = f"batch_size.{kind} (now 50; the table in docs/performance.md has {n} for this card of 24 GiB)"
    assert wanted in text
    other = said(tmp_path, monkeypatch, script, "experiment.detail.image_size=64")
    assert "table" not in other, "of other pictures it says nothing"


@pytest.mark.parametrize(
    ("settings", "n"),
    [
        ({"checkpoint_steps": True}, 0),
        ({}, 34),
        ({"sampler": {"solver": "dpm_solver_pp_2m", "solver_steps": 8}}, 7),
        ({"guidance": {"gradient_steps": 2}}, 1),
        ({"guidance": {"method": "in_sampler"}}, 0),
        ({"guidance": {"method": "before_sampler"}}, 0),
    ],
)
def test_calls_whose_memory_stays_are_those_that_gradients_pass(settings, n):
    execution = {"checkpoint_steps": settings.pop("checkpoint_steps", False)}
    assert n_kept(Config(name="x", experiment=settings, execution=execution)) == n


def test_the_table_is_quoted_for_what_it_is_of_and_does_not_contradict_itself(tmp_path, monkeypatch, card):
    for script in ("mind_animator/31_reconstruct.py", "ozcelik/38_reconstruct_ozcelik.py"):
        text = said(tmp_path, monkeypatch, script)
        assert "batch_size.generate (now 50)" in text
        assert "table" not in text
    few = said(tmp_path, monkeypatch, "reconstruction/31_stage1.py", "execution.batch_size.generate=2")
    assert re.search(r"\(now 2; the table .* has \d+ for this card of 24 GiB: does another program use it\?\)", few)


def test_the_doctor_says_which_batches_fit_a_card_that_is_there(card, capsys):
    config = Config(name="x", execution={"batch_size": {"refine": 50}})
    machine.advise(config, torch.device("cuda"))
    line = capsys.readouterr().out.splitlines()[-1]
    most = {kind: largest_batch(kind, "float32", 24 * GIB) for kind in OF_KIND}
    sizes = ", ".join(f"{kind} {n}" for kind, n in most.items())
    assert line == f"  this Card 24: {sizes}; set too high here: refine"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_doctor_says_which_batches_fit_the_usual_cards_where_none_is(capsys):
    machine.advise(Config(name="x"), torch.device("cuda"))
    assert [line.split(":")[0].strip() for line in capsys.readouterr().out.splitlines()[2:]] == [
        f"{card} GiB" for card in CARDS
    ]
    machine.advise(Config(name="x", experiment={"detail": {"image_size": 64}}), torch.device("cuda"))
    assert capsys.readouterr().out == "", "of other pictures it says nothing"
