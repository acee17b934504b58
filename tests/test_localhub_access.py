"""Who sees, reads and changes what on the embedded Hub: owner, organisation, another user, nobody."""

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
)

from hubmerge.errors import HubError
from hubmerge.localhub import LocalHub
from hubmerge.localhub.accounts import Accounts, Identity


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    users = {"alice": "hf_alice", "bob": "hf_bob", "carol": "hf_carol"}
    with LocalHub(tmp_path_factory.mktemp("hub"), users, {"lab": ["alice", "carol"]}) as server:
        alice = HfApi(endpoint=server.endpoint, token="hf_alice")
        for name, private, gated in (
            ("lab/open", False, False),
            ("lab/private", True, False),
            ("lab/gated", False, "manual"),
        ):
            alice.create_repo(name, private=private)
            alice.upload_file(repo_id=name, path_or_fileobj=b"content", path_in_repo="w.bin")
            alice.update_repo_settings(name, gated=gated)
        yield server


def as_user(hub: LocalHub, user: str | None) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=f"hf_{user}" if user else False)


def outcome(action) -> str:
    """What an action comes to: 'ok' or the client's name for the refusal and its status."""
    try:
        action()
    except HfHubHTTPError as error:
        return f"{type(error).__name__} {error.response.status_code}"
    return "ok"


@pytest.mark.parametrize(
    ("name", "user", "seen", "read", "written"),
    [
        ("open", None, "ok", "ok", "HfHubHTTPError 401"),
        ("open", "bob", "ok", "ok", "HfHubHTTPError 403"),
        ("open", "carol", "ok", "ok", "ok"),
        ("private", None, *["RepositoryNotFoundError 401"] * 3),
        ("private", "bob", *["RepositoryNotFoundError 404"] * 3),
        ("private", "carol", "ok", "ok", "ok"),
        ("gated", None, "ok", "GatedRepoError 401", "HfHubHTTPError 401"),
        ("gated", "bob", "ok", "GatedRepoError 403", "GatedRepoError 403"),
        ("gated", "carol", "ok", "ok", "ok"),
    ],
)
def test_visibility(hub, name, user, seen, read, written):
    api, repo = as_user(hub, user), f"lab/{name}"
    assert outcome(lambda: api.model_info(repo)) == seen
    assert outcome(lambda: list(api.list_repo_tree(repo))) == seen
    assert outcome(lambda: api.list_repo_refs(repo)) == seen
    assert (repo in [model.id for model in api.list_models(author="lab")]) == (seen == "ok")
    assert outcome(lambda: api.get_hf_file_metadata(url=f"{hub.endpoint}/{repo}/resolve/main/w.bin")) == read
    assert outcome(lambda: api.auth_check(repo)) == read
    add = CommitOperationAdd("by.txt", str(user).encode())
    assert outcome(lambda: api.create_commit(repo, [add], commit_message="by")) == written


def test_only_owners_configure_and_delete(hub):
    bob = as_user(hub, "bob")
    for action in (
        lambda: bob.update_repo_settings("lab/open", private=True),
        lambda: bob.delete_repo("lab/open"),
        lambda: bob.create_branch("lab/open", branch="b"),
        lambda: bob.create_tag("lab/open", tag="t"),
        lambda: bob.super_squash_history("lab/open"),
        lambda: bob.move_repo("lab/open", "bob/open"),
        lambda: bob.auth_check("lab/open", write=True),
    ):
        assert outcome(action) == "HfHubHTTPError 403"
    assert outcome(lambda: bob.delete_repo("lab/private")) == "RepositoryNotFoundError 404"
    assert as_user(hub, "alice").model_info("lab/open").private is False


def test_a_missing_repository_looks_like_a_private_one(hub):
    for user, status in (("bob", 404), (None, 401)):
        for repo in ("lab/private", "lab/missing", "gpt2"):
            with pytest.raises(RepositoryNotFoundError) as refused:
                as_user(hub, user).get_hf_file_metadata(url=f"{hub.endpoint}/{repo}/resolve/main/w.bin")
            assert refused.value.response.status_code in (status, 404)


