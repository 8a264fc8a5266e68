"""Every script that uses a GPU, on one that is not there; and that a tensor on the wrong device is found in each."""

import importlib
import inspect
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import numpy as np
import pytest
import torch

from benchmarks import rehearsal
from benchmarks.pretended_gpu import pretended
from feature_decoding.ridge import Gram, fit
from minddiffuser.config import REPOSITORY
from minddiffuser.pretrained.files import frozen

SLOW = ("evaluation/40_score_concepts.py",)  # what is of a device there is of evaluation/41, too
FILMS, CONCEPTS = "baselines/mind_animator", "baselines/semantic_brain_decoding"
# A script; the file in which a mistake is planted; what stands there, and what is put in its place. By number, the last
# first: a script that was stopped leaves nothing for those after it. The first of a script is in the default tests.
PLANTS = [
    (f"{FILMS}/32_controls.py", f"{FILMS}/32_controls.py", ".to(device)", ""),
    (f"{FILMS}/31_reconstruct.py", f"{FILMS}/31_reconstruct.py", ".to(run.device)", ""),
    (f"{FILMS}/31_reconstruct.py", f"{FILMS}/sampler.py", "draw_noise(shape[1:], seed, stimulus_ids, device)",
     "draw_noise(shape[1:], seed, stimulus_ids, 'cpu')"),
    (f"{FILMS}/23_motion.py", f"{FILMS}/networks.py", ".to(x.device)", ""),
    (f"{FILMS}/23_motion.py", f"{FILMS}/23_motion.py", ".cpu()", ""),
    (f"{FILMS}/22_structure.py", f"{FILMS}/22_structure.py", "seen = torch.from_numpy(zeroed).to(run.device)",
     "seen = torch.from_numpy(zeroed)"),
    (f"{FILMS}/22_structure.py", f"{FILMS}/decoding.py", "found.cpu()", "found"),
    (f"{FILMS}/21_semantic.py", f"{FILMS}/21_semantic.py", "astype(np.float32)).to(device)", "astype(np.float32))"),
    (f"{FILMS}/21_semantic.py", f"{FILMS}/decoding.py", ".to(self.seen)", ""),
    (f"{FILMS}/11_features.py", f"{FILMS}/targets.py", "ids.to(device)", "ids"),
    (f"{FILMS}/11_features.py", f"{FILMS}/targets.py", "noise[here].to(device)", "noise[here]"),
    (f"{CONCEPTS}/39_generate.py", f"{CONCEPTS}/pictures.py", "unet=open_unet(*source, device)",
     "unet=open_unet(*source, __import__('torch').device('cpu'))"),
    (f"{CONCEPTS}/39_generate.py", "reconstruction/folder.py", ".cpu()", ""),
    ("baselines/ozcelik/38_reconstruct_ozcelik.py", "baselines/ozcelik/38_reconstruct_ozcelik.py", ".to(run.device)",
     ""),
    ("baselines/ozcelik/37_decode_ozcelik.py", "baselines/ozcelik/features.py", ", device=pictures.device", ""),
    ("baselines/ozcelik/37_decode_ozcelik.py", "baselines/ozcelik/targets.py", ".to(run.device)", ""),
    ("baselines/takagi/36_reconstruct_takagi.py", "baselines/takagi/pictures.py", ".to(z.device)", ""),
    ("baselines/takagi/36_reconstruct_takagi.py", "baselines/takagi/36_reconstruct_takagi.py", "c[rows].to(run.device)",
     "c[rows]"),
    ("baselines/takagi/35_decode_takagi.py", "baselines/takagi/35_decode_takagi.py", ".cpu()", ""),
    ("reconstruction/34_ablations.py", "reconstruction/refining.py", "decoded.targets.of(rows).to(run.device)",
     "decoded.targets.of(rows)"),
    ("reconstruction/34_ablations.py", "feature_extraction/clip_layers.py", ", device=device", ""),
    ("reconstruction/33_controls.py", "reconstruction/33_controls.py", ".to(run.device)", ""),
    ("reconstruction/32_stage2.py", "reconstruction/refining.py", "part[rows].to(run.device)", "part[rows]"),
    ("reconstruction/32_stage2.py", "reconstruction/guidance.py", "device=z.device", "device='cpu'"),
    ("evaluation/41_score.py", "evaluation/metrics/features.py", ".to(device)", ""),
    ("evaluation/41_score.py", "evaluation/pictures/losses.py", ".to(device)", ""),
    ("reconstruction/31_stage1.py", "reconstruction/31_stage1.py", "c[rows].to(run.device)", "c[rows]"),
    ("reconstruction/31_stage1.py", "reconstruction/sampler.py", "drawn.to(device, non_blocking=True)", "drawn"),
    (f"{CONCEPTS}/29_decode_labels.py", f"{CONCEPTS}/features.py", ".cpu()", ""),
    ("feature_decoding/28_controls.py", "feature_decoding/ridge.py", "voxels.cpu()", "voxels"),
    ("feature_decoding/26_search.py", "feature_decoding/search.py", "X[train]), device)", "X[train]))"),
    ("feature_decoding/24_structural.py", "feature_decoding/ridge.py", "return torch.cat([V.T @ gram.X, "
     "V.sum(dim=0)[:, None]], dim=1).cpu()", "return torch.cat([V.T @ gram.X, V.sum(dim=0)[:, None]], dim=1)"),
    ("feature_decoding/23_detail.py", "feature_decoding/ridge.py", ".to(gram.X.device)", ""),
    ("feature_decoding/22_semantic.py", "feature_decoding/ridge.py", "voxels.cpu()", "voxels"),
    (f"{CONCEPTS}/14_bank.py", f"{CONCEPTS}/features.py", "torch.stack(batch).to(device)", "torch.stack(batch)"),
    ("feature_extraction/13_structural.py", "feature_extraction/13_structural.py", "v.cpu()", "v"),
    ("feature_extraction/12_detail.py", "feature_extraction/12_detail.py", ".to(run.device)", ""),
    ("feature_extraction/11_semantic.py", "feature_extraction/text.py", "ids.to(text_encoder.device)", "ids"),
]  # fmt: skip


