"""The configuration: what is refused, and how it is said."""

from pathlib import Path

import pytest
import torch
import yaml
from diffusers import DDIMScheduler

from minddiffuser.config import REPOSITORY, Config, ConfigError, Experiment, load
from minddiffuser.config.execution import BatchSize
from minddiffuser.config.method import PRESETS
from minddiffuser.config.ozcelik import Ozcelik, ozcelik_form
from minddiffuser.config.semantic_brain_decoding import SemanticBrainDecoding, concept_form
from minddiffuser.config.takagi import Takagi, takagi_form
from reconstruction.sampler import ImageToImage


def write(tmp_path, text):
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_configuration_of_the_repository_is_valid(path):
    config = load(path)
    assert config.name == path.stem


def test_the_papers_run_is_described_completely():
    experiment = load(REPOSITORY / "configs" / "nsd.yaml").experiment
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
        ("name: x\ndecoding: {alpha: 1}", ("decoding", "did you mean experiment.decoding?")),
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


def test_a_preset_on_the_command_line_wins_over_the_file_and_other_settings_over_it(tmp_path):
    path = REPOSITORY / "configs" / "nsd.yaml"  # which spells out what the preset sets
    fast, written = load(path, ["preset=fast"]), load(REPOSITORY / "configs" / "nsd_fast.yaml")
    for section in ("sampler", "guidance", "decoding", "units"):
        assert getattr(fast.experiment, section) == getattr(written.experiment, section)
    config = load(path, ["experiment.guidance.n_iterations=5", "preset=fast"])
    assert (config.experiment.guidance.n_iterations, config.experiment.sampler.solver_steps) == (5, 8)
    assert load(write(tmp_path, "name: x"), ["preset=fast"]).experiment.guidance.n_iterations == 20  # as before


def test_the_preset_sets_every_field_whose_description_names_a_released_value():
    """A field documented as "released: x" is set to x by the preset, or it is already the default."""
    experiment = load(REPOSITORY / "configs" / "nsd_as_released.yaml").experiment
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
    found = {"takagi": takagi_form(experiment.sampler, Takagi(), form), "ozcelik": ozcelik_form(Ozcelik(), form)}
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


RESTORED_LOSS = "guidance: {loss: variance_restored, latent_weight: 2}"


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        (RESTORED_LOSS, "guidance.loss: variance_restored needs decoding.restore_variance: train"),
        ("guidance: {latent_weight: 2}", "latent_weight is of loss variance_restored, not of weighted: set it to 0"),
        ("guidance: {loss: sum, latent_weight: 2}", "latent_weight is of loss variance_restored, not of sum"),
        (
            "decoding: {restore_variance: train}, guidance: {loss: variance_restored, embedding_weight: 0.5}",
            "embedding_weight is of loss weighted: set it to 0",
        ),
        ("restored: {guidance: {embedding_weight: 0.5}}", "embedding_weight is of loss weighted: set it to 0"),
        (
            "restored: {guidance: {loss: sum, latent_weight: 2}}",
            "latent_weight is of loss variance_restored, not of sum",
        ),
    ],
)
def test_terms_of_another_loss_and_a_loss_without_its_targets_are_refused(tmp_path, sections, named):
    with pytest.raises(ConfigError, match=named):
        load(write(tmp_path, f"name: x\nexperiment: {{{sections}}}"))


def test_the_restored_loss_is_taken_where_variance_is_restored(tmp_path):
    sections = f"decoding: {{restore_variance: train}}, {RESTORED_LOSS}"
    guidance = load(write(tmp_path, f"name: x\nexperiment: {{{sections}}}")).experiment.guidance
    assert (guidance.loss, guidance.latent_weight) == ("variance_restored", 2)


def test_one_setting_of_the_restored_guidance_leaves_its_others(tmp_path):
    """Whose defaults are not those of stage 2."""
    default = load(write(tmp_path, "name: x")).experiment.restored
    for text, overrides in (
        ("name: x\nexperiment: {restored: {guidance: {n_iterations: 5}}}", []),
        ("name: x", ["experiment.restored.guidance.n_iterations=5"]),
    ):
        found = load(write(tmp_path, text), overrides).experiment.restored
        assert found.guidance == default.guidance.model_copy(update={"n_iterations": 5})
        assert found.guidance.loss == "variance_restored"


def test_the_loaded_preset_changes_two_voxel_counts_and_nothing_else(tmp_path):
    default = load(write(tmp_path, "name: x")).experiment
    loaded = load(write(tmp_path, "name: x\npreset: as_loaded")).experiment
    assert (loaded.decoding.n_voxels_semantic, loaded.decoding.n_voxels_detail) == (125, 4000)
    back = {"n_voxels_semantic": 450, "n_voxels_detail": 3000}
    assert loaded.model_copy(update={"decoding": loaded.decoding.model_copy(update=back)}) == default


