"""Read a configuration, one YAML file an experiment, and check it in full before anything heavy starts."""

import codecs
import copy
import difflib
import itertools
import operator
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import ValidationError

from minddiffuser.config.execution import BatchSize
from minddiffuser.config.experiment import Config
from minddiffuser.config.method import PRESETS
from minddiffuser.config.section import REPOSITORY, ConfigError, Section

_MOST_HINTS = 3  # keys that are named in place of one that is not there


def load(path: Path, overrides: list[str] | None = None) -> Config:
    """Read and check a configuration.

    Parameters
    ----------
    path : Path
        YAML file. Values in it win over those of its `preset`, which win over the defaults.
    overrides : list of str
        `section.key=value` settings that win over the file, such as `experiment.guidance.n_iterations=5`. Where the
        key is of a text, the value is taken as it stands; elsewhere it is YAML. All values of `preset=NAME` win over
        the file, too, and the other settings over those.

    Raises
    ------
    ConfigError
        The file cannot be read, or a key or value in it is not valid.
    """
    try:
        values = _parse_yaml(_read_text(path))
    except OSError as error:
        known = ", ".join(sorted(str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "configs").glob("*.yaml")))
        raise ConfigError(f"{path}: cannot read the configuration ({error.strerror}); there are {known}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(values, dict | None):
        raise ConfigError(f"{path}: expected keys and values, got {type(values).__name__}")
    values = _sections(Config, values or {}, f"{path}: ")
    is_preset = [override.partition("=")[0].strip() == "preset" for override in overrides or []]
    for override in itertools.compress(overrides or [], is_preset):
        _override(values, override)
    of_preset, of_file = values.get("preset"), values.get("experiment", {})
    preset = copy.deepcopy(PRESETS.get(of_preset, {})) if isinstance(of_preset, str) else {}
    values["experiment"] = _merged(of_file, preset) if any(is_preset) else _merged(preset, of_file)
    for override in itertools.compress(overrides or [], map(operator.not_, is_preset)):
        _override(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, overrides or [], item) for item in error.errors())) from error


