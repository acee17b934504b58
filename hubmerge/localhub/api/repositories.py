"""Creating, deleting and configuring repositories; their branches, tags and history; who is asking."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..names import REPO_TYPES, check_name, check_reference
from ..serving.wire import (
    Refusal,
    answer,
    avatar,
    base_url,
    caller,
    check_repository,
    find_commit,
    find_repository,
    flag,
    known_caller,
    page_of,
    parameter,
    site,
    text_field,
    with_json,
)
from ..store.repository import Conflict, Repository, UnknownRevision
from .spaces import FLAVORS, check_flavor

COMMITS_PAGE = 50
SDKS = ("docker", "gradio", "static", "streamlit")


def whoami(request: Request) -> Response:
    """GET /api/whoami-v2"""
    identity = caller(request)
    if identity is None:
        raise Refusal(401, "Invalid credentials in Authorization header")
    base, accounts = base_url(request), site(request).accounts
    organizations = [
        {
            "type": "org",
            "id": name,
            "name": name,
            "fullname": name,
            "avatarUrl": avatar(base, name),
            "roleInOrg": "admin",
        }
        for name in accounts.organizations_of(identity.user)
    ]
    role = "write" if identity.scopes is None else "fineGrained"
    return answer(
        {
            "type": "user",
            "id": identity.user,
            "name": identity.user,
            "fullname": identity.user,
            "email": None,
            "emailVerified": False,
            "isPro": False,
            "canPay": False,
            "avatarUrl": avatar(base, identity.user),
            "orgs": organizations,
            "auth": {"type": "access_token", "accessToken": {"displayName": "localhub", "role": role}},
        }
    )


def _named(body: dict[str, Any], user: str) -> tuple[str, str]:
    """The type and id that a create or delete call names."""
    type = body.get("type") or "model"
    if type not in REPO_TYPES:
        raise Refusal(400, f"Unknown repository type {type!r}: expected one of {', '.join(REPO_TYPES)}.")
    try:
        name = check_name(body.get("name"))
        namespace = check_name(body.get("organization") or user)
    except ValueError as error:
        raise Refusal(400, str(error)) from None
    return type, f"{namespace}/{name}"


def create(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/repos/create {name, organization, type, visibility, sdk, hardware, variables}"""
    here, identity = site(request), known_caller(request)
    type, id = _named(body, identity.user)
    namespace = id.split("/")[0]
    if not here.accounts.owns(identity.user, namespace) or not identity.may_create:
        message = f'You don\'t have the rights to create a {type} under the namespace "{namespace}"'
        raise Refusal(403, message)
    sdk, hardware = body.get("sdk"), check_flavor(body.get("hardware", FLAVORS[0]))
    if type == "space" and sdk not in SDKS:
        raise Refusal(400, f"A Space needs an sdk, one of {', '.join(SDKS)}.")
    listed = body.get("variables") or []
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise Refusal(400, "Field 'variables' must list objects of a key and a value.")
    variables = {text_field(item, "key"): text_field(item, "value") for item in listed}
    url = f"{base_url(request)}/{'' if type == 'model' else type + 's/'}{id}"
    private = body.get("visibility", "private" if body.get("private") else "public") != "public"
    try:
        made = here.store.create(type, id, identity.user, private, sdk, identity.application)
    except Conflict as error:
        return answer(
            {"error": str(error), "url": url}, 409, {"X-Error-Code": "Conflict", "X-Error-Message": str(error)}
        )
    if type == "space":
        made.change_settings(hardware=hardware, variables=variables)
    return answer({"url": url, "name": id, "id": id})


def delete(request: Request, body: dict[str, Any]) -> Response:
    """DELETE /api/repos/delete {name, organization, type}"""
    type, id = _named(body, known_caller(request).user)
    site(request).store.delete(check_repository(request, type, id, "manage"))
    return answer({})


