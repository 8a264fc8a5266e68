"""Take from WordNet the nouns that the miniature needs, and all that these are kinds of: what made `miniature/wordnet`.

    python miniature/shorten_wordnet.py [--wordnet models/wordnet/usr/share/wordnet]

Reads WordNet 3.0 (`make wordnet`). Writes `data.noun` and `index.noun`, whose lines are WordNet's own, with its licence
at their head as in the originals, and `LICENSE`, the same once more.
"""

import argparse
from pathlib import Path

from baselines.semantic_brain_decoding.wordnet import DATA, INDEX, LAST_NOUN, hypernyms_of, open_wordnet, words_of
from minddiffuser.arguments import plain_parser
from minddiffuser.cli import execute
from minddiffuser.config import REPOSITORY
from minddiffuser.store import write_atomically
from miniature.categories import CATEGORIES

OUTPUT = REPOSITORY / "miniature" / "wordnet"


def main(argv: list[str] | None = None) -> None:
    """Read, choose, write."""
    parser = plain_parser(__doc__)
    add_arguments(parser)
    folder = parser.parse_args(argv).wordnet
    wordnet = open_wordnet(folder)
    wanted, known = [*(category.wnid for category in CATEGORIES), LAST_NOUN], set()
    while wanted:
        if (wnid := wanted.pop()) not in known:
            known.add(wnid)
            wanted += hypernyms_of(wordnet, wnid)
    words = {words_of(wordnet, wnid)[0].lower() for wnid in known}  # those that a noun is named by
    licence = [line for line in (folder / DATA).read_text().split("\n")[:100] if line.startswith("  ")]
    for name, lines in (
        (DATA, [wordnet.lines[wnid] for wnid in sorted(known)]),
        (INDEX, [f"{word} {wordnet.index[word]}" for word in sorted(words)]),
        ("LICENSE", []),
    ):
        head = licence if lines else [line.strip().partition(" ")[2].rstrip() for line in licence]
        write_atomically(OUTPUT / name, "".join(f"{line}\n" for line in [*head, *lines]))
    print(f"{OUTPUT}: {len(known)} nouns")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this program."""
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="its folder (%(default)s)")


if __name__ == "__main__":
    execute(main)