def test_the_fast_preset_starts_from_the_papers_noise_and_denoises_from_the_same(tmp_path):
    found = []
    for preset in ("", "preset: fast"):
        settings = load(write(tmp_path, f"name: x\n{preset}")).experiment.sampler
        scheduler = DDIMScheduler(steps_offset=1)
        sampler = ImageToImage(None, None, scheduler, torch.zeros(1), settings, False)  # type: ignore[arg-type]
        found.append((int(sampler.noise_timestep), int(sampler.timesteps[0]), len(sampler.timesteps)))
    assert found == [(741, 681, 35), (741, 681, 8)]


@pytest.mark.parametrize("override", ["experiment.seed", "name.first=1", "=1", ".=1", "experiment..seed=1"])
def test_malformed_overrides_are_refused(tmp_path, override):
    with pytest.raises(ConfigError, match="--set"):
        load(write(tmp_path, "name: x"), [override])


# Files that are no configuration


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_say_what_they_are_are_read(tmp_path, encoding):
    path = tmp_path / "experiment.yaml"
    path.write_bytes("# für später\nname: café\n".encode(encoding))
    assert load(path).name == "café"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            "name: x\n# für später".encode("latin-1"),
            "not in UTF-8, but perhaps Latin-1 or Windows-1252: byte 0xfc in line 2",
        ),
        ("name: x".encode("utf-16-le"), "bytes of zero"),
        (b"\xff\xfe\x00", "broken UTF-16"),
        (b"\x7fELF\x02\x00\xd0", "a binary file"),
        (b"", "name is missing"),
        (b"<html><body>no</body></html>", "expected keys and values, got str"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "expected keys and values, got str"),
        (b"{" * 5000, "not valid YAML"),
        (b"name: 2024-99-99", "not valid YAML: month must be in 1..12"),
        (b"name: &a [*a]", "name: Input should be a valid string"),
        (b"1: 2\nname: x", "Keys should be strings"),
        (b"name: x\npreset: [a]", "preset: Input should be"),
    ],
)
def test_what_is_no_configuration_is_said_in_one_line(tmp_path, content, named):
    path = tmp_path / "experiment.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match=f"{tmp_path}: cannot read the configuration"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name: x\nname: y", r"name is there twice, first in line 1 \(line 2\)"),
        ("name: x\nexperiment: {seed: 1, seed: 1}", r"seed is there twice, first in line 2 \(line 2\)"),
        ("name: x\nexperiment:\n  seed: 1\n  data: {}\n  seed: 2", r"seed is there twice, first in line 3 \(line 5\)"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(tmp_path, text, named):
    with pytest.raises(ConfigError, match=named):
        load(write(tmp_path, text))


def test_a_key_may_win_over_what_is_merged_into_its_section(tmp_path):
    text = "name: x\nexperiment: {sampler: &s {n_steps: 60}, takagi: {sampler: {<<: *s, n_steps: 55}}}"
    assert load(write(tmp_path, text)).experiment.takagi.sampler.n_steps == 55


# Sections


@pytest.mark.parametrize("value", ["[1]", "3", "word", "2.5", "true"])
@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("experiment", "subjects, seed"),
        ("execution", "nsd, god"),
        ("experiment.sampler", "n_steps, noise_index"),
        ("experiment.takagi", "forms, decoder"),
        ("experiment.takagi.sampler", "n_steps, noise_index"),
        ("execution.batch_size", "encode, generate"),
    ],
)
def test_a_section_written_as_something_else_is_refused_with_some_of_its_keys(tmp_path, key, keys, value):
    if key == "execution.batch_size" and value == "3":
        return  # that is for all kinds
    nested = yaml.safe_load(value)
    for part in reversed(key.split(".")):
        nested = {part: nested}
    for text, overrides in ((yaml.safe_dump({"name": "x", **nested}), []), ("name: x", [f"{key}={value}"])):
        path = write(tmp_path, text)
        with pytest.raises(ConfigError) as caught:
            load(path, overrides)
        where = f"--set {overrides[0]}" if overrides else str(path)
        assert str(caught.value).startswith(f"{where}: {key} is a section, with keys such as {keys}")
        assert "\n" not in str(caught.value)


def test_an_empty_section_is_an_absent_one_and_keeps_what_the_preset_says(tmp_path):
    text = "name: x\npreset: as_released\nexperiment:\n  guidance:\n  sampler: # {}\nexecution:\n"
    empty, absent = (load(write(tmp_path, text)) for text in (text, "name: x\npreset: as_released"))
    assert empty == absent
    assert empty.experiment.guidance.optimise == "z"
    assert load(write(tmp_path, "name: x\nexperiment:\nexecution: {batch_size: }")) == load(write(tmp_path, "name: x"))
    assert load(write(tmp_path, "name: x\nexecution:"), ["execution.device=mps"]).execution.device == "mps"


