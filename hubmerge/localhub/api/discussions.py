"""Pull requests, and the discussions that a client may open; to be read, merged and closed, not talked in."""

import difflib
import secrets
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..serving.wire import (
    Refusal,
    answer,
    caller,
    find_repository,
    flag,
    known_caller,
    parameter,
    parse_object,
    read_body,
    site,
    text_field,
    with_json,
)
from ..store.commits import Change, Commit, now
from ..store.disk import names_in, read_json, write_json
from ..store.repository import MAIN, Repository

PAGE = 50
LARGEST_DIFF = 256 << 10  # bytes of a file that is shown line by line
MOST_COMPARED = 20_000_000  # lines before times lines after, of all files of one diff


def _load(repository: Repository, number: str) -> dict[str, Any]:
    path = repository.folder / "discussions" / f"{number}.json"
    if not (number.isascii() and number.isdecimal() and len(number) < 10) or not path.exists():
        raise Refusal(404, f"There is no discussion {number}.", "EntryNotFound")
    loaded: dict[str, Any] = read_json(path)
    return loaded


def _save(repository: Repository, discussion: dict[str, Any]) -> None:
    write_json(repository.folder / "discussions" / f"{discussion['num']}.json", discussion)


def all_discussions(repository: Repository) -> list[dict[str, Any]]:
    """Every discussion and pull request, the newest first."""
    numbers = sorted(
        (int(name.removesuffix(".json")) for name in names_in(repository.folder / "discussions")), reverse=True
    )
    return [_load(repository, str(number)) for number in numbers]


def open_discussion(
    repository: Repository, author: str, title: str, description: str, base: str | None = None, status: str = "open"
) -> str:
    """Start a discussion, or with `base` (a commit id) a pull request from there; returns its number."""
    with repository.lock:
        # A crash may have left a reference without its discussion: that number is not used again.
        taken = {discussion["num"] for discussion in all_discussions(repository)}
        number = 1 + max(taken | {int(name) for name in repository.references("pr")}, default=0)
        comment = {"edited": False, "hidden": False, "latest": {"raw": description, "updatedAt": now()}, "history": []}
        discussion = {
            "num": number,
            "title": title,
            "author": author,
            "createdAt": now(),
            "status": status,
            "base": base,
            "mergeCommit": None,
            "events": [_event("comment", author, comment)],
        }
        if base is not None:
            repository.create_reference(f"refs/pr/{number}", base)
        _save(repository, discussion)
        return str(number)


def _event(type: str, author: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"id": secrets.token_hex(12), "type": type, "createdAt": now(), "author": {"name": author}, "data": data}


def record_commit(repository: Repository, number: str, commit: Commit) -> None:
    """Show a commit in its pull request."""
    with repository.lock:
        discussion = _load(repository, number)
        discussion["events"].append(_event("commit", commit.author, {"subject": commit.title, "oid": commit.id}))
        _save(repository, discussion)


def may_change_pull_request(request: Request, repository: Repository, number: str) -> bool:
    """Whether the caller opened this pull request (whoever may write to the repository may too)."""
    identity = caller(request)
    if identity is None or identity.scopes is not None:
        return False
    discussion = _load(repository, number)
    return discussion["base"] is not None and discussion["author"] == identity.user


def _shown(repository: Repository, discussion: dict[str, Any]) -> dict[str, Any]:
    return {
        "num": discussion["num"],
        "title": discussion["title"],
        "author": {"name": discussion["author"]},
        "createdAt": discussion["createdAt"],
        "status": discussion["status"],
        "isPullRequest": discussion["base"] is not None,
        "repo": {"name": repository.id, "type": repository.type},
    }


def list_or_create(request: Request, body: dict[str, Any]) -> Response:
    """GET and POST /api/{kind}/{namespace}/{name}/discussions"""
    repository = find_repository(request)
    if request.method == "POST":
        return _create(request, repository, body)
    query, wanted = request.query_params, all_discussions(repository)
    if query.get("type") in ("discussion", "pull_request"):
        wanted = [one for one in wanted if (one["base"] is not None) == (query["type"] == "pull_request")]
    if query.get("status") in ("open", "closed"):
        wanted = [one for one in wanted if (one["status"] in ("open", "draft")) == (query["status"] == "open")]
    if author := query.get("author"):
        wanted = [one for one in wanted if one["author"] == author]
    page = query.get("p", "0")
    start = int(page) * PAGE if page.isdecimal() and len(page) < 7 else 0
    shown = [_shown(repository, one) for one in wanted[start : start + PAGE]]
    return answer({"count": len(wanted), "start": start, "discussions": shown})


def _create(request: Request, repository: Repository, body: dict[str, Any]) -> Response:
    author, is_pull_request = known_caller(request).user, bool(body.get("pullRequest"))
    title = text_field(body, "title").strip()
    if not 1 <= len(title) <= 200:
        raise Refusal(400, "A discussion's title has 1 to 200 characters.")
    base = repository.reference(MAIN) if is_pull_request else None
    status = "draft" if is_pull_request else "open"
    number = open_discussion(repository, author, title, text_field(body, "description", ""), base, status)
    return answer({"num": int(number), "pullRequest": is_pull_request})


