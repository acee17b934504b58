"""hubmerge: merge and evolve models of the Hugging Face Hub.

>>> from hubmerge import Recipe, make_plan, merge
>>> plan = make_plan(Recipe.from_yaml(Path("ties.yaml")))       # doctest: +SKIP
>>> merge(plan, Path("merged"))                                 # doctest: +SKIP

The names below are loaded when they are first used, so that `import hubmerge` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.3.0"

if TYPE_CHECKING:
    from .errors import HubmergeError as HubmergeError
    from .evaluate.models import load_model as load_model
    from .evaluate.task import Task as Task
    from .evaluate.task import load_task as load_task
    from .evolve.result import read_result as read_result
    from .evolve.search import Search as Search
    from .hub.push import push_folder as push_folder
    from .hub.source import open_source as open_source
    from .localhub import LocalHub as LocalHub
    from .methods import METHODS as METHODS
    from .publish import merge as merge
    from .recipe import Recipe as Recipe
    from .reference import ModelRef as ModelRef
    from .stream.in_memory import merge_state_dicts as merge_state_dicts
    from .stream.plan import Plan as Plan
    from .stream.plan import make_plan as make_plan

_PUBLIC = {
    "HubmergeError": "errors",
    "LocalHub": "localhub",
    "METHODS": "methods",
    "ModelRef": "reference",
    "Plan": "stream.plan",
    "Recipe": "recipe",
    "Search": "evolve.search",
    "Task": "evaluate.task",
    "load_model": "evaluate.models",
    "load_task": "evaluate.task",
    "make_plan": "stream.plan",
    "merge": "publish",
    "merge_state_dicts": "stream.in_memory",
    "open_source": "hub.source",
    "push_folder": "hub.push",
    "read_result": "evolve.result",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'hubmerge' has no attribute {name!r}")
    try:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    except ModuleNotFoundError as exc:
        from .extras import told

        raise told(exc) or exc from None


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
