"""Benchmarks of Mind-Animator's variants: what is shared, what is compared, and that no switch is left out."""

import json
import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from baselines.mind_animator import recipes
from benchmarks import animator_seeds, animator_switches, film_variants
from data import film_recipes
from minddiffuser.config import Config, load
from minddiffuser.config.mind_animator import ANIMATOR_FORMS, animator_form
from minddiffuser.recipe import Recipe
from minddiffuser.store import Artifact, DataError, open_made

SPREAD: dict[str, tuple[float, int]] = dict.fromkeys(animator_switches.METRICS, (0.01, 5))


def config_of(folder, forms, **changes) -> Config:
    settings = [f"execution.runs={folder}", f"experiment.mind_animator.forms=[{forms}]"]
    settings += [f"experiment.mind_animator.{key}={value}" for key, value in changes.items()]
    return load(film_variants.MINIATURE, settings)


def write_targets(config: Config) -> None:
    """Small files in place of `clips.h5` and `varied.h5`, with all that the configuration asks for."""
    rng = np.random.default_rng(0)
    for recipe, names in (
        (recipes.clips(config), ["c", *(f"z_{kind}" for kind in recipes.posteriors(config))]),
        (recipes.varied(config), ["c", *recipes.crops(config)]),
    ):
        Artifact(recipe).write({name: rng.normal(size=(3, 2)) for name in names})


def test_crossed_interval_is_as_wide_as_seeds_and_shots_make_it():
    """Of effects of seeds and of shots, the variance of the mean is the sum of both, each over its number."""
    n_seeds, n_shots, per_shot = 12, 40, 3
    rng = np.random.default_rng(0)
    of_seeds, of_shots = rng.normal(size=n_seeds), rng.normal(size=n_shots) * 2
    shots = np.repeat(np.arange(n_shots), per_shot)
    values = 1 + of_seeds[:, None] + of_shots[shots]
    expected = 1.96 * np.sqrt(of_seeds.var() / n_seeds + of_shots.var() / n_shots)
    mean, low, high = animator_seeds.crossed_mean(values, shots)
    assert mean == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(expected, rel=0.06)
    # Clips of a shot are no more than one: independent clips would give less, and seeds alone less still.
    assert (high - low) / 2 > 1.3 * 1.96 * np.sqrt(of_seeds.var() / n_seeds + of_shots.var() / n_shots / per_shot)
    mean, low, high = animator_seeds.crossed_mean(values[:1], shots)
    assert (high - low) / 2 == pytest.approx(1.96 * of_shots.std() / np.sqrt(n_shots), rel=0.06)


def test_report_says_which_seed_had_what_and_ends_with_json(capsys):
    rng, shots = np.random.default_rng(1), np.repeat(np.arange(10), 2)
    cosines = {
        (form, subject, key): rng.normal(size=(3, 20)) / 10 + (key == "z") * (subject == "Subject01")
        for form in animator_seeds.FORMS
        for subject in ("Subject01", "Subject03")
        for key in ("z", "other_clip")
    }
    for subject, value in (("Subject01", 0.5), ("Subject03", 0.25)):
        cosines["mover", subject, "z"] = np.full((1, 20), value)
    by_seed = {"corrected": {"c_r": [0.1, 0.2, 0.3]}, "change": {"ssim": [0.5, 0.5, 0.5]}}
    animator_seeds.report(cosines, by_seed, shots)
    printed = capsys.readouterr().out.splitlines()
    record = json.loads(printed[-1])
    assert (record["n_seeds"], record["n_clips"], record["n_shots"]) == (3, 20, 10)
    own, blind = cosines["corrected", "Subject01", "z"], cosines["corrected", "Subject03", "z"]
    assert record["corrected_minus_blind"] == pytest.approx((own - blind).mean(), abs=1e-4)
    assert record["corrected_minus_blind_low"] < record["corrected_minus_blind"] < record["corrected_minus_blind_high"]
    assert abs(record["corrected_blind_minus_other_clip"]) < 0.1
    assert record["mover_minus_blind"] == record["mover_minus_blind_low"] == 0.25
    assert record["corrected"]["c_r"] == [0.1, 0.2, 0.3]
    line = next(line for line in printed if line.startswith("Subject01 corrected  "))
    assert [float(mean) for mean in line.split()[-3:]] == pytest.approx(own.mean(axis=1), abs=6e-4)


def test_every_field_of_the_released_form_and_every_slip_has_a_row():
    settings = recipes.settings_of(load(film_variants.MINIATURE))
    found = animator_switches.switches(settings)
    fields = {
        f"{section}.{field}".removeprefix(".") for section, of in ANIMATOR_FORMS["original"].items() for field in of
    }
    assert {switch.field for switch in found} == fields
    assert [switch.field for switch in found][:2] == ["sparsify.accumulate", "video.noise"]
    unchanged = {"motion.n_memory", "motion.output", "video.inversion_length"}
    assert {switch.field for switch in found if switch.note} == unchanged
    assert [switch.released for switch in found if switch.field == "motion.n_memory"] == [1, 8]
    for switch in found:  # whatever is retrained, or else it is a switch of the sampler
        assert bool(animator_switches.FIELDS[switch.field].decoders) != switch.field.startswith("video.")
    numbers = {number for field in animator_switches.FIELDS.values() for number in re.findall(r"B\d+", field.bug)}
    assert numbers | set(animator_switches.NO_FIELD) == {f"B{number}" for number in range(1, 34)}


