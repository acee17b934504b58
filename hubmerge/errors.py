"""Every error hubmerge raises on purpose.

    HubmergeError            exit code 2: the input is wrong and can be put right
    ├── RecipeError          a recipe or search file: unknown key, bad value, missing model
    ├── SourceError          a checkpoint or repository whose content cannot be used (code, truncated, NaN)
    ├── PlanError            models that do not fit together (shapes, vocabulary, architecture)
    ├── ResourceError        not enough disk or memory for the work ahead
    ├── TaskError            an evaluation task: missing examples, overlapping splits
    ├── SearchError          a search that cannot start or go on
    ├── HubError             exit code 3: the Hub or the network
    │   ├── NotFoundError    no such repository, revision or file (or it is private)
    │   │   └── ImpossibleNameError  exit code 2: no repository can have this name
    │   ├── AccessError      gated, private or read-only with this token
    │   ├── RefusedError     exit code 2: hubmerge leaves a repository as it is, for what it holds or who may see it
    │   └── NetworkError     unreachable, timed out, or answered with a server error
    └── Interrupted          exit code 130: the user stopped the work; it can be resumed

A message is one sentence for the person who made the input: what is wrong, where, what was expected, what to do.
Several problems are several lines. Whatever was quoted in it, it holds no token, steers no terminal, and no line is
longer than 500 characters. The command line prints it without a traceback and exits with the class's `exit_code`.
"""

import errno

from .text import sentences

_REMEDIES = {
    "make room": ("ENOSPC", "EDQUOT"),
    "raise the limit of a file's size (`ulimit -f`)": ("EFBIG",),
    "raise the limit of open files (`ulimit -n`)": ("EMFILE", "ENFILE"),
    "check the rights": ("EACCES", "EPERM", "EROFS"),
}


class HubmergeError(Exception):
    """Base of all errors that hubmerge raises on purpose."""

    exit_code = 2

    def __init__(self, message: object = "") -> None:
        # Cleaning what is clean changes nothing, so an error survives being pickled on its way from a worker.
        super().__init__(sentences(str(message)))


class RecipeError(HubmergeError):
    """A recipe or search file that cannot be read as one."""


class SourceError(HubmergeError):
    """A model whose files cannot be used."""


class PlanError(HubmergeError):
    """Models that cannot be merged as asked."""


class ResourceError(HubmergeError):
    """Too little disk or memory for the work ahead."""


class TaskError(HubmergeError):
    """An evaluation task that cannot be used."""


class SearchError(HubmergeError):
    """A search that cannot start or go on."""


class HubError(HubmergeError):
    """The Hub or the network did not do what was asked."""

    exit_code = 3


class NotFoundError(HubError):
    """No such repository, revision or file, or no right to see it."""


class ImpossibleNameError(NotFoundError):
    """A name that no repository can have, which no Hub was asked for."""

    exit_code = 2


class AccessError(HubError):
    """The token (or its absence) does not allow this."""


class RefusedError(HubError):
    """A repository that is left as it is, for what it holds or who may see it; nothing failed there."""

    exit_code = 2


class NetworkError(HubError):
    """The Hub could not be reached or failed to answer."""


class Interrupted(HubmergeError):
    """The user stopped the work; what was finished is kept."""

    exit_code = 130


def remedy(exc: OSError) -> str:
    """What to do about something that this machine refused.

    >>> remedy(OSError(errno.EMFILE, "Too many open files"))
    'raise the limit of open files (`ulimit -n`)'
    """
    for said, names in _REMEDIES.items():
        if exc.errno in {getattr(errno, name, None) for name in names} - {None}:
            return said
    return "make room or check the rights"
