"""Of recipes as people write them nearly all are planned, and of the rest each is told why not."""

from pathlib import Path

import pytest
from recipe_corpus import corpus, files, filled, models

from hubmerge.errors import HubmergeError
from hubmerge.experts.document import Moe
from hubmerge.experts.mixture import plan_moe
from hubmerge.hub.source import open_source
from hubmerge.recipe import Recipe
from hubmerge.stream.plan import make_plan

KINDS = sorted((Path(__file__).parent / "recipes").glob("*.yaml"))
"""Recipes of kinds that the corpus does not draw: mixtures, several documents, layers on top of each other, adapters in
a base, tokens, odd gradients, anchors, and what is left in a file by a page or an editor."""
REFUSED = {
    "fence": "keep what lies between the two lines of ``` alone",
    "front-matter": "keep what lies between the two lines of ``` alone",
    "tabs": "begin lines with spaces",
    "models-dict": "begin each entry with a dash",
    "dash-method": "did you mean dare_ties?",
    "upper-method": "did you mean slerp?",
    "short-dtype": "did you mean bfloat16?",
    "percent": "expected a finite number or true/false, got '50%'",
    "smart-quotes": "is neither a Hub ID",
}


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of models by the names that recipes have."""
    return models(tmp_path_factory.mktemp("models"))


def test_recipes_as_people_write_them_are_planned(named: dict[str, Path], tmp_path: Path) -> None:
    assert len(corpus(named)) == 300
    opened: dict = {}
    planned: list[Path] = []
    for path, written in files(tmp_path / "recipes", named):
        said = None
        try:
            recipe = Recipe.from_yaml(path)
            opened |= {ref: open_source(ref) for ref in recipe.references if ref not in opened}
            make_plan(recipe, sources={ref: opened[ref] for ref in recipe.references}).require()
        except HubmergeError as exc:
            said = str(exc)
        assert (said is None) == (written.refused is None), f"{said}\n{path.read_bytes()!r}"
        assert written.refused is None or written.refused in str(said)
        planned += [path] if said is None else []
    assert len(planned) >= 0.97 * 300


@pytest.mark.parametrize("file", KINDS, ids=lambda file: file.stem)
def test_kinds_that_the_corpus_does_not_draw(file: Path, named: dict[str, Path], tmp_path: Path) -> None:
    (path := tmp_path / "recipe.yaml").write_bytes(filled(file.read_bytes(), named))
    said = ""
    try:
        mixture = b"experts:" in file.read_bytes()
        (plan_moe(Moe.from_yaml(path)) if mixture else make_plan(Recipe.from_yaml(path))).require()
    except HubmergeError as exc:
        said = str(exc).replace(str(named["base"].parent), "org")
    assert bool(said) == (file.stem in REFUSED), said
    assert REFUSED.get(file.stem, "") in said