def details(request: Request) -> Response:
    """GET /api/{kind}/{namespace}/{name}/discussions/{number}[?diff=1]"""
    repository = find_repository(request)
    discussion = _load(repository, parameter(request, "number"))
    shown = {**_shown(repository, discussion), "events": discussion["events"]}
    if discussion["base"] is not None:
        conflicts = [] if discussion["status"] == "merged" else _merge_changes(repository, discussion)[1]
        shown |= {
            "changes": {"base": MAIN, "mergeCommitId": discussion["mergeCommit"]},
            "filesWithConflicts": conflicts,
            "diff": _diff(request, repository, discussion) if flag(request, "diff") else "",
        }
    return answer(shown)


def _pull_request_commits(repository: Repository, discussion: dict[str, Any]) -> tuple[Commit, Commit]:
    head = repository.reference(f"refs/pr/{discussion['num']}")
    assert head is not None, "a pull request has a reference"
    return repository.commit(discussion["base"]), repository.commit(head)


def _merge_changes(repository: Repository, discussion: dict[str, Any]) -> tuple[list[Change], list[str]]:
    """What merging would do to main, and the paths that main changed differently since the pull request began."""
    base, head = _pull_request_commits(repository, discussion)
    main = repository.at("main")
    changes, conflicts = [], []
    for path in sorted({*base.files, *head.files}):
        old, new, current = (commit.files.get(path) for commit in (base, head, main))
        if old == new or new == current or (new is not None and new.same_content(current)):
            continue
        if old != current and not (old is not None and old.same_content(current)):
            conflicts.append(path)
        changes.append(Change(path, new))
    return changes, conflicts


def _diff(request: Request, repository: Repository, discussion: dict[str, Any]) -> str:
    base, head = _pull_request_commits(repository, discussion)
    facts, lines, left = site(request).facts, [], MOST_COMPARED
    for path in sorted({*base.files, *head.files}):
        old, new = base.files.get(path), head.files.get(path)
        if old == new:
            continue
        lines.append(f"diff --git a/{path} b/{path}")
        if any(entry is not None and (entry.lfs or entry.size > LARGEST_DIFF) for entry in (old, new)):
            lines.append(f"Binary files a/{path} and b/{path} differ")
            continue
        before, after = ((facts.text(commit, path) or "").splitlines() for commit in (base, head))
        names = ("/dev/null" if old is None else f"a/{path}", "/dev/null" if new is None else f"b/{path}")
        cost = len(before) * len(after)
        if cost > left:
            # Comparing takes time that grows with both; so much of it, nobody reads.
            whole = (f"@@ -1,{len(before)} +1,{len(after)} @@", *(f"-{x}" for x in before), *(f"+{x}" for x in after))
            lines += [f"--- {names[0]}", f"+++ {names[1]}", *whole]
            continue
        left -= cost
        lines += difflib.unified_diff(before, after, *names, lineterm="")
    return "\n".join(lines)


async def act(request: Request) -> Response:
    """POST /api/{kind}/{namespace}/{name}/discussions/{number}/{status|merge}"""
    content = await read_body(request)
    # The client posts the JSON value null where a merge has no comment.
    body = {} if content.strip() == b"null" else parse_object(content)
    return await run_in_threadpool(_act, request, body)


def _act(request: Request, body: dict[str, Any]) -> Response:
    repository, author = find_repository(request), known_caller(request).user
    action, number = parameter(request, "action"), parameter(request, "number")
    with repository.lock:
        discussion = _load(repository, number)
        if discussion["author"] != author or action == "merge":
            find_repository(request, "write")
        if action == "status":
            status = text_field(body, "status")
            if status not in ("open", "closed", "draft") or discussion["status"] == "merged":
                raise Refusal(400, f"The status cannot become {status!r}.")
            discussion["status"] = status
            event = _event("status-change", author, {"status": status})
        elif action == "merge":
            event = _merge(repository, discussion, author)
        else:
            raise Refusal(404, f"Discussions of a local Hub have no action {action!r}.")
        discussion["events"].append(event)
        _save(repository, discussion)
    return answer({"newStatus": event})


def _merge(repository: Repository, discussion: dict[str, Any], author: str) -> dict[str, Any]:
    if discussion["base"] is None or discussion["status"] in ("merged", "closed"):
        raise Refusal(400, "Only an open pull request can be merged.")
    changes, conflicts = _merge_changes(repository, discussion)
    if conflicts:
        raise Refusal(409, f"These files changed on main since: {', '.join(conflicts)}")
    title = f"{discussion['title']} (#{discussion['num']})"
    merged = repository.add_commit(MAIN, changes, title, "", author)
    discussion |= {"status": "merged", "mergeCommit": merged.id}
    return _event("status-change", author, {"status": "merged"})


_API = "/api/{kind}/{namespace}/{name}/discussions"
routes = [
    Route(_API, with_json(list_or_create), methods=["GET", "POST"]),
    Route(f"{_API}/{{number}}", details),
    Route(f"{_API}/{{number}}/{{action}}", act, methods=["POST"]),
]
