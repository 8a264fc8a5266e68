"""The arguments of scripts, as argparse has them. What this imports is imported in milliseconds: help needs no more."""

import __future__

import argparse
import ast
import sys
from pathlib import Path
from typing import Any

_CONFIG = Path(__file__).parents[1] / "configs" / "miniature.yaml"


def shared_parser(doc: str | None, divides: bool = True) -> argparse.ArgumentParser:
    """Make a parser of the arguments that all scripts share.

    Parameters
    ----------
    doc : str or None
        What the script says of itself.
    divides : bool
        Whether several processes can each do a part of its work.
    """
    parser = plain_parser(doc)
    of_shard = "do one part of n, such as 2-of-8" if divides else "refused here: this script's work is not divided"
    parser.add_argument("--config", type=Path, default=_CONFIG, help="experiment (default: configs/miniature.yaml)")
    parser.add_argument("--subject", help="one subject, such as subj01 (default: all of the configuration)")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="override, such as experiment.seed=7")
    parser.add_argument("--shard", metavar="K-OF-N", help=of_shard)
    parser.add_argument("--device", help="torch device, such as cuda:0 (default: execution.device)")
    parser.add_argument("--overwrite", action="store_true", help="replace results of other settings, and only those")
    return parser


def is_default(config: Path) -> bool:
    """Tell whether a configuration is the one that is taken where none is named."""
    return config.absolute() == _CONFIG


def plain_parser(doc: str | None) -> argparse.ArgumentParser:
    """Make a parser without arguments, whose help begins with `doc` as it is written."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def parser_of(source: str, doc: str | None) -> argparse.ArgumentParser:
    """Make the parser of a script from its source, without running the script or what it imports.

    The arguments are the shared ones, where the script calls `minddiffuser.cli.parse`, and those of its own function
    `add_arguments`, which may use the standard library, and constants and functions of the script that do the same.

    Parameters
    ----------
    source : str
    doc : str or None
        The script's docstring.
    """
    script = ast.parse(source)
    calls = [node for node in ast.walk(script) if isinstance(node, ast.Call)]
    parse = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "parse"]
    if parse:
        options = {option.arg: option.value for option in parse[0].keywords}
        parser = shared_parser(doc, "divides" not in options or ast.literal_eval(options["divides"]))
    else:
        parser = plain_parser(doc)
    names: dict[str, Any] = {}
    light = ast.Module([node for node in script.body if _is_light(node)], [])
    exec(
        compile(light, "add_arguments", "exec", __future__.annotations.compiler_flag), names
    )  # without what annotations name
    if "add_arguments" in names:
        names["add_arguments"](parser)
    return parser


def _is_light(node: ast.stmt) -> bool:
    """Tell whether a statement of a script can be run without what the script imports of others."""
    if isinstance(node, ast.FunctionDef):
        defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        return not node.decorator_list and all(map(_is_literal, defaults))
    if isinstance(node, ast.Import):
        return all(name.name.partition(".")[0] in sys.stdlib_module_names for name in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").partition(".")[0] in sys.stdlib_module_names
    return isinstance(node, ast.Assign) and _is_literal(node.value)


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError):
        return False
    return True
