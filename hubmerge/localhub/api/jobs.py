"""Jobs: taken down, told of, cancelled. None is ever run here (see store/jobs.py)."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..serving.wire import Refusal, answer, known_caller, page_of, parameter, site, text_field, with_json
from ..store.jobs import ENDINGS, Job
from .spaces import FLAVORS

PAGE = 100
LOOK = 0.05  # seconds between two looks for a line
KEEP_ALIVE = 30.0  # seconds of silence after which a comment is sent, as the real Hub sends it

HARDWARE = [
    {
        "name": name,
        "prettyName": name,
        "cpu": "none",
        "ram": "none",
        "accelerator": None,
        "unitCostMicroUSD": 0,
        "unitCostUSD": 0.0,
        "unitLabel": "minute",
    }
    for name in FLAVORS
    if name != "zero-a10g"  # of Spaces alone
]
"""What a job may name. Nothing is behind it and nothing is paid for it."""


def hardware(request: Request) -> Response:
    """GET /api/jobs/hardware"""
    return answer(HARDWARE)


def create(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/jobs/{namespace} {command, arguments, environment, flavor, dockerImage or spaceId, secrets, ...}"""
    namespace, owner = _namespace(request)
    flavor = text_field(body, "flavor")
    if flavor not in {one["name"] for one in HARDWARE}:
        raise Refusal(400, f"Unknown hardware {flavor!r}.")
    if not (body.get("dockerImage") or body.get("spaceId")):
        raise Refusal(400, "A job needs a dockerImage or a spaceId.")
    command = body.get("command")
    if not (isinstance(command, list) and command and all(isinstance(word, str) for word in command)):
        raise Refusal(400, "Field 'command' must be a list of texts.")
    for name in ("environment", "secrets", "labels"):
        values = body.get(name) or {}
        if not (isinstance(values, dict) and all(isinstance(value, str) for value in values.values())):
            raise Refusal(400, f"Field '{name}' must be a mapping of texts.")
    return answer(dict(site(request).jobs.add(namespace, owner, body).told))


def told(request: Request) -> Response:
    """GET /api/jobs/{namespace}?stage=RUNNING&label=key=value"""
    namespace, _ = _namespace(request)
    stages, labels = request.query_params.getlist("stage"), {*request.query_params.getlist("label")}
    jobs = [job for job in site(request).jobs.all(namespace) if not stages or job.stage in stages]
    found = [dict(job.told) for job in jobs if labels <= {f"{key}={value}" for key, value in job.labels.items()}]
    page, headers = page_of(request, found, PAGE)
    return answer(page, headers=headers)


def inspect(request: Request) -> Response:
    """GET /api/jobs/{namespace}/{job}"""
    return answer(dict(_job(request).told))


def cancel(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/jobs/{namespace}/{job}/cancel"""
    job = _job(request)
    job.move("CANCELED")
    return answer(dict(job.told))


def logs(request: Request) -> Response:
    """GET /api/jobs/{namespace}/{job}/logs: server-sent events, until the job ends"""
    return StreamingResponse(_events(_job(request)), media_type="text/event-stream")


async def _events(job: Job) -> AsyncIterator[str]:
    sent, silent = 0, KEEP_ALIVE
    while True:
        ended = job.stage in ENDINGS  # looked at first, so that no last line is missed
        for line in job.lines[sent:]:
            now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            yield f"data: {json.dumps({'data': line, 'timestamp': now})}\n\n"
            sent, silent = sent + 1, 0.0
        if ended:
            return
        if silent >= KEEP_ALIVE:
            yield ": keep-alive\n\n"
            silent = 0.0
        await asyncio.sleep(LOOK)
        silent += LOOK


def _namespace(request: Request) -> tuple[str, dict[str, str]]:
    """The namespace that the path names, and who asks, if it is theirs."""
    identity, namespace = known_caller(request), parameter(request, "namespace")
    accounts = site(request).accounts
    if not accounts.owns(identity.user, namespace):
        raise Refusal(403, f"Forbidden: you may not run jobs in {namespace}.")
    if identity.scopes is not None and "jobs" not in identity.scopes:
        raise Refusal(403, "Forbidden: this token was not given the right to run jobs.")
    return namespace, {"id": namespace, "type": "user" if namespace == identity.user else "org"}


def _job(request: Request) -> Job:
    namespace, _ = _namespace(request)
    job = site(request).jobs.find(namespace, parameter(request, "job"))
    if job is None:
        raise Refusal(404, "Job not found")
    return job


routes = [
    Route("/api/jobs/hardware", hardware),
    Route("/api/jobs/{namespace}", told),
    Route("/api/jobs/{namespace}", with_json(create), methods=["POST"]),
    Route("/api/jobs/{namespace}/{job}", inspect),
    Route("/api/jobs/{namespace}/{job}/logs", logs),
    Route("/api/jobs/{namespace}/{job}/cancel", with_json(cancel), methods=["POST"]),
]
