"""What a file of a model may be in place of what it should be, and the error that is expected then."""

import json
from contextlib import contextmanager

import pytest
import torch

from minddiffuser.config import REPOSITORY
from minddiffuser.pretrained.files import MissingModelError

CPU = torch.device("cpu")
WEIGHTS = REPOSITORY / "miniature" / "weights"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 492265168\n"
DAMAGES = {
    "absent": lambda _: None,
    "empty": lambda _: b"",
    "half": lambda whole: whole[: len(whole) // 2],
    "zeros": lambda whole: bytes(len(whole)),
    "pointer": lambda _: POINTER,
    "HTML": lambda _: b"<!DOCTYPE html><html><body>Please log in</body></html>",
    "JSON": lambda _: b'{"error": "not authorised"}',
}


class Other:
    """Not a tensor."""


def replace(path, content):
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


@contextmanager
def refused(file, *said):
    """Expect one line that names the file and says the other words."""
    with pytest.raises(MissingModelError) as error:
        yield error
    message = str(error.value)
    assert "\n" not in message
    for word in (str(file), *said):
        assert word in message