class Rehearsals:
    """Rehearses scripts, each after those that make what it reads."""

    def __init__(self, folder: Path) -> None:
        self.config, self.done = rehearsal.prepare(folder), set()

    def before(self, script: str) -> None:
        """Rehearse what comes before a script, unless that was done."""
        names = list(rehearsal.SCRIPTS)
        for name in names[: names.index(script)]:
            if name not in self.done and name not in SLOW:
                self.run(name)

    def run(self, script: str, source: str | None = None) -> None:
        """Rehearse one script."""
        self.done.discard(script)
        rehearsal.rehearse(script, self.config, source)
        self.done.add(script)


@pytest.fixture(scope="module")
def rehearsals(tmp_path_factory) -> Rehearsals:
    return Rehearsals(tmp_path_factory.mktemp("rehearsal"))


@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in rehearsal.SCRIPTS]
)
def test_a_script_runs_where_tensors_are_on_a_gpu(rehearsals, script):
    rehearsals.before(script)
    rehearsals.run(script)


def test_mistakes_are_planted_where_the_code_is():
    gone = [(file, old) for _, file, old, _ in PLANTS if old not in (REPOSITORY / file).read_text()]
    assert gone == [], "what stands there has changed: plant other mistakes"


@pytest.mark.parametrize(
    ("script", "file", "old", "new"),
    [
        pytest.param(*plant, marks=[pytest.mark.slow] * (k > 0 and PLANTS[k - 1][0] == plant[0]))
        for k, plant in enumerate(PLANTS)
    ],
)
def test_a_tensor_on_the_wrong_device_is_found(rehearsals, script, file, old, new):
    rehearsals.before(script)
    text = (REPOSITORY / file).read_text()
    changed, in_place = text.replace(old, new), nullcontext()
    if file != script:
        in_place = changed_in_place(importlib.import_module(file.removesuffix(".py").replace("/", ".")), changed)
    with in_place, pytest.raises((RuntimeError, TypeError), match=r"device|to numpy|nothing on the GPU"):
        rehearsals.run(script, changed if file == script else None)


def test_every_script_that_asks_for_the_device_is_rehearsed():
    left_out = {f"{FILMS}/25_maps.py", "evaluation/44_score_films.py"}
    named = {
        path.relative_to(REPOSITORY).as_posix()
        for root in ("feature_extraction", "feature_decoding", "reconstruction", "baselines", "evaluation")
        for path in (REPOSITORY / root).rglob("[0-9][0-9]_*.py")
        if "run.device" in path.read_text()
    }
    assert named - set(rehearsal.SCRIPTS) == left_out
    planted = {script for script, *_ in PLANTS}
    assert set(rehearsal.SCRIPTS) - planted == {*rehearsal.ON_CPU, *SLOW}


def test_what_a_script_leaves_on_the_cpu_altogether_is_found(rehearsals):
    """Nothing meets there, and no error is raised: it would only take a hundred times as long."""
    script = f"{CONCEPTS}/14_bank.py"
    source = (REPOSITORY / script).read_text().replace("run.device", "__import__('torch').device('cpu')")
    with pytest.raises(RuntimeError, match="computed nothing on the GPU"):
        rehearsals.run(script, source)


def test_models_are_opened_on_the_device_that_is_asked_for():
    assert frozen(torch.nn.Linear(2, 2), torch.device("meta")).weight.device.type == "meta"


def test_ridge_regression_on_the_voxels_of_a_real_subject_goes_through_the_batches_of_a_gpu():
    X, Y = np.ones((100, 11_694)), np.ones((100, 60))
    with pretended() as answers:
        decoder = fit(Gram(X, "cuda"), Y, alpha=0.15, n_voxels=3000)
    assert answers.used_gpu
    assert [part.shape for part in decoder] == [(60, 3000), (60, 3000), (60,)]


@contextmanager
def changed_in_place(module: ModuleType, source: str):
    """Give the functions of a module, wherever they were imported, what they are in a changed source."""
    codes = {code.co_qualname: code for code in codes_in(compile(source, str(module.__file__), "exec"))}
    before = [(function, function.__code__) for function in functions_of(module)]
    for function, code in before:
        function.__code__ = codes[code.co_qualname]
    try:
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def codes_in(code: CodeType):
    """Give all functions in compiled code."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from codes_in(constant)


def functions_of(module: ModuleType) -> list[FunctionType]:
    """Give the functions and methods that a module defines."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    methods = [value for kind in own if inspect.isclass(kind) for value in vars(kind).values()]
    found = [inspect.unwrap(value) for value in (*own, *methods) if callable(value) and not inspect.isclass(value)]
    return [each for each in found if isinstance(each, FunctionType) and each.__code__.co_filename == module.__file__]
