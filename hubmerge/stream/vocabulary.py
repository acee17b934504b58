"""Which tokens the result has: those of one model, or of all.

Where a recipe says whose, rows of embedding and head go with their tokens and not with their numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..errors import RecipeError, SourceError
from ..recipe import BASE, SHORTEST, UNION, Recipe, TokenizerBlock, TokenRow
from ..reference import ModelRef
from .carried import Carried
from .findings import Finding, error, warning
from .numbering import Numbering
from .views import embedding_of
from .weights import Alone, Weights


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of the result.

    `giver`: the model whose they are, or whose come first; its embedding has `rows`, padding included. `pad_to`: what
    the number of rows is to be a multiple of. `given`: what the recipe says of single tokens. `is_new`: whether the
    tokenizer is made of several; one model's has the rows that it has.
    """

    giver: Weights
    numbering: Numbering
    rows: int
    pad_to: int | None = None
    given: Mapping[str, TokenRow] = field(default_factory=dict)
    is_new: bool = False

    def rows_of(self, stored: int | None) -> int:
        """Rows of a tensor of which `giver` stores that many (None: it has no such tensor)."""
        least = self.numbering.highest + 1
        if self.pad_to is not None:
            return -(-least // self.pad_to) * self.pad_to
        rows = self.rows if stored is None else stored
        return max(least, rows) if self.is_new or not rows else rows

    def new_rows(self, model: Weights) -> int | None:
        """Rows of the result's embedding; None where they are as many as those of a model."""
        embedding, rows = embedding_of(model.tensors.values()), self.rows_of(None)
        return None if embedding is None or embedding.shape[0] == rows else rows


@dataclass(frozen=True, eq=False)
class Choice:
    """The small files of the result, and its vocabulary: None where rows are merged by their numbers.

    `advice`: what to do then where models do not have equally many rows. `shortens`: rows that a model lacks are left
    out of all.
    """

    carried: Carried
    vocabulary: Vocabulary | None = None
    findings: tuple[Finding, ...] = ()
    advice: str = "write `tokenizer_source: base` or `tokenizer_source: union`, which merge rows by token"
    shortens: bool = False


def choose(recipe: Recipe, made: Mapping[ModelRef, Weights]) -> Choice:
    """Whose tokens the result of a merge has, by the recipe."""
    giver, block = made[recipe.tokenizer_giver], recipe.output.vocabulary
    carried = giver.tokenizer
    if not giver.speaks:
        return Choice(carried)
    if block is None and isinstance(made[recipe.giver], Alone):
        block = TokenizerBlock(BASE)  # the result is to know the tokens of pictures, which a plain model lacks
    if block is None:
        return Choice(carried)
    if block.source == SHORTEST:
        told = "Rows of embedding and head are merged by number, as many as all models have; tokens are not compared."
        return Choice(carried, None, (warning(told),), shortens=True)
    rows = _rows(giver)
    if (own := carried.numbering) is not None and own.highest + 1 > len(own.ids) + rows:
        message = f"{own.name} has {len(own.ids):,} tokens, {rows:,} rows and a token with the number {own.highest:,}"
        return Choice(carried, None, (error(f"{message}; choose a `tokenizer_source` whose rows fit its tokens."),))
    from .united import unite

    others = [made[ref] for ref in recipe.merged if block.source == UNION and made[ref] is not giver]
    try:
        united = unite(carried.tokens, [one.tokenizer.tokens for one in others], block.rows, [*map(_rows, others)])
    except SourceError as exc:
        # Tokens that nobody can tell are merged by number, where that is all that was asked for.
        more = others or block.tokens or block.pad_to_multiple_of
        return Choice(carried, None, (error(str(exc), RecipeError),) if more else (), str(exc).rstrip("."))
    if united is not None:
        carried = replace(carried, united=united)
    assert carried.numbering is not None
    vocabulary = Vocabulary(
        giver,
        carried.numbering,
        rows,
        block.pad_to_multiple_of,
        block.rows,
        united is not None,
    )
    return Choice(carried, vocabulary, tuple(map(warning, united.remarks if united else ())))


def _rows(model: Weights) -> int:
    """Rows of a model's embedding; 0 where it has none."""
    embedding = embedding_of(model.tensors.values())
    return 0 if embedding is None else embedding.shape[0]