@pytest.mark.parametrize("form", ["corrected", "change"])
def test_a_form_as_a_variant_has_the_settings_of_the_form(form):
    config = load(film_variants.MINIATURE, film_variants.overrides("some", film_variants.fields_of(form)))
    original = recipes.settings_of(load(film_variants.MINIATURE))
    assert recipes.settings_of(config) == animator_form(original, form).model_copy(update={"forms": ("corrected",)})


def test_switches_refuse_a_form_that_they_do_not_know(monkeypatch):
    monkeypatch.setitem(ANIMATOR_FORMS["original"], "clips", {"posterior": "sample", "join_above": 1.0})
    with pytest.raises(ValueError, match=r"clips\.join_above"):
        animator_switches.switches(recipes.settings_of(load(film_variants.MINIATURE)))


@pytest.mark.parametrize("field", [name for name, field in animator_switches.FIELDS.items() if field.decoders])
def test_decoders_that_a_switch_retrains_are_those_that_its_recipe_says(field):
    """A decoder is in the list where its recipe changes, or was left out because the field is of another decoder."""
    value = next(
        value
        for section, fields in ANIMATOR_FORMS["original"].items()
        for name, value in fields.items()
        if f"{section}.{name}".removeprefix(".") == field
    )
    value = animator_switches.ABLATIONS.get(field, "change" if field == "motion.output" else value)
    configs = [
        load(film_variants.MINIATURE, film_variants.overrides("some", changes)) for changes in ({}, {field: value})
    ]
    changed = {
        decoder
        for decoder in animator_switches.ALL
        if len({recipes.decoded(config, "Subject01", "corrected", decoder).fingerprint for config in configs}) == 2
    }
    listed = set(animator_switches.FIELDS[field].decoders)
    # Settings of sparsification, and the targets, are in the recipe of the semantic decoder as wholes.
    assert listed == changed - ({"semantic"} if field in ("sparsify.validation", "clips.posterior") else set())


def test_row_has_the_paired_difference_and_leaves_out_what_is_not_changed():
    rng, shots = np.random.default_rng(2), np.repeat(np.arange(20), 3)
    before = pd.DataFrame({"structure_r": rng.normal(size=60), "flow_cosine": rng.normal(size=60), "c_r": 0.0})
    after = before[["structure_r", "flow_cosine"]] + [0.25, 0.0]
    row = animator_switches.row_of(after, before, shots)
    assert row["structure_r_difference"] == row["structure_r_low"] == row["structure_r_high"] == 0.25
    assert row["flow_cosine_difference"] == 0
    assert row["flow_cosine"] == pytest.approx(before["flow_cosine"].mean(), abs=1e-4)
    assert "c_r" not in row
    assert (row["n"], row["n_shots"]) == (60, 20)


def test_page_is_bold_where_a_difference_is_firm_and_larger_than_a_seed():
    limit = animator_switches.beyond_a_seed(0.01, 5)
    assert limit == pytest.approx(2.776 * 0.01 * np.sqrt(2), rel=1e-3)
    firm = {"ssim_difference": -0.05, "ssim_low": -0.06, "ssim_high": -0.04}
    assert animator_switches.cell(firm, "ssim", limit) == "**-.050 [-.060, -.040]**"
    assert animator_switches.cell(firm, "ssim", 0.051) == "-.050 [-.060, -.040]"
    assert animator_switches.cell(firm | {"ssim_high": 0.01}, "ssim", limit) == "-.050 [-.060, .010]"
    assert animator_switches.cell(firm, "c_r", limit) == ""


def test_page_has_every_row_of_the_table():
    shots = np.arange(12)
    scores = pd.DataFrame({name: np.linspace(0, 1, 12) for name in animator_switches.METRICS})
    rows = [{"field": "corrected"} | animator_switches.row_of(scores, None, shots)]
    rows.append({"field": "corrected"} | animator_switches.row_of(scores, None, shots, "sampler"))
    for switch in animator_switches.switches(recipes.settings_of(load(film_variants.MINIATURE))):
        row = animator_switches.described(switch)
        row["note"] = switch.note
        if not switch.note:
            films = "sampler" if switch.field.startswith("video.") else "autoencoder"
            row |= animator_switches.row_of(scores, scores, shots, films, switch.against)
        rows.append(row)
    table = pd.DataFrame([*rows, *animator_switches.rows_of_no_field()])
    text = animator_switches.document(table.replace("", None), SPREAD)
    for name, field in animator_switches.FIELDS.items():
        assert f"`{name}`" in text
        assert field.what in text
    for bug, note in animator_switches.NO_FIELD.items():
        assert f"| {bug} | {note} |" in text
    assert "| `video.noise`, `start: inversion` | shared | per_frame |" in text
    assert "nan" not in text.lower().replace("autoencoder", "")
    assert len({line.count("|") for line in text.split("## Sampler")[0].splitlines() if line.startswith("|")}) == 1


