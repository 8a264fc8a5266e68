"""Answer --help at once: a script imports this module before all others, of which torch and the like take seconds.

Without --help, and in any other program, importing this does nothing.
"""

import sys
from pathlib import Path

from minddiffuser.arguments import parser_of


def answer() -> None:
    """Print the help of the running script and end, if --help is asked for and the script imports this module."""
    script = sys.modules["__main__"]
    path = Path(getattr(script, "__file__", None) or "")
    if not {"-h", "--help"}.intersection(sys.argv[1:]) or not path.is_file():
        return
    source = path.read_text(encoding="utf-8")
    if f"\nimport {__name__}" in source:
        parser_of(source, script.__doc__).parse_args(["--help"])


answer()
