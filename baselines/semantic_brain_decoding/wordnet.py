"""How near two concepts are in WordNet: Wu & Palmer's similarity, as nltk computes it and Ferrante et al. report it.

A synset is a concept, its hypernyms are what it is a kind of, and a WordNet id such as n01440764 is the number of a
synset in `data.noun` of WordNet 3.0, whose ids ImageNet uses. Two files are read: `data.noun`, of which each line is a
synset, and `index.noun`, which has the meanings of each word.

Reference: Wu & Palmer 1994, "Verb semantics and lexical selection", ACL, doi 10.3115/981732.981751; nltk's
rules for synsets with several hypernyms are in `wu_palmer`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minddiffuser.store import DataError, reading

DATA, INDEX = "data.noun", "index.noun"
_HOW = (
    "get WordNet 3.0 with: sudo apt-get install wordnet-base, or without root: make wordnet; elsewhere unzip what "
    "python -m nltk.downloader wordnet fetches, and name the folder that has data.noun in execution.wordnet"
)
LAST_NOUN = "n15300051"  # in the last line of data.noun in version 3.0


class WordNet(NamedTuple):
    """The nouns of WordNet 3.0, or some of them and all that these are kinds of.

    Attributes
    ----------
    lines : dict of str to str
        By id, such as "n01440764", the line of `data.noun`.
    index : dict of str to str
        By word, in small letters, the rest of its line of `index.noun`.
    """

    lines: dict[str, str]
    index: dict[str, str]


class _Concept(NamedTuple):
    """What the similarity needs to know of a synset."""

    name: str
    shortest: int  # steps to the root, by the shortest way
    longest: int
    steps_up: dict[str, int]  # to each concept above, and 0 to itself; the least number of steps


def open_wordnet(folder: Path) -> WordNet:
    """Open WordNet 3.0.

    Parameters
    ----------
    folder : Path
        Which has `data.noun` and `index.noun`: Debian's /usr/share/wordnet, corpora/wordnet of nltk's own downloads, or
        the miniature's excerpt.

    Raises
    ------
    DataError
        A file is missing or cut short; or it is another version of WordNet, whose ids are others.
    """
    for name in (DATA, INDEX):
        if not (folder / name).is_file():
            raise DataError(f"WordNet is missing: expected {folder / name}", _HOW, folder)
    lines = {f"n{line[:8]}": line for line in _entries(folder / DATA)}
    if LAST_NOUN not in lines:
        raise DataError(f"{folder / DATA} is cut short, or not of version 3.0", _HOW, folder)
    return WordNet(lines, dict(line.split(" ", 1) for line in _entries(folder / INDEX)))


def _entries(path: Path) -> list[str]:
    """Read the lines of a file of WordNet, but for the licence at its head, whose lines begin with spaces."""
    with reading(path, "a file of WordNet", _HOW):
        *lines, rest = path.read_text(encoding="ascii").split("\n")
        if rest:
            raise ValueError("its last line has no end")
        return [line for line in lines if not line.startswith("  ")]


def words_of(wordnet: WordNet, wnid: str) -> list[str]:
    """Give the words that WordNet has for a synset."""
    fields = _line(wordnet, wnid).split()
    return fields[4 : 4 + 2 * int(fields[3], 16) : 2]


def hypernyms_of(wordnet: WordNet, wnid: str) -> list[str]:
    """Give the ids of what a synset is a kind, or an instance, of."""
    fields = _line(wordnet, wnid).partition(" | ")[0].split()
    pointers = fields[5 + 2 * int(fields[3], 16) :]  # symbol, number, part of speech, and words, of each
    return [f"n{number}" for symbol, number in zip(pointers[::4], pointers[1::4], strict=True) if symbol in ("@", "@i")]


def _line(wordnet: WordNet, wnid: str) -> str:
    if wnid not in wordnet.lines:
        raise DataError(f"WordNet 3.0 has no noun {wnid}; ids of ImageNet's categories look like n01440764")
    return wordnet.lines[wnid]


def _name(wordnet: WordNet, wnid: str) -> str:
    """Name a synset as nltk does: by its first word, and which of that word's meanings it is, such as "dog.n.01"."""
    word = words_of(wordnet, wnid)[0].lower()
    fields = wordnet.index.get(word, "n 0").split()
    meanings = fields[-int(fields[1]) :]
    if wnid[1:] not in meanings:
        raise DataError(f"{INDEX} of WordNet does not have {wnid} among the meanings of {word}", _HOW)
    return f"{word}.n.{meanings.index(wnid[1:]) + 1:02d}"


def wu_palmer(wordnet: WordNet, wnids_a: Sequence[str], wnids_b: Sequence[str]) -> np.ndarray:
    """Compute the similarity of each category of one list to each of another.

    similarity(a, b) = 2 depth(s) / (d(a, s) + d(b, s) + 2 depth(s)),  depth(s) = 1 + longest way from s to the root

    where s is the concept above both, or one of them, that is farthest from the root by its shortest way; of equals a
    itself, or else the first by name. d is the shortest way, over any concept above both, not only straight up. As ways
    of different kinds are mixed, a category can be less than 1 similar to itself: 107 of ImageNet's classes are, among
    them 82 of its 118 dogs. These are nltk's rules, and numbers are equal to the last bit to those of its
    `wup_similarity`, which takes fifty times longer.

    Parameters
    ----------
    wordnet : WordNet
        From `open_wordnet`.
    wnids_a, wnids_b : sequences of str
        WordNet ids, such as n01440764; each pair of different ids is computed once.

    Returns
    -------
    array of shape (n_a, n_b), float64

    Raises
    ------
    DataError
        WordNet has no such id.
    """
    known: dict[str, _Concept] = {}
    rows, row_of = np.unique(np.asarray(wnids_a, str), return_inverse=True)
    columns, column_of = np.unique(np.asarray(wnids_b, str), return_inverse=True)
    above = [[_note(wordnet, known, str(wnid)) for wnid in wnids] for wnids in (rows, columns)]
    similarity = np.array([[_similarity(known, a, b) for b in above[1]] for a in above[0]])
    return similarity.reshape(len(rows), len(columns))[np.ix_(row_of, column_of)]


def _similarity(known: dict[str, _Concept], a: _Concept, b: _Concept) -> float:
    common = a.steps_up.keys() & b.steps_up.keys()
    farthest = max(known[name].shortest for name in common)
    candidates = [name for name in common if known[name].shortest == farthest]
    s = known[a.name if a.name in candidates else min(candidates)]
    depth = 1 + s.longest
    return 2 * depth / (_distance(a, s) + _distance(b, s) + 2 * depth)


def _distance(a: _Concept, s: _Concept) -> int:
    """Count the steps from a concept to one above it."""
    return min(steps + a.steps_up[name] for name, steps in s.steps_up.items())


def _note(wordnet: WordNet, known: dict[str, _Concept], wnid: str) -> _Concept:
    """Note a synset and all that is above it."""
    name = _name(wordnet, wnid)
    if name not in known:
        above = [_note(wordnet, known, other) for other in hypernyms_of(wordnet, wnid)]
        steps_up = {name: 0}
        for concept in above:
            for other, steps in concept.steps_up.items():
                steps_up[other] = min(steps + 1, steps_up.get(other, steps + 1))
        shortest = 1 + min((concept.shortest for concept in above), default=-1)
        longest = 1 + max((concept.longest for concept in above), default=-1)
        known[name] = _Concept(name, shortest, longest, steps_up)
    return known[name]