def test_seeds_that_are_not_there_or_not_whole_are_said(monkeypatch, tmp_path):
    path = animator_switches.REPOSITORY / "docs" / "no_such_seeds.txt"
    monkeypatch.setattr(animator_switches, "SEEDS", path)
    with pytest.raises(DataError, match=r"animator_seeds\.py > docs/no_such_seeds\.txt"):
        animator_switches.read_spread()


def test_a_result_of_the_same_recipe_is_linked_and_no_other(tmp_path):
    def recipe(variant, value):
        return Recipe(tmp_path / variant / "Subject01", "decoded/motion.h5", "Subject01", "x.py", {"value": value})

    Artifact(recipe("first", 1)).write({"z": np.arange(3)})
    assert not film_variants.adopt(recipe("second", 2))
    assert film_variants.adopt(recipe("second", 1))
    assert recipe("second", 1).path.samefile(recipe("first", 1).path)
    with pytest.raises(DataError, match="other settings"):
        film_variants.adopt(recipe("second", 2))


def test_what_several_variants_want_is_made_once_and_linked(tmp_path, monkeypatch):
    monkeypatch.setattr(film_variants, "RUNS", tmp_path)
    write_targets(load(film_variants.MINIATURE, [f"execution.runs={tmp_path}", "name=source"]))
    source = load(film_variants.MINIATURE, [f"execution.runs={tmp_path}", "name=source"])
    monkeypatch.setattr(film_variants, "load", lambda path, changes=None: load(path, changes) if changes else source)
    variants = [
        film_variants.Variant("a", {"network_seed": 1}, "Subject01", ["structure", "motion"]),
        film_variants.Variant("b", {"network_seed": 1, "motion.first": "true"}, "Subject01", ["structure", "motion"]),
        film_variants.Variant("c", {"network_seed": 1}, "Subject03", ["structure"]),
    ]
    rounds = []

    def run(line, **_):
        """Write what each script would."""
        lines = [shlex.split(script) for script in line[5:]]
        rounds.append([(Path(words[0]).name[:2], words[4], words[8].removeprefix("name=")) for words in lines])
        for script, subject, name in rounds[-1]:
            variant = next(v for v in variants if (v.name, v.subject) == (name, subject))
            recipe = film_recipes.prepared(variant.config, subject)
            if script != "05":
                decoder = {"22": "structure", "23": "motion"}[script]
                recipe = recipes.decoded(variant.config, subject, "corrected", decoder)
            Artifact(recipe).write({"z": np.zeros(1)})

    monkeypatch.setattr(film_variants.subprocess, "run", run)
    film_variants.decode(variants)
    first = [(script, "Subject01", "a") for script in ("05", "22", "23")]
    assert rounds == [[*first, ("05", "Subject03", "c"), ("22", "Subject03", "c")], [("23", "Subject01", "b")]]
    a, b = (recipes.decoded(v.config, "Subject01", "corrected", "structure").path for v in variants[:2])
    assert a.samefile(b)
    film_variants.decode(variants)
    assert len(rounds) == 2


def test_targets_are_copied_without_the_kinds_that_are_not_wanted(tmp_path):
    source, own = config_of(tmp_path / "all", "original,corrected"), config_of(tmp_path / "own", "corrected")
    write_targets(source)
    film_variants.take_targets(own, source)
    with h5py.File(recipes.clips(own).path) as taken, h5py.File(recipes.clips(source).path) as there:
        assert set(taken) == {"c", "z_mean"}
        np.testing.assert_array_equal(taken["z_mean"][:], there["z_mean"][:])
        assert taken.attrs["fingerprint"] == recipes.clips(own).fingerprint
    with h5py.File(recipes.varied(own).path) as taken:
        assert set(taken) == {"c", "per_image"}


def test_targets_are_copied_with_another_kind_that_is_there(tmp_path):
    source = config_of(tmp_path / "all", "original,corrected")
    own = config_of(tmp_path / "own", "corrected", **{"clips.posterior": "sample", "semantic.crop": "per_epoch"})
    write_targets(source)
    film_variants.take_targets(own, source)
    with open_made(recipes.clips(own)) as clips, open_made(recipes.varied(own)) as varied:
        assert set(clips) == {"c", "z_mean", "z_sample"}
        assert set(varied) == {"c", "per_epoch"}


def test_targets_of_other_settings_or_without_a_kind_are_refused(tmp_path):
    source = config_of(tmp_path / "all", "corrected")
    write_targets(source)
    with pytest.raises(DataError, match=r"frame_step was 1, is 2"):
        film_variants.take_targets(config_of(tmp_path / "a", "corrected", **{"clips.frame_step": 2}), source)
    with pytest.raises(DataError, match="needs: sample"):
        film_variants.take_targets(config_of(tmp_path / "b", "corrected", **{"clips.posterior": "sample"}), source)
