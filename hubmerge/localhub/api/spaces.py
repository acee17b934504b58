"""What a Space has beside its files: hardware and public variables, remembered. Nothing of it is ever run here."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..serving.wire import Refusal, answer, find_repository, text_field, with_json
from ..store.repository import Repository

FLAVORS = (
    *("cpu-basic", "cpu-upgrade", "zero-a10g", "t4-small", "t4-medium", "l4x1", "l4x4", "l40sx1", "l40sx4", "l40sx8"),
    *("a10g-small", "a10g-large", "a10g-largex2", "a10g-largex4", "a100-large", "a100x4", "a100x8"),
    *("rtx-pro-6000", "rtx-pro-6000x2", "rtx-pro-6000x4", "rtx-pro-6000x8"),
)
"""Hardware that the Hub lends, the free one first."""


def check_flavor(flavor: object) -> str:
    """`flavor`, refused where the Hub has no such hardware."""
    if flavor not in FLAVORS:
        raise Refusal(400, f"Unknown hardware {flavor!r}: expected one of {', '.join(FLAVORS)}.")
    return str(flavor)


def _space(request: Request, need: str) -> Repository:
    repository = find_repository(request, need)
    if repository.type != "space":
        raise Refusal(404, f"{repository.id} is a {repository.type}, not a Space.")
    return repository


def _runtime(repository: Repository) -> dict[str, Any]:
    flavor = repository.settings.hardware
    return {"stage": "STOPPED", "hardware": {"current": None, "requested": flavor}, "storage": None, "gcTimeout": None}


def runtime(request: Request) -> Response:
    """GET /api/spaces/{namespace}/{name}/runtime"""
    return answer(_runtime(_space(request, "read")))


def hardware(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/spaces/{namespace}/{name}/hardware {flavor}"""
    repository = _space(request, "manage")
    repository.change_settings(hardware=check_flavor(body.get("flavor")))
    return answer(_runtime(repository))


def variables(request: Request) -> Response:
    """GET /api/spaces/{namespace}/{name}/variables"""
    return _told(_space(request, "read"))


def change_variable(request: Request, body: dict[str, Any]) -> Response:
    """POST {key, value} and DELETE {key} /api/spaces/{namespace}/{name}/variables"""
    repository, key = _space(request, "write"), text_field(body, "key")
    with repository.lock:
        known = {name: value for name, value in repository.settings.variables.items() if name != key}
        if request.method == "POST":
            known[key] = text_field(body, "value")
        repository.change_settings(variables=known)
    return _told(repository)


def _told(repository: Repository) -> Response:
    return answer({key: {"value": value} for key, value in repository.settings.variables.items()})


_API = "/api/{kind}/{namespace}/{name}"
routes = [
    Route(f"{_API}/runtime", runtime),
    Route(f"{_API}/hardware", with_json(hardware), methods=["POST"]),
    Route(f"{_API}/variables", variables),
    Route(f"{_API}/variables", with_json(change_variable), methods=["POST", "DELETE"]),
]
