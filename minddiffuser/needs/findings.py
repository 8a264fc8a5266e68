"""What a room is asked, and what is found: results of checks, and problems."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from minddiffuser.cli import Run, remedy_of
from minddiffuser.config import Config
from minddiffuser.needs.rows import Row
from minddiffuser.store import DataError


@dataclass
class Problem:
    """What is wrong, where, and how to mend it.

    Attributes
    ----------
    what : str
        That was looked at, such as "subj01 betas".
    text : str
        What is wrong with it, and where.
    remedy : str
        The command or action that mends it; empty where the text has it.
    parts : list of str
        Which parts of a run need it, by their names (`Room.part`); "" is what everything needs.
    """

    what: str
    text: str
    remedy: str
    parts: list[str]

    @property
    def is_needed(self) -> bool:
        """Whether more than what can be left out needs it."""
        return "" in self.parts


@dataclass
class Findings:
    """What was found so far.

    Attributes
    ----------
    run : Run
        What is looked at.
    part : str
        Of the room that is asked now.
    problems : list of Problem
    n_warnings : int
        Number of things that are absent, or wrong, and that the run can do without.
    assumed : dict of str to any
        By name, what stands in the estimates for what could not be found out.
    """

    run: Run
    part: str = ""
    problems: list[Problem] = field(default_factory=list)
    n_warnings: int = 0
    assumed: dict[str, Any] = field(default_factory=dict)
    _results: dict[str, Any] = field(default_factory=dict)

    def check(
        self, what: str, function: Callable[..., tuple[Any, str]], *arguments: Any, without: str | None = None
    ) -> Any:
        """Call a function that gives a result and what is to be said of it; nothing that it raises ends the doctor.

        Parameters
        ----------
        what : str
            Its name. What was looked at under this name is not looked at again.
        function : callable
            Raises an error, or an ExceptionGroup of several, where something is wrong.
        *arguments
            None stands for what could not be found out.
        without : str, optional
            What is absent where it is wrong, if the run can do without it: then it is a warning, and no problem.

        Returns
        -------
        The function's result; None where it could not be had.
        """
        if what in self._results:
            for problem in self.problems:
                if problem.what == what and self.part not in problem.parts:
                    problem.parts.append(self.part)
            return self._results[what]
        self._results[what] = None
        if any(argument is None for argument in arguments):
            print(f"--     {what}: not looked at, for want of what is wrong above", flush=True)
            return None
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", UserWarning)
                result, found = function(*arguments)
        except Exception as error:
            errors = error.exceptions if isinstance(error, ExceptionGroup) else [error]
            found = [_text_and_remedy(each, self.run.config) for each in errors]
            if without is None:
                self.add([Problem(what, text, remedy, [self.part]) for text, remedy in found])
                return None
            for text, remedy in found:
                self.n_warnings += 1
                mend = f" -> {remedy}" if remedy else ""
                print(f"warn   {what}: {text}; without it {without}{mend}", flush=True)
            return None
        print(f"ok     {what}: {found}", flush=True)
        for warning in said:
            if warning.category is UserWarning:
                print(f"note   {what}: {warning.message}", flush=True)
        self._results[what] = result
        return result

    def assume(self, what: str, value: Any, said: str) -> Any:
        """Give what stands in the estimates for what could not be found out, and say so, once."""
        if what not in self.assumed:
            print(f"note   {what}: estimates are for {said}", flush=True)
        return self.assumed.setdefault(what, value)

    def add(self, problems: list[Problem]) -> None:
        """Note what is wrong with one thing."""
        first = len(self.problems) + 1
        self.problems += problems
        numbers = f"{first}" if len(problems) == 1 else f"{first} to {len(self.problems)}"
        print(f"WRONG  {problems[0].what}: see {numbers} below", flush=True)


class Room(NamedTuple):
    """What the doctor asks a room.

    Attributes
    ----------
    subjects : callable
        Gives the subjects that the room works on in a run: none, where the run does without the room.
    rows : callable
        Gives what its scripts take on these subjects, as far as that can be found out.
    look : callable, optional
        Checks what must be there.
    part : str
        What a run can do without, of which the room belongs to, such as a rival; empty where nothing goes without it.
    scripts : tuple of str
        What the names of the room's scripts begin with.
    """

    subjects: Callable[[Run], tuple[str, ...]]
    rows: Callable[[Findings, tuple[str, ...]], list[Row]]
    look: Callable[[Findings, tuple[str, ...]], None] | None = None
    part: str = ""
    scripts: tuple[str, ...] = ()


def _text_and_remedy(error: Exception, config: Config) -> tuple[str, str]:
    """Say an error in one line, the first sentence apart from what follows, which says how to mend it.

    One of a library's begins with its kind, which may be all that it says.
    """
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else "no reason given"
    if isinstance(error, DataError) and error.remedy:
        return error.text, remedy_of(error, config)
    if isinstance(error, DataError):
        text, _, remedy = re.sub(r"\.\s+(?=[A-Z])", ".\n", first, count=1).partition("\n")
        return text.removesuffix("."), remedy
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename or ''}", ""
    return f"{type(error).__name__}: {first}", ""
