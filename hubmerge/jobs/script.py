"""The script of a job: PEP 723 says what uv installs for it, the rest is the command as a person would type it.

It holds no token. What it works with is the job's secret HF_TOKEN, which the Hub puts into its environment.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .. import __version__
from ..errors import HubmergeError
from ..text import has_token, hide_tokens

SAVED = "printed.json"

_TEXT = """\
# /// script
# requires-python = ">=3.10"
# dependencies = ["{package}"]
# ///
# {about}
# It holds no token: the one that it works with is the job's secret HF_TOKEN.
import sys
{imports}
{files}
sys.argv = {words}

from hubmerge.cli import main

{run}
"""
_IMPORTS = """\
from contextlib import redirect_stdout
from pathlib import Path

from huggingface_hub import upload_file
"""
_SAVED = """\
with open({name}, "w", encoding="utf-8") as file, redirect_stdout(file):
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
upload_file(
    path_or_fileobj={name}, path_in_repo={path}, repo_id={repo_id}, repo_type="dataset", commit_description={mark}
)"""


@dataclass(frozen=True)
class Work:
    """A command for a job.

    `words`: the command without `hubmerge`; `files`: what it reads, name -> text; `extras`: of the package, comma
    between them; `saves`: what it prints is put beside the script in the user's dataset, as `SAVED`.
    """

    words: Sequence[str]
    files: Mapping[str, str] = field(default_factory=dict)
    extras: str = ""
    saves: bool = False

    def __post_init__(self) -> None:
        for name, text in {**self.files, "The command": "\n".join(self.words)}.items():
            if has_token(text) or hide_tokens(text) != text:
                raise HubmergeError(
                    f"{name} holds what looks like a token, and others may read the script of a job; take it out: the "
                    "job works with the token that you are logged in with."
                )

    @cached_property
    def key(self) -> str:
        """What its job is found again by: the same for the same command of the same version."""
        told = repr((__version__, *self.words, sorted(self.files.items()), self.extras))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def script(self, dataset: str) -> str:
        """The script's text; `dataset`: the user's, which scripts lie in."""
        from ..hub.holdings import marked

        run = "main()"
        if self.saves:
            names = {"name": SAVED, "path": f"{self.key}/{SAVED}", "repo_id": dataset, "mark": marked("")}
            run = _SAVED.format(**{name: repr(value) for name, value in names.items()})
        files = "\n".join(f'Path({name!r}).write_text({text!r}, encoding="utf-8")' for name, text in self.files.items())
        imports = _IMPORTS if self.saves else "from pathlib import Path\n" if self.files else ""
        return _TEXT.format(
            package=f"hubmerge{f'[{self.extras}]' if self.extras else ''}=={__version__}",
            about=f"Written by hubmerge {__version__} for `hubmerge {self.words[0]} --on jobs:...`.",
            imports=imports,
            files=files,
            words=repr(["hubmerge", *self.words]),
            run=run,
        )
