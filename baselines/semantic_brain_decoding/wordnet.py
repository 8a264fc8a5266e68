"""How near two concepts are in WordNet: Wu & Palmer's similarity, as nltk computes it and Ferrante et al. report it.

Written in nltk's terms: a synset is a concept, its hypernyms are what it is a kind of, and a WordNet id such as
n01440764 is the place of a synset in `data.noun` of WordNet 3.0, whose ids ImageNet uses.

Reference: Wu & Palmer 1994, "Verb semantics and lexical selection", ACL, doi 10.3115/981732.981751; nltk's
rules for synsets with several hypernyms are in `wu_palmer`.
"""

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minddiffuser.store import DataError

if TYPE_CHECKING:
    from nltk.corpus.reader.wordnet import Synset, WordNetCorpusReader

_HOW = (
    "get WordNet 3.0 with: sudo apt-get install wordnet-base, or without root: make wordnet; elsewhere unzip what "
    "python -m nltk.downloader wordnet fetches, and name the folder that has data.noun in execution.wordnet"
)
_LAST_NOUN = 15300051  # offset of the last line of data.noun in version 3.0
# nltk needs the names of the files that WordNet was made from; Debian has them in a manual page only, lexnames(5).
_LEXNAMES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition "
    "noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person "
    "noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state "
    "noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition "
    "verb.consumption verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social "
    "verb.stative verb.weather adj.ppl"
)


class _Concept(NamedTuple):
    """What the similarity needs to know of a synset."""

    name: str
    shortest: int  # steps to the root, by the shortest way
    longest: int
    steps_up: dict[str, int]  # to each concept above, and 0 to itself; the least number of steps


def open_wordnet(folder: Path) -> "WordNetCorpusReader":
    """Open WordNet 3.0 with nltk, in about two seconds.

    Parameters
    ----------
    folder : Path
        Which has `data.noun` and so on: Debian's /usr/share/wordnet, or corpora/wordnet of nltk's own downloads.

    Raises
    ------
    DataError
        The folder is missing; a file is missing or broken, or is one that nltk refuses since others may write to it;
        it is another version of WordNet, whose ids are others.
    """
    if not (folder / "data.noun").is_file():
        raise DataError(f"WordNet is missing: expected {folder / 'data.noun'}", _HOW, folder)
    import nltk.data
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):
        """As nltk's, but content with what Debian's package has."""

        def open(self, file: str) -> Any:
            if file == "lexnames":
                return io.StringIO("\n".join(f"{i:02d}\t{name}\t0" for i, name in enumerate(_LEXNAMES.split())))
            return super().open(file)

        def map_wn(self, version: str = "wordnet") -> None:
            """Map no other versions, which takes index.sense."""

    root = str(folder.resolve())
    if root not in nltk.data.path:
        nltk.data.path.append(root)  # nltk reads nothing elsewhere
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are no other languages, and that a synset is not there
            wordnet = Reader(root, None)
            last, version = wordnet.synset_from_pos_and_offset("n", _LAST_NOUN), wordnet.get_version()
    except Exception as error:  # of many kinds, by where a file is cut short
        raise DataError(f"{folder} is not WordNet as nltk reads it: {error!r}", _HOW, folder) from error
    if last is None:
        text = f"{folder / 'data.noun'} is cut short, or not of version 3.0 (data.adj says {version})"
        raise DataError(text, _HOW, folder)
    return wordnet


def wu_palmer(wordnet: "WordNetCorpusReader", wnids_a: Sequence[str], wnids_b: Sequence[str]) -> np.ndarray:
    """Compute the similarity of each category of one list to each of another.

    similarity(a, b) = 2 depth(s) / (d(a, s) + d(b, s) + 2 depth(s)),  depth(s) = 1 + longest way from s to the root

    where s is the concept above both, or one of them, that is farthest from the root by its shortest way; of equals a
    itself, or else the first by name. d is the shortest way, over any concept above both, not only straight up. As ways
    of different kinds are mixed, a category can be less than 1 similar to itself: 107 of ImageNet's classes are, among
    them 82 of its 118 dogs. These are nltk's rules, and numbers are equal to the last bit to those of its
    `wup_similarity`, which takes fifty times longer.

    Parameters
    ----------
    wordnet : WordNetCorpusReader
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
    above = [[_find(wordnet, known, str(wnid)) for wnid in wnids] for wnids in (rows, columns)]
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


def _find(wordnet: "WordNetCorpusReader", known: dict[str, _Concept], wnid: str) -> _Concept:
    """Look up a category, and note it and all that is above it."""
    found = None
    if re.fullmatch(r"n\d{8}", wnid):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is not there, which is said below
            found = wordnet.synset_from_pos_and_offset("n", int(wnid[1:]))
    if found is None:
        raise DataError(f"WordNet 3.0 has no noun {wnid}; ids of ImageNet's categories look like n01440764")
    return _note(known, found)


def _note(known: dict[str, _Concept], synset: "Synset") -> _Concept:
    name = synset.name()
    if name not in known:
        above = [_note(known, h) for h in synset.hypernyms() + synset.instance_hypernyms()]
        steps_up = {name: 0}
        for concept in above:
            for other, steps in concept.steps_up.items():
                steps_up[other] = min(steps + 1, steps_up.get(other, steps + 1))
        shortest = 1 + min((concept.shortest for concept in above), default=-1)
        longest = 1 + max((concept.longest for concept in above), default=-1)
        known[name] = _Concept(name, shortest, longest, steps_up)
    return known[name]