def test_a_section_that_may_be_null_stays_null_when_it_is_empty(tmp_path):
    assert load(write(tmp_path, "name: x\nexperiment:\n  takagi:\n")).experiment.takagi is None
    assert load(write(tmp_path, "name: x"), ["experiment.takagi=null"]).experiment.takagi is None
    with pytest.raises(ConfigError, match=r"sampler is a section, .*; it cannot be null"):
        load(write(tmp_path, "name: x"), ["experiment.sampler=null"])


def test_a_section_on_the_command_line_is_merged_into_that_of_the_file(tmp_path):
    path = write(tmp_path, "name: x\nexperiment: {sampler: {n_steps: 60}, takagi: null}")
    experiment = load(path, ["experiment.sampler={guidance_scale: 2}", "experiment.takagi.n_samples=2"]).experiment
    assert (experiment.sampler.n_steps, experiment.sampler.guidance_scale) == (60, 2)
    assert experiment.takagi == Takagi(n_samples=2)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("experiment.seed.x=1", "experiment.seed is not a section"),
        ("experiment.seed.x.y=1", "experiment.seed is not a section"),
        ("execution.nsd.x=1", "execution.nsd is not a section"),
        ("experiment.sedd=1", "experiment.sedd: unknown key; did you mean seed?"),
        ("experiment.takagi.alpha=1", "experiment.takagi.alpha: unknown key; did you mean alphas?"),
        ("decoding.alpha=7", "decoding: unknown key; did you mean experiment.decoding.alpha?"),
        ("seed=7", "seed: unknown key; did you mean experiment.seed?"),
        ("device=cuda", "device: unknown key; did you mean execution.device?"),
        ("batch_size.encode=7", "batch_size: unknown key; did you mean execution.batch_size.encode?"),
        ("sampler.n_steps=7", "did you mean experiment.sampler.n_steps or experiment.takagi.sampler.n_steps?"),
        ("experiment.units.guidance.n_iterations=7", "did you mean experiment.guidance.n_iterations or "),
        ("experiment.alpha=7", "did you mean experiment.units.alpha or experiment.decoding.alpha or "),
        ("nonsense=7", "nonsense: unknown key; valid keys: name, preset, experiment, execution"),
        ("experiment.sampler={n_stps: 9}", "experiment.sampler.n_stps: unknown key (value 9); did you mean n_steps?"),
        ("experiment.data.rois=[V1", "not valid YAML"),
        ("experiment.seed=@3", "not valid YAML"),
        ("experiment.seed=a: b: c", "not valid YAML"),
        ("experiment.sampler={n_steps: 9, n_steps: 8}", "n_steps is there twice"),
        ("experiment.decoding.alpha=-1", "greater than 0"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_said_in_one_line(tmp_path, override, named):
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "name: x"), [override])
    assert str(caught.value).startswith(f"--set {override}: ")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


# Texts on the command line


@pytest.mark.parametrize(
    "value",
    [
        "{label} in the wild",
        "{label}",
        "@{label}",
        "a: {label}",
        "# {label}",
        "*{label}",
        "- {label}",
        "[{label}",
        "5{label}",
    ],
)
def test_a_text_on_the_command_line_is_taken_as_it_stands(tmp_path, value):
    for text in (value, f"'{value}'", f'"{value}"'):
        config = load(write(tmp_path, "name: x"), [f"experiment.semantic_brain_decoding.prompt={text}"])
        assert config.experiment.semantic_brain_decoding.prompt == value


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("name=null", "null"),
        ("name=007", "007"),
        ("name=a='b' or 'c'", "a='b' or 'c'"),
        ("name='b' or 'c'", "'b' or 'c'"),
        ("execution.nsd=@scratch/nsd", Path("@scratch/nsd")),
        ("execution.wordnet=null", None),
        ("execution.wordnet='null'", Path("null")),
        ("execution.torch_hub=#1", Path("#1")),
        ("execution.device=cuda:1", "cuda:1"),
        ("experiment.models.clip_weights=null", None),
        ("experiment.models.stable_diffusion_revision=1e5", "1e5"),
        ("preset=fast", "fast"),
        ("preset=null", None),
        ("experiment.guidance.patience=null", None),
        ("experiment.seed=7", 7),
        ("experiment.structural.antialias=no", False),
    ],
)
def test_a_value_on_the_command_line_has_the_type_of_its_field(tmp_path, override, value):
    found = load(write(tmp_path, "name: x"), [override])
    for part in override.partition("=")[0].split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value) or isinstance(value, Path)


