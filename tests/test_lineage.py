"""Trees of models: what cards say, what weights show where cards are silent or wrong, and the base of several."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hubtools import publish
from lineagetools import beginning, drawing, files, pipeline, population, publish_all, tuned

from hubmerge import merge
from hubmerge.errors import NotFoundError
from hubmerge.hub.source import open_source
from hubmerge.lineage.likeness import distance, sample
from hubmerge.lineage.tree import Node, Parent, Tracer, Tree, trace
from hubmerge.recipe import Recipe
from hubmerge.reference import ModelRef
from hubmerge.terminal import show_tree
from hubmerge.zoo.kinds import shipped

B = "bob/line-"


@pytest.fixture(scope="module")
def family(hub) -> None:
    """A base, two tuned from it, a merge of both, a silent child, one with a wrong card, an adapter, and a stranger."""
    base, other = beginning(1), beginning(2)
    math, ja = tuned(base, 3), tuned(base, 4)
    mixed = {name: (math[name] + ja[name]) / 2 for name in base}
    for name, weights, said in (
        ("base", base, []),
        ("stranger", other, []),
        ("math", math, ["base"]),
        ("ja", ja, ["base"]),
        ("merged", mixed, ["math", "ja"]),
        ("silent", tuned(mixed, 5, 0.01), []),
        ("wrong", tuned(ja, 6, 0.01), ["stranger"]),
        ("lost", tuned(base, 7), ["gone"]),
        ("of-lost", tuned(tuned(base, 7), 9), ["lost"]),
        ("loop-a", tuned(base, 8), ["loop-b"]),
        ("loop-b", tuned(base, 8), ["loop-a"]),
    ):
        publish(B + name, files(weights, [f"{B}{one}" for one in said]), token="hf_bob")
    adapter = json.dumps({"base_model_name_or_path": f"{B}math", "peft_type": "LORA"}).encode()
    publish(f"{B}lora", {"adapter_config.json": adapter, "adapter_model.safetensors": b"\0" * 16}, token="hf_bob")


def parents(tree, name: str) -> list[tuple[str, str]]:
    return [(one.repo_id.removeprefix(B), one.told) for one in tree.nodes[B + name].parents]


def test_cards_are_walked_to_the_roots(family) -> None:
    tree = trace([f"{B}merged"])
    assert parents(tree, "merged") == [("math", "card"), ("ja", "card")]
    assert tree.roots(f"{B}merged") == (f"{B}base",)
    assert tree.ancestors(f"{B}merged") == {f"{B}merged": 0, f"{B}math": 1, f"{B}ja": 1, f"{B}base": 2}
    assert all(one.likeness and one.likeness > 0.9 for one in tree.nodes[f"{B}merged"].parents)
    assert tree.nodes[f"{B}merged"].parents[0].relation == "merge"


def test_a_silent_card_is_answered_by_the_weights(family) -> None:
    tree = trace([f"{B}silent"])
    assert parents(tree, "silent") == [("merged", "likeness")]
    assert tree.roots(f"{B}silent") == (f"{B}base",)
    assert trace([f"{B}silent"], look=False).roots(f"{B}silent") == (f"{B}silent",)


def test_a_wrong_card_is_doubted(family) -> None:
    tree = trace([f"{B}wrong"])
    (doubt,) = tree.nodes[f"{B}wrong"].doubted
    assert (doubt.repo_id, abs(doubt.likeness or 1) < 0.2) == (f"{B}stranger", True)
    assert parents(tree, "wrong") == [("ja", "likeness")]
    assert f"{B}stranger" not in tree.nodes
    assert trace([f"{B}wrong"], look=False).roots(f"{B}wrong") == (f"{B}stranger",)


def test_adapters_loops_and_what_is_gone(family) -> None:
    assert parents(trace([f"{B}lora"]), "lora") == [("math", "adapter")]
    tree = trace([f"{B}lost"])
    assert tree.nodes[f"{B}gone"].gone == "not there"
    assert parents(tree, "lost") == [("gone", "card")]
    assert trace([f"{B}loop-a"]).roots(f"{B}loop-a") == ()
    with pytest.raises(NotFoundError):
        trace([f"{B}none"])


def test_several_have_a_base(family) -> None:
    tree = trace([f"{B}math", f"{B}wrong", f"{B}silent"])
    assert tree.common == (f"{B}base",) and tree.base == f"{B}base"
    assert set(tree.distances or {}) == {f"{B}math", f"{B}wrong", f"{B}silent"}
    near = tree.kinship or {}
    assert near[f"{B}math", f"{B}silent"] > 0.5 > abs(near[f"{B}math", f"{B}wrong"])
    assert trace([f"{B}base", f"{B}math"]).base == f"{B}base"
    # One of them is the other's parent, and tuned itself: what both grew from is their base.
    assert trace([f"{B}ja", f"{B}wrong"]).base == f"{B}base"
    apart = trace([f"{B}math", f"{B}stranger"])
    assert apart.common == () and apart.base is None


def test_a_pipeline_is_looked_at_in_each_of_its_parts(hub) -> None:
    a, b, c = (
        {"unet": drawing(seed), "text_encoder": beginning(seed + 10), "vae": drawing(seed + 20)} for seed in (1, 2, 3)
    )
    mixed = {name: 0.3 * a["unet"][name] + 0.7 * b["unet"][name] for name in a["unet"]}
    for name, parts, said in (
        ("pipe-a", a, []),
        ("pipe-b", b, []),
        ("pipe-c", c, []),
        ("copied", a | {"text_encoder": b["text_encoder"]}, ["pipe-a", "pipe-b"]),
        ("mixed", a | {"unet": mixed}, ["pipe-a", "pipe-b"]),
        ("lied", a, ["pipe-c"]),
    ):
        manifest = {"hubmerge.json": json.dumps({"sources": [{"model": B + one} for one in said]}).encode()}
        publish(B + name, pipeline(parts) | (manifest if said else {}), token="hf_bob")
    tree = trace([f"{B}copied", f"{B}mixed", f"{B}lied"])
    for name in ("copied", "mixed"):
        assert parents(tree, name) == [("pipe-a", "manifest"), ("pipe-b", "manifest")]
        assert not tree.nodes[B + name].doubted
        assert trace([B + name]).base is None  # two beginnings have no common one
    assert [one.repo_id for one in tree.nodes[f"{B}lied"].doubted] == [f"{B}pipe-c"]


def test_what_cards_do_not_say_is_told(hub, call, tmp_path: Path) -> None:
    said = {
        "bomb": "base_model: &a [*a]",
        "unclosed": "base_model: [a",
        "no-ids": 'base_model: ["/etc/passwd", "../../etc", 42, "bob/line-x y"]',
        "address": "base_model: https://huggingface.co/bob/line-root/tree/main",
    }
    weights = beginning(31)
    publish("bob/line-root", files(weights, []), token="hf_bob")
    for seed, (name, card) in enumerate(said.items(), 32):  # folders: the Hub refuses most of these
        (tmp_path / name).mkdir()
        for file, content in files(tuned(weights, seed), []).items():
            (tmp_path / name / file).write_bytes(content)
        (tmp_path / name / "README.md").write_text(f"---\n{card}\n---\n# Own\n")
    bomb, unclosed, no_ids, address = models = [str(tmp_path / name) for name in said]
    for look in (True, False):
        nodes = trace(models, look=look).nodes
        assert nodes[bomb].remarks == nodes[unclosed].remarks == ("its card cannot be read",)
        (remark,) = nodes[no_ids].remarks
        assert "'/etc/passwd', '../../etc', 42 and 1 more" in remark
        assert [one.repo_id for one in nodes[address].parents] == ["bob/line-root"] and not nodes[address].remarks
    document = json.loads(call("tree", bomb, "--json").stdout)
    assert document["nodes"][bomb]["remarks"] == ["its card cannot be read"]
    drawn = call("tree", *models, "--cards-only").stdout
    assert drawn.count("its card cannot be read") == 2 and "'/etc/passwd'" in drawn


def test_a_long_chain_is_drawn_in_whole_words(capsys) -> None:
    names = [f"org/number-{number}" for number in range(60)]
    above = zip(names, [(Parent(name, "finetune", "card"),) for name in names[1:]] + [()], strict=True)
    show_tree(Tree((names[0],), {name: Node(name, parents) for name, parents in above}))
    drawn = capsys.readouterr().out.splitlines()
    assert [line.split()[-5] for line in drawn[1:]] == names[1:]  # NAME finetune, by its card


def test_siblings_are_those_that_fit_and_learnt_something_else(family, call) -> None:
    base, math = beginning(1), tuned(beginning(1), 3)
    for name, weights, said in (
        ("code", tuned(base, 21), "base"),
        ("near-math", tuned(math, 22, 0.01), "base"),
        ("copy", base, "base"),
        ("claims", beginning(23), "base"),
        ("else", tuned(base, 24), "stranger"),
    ):
        publish(B + name, files(weights, [B + said]), token="hf_bob")
    tree = trace([f"{B}math"])
    assert tree.base == f"{B}base"
    found = {one.repo_id.removeprefix(B): one for one in tree.siblings}
    assert {"ja", "code"} <= found.keys() and not found.keys() & {"near-math", "copy", "claims", "else", "math", "base"}
    assert all(abs(one.kinship) < 0.2 and 0.01 < one.distance < 0.2 for one in found.values())
    assert [one.kinship for one in tree.siblings] == sorted(one.kinship for one in tree.siblings)
    assert f"{B}ja" not in {one.repo_id for one in trace([f"{B}math", f"{B}ja"]).siblings}
    assert trace([f"{B}base"]).siblings == trace([f"{B}math"], look=False).siblings == ()
    drawn = call("tree", f"{B}math").stdout
    assert "siblings that fit" in drawn and f"  {B}code at most " in drawn
    assert {one["repo_id"] for one in json.loads(call("tree", f"{B}math", "--json").stdout)["siblings"]} >= {f"{B}code"}


def test_a_base_is_one_that_can_be_had(family, capsys) -> None:
    assert trace([f"{B}lost"]).base is None  # its parent is gone
    assert trace([f"{B}loop-a"]).base is None and trace([f"{B}loop-a", f"{B}loop-b"]).base is None
    assert trace([f"{B}merged"]).base == f"{B}base"  # what both of its parents come from
    assert trace([f"{B}math"]).base == f"{B}base"
    lost = trace([f"{B}lost", f"{B}of-lost"])
    assert lost.common == (f"{B}lost", f"{B}gone") and lost.base is None
    show_tree(lost)
    assert "base that fits: none; each of these was tuned itself, or cannot be read" in capsys.readouterr().out


def test_a_thousand_parents_are_asked_for_once_each(family, hub) -> None:
    named = [f"bob/none-{number}" for number in range(60)]
    publish(f"{B}many", files(tuned(beginning(1), 77), [*named, f"{B}base"]), token="hf_bob")
    trace([f"{B}base"])
    hub.clear_log()
    tree = trace([f"{B}many"])
    assert len(tree.nodes) == 62 and tree.base is None
    asked = [one.path for one in hub.log if "none-" in one.path]
    assert len(asked) == len(set(asked)) == len(named)


def test_only_headers_and_short_ranges_are_read(family, hub) -> None:
    trace([f"{B}silent"])  # configurations are in the cache from here on
    hub.clear_log()
    trace([f"{B}silent", f"{B}wrong"])
    weights = [one for one in hub.log if one.path.endswith(".safetensors")]
    assert weights and {one.status for one in weights} == {206}
    assert not any(one.method != "GET" and one.method != "HEAD" for one in hub.log)


def test_the_command_draws_it(family, call) -> None:
    drawn = call("tree", f"{B}silent", f"{B}wrong")
    assert drawn.returncode == 0, drawn.stderr
    assert f"card says {B}stranger, whose weights are others'" in drawn.stdout
    assert "by its weights" in drawn.stdout and f"base that fits: {B}" in drawn.stdout
    assert "drawn above" in drawn.stdout or f"{B}base" in drawn.stdout
    document = json.loads(call("tree", f"{B}merged", "--json").stdout)
    assert document["roots"] == {f"{B}merged": [f"{B}base"]}
    assert document["nodes"][f"{B}merged"]["parents"][0]["told"] == "card"
    assert call("tree", f"{B}none").returncode == 3
    assert "by its weights" not in call("tree", f"{B}silent", "--cards-only").stdout


def test_what_a_merge_of_ours_says_comes_first(family, siblings, tmp_path: Path, call) -> None:
    for name in ("base", "math"):
        own = {one.name: one.read_bytes() for one in siblings[name].iterdir()}
        publish(f"alice/line-{name}", own)
    (tmp_path / "a.yaml").write_text(
        "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: alice/line-base}, {model: alice/line-math}]\n"
    )
    assert call("merge", tmp_path / "a.yaml", "--push", "alice/line-merged").returncode == 0
    tree = trace(["alice/line-merged"])
    assert [(one.repo_id, one.told, one.relation) for one in tree.nodes["alice/line-merged"].parents] == [
        ("alice/line-base", "manifest", "merge"),
        ("alice/line-math", "manifest", "merge"),
    ]


def test_the_yardstick_is_measured(tmp_path: Path, capsys) -> None:
    """What docs/lineage.md and the drawn tree say of how far models are, of the models that ship."""
    zoo = shipped()
    tuned_ones = {one: zoo / one for one in ("math", "errands", "math-2", "japanese")}
    recipes = {
        "zoo-math and zoo-japanese, linear, weight .5": ("linear", {"weight": 0.5}),
        "the same, task_arithmetic, weight .6": ("task_arithmetic", {"weight": 0.6}),
        "the same, ties, weight .6, density .5": ("ties", {"weight": 0.6, "density": 0.5}),
        "the same, dare_ties, weight .6, density .5": ("dare_ties", {"weight": 0.6, "density": 0.5}),
    }
    folders = {f"zoo-{name}": folder for name, folder in tuned_ones.items()}
    for name, (method, parameters) in recipes.items():
        document: dict[str, Any] = {"merge_method": method, "dtype": "float32"}
        if method != "linear":
            document["base_model"] = str(zoo / "base")
        document["models"] = [{"model": str(zoo / one), "parameters": parameters} for one in ("math", "japanese")]
        merge(Recipe.from_dict(document), tmp_path / method)
        folders[name] = tmp_path / method
    apart_from = "vlm-base: the same shapes in a layer, another beginning"
    folders[apart_from] = shipped("vlm") / "base"
    base, *others = (sample(open_source(ModelRef.parse(str(one)))) for one in (zoo / "base", *folders.values()))
    measured = {name: distance(one, base) or 0.0 for name, one in zip(folders, others, strict=True)}
    page = (Path(__file__).parents[1] / "docs" / "lineage.md").read_text()
    told = re.findall(r"^\| (.+) \| ([\d.]+%) \|$", page, re.M)
    assert told == [(one, f"{far:.1%}") for one, far in measured.items()]
    near = [measured[f"zoo-{one}"] for one in tuned_ones]
    near_and_far = f"the demo's fine-tunes: {min(near):.0%} to {max(near):.0%}; "
    near_and_far += f"a model trained apart: {measured[apart_from]:.0%}"
    show_tree(Tree(("org/a",), {"org/a": Node("org/a")}, "org/base", {"org/a": 0.835}))
    drawn = capsys.readouterr().out
    assert f"how far from it (0%: nothing changed; {near_and_far}):\n  org/a: 83.5%\n" in drawn


def test_a_small_hub(hub) -> None:
    """The roots of all models of a made-up Hub, as `benchmarks/lineage.py` asks of a thousand."""
    made = publish_all(
        population(40, "SFconvertbot", roots=4, seed=3), lambda name, of: publish(name, of, token="hf_SFconvertbot")
    )
    tracer = Tracer()
    tree = tracer.trace([one.repo_id for one in made])
    right = [one for one in made if tree.roots(one.repo_id) == (one.root,)]
    assert len(right) >= 0.97 * len(made)
    assert {one.repo_id for one in made if tree.nodes[one.repo_id].doubted} == {
        one.repo_id for one in made if one.said and not set(one.said) <= set(one.truth)
    }
