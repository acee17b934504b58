"""Of 300 recipes as people write them nearly all are planned, and of the rest each is told why not."""

from pathlib import Path

from recipe_corpus import corpus, files, models

from hubmerge.errors import HubmergeError
from hubmerge.hub.source import open_source
from hubmerge.recipe import Recipe
from hubmerge.stream.plan import make_plan


def test_recipes_as_people_write_them_are_planned(tmp_path: Path) -> None:
    named = models(tmp_path / "models")
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
