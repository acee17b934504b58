"""YAML that people write: recipes, searches, tasks. Safe, bounded, and refused with the line where it goes wrong."""

import difflib
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import HubmergeError

MAX_CHARACTERS = 1_000_000
MAX_NODES = 100_000


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if isinstance(key, Hashable):
                if key in seen:
                    line = key_node.start_mark.line + 1
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is given twice (line {line})", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


def load_mapping(source: str | Path, what: str, error: type[HubmergeError]) -> dict[str, Any]:
    """Reads one YAML mapping from text or from a file.

    `what` names the document in messages ("recipe"); `error` is the class to raise.
    Raises `error` for an unreadable file, bad YAML, a repeated key, a document that is too large
    (counted after aliases are expanded), or one that is not a mapping with text keys.
    """
    if isinstance(source, Path):
        try:
            text = source.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise error(f"There is no {what} file at {source}; check the path.") from None
        except (OSError, UnicodeDecodeError) as exc:
            raise error(f"The {what} file {source} cannot be read: {exc}.") from None
        what = f"{what} {source}"
    else:
        text = source
    if len(text) > MAX_CHARACTERS:
        raise error(f"The {what} has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read.")
    try:
        document = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(exc, "problem", None) or "unreadable"
        raise error(f"The {what} is not valid YAML{where}: {problem}.") from None
    except RecursionError:
        raise error(f"The {what} is nested too deeply to be read.") from None
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        got = "nothing" if document is None else type(document).__name__
        raise error(f"The {what} must be a mapping of keys to values, but it holds {got}.")
    _count_nodes(document, what, error)
    return document


def _count_nodes(document: Any, what: str, error: type[HubmergeError]) -> None:
    # Aliases share objects, so a few lines can stand for billions of nodes: count what a reader would see.
    pending, seen = [document], 0
    while pending:
        node = pending.pop()
        seen += 1
        if seen > MAX_NODES:
            raise error(f"The {what} expands to more than {MAX_NODES:,} values; write it without aliases.")
        if isinstance(node, dict):
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def refuse_unknown(given: Mapping[str, Any], known: Iterable[str], where: str, error: type[HubmergeError]) -> None:
    """Raises `error` for the first key of `given` that is not in `known`, naming the nearest known one."""
    names = list(known)
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(names))}."
            raise error(f"Unknown key {key!r} in {where}: {hint}")
