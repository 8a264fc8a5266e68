"""What is wrong, for people and for programs."""

from collections.abc import Iterable
from typing import Any

from minddiffuser.needs.findings import Problem, Room


def checklist(problems: list[Problem]) -> str:
    """List problems, one a line: what is wrong, where, and what mends it; a remedy of several is said once.

    What only a part of the run needs is marked with that part's name.
    """
    lines = [f"\n{len(problems)} problem{'s' if len(problems) > 1 else ''}:"]
    first_with: dict[str, int] = {}
    for number, problem in enumerate(problems, start=1):
        before = first_with.setdefault(problem.remedy, number)
        mend = f" -> {problem.remedy if before == number else f'as {before}'}" if problem.remedy else ""
        aside = "" if problem.is_needed else f" (`make all` leaves it out: {', '.join(problem.parts)})"
        lines.append(f"  {number}. {problem.what}: {problem.text}{mend}{aside}")
    return "\n".join(lines)


def as_json(problems: Iterable[Problem], rooms: Iterable[Room]) -> list[dict[str, Any]]:
    """Give for each problem its text and, where it stops not all, what can be left out.

    Returns
    -------
    list of dict
        "text": what is wrong; "leave_out": dict of a part's name to what the names of its scripts begin with, empty
        where more than such parts need it.
    """
    scripts: dict[str, list[str]] = {}
    for room in rooms:
        scripts.setdefault(room.part, []).extend(room.scripts)
    return [
        {
            "text": f"{problem.what}: {problem.text}",
            "leave_out": {} if problem.is_needed else {part: scripts.get(part, []) for part in problem.parts},
        }
        for problem in problems
    ]
