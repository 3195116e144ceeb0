"""``python -m voiceops``: Invoke with our exit codes; ``./inv`` runs this."""

from __future__ import annotations

import sys

from invoke import Program

from voiceops import __version__


def main() -> None:
    arguments = sys.argv[1:]
    root = []
    if arguments[:1] == ["--project"] and len(arguments) > 1:
        root = ["--search-root", arguments[1]]
        arguments = arguments[2:]
    Program(name="voiceops", binary="inv", binary_names=["inv"], version=__version__).run(["inv", *root, *arguments])


if __name__ == "__main__":
    main()
