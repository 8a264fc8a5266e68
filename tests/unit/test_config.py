"""The configuration: what is refused, and how it is said."""

from pathlib import Path

import pytest
from diffusers import DDIMScheduler

from minddiffuser.config import (
    PRESETS,
    REPOSITORY,
    ConfigError,
    Experiment,
    Ozcelik,
    SemanticBrainDecoding,
    Takagi,
    concept_form,
    load,
    ozcelik_form,
    takagi_form,
)


def write(tmp_path, text):
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_configuration_of_the_repository_is_valid(path):
    config = load(path)
    assert config.name == path.stem


def test_the_papers_run_is_described_completely():
    experiment = load(REPOSITORY / "configs" / "nsd_subj01.yaml").experiment
    assert (experiment.data.sessions, len(experiment.data.rois)) == (37, 11)
    assert experiment.models.stable_diffusion == "CompVis/stable-diffusion-v1-4"
    assert experiment.guidance.n_iterations == 300
    assert (experiment.sampler.noise_index, experiment.sampler.denoise_steps) == (37, 35)
    assert experiment.miniature is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name: x\nexperiment: {guidance: {iterations: 5}}", ("experiment.guidance.iterations", "n_iterations")),
        ("name: x\nexperiments: {}", ("experiments", "did you mean experiment?")),
        ("name: x\nexperiment: {decoding: {alpha: -1}}", ("experiment.decoding.alpha", "-1")),
        ("name: x\nexperiment: {sampler: {noise_index: 60}}", ("experiment.sampler", "60")),
        ("name: x\nexperiment: {guidance: {noise: loud}}", ("experiment.guidance.noise", "loud")),
        ("name: x\npreset: as_relased", ("preset", "as_relased")),
        ("experiment: {}", ("name",)),
        ("- a\n- b", ("expected keys and values",)),
        ("name: [", ("not valid YAML",)),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, named):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    for words in (str(path), *named):
        assert words in str(caught.value)


def test_a_missing_file_lists_what_there_is():
    with pytest.raises(ConfigError, match=r"miniature\.yaml"):
        load(Path("configs/nsd_subject1.yaml"))


def test_settings_on_the_command_line_win_over_the_file_and_it_over_the_preset(tmp_path):
    path = write(tmp_path, "name: x\npreset: as_released\nexperiment: {guidance: {optimise: z_and_c}}")
    config = load(path, ["experiment.guidance.n_iterations=7", "experiment.data.rois=[V1]"])
    assert config.experiment.guidance.n_iterations == 7
    assert config.experiment.data.rois == ("V1",)
    assert config.experiment.guidance.optimise == "z_and_c"
    assert config.experiment.decoding.test_scaling == "test"  # from the preset


def test_the_preset_sets_every_field_whose_description_names_a_released_value():
    """A field documented as "released: x" is set to x by the preset, or it is already the default."""
    experiment = load(REPOSITORY / "configs" / "nsd_subj01_as_released.yaml").experiment
    documented = set()
    for section in set(type(experiment).model_fields) - {"takagi", "ozcelik"}:  # these have forms
        value = getattr(experiment, section)
        for name, field in getattr(type(value), "model_fields", {}).items():
            if field.description and "released: " in field.description:
                released = field.description.split("released: ")[1].split(")")[0].split(" ")[0].strip()
                documented.add((section, name))
                assert str(getattr(value, name)).lower() == released, (section, name)
    assert documented  # the rule applies to something
    assert {(s, n) for s, names in PRESETS["as_released"].items() for n in names} >= documented


@pytest.mark.parametrize(("form", "says"), [("original", "released: "), ("minddiffuser", "as bundled: ")])
def test_the_forms_of_rivals_set_every_field_whose_description_names_their_value(form, says):
    experiment = Experiment()
    found = {"takagi": takagi_form(experiment, Takagi(), form), "ozcelik": ozcelik_form(Ozcelik(), form)}
    if form == "original":
        found["semantic_brain_decoding"] = concept_form(SemanticBrainDecoding(), form)
    for name, settings in found.items():
        documented = set()
        for key, field in type(settings).model_fields.items():
            if field.description and says in field.description and key != "sampler":
                value = field.description.split(says)[1].split(";")[0].split(")")[0].split(" ")[0].strip(",")
                assert str(getattr(settings, key)).lower() == value, (name, key)
                documented.add(key)
        changed = {
            key for key in type(settings).model_fields if getattr(settings, key) != getattr(type(settings)(), key)
        }
        assert documented
        assert changed - {"sampler", "max_length"} == documented  # these two follow other sections


@pytest.mark.parametrize("prompt", ["a picture", "{label} of {kind}"])
def test_a_prompt_has_a_place_for_the_label(tmp_path, prompt):
    with pytest.raises(ConfigError, match=r"must have \{label\}"):
        load(write(tmp_path, f"name: x\nexperiment: {{semantic_brain_decoding: {{prompt: '{prompt}'}}}}"))


def test_more_pictures_than_labels_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="n_pictures 5 must be at most n_labels 2"):
        load(write(tmp_path, "name: x\nexperiment: {semantic_brain_decoding: {n_labels: 2}}"))


def test_a_rivals_noise_level_beyond_the_schedule_is_refused(tmp_path):
    text = "name: x\nexperiment: {takagi: {sampler: {n_steps: 10, noise_index: 9, denoise_steps: 10}}}"
    with pytest.raises(ConfigError, match="denoise_steps 10 must be below n_steps 10"):
        load(write(tmp_path, text))


def test_a_wrong_key_in_a_section_that_may_be_absent_is_explained(tmp_path):
    with pytest.raises(ConfigError, match=r"takagi\.alpha: unknown key .* did you mean alphas\?"):
        load(write(tmp_path, "name: x\nexperiment: {takagi: {alpha: 3}}"))


def test_patience_without_a_lowest_loss_to_wait_for_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="patience waits for a lower loss"):
        load(write(tmp_path, "name: x\nexperiment: {guidance: {patience: 5, result: last}}"))


def test_the_loaded_preset_changes_two_voxel_counts_and_nothing_else(tmp_path):
    default = load(write(tmp_path, "name: x")).experiment
    loaded = load(write(tmp_path, "name: x\npreset: as_loaded")).experiment
    assert (loaded.decoding.n_voxels_semantic, loaded.decoding.n_voxels_detail) == (125, 4000)
    back = {"n_voxels_semantic": 450, "n_voxels_detail": 3000}
    assert loaded.model_copy(update={"decoding": loaded.decoding.model_copy(update=back)}) == default


def test_the_fast_preset_starts_from_nearly_the_same_noise_and_denoises_from_the_same(tmp_path):
    scheduler = DDIMScheduler(steps_offset=1)
    found = []
    for preset in ("", "preset: fast"):
        sampler = load(write(tmp_path, f"name: x\n{preset}")).experiment.sampler
        scheduler.set_timesteps(sampler.n_steps)
        steps = scheduler.timesteps.flip(0).tolist()
        found.append((steps[sampler.noise_index], steps[sampler.denoise_steps - 1]))
    assert found == [(741, 681), (721, 681)]


@pytest.mark.parametrize("override", ["experiment.seed", "name.first=1"])
def test_malformed_overrides_are_refused(tmp_path, override):
    with pytest.raises(ConfigError, match="--set"):
        load(write(tmp_path, "name: x"), [override])
