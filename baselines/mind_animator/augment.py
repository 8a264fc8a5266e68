"""What training data go through in each epoch: zeros among the voxels, other words in captions, crops of frames.

References: Lu et al. 2025 (arXiv 2405.03280) and the authors' models/data_aug.py. Varying texts is Wei &
Zou's "easy data augmentation", EDA (2019, arXiv 1901.11196).
"""

import itertools
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from baselines.semantic_brain_decoding.wordnet import WordNet, words_of
from minddiffuser.seeds import numpy_generator

_N_EACH = 3  # candidates by each way of varying a text
_REPLACED, _INSERTED, _SWAPPED, _LEFT_OUT = 0.5, 0.2, 0.2, 0.2  # shares of the words
_TRIES = 10  # to find a word that has a synonym
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz ")
# Words that are not replaced: what WordNet has under these names are metals, vitamins and the like.
_FUNCTION_WORDS = """
a about above after again all am an and any are as at be because been before being below between both but by can
did do does down during each few for from had has have he her here hers him his how i if in into is it its just
me more most my no nor not now of off on once only or other our out over own same she should so some such than
that the their them then there these they this those through to too under until up very was we were what when
where which while who whom why will with you your
"""
_CROPPED = 400 / 512  # of the width


def sparsify(
    X: np.ndarray, chosen: float, zeroed: float, generator: np.random.Generator, in_place: bool = False
) -> np.ndarray:
    """Set entries of X to zero: int(zeroed * int(chosen * size)) of them, anywhere.

    Parameters
    ----------
    X : array of shape (n_clips, n_voxels)
        Standardised voxels.
    chosen, zeroed : float
        Share of all entries that is chosen, and of these that is zeroed.
    generator : np.random.Generator
    in_place : bool
        Zero them in X itself, as the authors' function does, and return it; else in a copy.

    Returns
    -------
    array of shape (n_clips, n_voxels)
    """
    X = X if in_place else X.copy()
    X.flat[generator.choice(X.size, int(zeroed * int(chosen * X.size)), replace=False)] = 0
    return X


def sparsified(
    X: np.ndarray, chosen: float, zeroed: float, accumulate: bool, seed: int, name: str, start: int = 0
) -> Iterator[np.ndarray]:
    """Yield X, sparsified, for epoch `start` and those after it.

    Zeros of an epoch are drawn from (seed, name, epoch). Where they accumulate, as released, those of an epoch stay for
    the next: a share (1 - chosen zeroed)^(epoch + 1) of the entries is left, .9^(epoch + 1) for the released semantic
    decoder. The released structure decoder also sparsifies all rows once for its validation, before training, so that
    .8^(epoch + 2) is left.

    Parameters
    ----------
    X : array of shape (n_clips, n_voxels)
        It stays as it is.
    chosen, zeroed
        As in `sparsify`.
    accumulate : bool
    seed, name
        Of the randomness.
    start : int
        Epoch, counted from 0; what epochs before it zeroed is zeroed again where it accumulates.

    Yields
    ------
    array of shape (n_clips, n_voxels)
        Where zeros accumulate it is one and the same array, which changes with the next epoch.
    """
    X = X.copy() if accumulate else X
    for epoch in itertools.count(0 if accumulate else start):
        found = sparsify(X, chosen, zeroed, numpy_generator(seed, name, epoch, "sparsify"), accumulate)
        if epoch >= start:
            yield found


def eda(text: str, generator: np.random.Generator, wordnet: WordNet | None) -> str:
    """Vary a caption: take one of its `candidates`, each as likely as the others.

    Parameters
    ----------
    text : str
    generator : np.random.Generator
    wordnet : WordNet or None
        None: words are swapped and left out, and nothing needs a dictionary.
    """
    found = candidates(text, generator, wordnet)
    return found[generator.integers(len(found))]


