"""How scripts end when something goes wrong: one message that says what to do."""

import re
import sys
from pathlib import Path

import pytest
import torch

from data.nsd import require_file
from minddiffuser import cli
from minddiffuser.cli import BATCHES, Run, execute, key_of, parse, remedy_of
from minddiffuser.config import REPOSITORY, Config, Experiment
from minddiffuser.config.execution import BatchSize, Execution
from minddiffuser.config.miniature import Miniature, MiniatureGod
from minddiffuser.store import DataError, Shard

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB)"),
    MemoryError(),
]

STAGE2 = "reconstruction/32_stage2.py"


def failing(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DataError("prepared.h5 is missing"), "error: prepared.h5 is missing"),
        *((error, "error: out of memory (") for error in OUT_OF_MEMORY),
        (OSError(28, "No space left on device", "a.h5"), "No space left on device: a.h5"),
        (
            FloatingPointError("gradients are not finite; lower the rate"),
            "error: gradients are not finite; lower the rate",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_message(error, said):
    with pytest.raises(SystemExit) as stopped:
        execute(failing(error))
    assert said in str(stopped.value.code)
    assert str(stopped.value.code).startswith("error: ")


def test_a_command_that_mends_an_error_is_of_the_same_configuration(tmp_path, monkeypatch):
    """As it stands the command would make, or replace, what is the miniature's."""
    path = tmp_path / "my lab.yaml"
    path.write_text("name: x\nexperiment: {subjects: [subj05]}")
    monkeypatch.setattr(cli, "_latest", None)
    error = DataError("a.h5 is missing; make it with: python feature_decoding/22_semantic.py --subject subj05")
    for argv, words in (
        (["--config", str(path), "--set", "name=y z"], f"--config '{path}' --set 'name=y z' --subject subj05"),
        ([], "--subject subj05"),
        (["--config", "configs/miniature.yaml"], "--subject subj05"),
    ):
        parse("", argv)
        with pytest.raises(SystemExit) as stopped:
            execute(failing(error))
        assert str(stopped.value.code).endswith(f"make it with: python feature_decoding/22_semantic.py {words}")


def test_other_errors_keep_their_traceback():
    with pytest.raises(RuntimeError, match="illegal memory access"):
        execute(failing(RuntimeError("CUDA error: an illegal memory access was encountered")))


def test_torchs_own_error_is_recognised():
    """Not only one that this test makes up."""
    with pytest.raises(SystemExit, match="out of memory"):
        execute(lambda: torch.empty(2**60))


# Memory


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What is said when memory does not suffice in a script with some settings."""

    def run(script, *settings, device="cuda", error=OUT_OF_MEMORY[0]):
        path = tmp_path / "experiment.yaml"
        path.write_text("name: x\nexecution: {batch_size: {encode: 4, generate: 6, refine: 2, score: 9}}")
        monkeypatch.setattr(sys, "argv", [f"some/where/{script}"])
        options = [word for setting in settings for word in ("--set", setting)]

        def main():
            parse("", ["--config", str(path), "--device", device, *options])
            raise error

        with pytest.raises(SystemExit) as stopped:
            execute(main)
        assert "\n" not in str(stopped.value.code)
        return str(stopped.value.code)

    yield run
    cli._latest = None


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize(
    ("script", "lever"),
    [
        ("feature_extraction/12_detail.py", "lower execution.batch_size.encode (now 4)"),
        ("reconstruction/31_stage1.py", "lower execution.batch_size.generate (now 6)"),
        ("reconstruction/32_stage2.py", "lower execution.batch_size.refine (now 2)"),
        (
            "ozcelik/37_decode_ozcelik.py",
            "lower execution.batch_size.refine (now 2), or lower execution.batch_size.encode (now 4)",
        ),
        ("evaluation/41_score.py", "lower execution.batch_size.score (now 9)"),
    ],
)
def test_out_of_memory_names_the_batch_size_of_the_scripts_kind_of_work_first(said, script, lever, error):
    assert f"; {lever}, or " in said(script, error=error)


def test_out_of_memory_names_only_levers_that_are_left(said):
    one = "execution.batch_size=1"
    at_first = said(STAGE2, one, "execution.checkpoint_steps=false")
    assert "batch_size" not in at_first
    assert at_first.index("execution.checkpoint_steps to true") < at_first.index(
        "experiment.sampler.precision to float16"
    )
    then = said(STAGE2, one)
    assert "checkpoint_steps" not in then
    assert "experiment.sampler.precision to float16" in then
    last = said(STAGE2, one, "experiment.sampler.precision=float16")
    assert last.endswith("; take a GPU with more memory, or --device cpu; what is done is kept")


def test_out_of_memory_names_no_lever_that_the_script_does_not_have(said):
    one = "execution.batch_size=1"
    for script in (
        "feature_extraction/12_detail.py", "feature_decoding/22_semantic.py", "ozcelik/38_reconstruct_ozcelik.py",
        "evaluation/41_score.py",
    ):  # fmt: skip
        text = said(script, one, "execution.checkpoint_steps=false")
        assert not re.search("batch_size|checkpoint_steps|precision", text), script
    assert "experiment.takagi.sampler.precision to float16" in said("takagi/36_reconstruct_takagi.py", one)
    on_a_cpu = said(STAGE2, one, device="cpu")
    assert "float16" not in on_a_cpu
    assert "--device cpu" not in on_a_cpu


def test_the_table_of_kinds_of_work_is_true():
    """Each script that reads a batch size is listed with its kind; modules that read one are used by those listed."""
    scripts = {key_of(path): path for path in REPOSITORY.glob("*/**/[0-9][0-9]_*.py") if ".venv" not in path.parts}
    seen = {key: set(re.findall(r"batch_size\.(\w+)", path.read_text())) for key, path in scripts.items()}
    modules = {"reconstruction/refining.py", "baselines/ozcelik/targets.py", "evaluation/metrics/scorer.py"}
    for module in modules:
        text = (REPOSITORY / module).read_text()
        for key, path in scripts.items():
            if f"{module.split('/')[-2]}.{module.split('/')[-1][:-3]} import" in path.read_text():
                seen[key] |= set(re.findall(r"execution\.batch_size\.(\w+)", text))
    for key, kinds in seen.items():
        found = kinds & set(BatchSize.model_fields)
        assert found <= set(BATCHES.get(key, ())), (key, found)
    assert set(BATCHES) <= set(scripts)


def test_a_script_is_called_by_its_folder_and_number(monkeypatch):
    monkeypatch.chdir(REPOSITORY / "feature_extraction")
    assert key_of(Path("11_semantic.py")) == "feature_extraction/11"
    assert key_of(REPOSITORY / "baselines" / "takagi" / "35_decode_takagi.py") == "takagi/35"
    folders = [path.parent for path in REPOSITORY.glob("*/**/[0-9][0-9]_*.py") if ".venv" not in path.parts]
    assert len(set(folders)) == len({path.name for path in folders})


# Devices


def run_on(device):
    return Run(Config(name="x"), ("subj01",), Shard(), device, False)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_a_cpu_is_there(device):
    assert run_on(device).device.type == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7", "mps", "xpu", "meta", "hpu", "vulkan"])
def test_a_device_that_is_not_there_is_said_in_one_line(device, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    with pytest.raises(DataError) as caught:
        run_on(device).device  # noqa: B018
    assert re.fullmatch(
        rf"torch [^ ]+ sees no GPU, but {device} was asked for \(--device, or execution\.device\)", str(caught.value)
    )


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", "", "0", "cuda:99999999999"])
def test_what_is_no_device_is_said_in_one_line(device):
    with pytest.raises(DataError, match=r"was asked for \(--device, or execution\.device\)") as caught:
        run_on(device).device  # noqa: B018
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("device", "said"), [("mps", "sees cuda, and no mps"), ("cuda:2", "sees 2 of cuda, counted from 0")]
)
def test_a_device_beside_those_that_are_there_is_refused(monkeypatch, device, said):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    with pytest.raises(DataError, match=f"{said}, but {device} was asked for"):
        run_on(device).device  # noqa: B018


def test_a_device_that_is_there_and_cannot_be_used_is_said_in_one_line(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCUDA kernel errors might be")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(DataError) as caught:
        run_on("cuda").device  # noqa: B018
    assert str(caught.value).endswith("cannot be used: CUDA error: all CUDA-capable devices are busy or unavailable")


# What mends an error


SIMULATED = Config(
    name="x",
    experiment=Experiment(miniature=Miniature(), miniature_god=MiniatureGod()),
    execution=Execution(nsd=Path("nowhere/nsd"), god=Path("nowhere/god"), imagenet=Path("nowhere/imagenet")),
)
NSD, MODELS = SIMULATED.nsd, REPOSITORY / "miniature" / "weights"


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        (NSD / "nsddata" / "a.mat", "make it with: python miniature/01_make_miniature.py"),
        (SIMULATED.god / "images" / "test", "make it with: python miniature/03_make_god.py"),
        (REPOSITORY / SIMULATED.execution.imagenet, "make it with: python miniature/03_make_god.py"),
        (MODELS / "clip" / "a.json", "get it back with: git checkout miniature/weights/clip/a.json"),
        (NSD / "miniature.json", "download it"),  # what it says itself: that the folder is to be deleted
        (REPOSITORY / "elsewhere", "download it"),
        (None, "download it"),
    ],
)
def test_what_is_missing_of_the_miniature_names_its_script(path, remedy):
    assert remedy_of(DataError("it is missing", "download it", path), SIMULATED) == remedy


def test_what_is_missing_of_real_data_keeps_its_remedy():
    real = SIMULATED.model_copy(update={"experiment": Experiment()})
    for place in (NSD / "a.mat", SIMULATED.god / "Subject1.h5"):
        assert remedy_of(DataError("it is missing", "download it", place), real) == "download it"


def test_a_simulated_dataset_that_is_not_whole_is_made_anew(tmp_path):
    places = {"nsd": tmp_path / "nsd", "god": tmp_path / "god"}
    config = SIMULATED.model_copy(update={"execution": Execution(**places)})
    broken = tmp_path / "nsd" / "a.mat"
    broken.parent.mkdir()
    again = "python miniature/01_make_miniature.py --overwrite"
    assert remedy_of(DataError("", "", broken), config) == f"make it with: {again}"
    broken.write_text("broken")
    assert remedy_of(DataError("", "", broken), config) == f"delete it, and make it again with: {again}"


def test_the_remedy_of_the_miniature_is_what_a_script_says(tmp_path):
    config = tmp_path / "experiment.yaml"
    config.write_text(f"name: x\nexperiment: {{miniature: {{}}}}\nexecution: {{nsd: {tmp_path / 'nsd'}}}")

    def main():
        parse("", ["--config", str(config)])
        require_file(tmp_path / "nsd" / "a.mat", "NSD's design")

    with pytest.raises(SystemExit) as stopped:
        execute(main)
    cli._latest = None
    text = str(stopped.value.code)
    assert text.endswith(f"a.mat; make it with: python miniature/01_make_miniature.py --config {config}")
    assert "http" not in text


# Arguments


def refused(capsys, *argv, **options):
    """What `parse` says, in one line, when it ends with exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        parse("", list(argv), **options)
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    return text


def test_replacing_results_in_shards_is_refused(capsys):
    assert "--overwrite with --shard could delete" in refused(capsys, "--overwrite", "--shard", "2-of-3")
    assert parse("", ["--overwrite", "--shard", "1-of-1"]).overwrite
    assert parse("", ["--shard", "2-of-3"]).shard == Shard(2, 3)


def test_work_that_is_not_divided_refuses_shards(capsys):
    assert "not divided: run it once, without --shard" in refused(capsys, "--shard", "2-of-3", divides=False)
    assert parse("", ["--shard", "1-of-1"], divides=False).shard == Shard()
    for divides, said in ((False, "refused here"), (True, "do one part of n")):
        with pytest.raises(SystemExit):
            parse("", ["--help"], divides=divides)
        assert said in capsys.readouterr().out


@pytest.mark.parametrize("shard", ["0-of-4", "5-of-4", "3/4", "a-of-b", "1-of-0", "", "-1-of-4", "1-of-", "1.5-of-2"])
def test_what_is_no_shard_is_refused(capsys, shard):
    with pytest.raises(SystemExit) as stopped:
        parse("", [f"--shard={shard}"])
    assert stopped.value.code == 2
    said = f"error: --shard: expected K-OF-N, part K of N with K from 1 to N, such as 2-of-8, not {shard!r}\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("subject", ["subj07", "", "subj01/", "../subj01"])
def test_a_subject_that_the_configuration_does_not_have_is_refused(capsys, subject):
    assert "has subj01, subj02" in refused(capsys, "--subject", subject)


def test_a_wrong_configuration_ends_with_exit_code_2(capsys, tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_bytes("name: é".encode("latin-1"))
    assert f"{path}: not in UTF-8" in refused(capsys, "--config", str(path))
    assert "--set experiment=3: experiment is a section" in refused(capsys, "--set", "experiment=3")