def move(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/repos/move {fromRepo, toRepo, type}"""
    identity, here = known_caller(request), site(request)
    repository = check_repository(request, body.get("type") or "model", text_field(body, "fromRepo"), "manage")
    namespace, _, name = text_field(body, "toRepo").partition("/")
    _, id = _named({"name": name, "organization": namespace}, identity.user)
    if not here.accounts.owns(identity.user, namespace):
        raise Refusal(403, f'You don\'t have the rights to move a repository to the namespace "{namespace}"')
    try:
        here.store.move(repository, id)
    except Conflict as error:
        raise Refusal(409, str(error)) from None
    return answer({})


def settings(request: Request, body: dict[str, Any]) -> Response:
    """PUT /api/{kind}/{namespace}/{name}/settings {private | visibility, gated}"""
    repository = find_repository(request, "manage")
    changes: dict[str, Any] = {}
    if "gated" in body:
        if body["gated"] not in (False, "auto", "manual"):
            raise Refusal(400, "Field 'gated' must be false, 'auto' or 'manual'.")
        changes["gated"] = body["gated"]
    if "visibility" in body:
        changes["private"] = body["visibility"] != "public"
    elif "private" in body:
        changes["private"] = bool(body["private"])
    changed = repository.change_settings(**changes)
    return answer({"private": changed.private, "gated": changed.gated})


def grant_access(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/{kind}/{namespace}/{name}/user-access-request/{grant|handle} {user, status?}"""
    repository = find_repository(request, "manage")
    user, action = text_field(body, "user"), parameter(request, "action")
    if user not in site(request).accounts.users:
        raise Refusal(404, f"There is no user {user}.")
    if action not in ("grant", "handle"):
        raise Refusal(404, f"Access requests have no action {action!r}.")
    let_in = action == "grant" or body.get("status") == "accepted"
    with repository.lock:
        current = repository.settings
        granted = {*current.granted, user} if let_in else {*current.granted} - {user}
        waiting = {*current.requested} - {user} if body.get("status") != "pending" else {*current.requested, user}
        repository.change_settings(granted=tuple(sorted(granted)), requested=tuple(sorted(waiting)))
    return answer({})


def auth_check(request: Request) -> Response:
    """GET /api/{kind}/{namespace}/{name}/auth-check[/write]"""
    find_repository(request, "write" if request.url.path.endswith("/write") else "read")
    return answer({})


def branch(request: Request, body: dict[str, Any]) -> Response:
    """POST and DELETE /api/{kind}/{namespace}/{name}/branch/{branch} {startingPoint?}"""
    repository, name = find_repository(request, "write"), _reference_name(parameter(request, "branch"))
    if request.method == "DELETE":
        if name == "main":
            raise Refusal(403, "The branch main cannot be deleted.")
        return _delete_reference(repository, f"refs/heads/{name}")
    start = find_commit(repository, text_field(body, "startingPoint", "main"))
    return _create_reference(repository, f"refs/heads/{name}", start.id)


def tag(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/{kind}/{namespace}/{name}/tag/{revision} {tag, message?} and DELETE .../tag/{tag}"""
    repository, target = find_repository(request, "write"), parameter(request, "target")
    if request.method == "DELETE":
        return _delete_reference(repository, f"refs/tags/{_reference_name(target)}")
    name = _reference_name(text_field(body, "tag"))
    return _create_reference(repository, f"refs/tags/{name}", find_commit(repository, target).id)


def _reference_name(name: str) -> str:
    try:
        return check_reference(name)
    except ValueError as error:
        raise Refusal(400, str(error)) from None


def _create_reference(repository: Repository, full_name: str, oid: str) -> Response:
    try:
        repository.create_reference(full_name, oid)
    except Conflict as error:
        raise Refusal(409, str(error)) from None
    return answer({})


def _delete_reference(repository: Repository, full_name: str) -> Response:
    try:
        repository.delete_reference(full_name)
    except UnknownRevision:
        raise Refusal(404, f"There is no {full_name}", "RevisionNotFound") from None
    return answer({})


def references(request: Request) -> Response:
    """GET /api/{kind}/{namespace}/{name}/refs[?include_prs=1]"""
    repository = find_repository(request)

    def of(kind: str) -> list[dict[str, str]]:
        found = repository.references(kind).items()
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in found]

    shown = {"branches": of("heads"), "converts": [], "tags": of("tags")}
    if flag(request, "include_prs"):
        shown["pullRequests"] = of("pr")
    return answer(shown)


def history(request: Request) -> Response:
    """GET /api/{kind}/{namespace}/{name}/commits/{revision}"""
    repository = find_repository(request)
    commits = list(repository.history(find_commit(repository, parameter(request, "revision")).id))
    page, headers = page_of(request, commits, COMMITS_PAGE)
    base, formatted = base_url(request), "formatted" in request.query_params.getlist("expand[]")
    shown = []
    for commit in page:
        author = {"user": commit.author, "avatar": avatar(base, commit.author)}
        item = {
            "id": commit.id,
            "title": commit.title,
            "message": commit.message,
            "date": commit.date,
            "authors": [author],
        }
        if formatted:
            item["formatted"] = {"title": commit.title, "message": commit.message}
        shown.append(item)
    return answer(shown, headers=headers)


def super_squash(request: Request, body: dict[str, Any]) -> Response:
    """POST /api/{kind}/{namespace}/{name}/super-squash/{branch} {message?}"""
    repository, name = find_repository(request, "write"), parameter(request, "branch")
    try:
        made = repository.squash(
            name, text_field(body, "message", f"Super-squash branch '{name}'"), known_caller(request).user
        )
    except UnknownRevision:
        raise Refusal(404, f"Invalid rev id: {name}", "RevisionNotFound") from None
    return answer({"commitId": made.id})


def no_xet(request: Request) -> Response:
    """GET /api/{kind}/{namespace}/{name}/xet-{read|write}-token/...: tells what to do instead."""
    raise Refusal(404, "This Hub has no Xet storage: set HF_HUB_DISABLE_XET=1 before huggingface_hub is imported.")


_API = "/api/{kind}/{namespace}/{name}"
routes = [
    Route("/api/whoami-v2", whoami),
    Route("/api/repos/create", with_json(create), methods=["POST"]),
    Route("/api/repos/delete", with_json(delete), methods=["DELETE"]),
    Route("/api/repos/move", with_json(move), methods=["POST"]),
    Route(f"{_API}/settings", with_json(settings), methods=["PUT"]),
    Route(f"{_API}/user-access-request/{{action}}", with_json(grant_access), methods=["POST"]),
    Route(f"{_API}/auth-check", auth_check),
    Route(f"{_API}/auth-check/write", auth_check),
    Route(f"{_API}/branch/{{branch}}", with_json(branch), methods=["POST", "DELETE"]),
    Route(f"{_API}/tag/{{target}}", with_json(tag), methods=["POST", "DELETE"]),
    Route(f"{_API}/refs", references),
    Route(f"{_API}/commits/{{revision}}", history),
    Route(f"{_API}/super-squash/{{branch}}", with_json(super_squash), methods=["POST"]),
    Route(f"{_API}/xet-read-token/{{revision}}", no_xet),
    Route(f"{_API}/xet-write-token/{{revision}}", no_xet),
]