def candidates(text: str, generator: np.random.Generator, wordnet: WordNet | None) -> list[str]:
    """Give a caption in small letters, and three variations of it of each kind.

    Of n words: max(1, n / 2) different ones are replaced by synonyms; max(1, n / 5) synonyms of words are inserted;
    max(1, n / 5) times two words are swapped; each word is left out with a chance of .2, though one stays. Synonyms
    are the other words of any meaning that a noun has in WordNet. The authors take verbs, adjectives and adverbs
    too, and the list of words that are not replaced from nltk.

    Returns
    -------
    list of str
        13 with WordNet; 7 without, where none is by synonyms. Some may be the same.
    """
    words = text.lower().split()
    n = len(words)
    ways = [partial(_swap, words, max(1, int(_SWAPPED * n))), partial(_leave_out, words)]
    if wordnet is not None:
        replace = partial(_replace, words, max(1, int(_REPLACED * n)), wordnet)
        ways = [replace, partial(_insert, words, max(1, int(_INSERTED * n)), wordnet), *ways]
    return [" ".join(words), *(way(generator) for way in ways for _ in range(_N_EACH))]


def synonyms(word: str, wordnet: WordNet) -> list[str]:
    """List the other words of all meanings of a noun, in small letters without other signs, sorted."""
    numbers = wordnet.index.get(word, "n 0").split()
    meanings = numbers[len(numbers) - int(numbers[1]) :]
    words = {other for number in meanings if f"n{number}" in wordnet.lines for other in words_of(wordnet, f"n{number}")}
    plain = ("".join(sign for sign in _spaced(other) if sign in _LETTERS) for other in words)
    return sorted(set(plain) - {word, ""})


def _spaced(word: str) -> str:
    return word.replace("_", " ").replace("-", " ").lower()


def _replace(words: list[str], n: int, wordnet: WordNet, generator: np.random.Generator) -> str:
    chosen = {}
    for word in generator.permutation(sorted(set(words).difference(_FUNCTION_WORDS.split()))).tolist():
        if len(chosen) < n and (others := synonyms(word, wordnet)):
            chosen[word] = others[generator.integers(len(others))]
    return " ".join(chosen.get(word, word) for word in words)


def _insert(words: list[str], n: int, wordnet: WordNet, generator: np.random.Generator) -> str:
    words = words.copy()
    for _ in range(n if words else 0):
        for _ in range(_TRIES):
            if others := synonyms(words[generator.integers(len(words))], wordnet):
                words.insert(generator.integers(len(words)), others[generator.integers(len(others))])
                break
    return " ".join(words)


def _swap(words: list[str], n: int, generator: np.random.Generator) -> str:
    words = words.copy()
    for _ in range(n if len(words) > 1 else 0):
        i, j = generator.choice(len(words), 2, replace=False)
        words[i], words[j] = words[j], words[i]
    return " ".join(words)


def _leave_out(words: list[str], generator: np.random.Generator) -> str:
    left = [word for word in words if generator.random() > _LEFT_OUT]
    if words and not left:
        left = [words[generator.integers(len(words))]]
    return " ".join(left)


def crop_corners(n: int, size: int, generator: torch.Generator, per_image: bool) -> torch.Tensor:
    """Draw where frames are cropped: windows of 400 of 512 pixels, or that share of another size.

    Parameters
    ----------
    n : int
        Frames, for all of which corners are drawn at once, so that batches do not matter.
    size : int
        Pixels of their width and height.
    generator : torch.Generator
    per_image : bool
        Draw a window for each frame; else, as released, one for all of them.

    Returns
    -------
    tensor of shape (n, 2), int64
        Upper and left pixel of each window.
    """
    corners = torch.randint(0, size - _window(size) + 1, (n if per_image else 1, 2), generator=generator)
    return corners.expand(n, 2)


def crop(images: torch.Tensor, corners: torch.Tensor, resized_to: int) -> torch.Tensor:
    """Cut windows out of frames and resize them, bilinearly, without antialiasing, as torchvision did then.

    Parameters
    ----------
    images : tensor of shape (n, 3, size, size)
    corners : tensor of shape (n, 2)
        From `crop_corners`.
    resized_to : int
        Pixels.

    Returns
    -------
    tensor of shape (n, 3, resized_to, resized_to)
    """
    window = _window(images.shape[-1])
    rows = [
        image[:, top : top + window, left : left + window]
        for image, (top, left) in zip(images, corners.tolist(), strict=True)
    ]
    return functional.interpolate(torch.stack(rows), (resized_to, resized_to), mode="bilinear", antialias=False)


def _window(size: int) -> int:
    return round(size * _CROPPED)
