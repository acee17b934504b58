"""A stranger's config.json as transformers has it: with the defaults of its class, or one sentence."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import HubmergeError, SourceError
from ..hub.auto_class import ANSWERING, CAUSAL, auto_class

# Classes build a list or a dict of so many entries.
_COUNT = re.compile(r"num_|layers|n_layer|labels|experts|depth")
_LARGEST_COUNT = 100_000


def read_architecture(config: Mapping[str, Any]) -> Any:
    """The configuration object of transformers. Raises `SourceError` for what transformers cannot read."""
    return _read(config, lambda whole: whole)


def read_text_architecture(config: Mapping[str, Any]) -> Any:
    """The part of it that describes the language model. Raises `SourceError` for what transformers cannot read."""
    return _read(config, lambda whole: whole.get_text_config())


def answering_class(config: Mapping[str, Any]) -> Any:
    """The auto class of transformers by which a model answers with text, one that sees or hears included."""
    import transformers

    name = auto_class(config)
    return getattr(transformers, name if name in ANSWERING else CAUSAL)


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with its class's defaults, as transformers would write it. Raises `SourceError` as above."""
    found: dict[str, Any] = _read(config, lambda whole: whole.to_dict())
    return found


def _read(config: Mapping[str, Any], part: Callable[[Any], Any]) -> Any:
    from transformers import AutoConfig

    check_counts(config)
    settings = {name: value for name, value in config.items() if name != "auto_map"}
    with transformers_errors("transformers cannot read this config.json"):
        return part(AutoConfig.for_model(settings.pop("model_type", None), **settings))


def check_counts(config: Mapping[str, Any]) -> None:
    """Raises `SourceError` for a count (layers, labels, ...) by which transformers would build for ever."""
    for name, value in _settings(config):
        if isinstance(value, int) and value >= _LARGEST_COUNT and _COUNT.search(name):
            raise SourceError(
                f"config.json says that {name[:60]} is {str(value)[:30]}, which no model has; do not use it."
            )


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _settings(value)
        else:
            yield name, value


@contextmanager
def transformers_errors(failed: str) -> Iterator[None]:
    """Around transformers where it reads files of strangers: it trips in many ways, all `SourceError` here."""
    try:
        yield
    except (HubmergeError, MemoryError):
        raise
    except Exception as exc:
        raise SourceError(f"{failed}: {_first_line(exc)}") from exc


def _first_line(exc: BaseException) -> str:
    """The first line of an exception's text: transformers explains itself over many."""
    told = (str(exc).strip() or type(exc).__name__).splitlines()[0]
    # It prints a report before, which nobody sees.
    return "its weights have other shapes than its config.json says" if "ignore_mismatched_sizes" in told else told
