"""How scripts end when something goes wrong: one message that says what to do."""

import pytest
import torch

from minddiffuser.cli import execute
from minddiffuser.store import DataError


def failing(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DataError("prepared.h5 is missing"), "error: prepared.h5 is missing"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "execution.batch_size"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), "execution.batch_size"),
        (MemoryError(), "execution.batch_size"),
        (OSError(28, "No space left on device", "a.h5"), "No space left on device: a.h5"),
        (FloatingPointError("the gradient of z is not finite at iteration 3"), "experiment.sampler.precision"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(error, said):
    with pytest.raises(SystemExit) as stopped:
        execute(failing(error))
    assert said in str(stopped.value.code)
    assert str(stopped.value.code).startswith("error: ")


def test_other_errors_keep_their_traceback():
    with pytest.raises(RuntimeError, match="illegal memory access"):
        execute(failing(RuntimeError("CUDA error: an illegal memory access was encountered")))


def test_torchs_own_error_is_recognised():
    """Not only one that this test makes up."""
    with pytest.raises(SystemExit, match="out of memory"):
        execute(lambda: torch.empty(2**60))