def _read_text(path: Path) -> str:
    """Read a file that should be UTF-8; UTF-16 and UTF-32 are known by their first bytes."""
    content = path.read_bytes()
    marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}  # UTF-32's begins with UTF-16's
    marks |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    encoding = next((name for mark, name in marks.items() if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in content and encoding == "utf-8-sig":
            raise ValueError("not a text, but a binary file; is another file meant?") from error
        line = content.count(b"\n", 0, error.start) + 1
        looks = "Latin-1 or Windows-1252" if encoding == "utf-8-sig" else f"broken {encoding.upper()}"
        raise ValueError(
            f"not in UTF-8, but perhaps {looks}: byte {content[error.start]:#04x} in line {line}; save it as UTF-8"
        ) from error
    if "\0" in text:
        raise ValueError("not a text in UTF-8: it has bytes of zero; save it as UTF-8, or is another file meant?")
    return text


class _Loader(yaml.SafeLoader):
    """YAML, in which a key that is there twice is an error: the last would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        first = {(key.tag, key.value): key for key in reversed(keys)}
        for key in keys:
            before = first[key.tag, key.value]
            if before is not key:
                again = f"{key.value} is there twice, first in line {before.start_mark.line + 1}"
                raise yaml.constructor.ConstructorError(None, None, again, key.start_mark)
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str) -> Any:
    """Parse YAML; ValueError says in one line what is wrong and where."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        what = " ".join(filter(None, (error.context, error.problem)))
        where = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ValueError(f"not valid YAML: {what}{where}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2024-99-99 is a ValueError
        reason = str(error).splitlines()[0]
        raise ValueError(f"not valid YAML: {reason}") from error


def _section_of(annotation: Any) -> type[Section] | None:
    """Give the section that a field is of: also of `X | None`."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def _sections(kind: type[Section], values: dict[Any, Any], where: str, prefix: str = "") -> dict[Any, Any]:
    """Check that what should be a section is one; leave out sections that are empty, except those that may be null."""
    found = {}
    for key, value in values.items():
        field = kind.model_fields.get(key) if isinstance(key, str) else None
        below = _section_of(field.annotation) if field else None
        if field is None or below is None or (value is None and type(None) in get_args(field.annotation)):
            found[key] = value
        elif isinstance(value, dict):
            found[key] = _sections(below, value, where, f"{prefix}{key}.")
        elif type(value) is int and below is BatchSize:
            found[key] = value
        elif value is not None:
            raise ConfigError(
                f"{where}{prefix}{key} is a section, with keys such as {_some_keys(below)}; got {_shortly(value)}"
            )
    return found


def _some_keys(kind: type[Section]) -> str:
    return ", ".join(list(kind.model_fields)[:4])


def _override(values: dict[Any, Any], override: str) -> None:
    """Put one setting of the command line where it belongs in the values of the file."""
    said = f"--set {override}: "
    dotted, separator, text = override.partition("=")
    parts = dotted.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"{said}expected section.key=value")
    kind: type[Section] = Config
    for depth, part in enumerate(parts):
        name = ".".join(parts[: depth + 1])
        field = kind.model_fields.get(part)
        if field is None:
            raise ConfigError(f"{said}{name}: unknown key; {_hint(kind, parts, depth)}")
        below, optional = _section_of(field.annotation), type(None) in get_args(field.annotation)
        if depth == len(parts) - 1:
            break
        if below is None:
            raise ConfigError(f"{said}{name} is not a section: nothing can be set below it")
        present = values.get(part)
        values[part] = dict.fromkeys(below.model_fields, present) if type(present) is int else present or {}
        values, kind = values[part], below
    text = text.strip()
    if _is_text(field.annotation):
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]
        values[part] = None if optional and text == "null" else text[1:-1] if quoted else text
        return
    try:
        value = _parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{said}{error}") from error
    if below is not None and value is None and not optional:
        raise ConfigError(f"{said}{name} is a section, with keys such as {_some_keys(below)}; it cannot be null")
    (new,) = _sections(kind, {part: value}, said, f"{name.removesuffix(part)}").values()
    present = values.get(part)
    values[part] = _merged(present, new) if isinstance(present, dict) and isinstance(new, dict) else new


def _is_text(annotation: Any) -> bool:
    """Tell whether a field is a text: a string, a path, one of some words, or nothing."""
    if annotation in (str, Path, type(None)):
        return True
    if get_origin(annotation) is Literal:
        return all(isinstance(word, str) for word in get_args(annotation))
    if get_origin(annotation) is Annotated:
        return _is_text(get_args(annotation)[0])
    parts = get_args(annotation)
    return type(None) in parts and all(map(_is_text, parts))


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _explain(path: Path, overrides: list[str], error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    set_here = [text for text in overrides if f"{key}.".startswith(f"{text.partition('=')[0].strip()}.")]
    where = f"--set {set_here[-1]}" if set_here else str(path)
    if error["type"] == "missing":
        return f"{where}: {key} is missing"
    if error["type"] == "extra_forbidden":
        section: Any = Config
        for part in error["loc"][:-1]:
            section = _section_of(section.model_fields[part].annotation)
        return f"{where}: {key}: unknown key (value {_shortly(error['input'])}); {_hint(section, error['loc'], -1)}"
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_type":
        text += "; quotes make one of it"
    said_already = error["type"] == "value_error"
    return f"{where}: {key}: {text}" + ("" if said_already else f" (got {_shortly(error['input'])})")


def _shortly(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]} ..."


def _hint(section: type[Section], parts: Sequence[Any], wrong: int) -> str:
    """Say which key may have been meant, or which there are.

    Parameters
    ----------
    section : type of Section
        Has no such key.
    parts : sequence
        The whole key, by its parts.
    wrong : int
        Which of them the section does not have.
    """
    given, valid = [str(part) for part in parts], list(section.model_fields)
    near = difflib.get_close_matches(given[wrong], valid, n=1, cutoff=0.5)
    known = list(_all_keys(Config))
    for n_parts in range(len(given), 0, -1):  # the key as given may lack its beginning, or begin wrongly
        if n_parts == 1 < len(given) and near:
            break
        found = [".".join(key) for key in known if key[-n_parts:] == given[-n_parts:]]
        if found:
            more = f", or {len(found) - _MOST_HINTS} others" if len(found) > _MOST_HINTS else ""
            return f"did you mean {' or '.join(found[:_MOST_HINTS])}{more}?"
    return f"did you mean {near[0]}?" if near else f"valid keys: {', '.join(valid)}"


def _all_keys(section: type[Section]) -> Iterator[list[str]]:
    """Yield every key of a section and of those below it, by its parts."""
    for name, field in section.model_fields.items():
        yield [name]
        below = _section_of(field.annotation)
        yield from ([name, *key] for key in _all_keys(below)) if below else ()
