"""Faults of each kind, at one request after the other, in merges from the Hub and onto it: right bytes or an error."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from test_stream_merge import Siblings, recipe
from waiting import until

import hubmerge.hub.session as session
import hubmerge.stream.prefetch as prefetch
from hubmerge.errors import AccessError, HubError
from hubmerge.hub import Upload, push_folder
from hubmerge.localhub import Fault, LocalHub
from hubmerge.stream.executor import MergeResult, merge
from hubmerge.stream.plan import Plan, make_plan


@pytest.fixture(scope="module")
def moments(thorough: bool) -> Sequence[int]:
    """The requests, counted from 0, that each fault is tried at: the first and one in the middle, or every one."""
    return range(20) if thorough else (0, 7)


@pytest.fixture(scope="module")
def far(siblings: Siblings) -> dict[str, str]:
    ids = {name: f"alice/faults-{name}" for name in siblings}
    for name, repo_id in ids.items():
        push_folder(siblings[name], repo_id, private=False)
    return ids


@pytest.fixture
def plan(far: dict[str, str], thorough: bool, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(prefetch, "SPAN", 4_000 if thorough else 10_000)  # small requests, more than all the moments
    plan = make_plan(recipe(far), ranged=True, pushing=True, shard_size=18_000)
    assert len(plan.shards) > 3
    return plan


@pytest.fixture(scope="module")
def right(siblings: Siblings, tmp_path_factory: pytest.TempPathFactory) -> MergeResult:
    return merge(recipe(siblings), tmp_path_factory.mktemp("right") / "out")


@pytest.fixture(autouse=True)
def healthy(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(session, "BACKOFF", 0.0)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    yield
    hub.faults, hub.redirect_seconds = None, None


@dataclass
class Strike:
    """`fault` for the matching request number `at`, counted from 0; `lasting`: for all that follow, too."""

    matches: Callable[..., bool]
    fault: Fault
    at: int
    lasting: bool = False
    seen: int = 0

    def __call__(self, request: object) -> Fault | None:
        if not self.matches(request):
            return None
        self.seen += 1
        return self.fault if self.seen == self.at + 1 or (self.lasting and self.struck) else None

    @property
    def struck(self) -> bool:
        """Whether there was such a request."""
        return self.seen > self.at


def is_weights(request) -> bool:
    return request.method == "GET" and request.url.path.endswith(".safetensors")


READING = {
    "429 with Retry-After": Fault(status=429, headers={"Retry-After": "0"}),
    "429 with RateLimit": Fault(status=429, headers={"RateLimit": '"resolvers";r=0;t=0'}),
    "503": Fault(status=503),
    "reset": Fault(reset=True),
    "truncated": Fault(truncate_after=1_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", READING)
def test_a_passing_fault_of_a_source_costs_a_repeat(
    kind: str, plan: Plan, right: MergeResult, hub: LocalHub, moments: Sequence[int], tmp_path: Path
) -> None:
    for number in moments:
        hub.faults = strike = Strike(is_weights, READING[kind], at=number)
        done = merge(plan, tmp_path / str(number))
        assert strike.struck
        assert done.tensors == right.tensors


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["range ignored", "token revoked", "etag changed"])
def test_a_lasting_fault_of_a_source_is_one_error_and_the_rerun_is_right(
    kind: str, plan: Plan, right: MergeResult, hub: LocalHub, moments: Sequence[int], tmp_path: Path
) -> None:
    other = {"X-Linked-Etag": f'"{"0" * 64}"', "Location": f"{hub.endpoint}/elsewhere"}
    faults = {
        "range ignored": Fault(ignore_range=True),
        "token revoked": Fault(status=401, body=b'{"error": "Invalid user token"}'),
        "etag changed": Fault(status=302, headers=other),
    }
    for number in moments:
        hub.faults = Strike(is_weights, faults[kind], at=number, lasting=True)
        with pytest.raises(AccessError if kind == "token revoked" else HubError) as caught:
            merge(plan, tmp_path / str(number))
        assert "\n" not in str(caught.value)
        left = {path.name for path in (tmp_path / str(number)).iterdir()}
        assert not left & {"config.json", "model.safetensors.index.json", "hubmerge.json"}
        # The Hub is well again only after the last that was read ahead of the error has met it.
        until(
            lambda: not any(thread.name.startswith("hubmerge-fetch") for thread in threading.enumerate()), "they read"
        )
        hub.faults = None
        assert merge(plan, tmp_path / str(number)).tensors == right.tensors


PUSHING = {
    "503 in the middle of an upload": ("PUT", "/lfs/", Fault(status=503)),
    "reset in the middle of an upload": ("PUT", "/lfs/", Fault(reset=True)),
    "503 before an upload": ("POST", "/info/lfs/objects/batch", Fault(status=503)),
    "429 at the commit": ("POST", "/commit/main", Fault(status=429, headers={"Retry-After": "0"})),
    "503 at the commit": ("POST", "/commit/main", Fault(status=503)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PUSHING)
def test_a_fault_of_the_target_costs_a_repeat_or_is_one_error_and_the_rerun_is_right(
    kind: str, plan: Plan, right: MergeResult, hub: LocalHub, moments: Sequence[int], tmp_path: Path
) -> None:
    method, part, fault = PUSHING[kind]
    repo_id = f"alice/faulty-{abs(hash(kind)) % 10**6}"
    for number in moments if part != "/commit/main" else moments[:1]:
        at = number % len(plan.shards)
        hub.faults = strike = Strike(lambda request: request.method == method and part in request.url.path, fault, at)
        done, told = attempt(plan, tmp_path / str(number), f"{repo_id}-{number}")
        assert strike.struck
        if done is None:
            assert told
            assert "\n" not in told
            assert titles(f"{repo_id}-{number}") == ["initial commit"], "nothing is visible"
            hub.faults = None
            done = merge(plan, tmp_path / str(number), upload=Upload(f"{repo_id}-{number}"))
        assert done.tensors == right.tensors
        assert len(titles(f"{repo_id}-{number}")) == 2


@pytest.mark.slow
def test_a_commit_of_somebody_else_meanwhile_is_one_error_and_nothing_of_theirs_is_lost(
    plan: Plan, right: MergeResult, hub: LocalHub, moments: Sequence[int], tmp_path: Path
) -> None:
    for number in moments:
        repo_id = f"alice/race-{number}"
        upload = Upload(repo_id)
        moment = number % len(plan.shards) + 1

        def interfere(event, repo_id: str = repo_id, moment: int = moment) -> None:
            nonlocal pushed
            if event.stage == "upload" and event.note == plan.shards[moment - 1].file and not pushed:
                HfApi().upload_file(path_or_fileobj=b"theirs", path_in_repo="note.txt", repo_id=repo_id)
                pushed = True

        pushed = False
        with pytest.raises(HubError) as caught:
            merge(plan, tmp_path / str(number), upload=upload, progress=interfere)
        assert pushed
        assert "\n" not in str(caught.value)
        assert len(titles(repo_id)) == 2
        # What is there now is somebody else's: it is asked before ours joins it.
        with pytest.raises(HubError, match="already holds what hubmerge did not push"):
            merge(plan, tmp_path / str(number), upload=Upload(repo_id))
        assert len(titles(repo_id)) == 2
        done = merge(plan, tmp_path / str(number), upload=Upload(repo_id, overwrite=True))
        assert done.tensors == right.tensors
        files = HfApi().list_repo_files(repo_id)
        assert "note.txt" in files
        assert set(files) >= {shard.file for shard in plan.shards}


def attempt(plan: Plan, work: Path, repo_id: str) -> tuple[MergeResult | None, str]:
    try:
        return merge(plan, work, upload=Upload(repo_id)), ""
    except HubError as exc:
        return None, str(exc)


def titles(repo_id: str) -> list[str]:
    return [commit.title for commit in HfApi().list_repo_commits(repo_id)]
