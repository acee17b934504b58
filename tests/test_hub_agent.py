"""The Hub is told who asks: hubmerge and its version, in every request."""

from pathlib import Path

import pytest
from hubtools import checkpoint, publish

from hubmerge import __version__
from hubmerge.hub.push import push_folder
from hubmerge.hub.search import search_models
from hubmerge.hub.source import open_source
from hubmerge.hub.user import user_of
from hubmerge.publish import merge, merge_to_hub
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.stream.plan import make_plan


@pytest.mark.parametrize("stream", [False, True])
def test_every_request_names_hubmerge_and_its_version(hub, tmp_path: Path, stream: bool) -> None:
    models = [f"alice/agent-{stream}-{name}" for name in ("a", "b")]
    for seed, model in enumerate(models):
        publish(model, checkpoint(seed=seed), private=True)
    recipe = Recipe.from_dict(
        {"merge_method": "linear", "models": [{"model": m} for m in models], "parameters": {"weight": 1}}
    )
    asked: list[tuple[str, str]] = []
    hub.faults = lambda request: asked.append((request.url.path, request.headers.get("user-agent", "")))
    try:
        merge(make_plan(recipe, ranged=stream), tmp_path / "out")
        merge_to_hub(make_plan(recipe, ranged=stream), f"alice/agent-{stream}-out")
        push_folder(tmp_path / "out", f"alice/agent-{stream}-again")
        search_models("agent")
        assert user_of("hf_alice") == "alice"
        open_source(ModelRef(models[0]))
    finally:
        hub.faults = None
    assert len(asked) > 20
    # What goes to storage by an address that the Hub signed is no request to the Hub.
    silent = [path for path, agent in asked if not agent.startswith(f"hubmerge/{__version__};")]
    assert [path for path in silent if not path.startswith("/lfs/")] == []
