"""Train a network by gradient descent, so that a run that was killed goes on to the same bytes.

After each epoch (of a large network, at most every five minutes) all that the next ones depend on is written to one
file, which appears whole or not at all: weights, Adam's state, the curve of losses, and the best weights so far.
Nothing random is carried from one epoch to the next: the order of rows, dropout and whatever a loss draws have
generators of (seed, name, epoch). A run that is killed loses what came after the file was written, and ends with the
same bytes as one that was not, on the same device, with the same number of threads. A file of training started with
other settings is refused.

    with seeded(seed, name, "weights"):
        network = StructureDecoder(n_voxels, n_latents)
    plan = Plan(n_epochs=76, batch_size=64, rate=lambda step, epoch: 1e-6 * 0.999**epoch)
    curve = train(network, losses, validate, plan, len(X), seed, name, path, recipe.fingerprint)

Reference: Kingma & Ba 2015 (Adam, arXiv 1412.6980).
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from minddiffuser import stopping
from minddiffuser.progress import progress
from minddiffuser.seeds import seed_of, torch_generator
from minddiffuser.store import DataError, reading, write_atomically

_SMALL, _SECONDS = 10_000_000, 300  # weights of a network whose state takes no time to write; between other writes
_COLUMNS = ["epoch", "learning_rate", "loss", "validation"]
_NETWORK, _ADAM, _BEST = "network.", "adam.", "best."  # prefixes of tensors in the file
_ENTRY = "training"  # its one entry of metadata: the order of several is not the same from run to run


class Plan(NamedTuple):
    """How a network is trained.

    Attributes
    ----------
    n_epochs : int
        Passes over all rows.
    batch_size : int
        Rows of a step; the last step of an epoch has those that are left.
    rate : callable
        Learning rate from the number of the step, counted from 1 over all epochs, and of the epoch, counted from 0.
    betas, epsilon : of Adam
    checkpoint : "best_validation" or "fixed_epoch"
        Which weights the network ends with: those of the epoch with the least validation error, of equals the first;
        or those of the last epoch.
    """

    n_epochs: int
    batch_size: int
    rate: Callable[[int, int], float]
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    checkpoint: Literal["best_validation", "fixed_epoch"] = "best_validation"


@contextmanager
def seeded(seed: int, *key: int | str) -> Iterator[None]:
    """Let torch's own randomness (first weights, dropout) depend on (seed, key) inside this block, and not after it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, *key))
        yield


