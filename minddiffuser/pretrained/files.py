"""Reading the files of models: every weight from a whole file, or one line that says what is wrong with it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minddiffuser.store import DataError, reading

AGAIN = "get it again"
# 0, 1, 2 ..., which older versions of transformers stored: spare in public files of text encoders and CLIPs.
POSITIONS = re.compile(r"(^|\.)position_ids$")
# NumPy's numbers in checkpoints, under the name that NumPy has for them now and had before its version 2.
_SCALAR = np.float64(0).__reduce__()[0]
OLD_NUMBERS: list[Any] = [_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"), np.dtype, type(np.dtype(np.float64))]
_COUNTER = "num_batches_tracked"  # of batch norm, of no effect in evaluation; older files have none


class MissingModelError(DataError):
    """A model is not on this machine; the message says how to get it."""


def frozen(model: Any, device: torch.device) -> Any:
    """Give a model in float32 and evaluation mode, without gradients, on the device."""
    return model.float().eval().requires_grad_(False).to(device)


@contextmanager
def quietly() -> Iterator[None]:
    """Silence what libraries say while they open: tables of weights that do not fit, of which errors are made here."""
    from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    disabled, bars = logging.root.manager.disable, is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    disable_progress_bar()
    try:
        yield
    finally:
        logging.disable(disabled)
        if bars:
            enable_progress_bar()


def read_json(path: Path, what: str, needed: Collection[str], remedy: str) -> dict[str, Any]:
    """Read a file of settings, which must have the `needed` keys: libraries would take their own defaults for them.

    Raises
    ------
    MissingModelError
        It is absent or broken, or lacks a key.
    """
    if not path.is_file():
        raise MissingModelError(f"{what} was not found: there is no {path}", remedy, path)
    with reading(path, what, remedy, MissingModelError):
        found = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in needed if not isinstance(found, dict) or key not in found]
    if missing or not isinstance(found, dict):
        raise MissingModelError(f"{path} is not {what}: it has no {', '.join(missing) or 'keys'}", remedy, path)
    return found


def three_numbers(settings: Any, key: str, path: Path) -> tuple[float, float, float]:
    """Take what pixels are normalised with from settings: three numbers, and of deviations none that is zero.

    Raises
    ------
    MissingModelError
        They are anything else.
    """
    values = settings.get(key) if isinstance(settings, dict) else None
    if (
        not isinstance(values, list | tuple)
        or len(values) != 3
        or not all(isinstance(value, int | float) and np.isfinite(value) for value in values)
        or (key.endswith("std") and min(values) <= 0)
    ):
        text = f"{path}: {key}, which pixels are normalised with, is {values!r}, not three numbers"
        raise MissingModelError(text, AGAIN, path)
    return tuple(values)


def read_weights(path: Path, what: str, remedy: str) -> dict[str, torch.Tensor]:
    """Read a file of PyTorch that has named weights and nothing else.

    Raises
    ------
    MissingModelError
        It is absent or broken, or has other things.
    """
    if not path.is_file():
        raise MissingModelError(f"{what} is missing: expected {path}", remedy, path)
    with reading(path, what, remedy, MissingModelError):
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise MissingModelError(f"{path} is not {what}: it has more, or other things, than weights", remedy, path)
    return dict(state)


def misfit(model: torch.nn.Module, state: Mapping[str, Any]) -> str:
    """Say how names and shapes of a state dict differ from those of a model's weights; "" where they are the same."""
    own = model.state_dict()
    reshaped = {key for key in own.keys() & state.keys() if getattr(state[key], "shape", None) != own[key].shape}
    return _differences(own.keys(), own.keys() - state.keys(), state.keys() - own.keys(), reshaped)


def _differences(
    own: Collection[str], missing: Collection[str], unknown: Collection[str], reshaped: Collection[str]
) -> str:
    """Say which weights do not fit; batch norm's counters of batches may be absent, all of them."""
    counters = {key for key in own if key.endswith(_COUNTER)}
    missing = set(missing) - counters if counters <= set(missing) else missing
    kinds = {"missing": missing, "unknown to it": unknown, "of another shape": reshaped}
    return ", ".join(
        f"{len(keys)} of the weights are {kind} (such as {min(keys)})" for kind, keys in kinds.items() if keys
    )


