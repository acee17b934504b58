"""Text of strangers before people see it: no token in it, nothing that steers a terminal, and not too long."""

import os
import re

LONGEST_LINE = 500
"""Characters of one line of an error."""

# As the services make them: long enough that no name of a model is taken for one.
_TOKENS = (
    r"(?:hf_(?:oauth_|jwt_)?|api_org_)(?=[A-Za-z0-9_\-.]{0,80}[A-Za-z0-9]{16})[A-Za-z0-9_\-.]+",
    r"hf_(?:oauth|jwt)_[A-Za-z0-9_\-.]{8,}",
    r"(?:gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_\-]{16,}",
    r"sk-(?=[A-Za-z0-9_\-]{0,80}[0-9])(?=[A-Za-z0-9_\-]{0,80}[A-Z])[A-Za-z0-9_\-]{24,}",
    r"eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*",
    r"(?i:Bearer)\s{1,9}(?=[^\s\"'<>]{0,80}[0-9_.=+/\-])[^\s\"'<>{}]{12,}",
)
_TOKEN = re.compile(rf"(?<![A-Za-z0-9_\-])(?:{'|'.join(_TOKENS)})")

# A short one may belong to a local Hub; after a slash it is rather the name of a repository or a folder.
_SHORT = re.compile(r"(?<![A-Za-z0-9_\-./])(hf_|api_org_|(?i:Bearer)\s{1,9})[A-Za-z0-9_\-.]+")
_PREFIX = re.compile(r"hf_|api_org_|gh[pousr]_|github_pat_|glpat-|sk-|eyJ|(?i:Bearer)\s+")

# Control characters (escape codes among them), marks that turn or hide text, halves of surrogate pairs.
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f]"
)


def has_token(text: str) -> bool:
    """Whether `text` holds what only an access token looks like; a model may well be called hf_bert."""
    return _TOKEN.search(text) is not None


def hide_tokens(text: str) -> str:
    """`text` with everything that may be an access token replaced.

    >>> hide_tokens("Bearer hf_abcdefghijklmnopqrstuvwxyz was sent")
    'Bearer *** was sent'
    """
    return _SHORT.sub(r"\1***", _TOKEN.sub(_without, text))


def _without(match: re.Match[str]) -> str:
    prefix = _PREFIX.match(match[0])
    return f"{prefix[0] if prefix else ''}***"


# An address is no path, but for one of a file; a path begins at the root, at home, or at a drive.
_PATH = re.compile(
    r"(?P<address>(?!file:)\b[a-z][a-z0-9+.\-]{1,20}://[^\s'\"<>]+)"
    r"|(?<![\w.~\\/\-])(?:file://)?(?P<path>(?:~[\w.\-]*/[^\s/'\"<>|:;,()\[\]{}]+|/[^\s/'\"<>|:;,()\[\]{}]+(?=/[^\s/]))"
    r"(?:/[^\s/'\"<>|:;,()\[\]{}]+)*/?"
    r"|(?:[A-Za-z]:|\\)(?:\\[^\s\\'\"<>|:;,()\[\]{}]+){2,})",
)


def hide_paths(text: str) -> str:
    """`text` in which a path of this machine is but its last part; an address and "a/b" stay as they are.

    >>> hide_paths("~/models/math/config.json is broken")
    '…/config.json is broken'
    """
    return _PATH.sub(_last_part, text)


def _last_part(match: re.Match[str]) -> str:
    path = match["path"]
    if path is None:
        return match[0]
    root = "/" + path.split("/")[1] if path.startswith("/") else ""
    if root and not os.path.lexists(root):
        return match[0]
    return "…/" + re.split(r"[\\/]", path.rstrip("/"))[-1]


def printable(text: str) -> str:
    r"""`text` on one line that steers nothing: what no reader sees is spelled out.

    >>> printable("red\x1b[31m")
    'red\\x1b[31m'
    """
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def shorten(text: str, longest: int) -> str:
    """`text` in at most `longest` characters: the middle goes, as the end of a sentence says what to do.

    >>> shorten("abcdefghij", 7)
    'abcd…ij'
    """
    if len(text) <= longest:
        return text
    tail = (longest - 1) // 3
    return f"{text[: longest - 1 - tail]}…{text[len(text) - tail :]}"


_SHOWN = 60
_FEW = 4


def brief(value: object) -> str:
    """A value of somebody's document as a message quotes it: what is nested is counted or named, not printed.

    >>> brief([0, 8]), brief([{"name": 1}]), brief({"name": 1, "models": []})
    ('[0, 8]', 'a list of 1', 'a mapping of name and models')
    """
    if isinstance(value, dict):
        keys = [shorten(str(key), _SHOWN) for key in [*value][:_FEW]]
        more = [f"{len(value) - _FEW} more"] if len(value) > _FEW else []
        *most, last = [*keys, *more] or ["nothing"]
        return f"a mapping of {', '.join(most)}{' and ' if most else ''}{last}"
    if isinstance(value, (list, tuple)):
        flat = len(value) <= _FEW and not any(isinstance(item, (dict, list, tuple)) for item in value)
        return f"[{', '.join(map(brief, value))}]" if flat else f"a list of {len(value)}"
    return shorten(repr(value), _SHOWN)


def sentences(text: str) -> str:
    """An error as people see it: each line printable, without tokens and at most `LONGEST_LINE` long."""
    # What is cut off first keeps a name of millions of characters cheap; a token's beginning always stays with it.
    lines = (line[: 40 * LONGEST_LINE] for line in text.split("\n"))
    return "\n".join(shorten(hide_tokens(printable(line)), LONGEST_LINE) for line in lines)