def train(
    network: nn.Module,
    losses: Callable[[int], Iterator[Callable[[torch.Tensor, torch.Generator], torch.Tensor]]],
    validate: Callable[[], float] | None,
    plan: Plan,
    n_rows: int,
    seed: int,
    name: str,
    path: Path,
    made_of: str,
) -> pd.DataFrame:
    """Train a network, or go on with its training.

    Peak memory beside activations: the weights four times on the network's device, with gradients and Adam's two
    moments; and on the CPU, while the file is written, some twice its size. It has the weights, the moments and the
    best weights: 5.4 GB for the motion generator of real size.

    Parameters
    ----------
    network : nn.Module
        With its first weights, on the device to train on; made within `seeded`. It ends in evaluation mode.
    losses : callable
        Is given an epoch, counted from 0, and yields for it and each after it a function of rows (n_batch,), int64, and
        a generator of the CPU, which gives the loss of these rows. So what is prepared once an epoch, such as other
        voxels set to zero, stands before each `yield`. Its own randomness must depend on the epoch alone.
    validate : callable or None
        Gives the validation error; the network is in evaluation mode, and there are no gradients.
    plan : Plan
    n_rows : int
        Training rows.
    seed, name
        Of all randomness: another name is another draw.
    path : Path
        Of the file to go on from. Once its results are written elsewhere, it can be deleted.
    made_of : str
        What the training depends on: settings and inputs, such as a recipe's fingerprint.

    Returns
    -------
    DataFrame
        A row for each epoch: `epoch`, from 0; `learning_rate` of its last step; `loss`, the mean over its rows;
        `validation`, NaN without `validate`; `is_kept`, true where the weights are those that the network ends with.

    Raises
    ------
    ValueError
        `plan.checkpoint` is best_validation, and there is no `validate`.
    DataError
        The file is broken, or of a training of something else.
    FloatingPointError
        A loss is not finite.
    """
    if validate is None and plan.checkpoint == "best_validation":
        raise ValueError("checkpoint best_validation needs a function that validates")
    optimiser = torch.optim.Adam(network.parameters(), betas=plan.betas, eps=plan.epsilon)
    curve, best = _resume(path, network, optimiser, made_of)
    is_small, kept = sum(weights.numel() for weights in network.parameters()) < _SMALL, time.monotonic()
    loss_of_epoch = losses(len(curve))
    stopping.defer()
    for epoch in progress(range(len(curve), plan.n_epochs), desc=name, initial=len(curve), total=plan.n_epochs):
        loss_of = next(loss_of_epoch)
        with seeded(seed, name, epoch, "dropout"):
            loss = _run_epoch(network, optimiser, loss_of, plan, n_rows, epoch, (seed, name))
        network.eval()
        with torch.no_grad():
            error = math.nan if validate is None else float(validate())
        if not math.isfinite(loss) or (validate is not None and not math.isfinite(error)):
            raise FloatingPointError(
                f"{name}: in epoch {epoch} the loss is {loss}, and the validation error {error}; lower its learning "
                "rate, or look for values in its data that are not finite"
            )
        if plan.checkpoint == "best_validation" and all(error < before for *_, before in curve):
            best = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
        curve.append([epoch, optimiser.param_groups[0]["lr"], loss, error])
        is_due = is_small or epoch == plan.n_epochs - 1 or time.monotonic() - kept > _SECONDS
        if is_due or stopping.is_asked():
            _keep(path, network, optimiser, made_of, curve, best)
            kept = time.monotonic()
            stopping.saved()
    stopping.release()
    table = pd.DataFrame(curve, columns=_COLUMNS)
    if plan.checkpoint == "best_validation" and best:
        network.load_state_dict(best)
        table["is_kept"] = table.index == table["validation"].argmin()
    else:
        table["is_kept"] = table.index == len(table) - 1
    network.eval()
    return table


def _run_epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss_of: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    plan: Plan,
    n_rows: int,
    epoch: int,
    key: tuple[int, str],
) -> float:
    """Make one pass over all rows, in an order of its own; give the mean loss."""
    network.train()
    seed, name = key
    batches = torch.randperm(n_rows, generator=torch_generator(seed, name, epoch, "order")).split(plan.batch_size)
    generator = torch_generator(seed, name, epoch, "loss")
    losses = []
    for step, rows in enumerate(batches, start=epoch * len(batches) + 1):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate(step, epoch)
        optimiser.zero_grad()
        loss = loss_of(rows, generator)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach().double() * len(rows))  # read below: each reading would wait for a GPU
    return torch.stack(losses).sum().item() / n_rows


def _keep(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    made_of: str,
    curve: list[list[Any]],
    best: dict[str, torch.Tensor],
) -> None:
    """Write all that the next epochs depend on."""
    tensors = {f"{_NETWORK}{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"{_BEST}{key}": value for key, value in best.items()}
    for number, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"{_ADAM}{number}.{slot}": value for slot, value in slots.items()}
    entry = json.dumps({"made_of": made_of, "curve": curve})
    write_atomically(path, save({key: value.contiguous() for key, value in tensors.items()}, {_ENTRY: entry}))


def _resume(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, made_of: str
) -> tuple[list[list[Any]], dict[str, torch.Tensor]]:
    """Put network and optimiser where they were; give the curve so far and the best weights."""
    if not path.exists():
        return [], {}
    with reading(path, "a state of training", "delete it, and the training starts again"):
        with safe_open(path, "pt") as file:
            entry = json.loads(file.metadata()[_ENTRY])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        if entry["made_of"] != made_of:
            raise DataError(
                f"{path} is of a training with other settings or data",
                "delete it, and the training starts again",
                path,
            )
        parts: dict[str, dict[str, torch.Tensor]] = {
            prefix: {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            for prefix in (_NETWORK, _ADAM, _BEST)
        }
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in parts[_ADAM].items():
            number, slot = key.split(".")
            slots.setdefault(int(number), {})[slot] = value
        network.load_state_dict(parts[_NETWORK])
        optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
        return entry["curve"], parts[_BEST]
