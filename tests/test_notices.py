"""Licence texts and notices of the models go on with what is merged of them, and with what is merged of that."""

from pathlib import Path

import pytest
from hubtools import publish

from hubmerge import Recipe, make_plan, merge, open_source, push_folder
from hubmerge.hub.notices import notice_files, notices
from hubmerge.publish import merge_to_hub
from hubmerge.reference import ModelRef
from hubmerge.reproduce import reproduce
from hubmerge.stream.verify import verify


@pytest.fixture(scope="module")
def models(hub, siblings: dict[str, Path]) -> list[str]:
    """Two models of the Hub: one with a licence, a notice and terms of use, one with files that only sound alike."""
    own = {
        "math": {"LICENSE": b"Apache\n", "NOTICE.txt": b"Math by Alice\n", "USE_POLICY.md": b"Be good\n"},
        "japanese": {"license.md": b"MIT\n", "licences.csv": b"a,b\n", "licence_plates/LICENSE": b"no\n"},
    }
    for name, more in own.items():
        files = {path.name: path.read_bytes() for path in siblings[name].iterdir()}
        publish(f"alice/noted-{name}", files | more)
    publish("alice/noted-large", {**files, "LICENSE": b"x" * (2**20 + 1)})
    return [f"alice/noted-{name}" for name in own]


def recipe(models: list[str]) -> Recipe:
    named = [{"model": name, "parameters": {"weight": 0.5}} for name in models]
    return Recipe.from_dict({"merge_method": "linear", "models": named})


def test_they_go_on_with_every_way_to_merge_and_push(models: list[str], tmp_path: Path) -> None:
    expected = {
        "licence--alice--noted-math--LICENSE": b"Apache\n",
        "licence--alice--noted-math--NOTICE.txt": b"Math by Alice\n",
        "licence--alice--noted-math--USE_POLICY.md": b"Be good\n",
        "licence--alice--noted-japanese--license.md": b"MIT\n",
    }
    out = tmp_path / "out"
    merge(make_plan(recipe(models)), out)
    assert {path.name: path.read_bytes() for path in out.glob("licence*")} == expected
    verify(ModelRef(str(out))).require()
    assert "are in the files `licence--*`" in (out / "README.md").read_text()
    push_folder(out, "alice/noted-pushed")
    merge_to_hub(make_plan(recipe(models)), "alice/noted-merged")
    for name in ("alice/noted-pushed", "alice/noted-merged"):
        assert expected.keys() <= open_source(name).files.keys()
        verify(ModelRef(name)).require()
    reproduce(ModelRef("alice/noted-merged")).require()
    # What is made of that has them as well, once, and nothing of its own is invented.
    again = make_plan(recipe(["alice/noted-merged", models[0]]))
    assert notices(again.sources) == expected


def test_what_is_no_licence_stays_where_it_is(models: list[str]) -> None:
    assert notice_files([open_source("alice/noted-large")]) == {}
    plan = make_plan(recipe(["alice/noted-large", models[1]]))
    assert [*notice_files(plan.sources)] == ["licence--alice--noted-japanese--license.md"]