def test_a_bad_token_is_told_so_everywhere(hub):
    api = HfApi(endpoint=hub.endpoint, token="hf_wrong")
    for action in (
        lambda: api.model_info("lab/open"),
        lambda: list(api.list_models()),
        lambda: api.create_repo("x"),
        lambda: api.get_hf_file_metadata(url=f"{hub.endpoint}/lab/open/resolve/main/w.bin"),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            action()
        assert refused.value.response.status_code == 401
        assert refused.value.response.headers["X-Error-Message"] == "Invalid credentials in Authorization header"


def test_making_public_and_private(hub):
    alice, bob = as_user(hub, "alice"), as_user(hub, "bob")
    alice.create_repo("alice/turns", private=True)
    assert not bob.repo_exists("alice/turns")
    alice.update_repo_settings("alice/turns", private=False)
    assert bob.repo_exists("alice/turns")
    alice.update_repo_settings("alice/turns", visibility="private")
    assert not bob.repo_exists("alice/turns")


def test_the_gate_opens_for_those_let_in(hub):
    alice, bob = as_user(hub, "alice"), as_user(hub, "bob")
    url = f"{hub.endpoint}/lab/gated/resolve/main/w.bin"
    alice.grant_access("lab/gated", "bob")
    assert bob.get_hf_file_metadata(url=url).size == 7
    assert bob.file_exists("lab/gated", "w.bin")
    alice.reject_access_request("lab/gated", "bob", rejection_reason=None)
    with pytest.raises(GatedRepoError):
        bob.get_hf_file_metadata(url=url)
    assert [model.id for model in alice.list_models(author="lab", gated=True)] == ["lab/gated"]
    assert alice.model_info("lab/gated").gated == "manual"


def test_missing_files_and_revisions_keep_their_names(hub):
    api = as_user(hub, "bob")
    with pytest.raises(EntryNotFoundError) as missing:
        api.get_hf_file_metadata(url=f"{hub.endpoint}/lab/open/resolve/main/absent")
    assert missing.value.response.headers["X-Repo-Commit"] == api.model_info("lab/open").sha
    assert not api.file_exists("lab/open", "absent")
    assert not api.revision_exists("lab/open", "absent")


@pytest.mark.parametrize(
    ("scopes", "application", "reads_private", "writes", "manages", "creates"),
    [
        (None, None, True, True, True, True),
        (["openid", "profile"], "app", False, False, False, False),
        (["read-repos"], "app", True, False, False, False),
        (["write-repos"], "app", True, True, False, False),
        (["manage-repos"], "app", True, True, True, True),
        (["contribute-repos"], "app", True, True, True, True),
        (["contribute-repos"], "other", False, False, False, True),
    ],
)
def test_scopes_of_application_tokens(tmp_path, scopes, application, reads_private, writes, manages, creates):
    """A token of an application does what its scopes say; `contribute-repos` reaches what that application made."""
    from hubmerge.localhub.store.store import Store

    accounts = Accounts({"alice": "hf_alice"}, {})
    repository = Store(tmp_path).create("model", "alice/m", "alice", private=True, application="app")
    identity = Identity("alice", None if scopes is None else frozenset(scopes), application)
    assert accounts.may_see(identity, repository) == reads_private
    assert accounts.may_write(identity, repository) == writes
    assert accounts.may_manage(identity, repository) == manages
    assert identity.may_create == creates


@pytest.mark.parametrize(
    ("users", "organizations", "reason"),
    [
        ({"api": "hf_x"}, {}, "reserved"),
        ({"a/b": "hf_x"}, {}, "not a valid name"),
        ({"a": ""}, {}, "token of user a"),
        ({"a": "hf_x", "b": "hf_x"}, {}, "same token"),
        ({"a": "hf_x"}, {"a": []}, "also a user"),
        ({"a": "hf_x"}, {"lab": ["b"]}, "unknown members: b"),
    ],
)
def test_accounts_that_cannot_be(tmp_path, users, organizations, reason):
    with pytest.raises(HubError, match=reason):
        LocalHub(tmp_path, users, organizations)


def test_environment(hub):
    variables = hub.environment("bob")
    assert (variables["HF_ENDPOINT"], variables["HF_TOKEN"]) == (hub.endpoint, "hf_bob")
    assert variables["HF_HUB_DISABLE_XET"] == "1"
    assert hub.environment(None)["HF_TOKEN"] == ""
    with pytest.raises(HubError, match="no user zoe"):
        hub.environment("zoe")
