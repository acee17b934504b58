"""What a person typed to get here, so that hints name a command that works as it stands."""

import sys
from pathlib import Path

EXTENSION = Path("~/.local/share/hf/extensions/hf-merge")
"""The folder in which `hf` looks for `hf merge`."""


def typed(words: str = "") -> str:
    """The command line of `words`: `hubmerge push`, or `hf merge push` where hf runs this.

    >>> typed("push merged you/merged")
    'hubmerge push merged you/merged'
    """
    program = Path(sys.argv[0]).name.removesuffix(".exe")
    if program == "hf-merge":
        program = "hf merge" if (EXTENSION.expanduser() / "manifest.json").exists() else program
    else:
        program = "hubmerge"
    return f"{program} {words}".rstrip()