def load_weights(model: torch.nn.Module, state: Mapping[str, Any], path: Path, what: str, remedy: str) -> None:
    """Put the weights of a file into a model.

    Raises
    ------
    MissingModelError
        They are not exactly the model's, or not numbers.
    """
    if differences := misfit(model, state):
        raise MissingModelError(f"{path} does not have the weights of {what}: {differences}", remedy, path)
    model.load_state_dict(state, strict=False)  # but for the counter
    check_numbers(state, path, what, remedy)


def check_numbers(state: Mapping[str, torch.Tensor], path: Path, what: str, remedy: str) -> None:
    """Raise MissingModelError where a weight is not finite, or a matrix all zeros, as a stopped download leaves it."""
    for name, tensor in state.items():
        if tensor.is_floating_point():
            norm = torch.linalg.vector_norm(tensor, dtype=torch.float32)
            if not norm.isfinite() or (norm == 0 and tensor.ndim > 1):
                kind = "all zeros" if norm == 0 else "not finite"
                raise MissingModelError(f"{path} does not have the weights of {what}: {name} is {kind}", remedy, path)


def open_folder(
    kind: Any,
    folder: Path,
    what: str,
    remedy: str,
    spare: re.Pattern[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Any:
    """Open a model of diffusers or transformers with every weight from the files of its folder.

    Parameters
    ----------
    kind : class
        The model's.
    folder : Path
    what : str
        What the model is, for errors.
    remedy : str
        What to do about a folder that is not whole, for errors.
    spare : pattern, optional
        Of names that public files have and the model has no place for; any other makes the file one of another model.
    settings : mapping, optional
        Of the model, in place of those in its folder.

    Raises
    ------
    MissingModelError
        A file is absent or broken, or the weights are not exactly the model's.
    """
    from safetensors import safe_open

    of_diffusers = hasattr(kind, "load_config")
    config = folder / "config.json"
    found = read_json(config, f"the configuration of {what}", ["_class_name" if of_diffusers else "model_type"], remedy)
    if of_diffusers and found["_class_name"] != kind.__name__:
        text = f"{config} is of a {found['_class_name']}, not of {what} ({kind.__name__})"
        raise MissingModelError(text, remedy, config)
    stems = ("diffusion_pytorch_model", "diffusion_pytorch_model") if of_diffusers else ("model", "pytorch_model")
    files = _weight_files(folder, stems, what, remedy)
    for file in files:
        if file.suffix == ".safetensors":
            with reading(file, f"the weights of {what}", remedy, MissingModelError), safe_open(file, "pt"):
                pass
    # What fails without weights is the configuration's fault.
    with reading(config, f"the configuration of {what}", remedy, MissingModelError), torch.device("meta"):
        _ = kind.from_config(found) if of_diffusers else kind(kind.config_class.from_pretrained(folder))
    options = {**({"low_cpu_mem_usage": False} if of_diffusers else {}), **(settings or {})}
    with reading(files[0], f"the weights of {what}", remedy, MissingModelError), quietly():
        model, info = kind.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    unknown = [key for key in info["unexpected_keys"] if not (spare and spare.search(key))]
    reshaped = [key for key, *_ in info["mismatched_keys"]]
    differences = _differences(model.state_dict().keys(), info["missing_keys"], unknown, reshaped)
    if differences:
        text = f"{files[0]} does not have the weights of {what}: {differences}"
        raise MissingModelError(text, remedy, files[0])
    check_numbers(model.state_dict(), files[0], what, remedy)
    return model


def _weight_files(folder: Path, stems: tuple[str, str], what: str, remedy: str) -> list[Path]:
    """List the files of the weights in a folder of diffusers or transformers: one, or the pieces of an index."""
    names = [f"{stems[0]}.safetensors", f"{stems[1]}.bin"]
    for name in names:
        index = folder / f"{name}.index.json"
        if index.is_file():
            places = read_json(index, f"the index of {what}'s weights", ["weight_map"], remedy)["weight_map"]
            with reading(index, f"the index of {what}'s weights", remedy, MissingModelError):
                files = [folder / name for name in sorted(set(places.values()))]
            if absent := [file for file in files if not file.is_file()]:
                raise MissingModelError(f"{what} was not found whole: there is no {absent[0]}", remedy, absent[0])
            return files
        if (folder / name).is_file():
            return [folder / name]
    there = ", ".join(sorted(path.name for path in folder.iterdir()))
    text = f"{what} was not found: there is no {folder / names[0]} (there is {there})"
    raise MissingModelError(text, remedy, folder / names[0])
