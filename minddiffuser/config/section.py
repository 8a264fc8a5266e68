"""What the sections of a configuration are made of."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

REPOSITORY = Path(__file__).parents[2]


class ConfigError(Exception):
    """The configuration is wrong; the message names the file, the key, the value and the nearest valid key."""


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)}: given more than once")
    return values


def _folder_name(name: str) -> str:
    if name in ("", ".", "..") or any(sign in "/\\" or not sign.isprintable() for sign in name) or name != name.strip():
        raise ValueError(f"{name!r} is to be the name of a folder: without / or \\, not empty, and not .. or .")
    return name


def _path(value: Any) -> Any:
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise ValueError("a path is expected")
    return value


Name = Annotated[str, AfterValidator(_folder_name)]  # a folder of results is called so
Place = Annotated[Path, BeforeValidator(_path)]
Count = Annotated[int, Field(ge=1)]
Penalty = Annotated[float, Field(gt=0)]
Distinct = AfterValidator(_distinct)  # each of them is run, or written, by itself


class Section(BaseModel):
    """A part of a configuration: no unknown keys, no changes, no infinite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