# Values


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "nan", "1e999"])
@pytest.mark.parametrize(
    "key", ["decoding.alpha", "guidance.learning_rate", "sampler.guidance_scale", "ozcelik.inversion_rate"]
)
def test_numbers_are_finite(tmp_path, key, value):
    with pytest.raises(ConfigError, match=f"experiment.{key}: Input should be"):
        load(write(tmp_path, "name: x"), [f"experiment.{key}={value}"])


@pytest.mark.parametrize("key", ["search.alphas", "takagi.alphas", "guidance.layer_weights"])
def test_numbers_in_lists_are_finite(tmp_path, key):
    with pytest.raises(ConfigError, match=f"experiment.{key}.0: Input should be a finite number"):
        load(write(tmp_path, "name: x"), [f"experiment.{key}=[.nan]"])


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "/tmp/x", "a\\b", "a\nb", "a\0b", " a"])
def test_names_that_become_folders_are_names(name):
    for values in ({"name": name}, *({"name": "x", "experiment": e} for e in (
        {"subjects": [name]}, {"semantic_brain_decoding": {"subjects": [name]}},
    ))):  # fmt: skip
        with pytest.raises(ValueError, match="is to be the name of a folder"):
            Config.model_validate(values)


def test_an_empty_path_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"execution\.runs: a path is expected"):
        load(write(tmp_path, "name: x"), ["execution.runs="])


@pytest.mark.parametrize(
    "key",
    ["data.rois", "structural.layers", "search.n_voxels", "search.alphas", "takagi.alphas", "takagi.forms",
     "ozcelik.forms", "semantic_brain_decoding.forms", "semantic_brain_decoding.subjects", "subjects"],
)  # fmt: skip
def test_lists_of_which_one_is_needed_are_not_empty(tmp_path, key):
    with pytest.raises(ConfigError, match=r"at least 1 item|subjects are empty"):
        load(write(tmp_path, "name: x"), [f"experiment.{key}=[]"])


def test_subjects_of_nsd_may_be_absent_where_the_other_dataset_is_run():
    assert load(REPOSITORY / "configs" / "god.yaml").experiment.subjects == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("subjects", "[subj01, subj02, subj01]"),
        ("data.rois", "[V1, V2, V1]"),
        ("structural.layers", "[2, 4, 6, 8, 10, 2]"),
        ("controls.ranks", "[1, 3, 1]"),
        ("search.alphas", "[1, 3, 1.0]"),
        ("takagi.forms", "[corrected, original, corrected]"),
        ("ozcelik.forms", "[corrected, original, corrected]"),
        ("semantic_brain_decoding.forms", "[corrected, original, corrected]"),
        ("semantic_brain_decoding.subjects", "[Subject1, Subject1]"),
    ],
)
def test_what_would_be_run_twice_into_the_same_place_is_refused(tmp_path, key, value):
    with pytest.raises(ConfigError, match=rf"experiment\.{key}: .*given more than once"):
        load(write(tmp_path, "name: x"), [f"experiment.{key}={value}"])


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("guidance.layer_weights=[1, 1, 1, 1, 1]", r"guidance.layer_weights has 5 numbers for 6 structural.layers"),
        ("guidance.layer_weights=[1]", r"guidance.layer_weights has 1 numbers for 6 structural.layers"),
        ("decoding.n_voxels_structural=[9]", r"decoding.n_voxels_structural has 1 numbers for 6 structural.layers"),
        ("structural.layers=[2]", r"decoding.n_voxels_structural has 6 numbers for 1 structural.layers"),
    ],
)
def test_there_is_one_number_for_each_layer(tmp_path, override, named):
    with pytest.raises(ConfigError, match=named):
        load(write(tmp_path, "name: x"), [f"experiment.{override}"])


# Batch sizes


def test_one_batch_size_is_for_all_kinds_and_one_kind_can_have_its_own(tmp_path):
    for text, overrides in (
        ("name: x\nexecution: {batch_size: 3}", []),
        ("name: x", ["execution.batch_size=3"]),
        ("name: x\nexecution: {batch_size: {encode: 7}}", ["execution.batch_size=3"]),
    ):
        path = write(tmp_path, text)
        assert load(path, overrides).execution.batch_size == BatchSize(encode=3, generate=3, refine=3, score=3)
        one = load(path, [*overrides, "execution.batch_size.refine=2"]).execution.batch_size
        assert one == BatchSize(encode=3, generate=3, refine=2, score=3)
    assert load(path).execution.batch_size == BatchSize(encode=7)


@pytest.mark.parametrize("value", ["0", "-1", "{encode: 0}"])
def test_batches_have_at_least_one_image(tmp_path, value):
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "name: x"), [f"execution.batch_size={value}"])
    assert "execution.batch_size" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_real_configurations_leave_batch_sizes_to_the_defaults():
    for path in (REPOSITORY / "configs").glob("*.yaml"):
        expected = BatchSize.model_validate(16) if path.stem == "miniature" else BatchSize()
        assert load(path).execution.batch_size == expected, path
