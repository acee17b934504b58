"""The merged models as the result's vocabulary has them: which row of which model each row of theirs is.

A model gives its own row of a token. In place of one that it lacks stands the base's, or else that of the only model
that has the token, or else the mean of those that do; or what the recipe says.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..errors import RecipeError
from ..late import Tensor, torch
from ..layers import is_by_token
from ..recipe import TokenRow
from ..reference import ModelRef
from .findings import Finding, error, some, warning
from .numbering import Numbering
from .rows import MEAN, ZERO, Pick, Rows, RowTensor
from .united import no_tokens
from .views import View, embedding_of
from .vocabulary import Vocabulary
from .weights import Described, Weights

_NONE = -1
"""In place of a row: the model has none for the token."""

_remembered: dict[tuple[object, ...], Tensor] = {}
_REMEMBERED = 32


@dataclass(frozen=True, eq=False)
class _Model:
    """A model that rows come from. `numbers`: which of its rows each row of the result is, or `_NONE`, whether or not
    its tensors are that long."""

    view: View
    numbering: Numbering
    numbers: Tensor

    def tensor(self, name: str) -> Described | None:
        """What it has under a name of the result; a head that it ties is its embedding."""
        found = self.view.tensors.get(name)
        return embedding_of(self.view.tensors.values()) if found is None else found


@dataclass(frozen=True)
class _Given:
    """What the recipe says of the token in row `at`: the row to take (None: zeros), for those that lack it or, by
    `force`, for all."""

    at: int
    pick: Pick | None
    force: bool


class ByToken:
    """The rows of one merge.

    `views`: what is merged, by index. `base`: the base_model. `named`: all weights, by how the recipe names them.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        views: Mapping[int, View],
        base: Weights | None,
        named: Mapping[ModelRef, Weights],
    ) -> None:
        self._vocabulary = vocabulary
        self._views = views
        names = dict.fromkeys(name for view in views.values() for name in view.tensors if is_by_token(name))
        self._rows = {name: vocabulary.rows_of(_rows_in(vocabulary.giver, name)) for name in names}
        most = max(self._rows.values(), default=0)
        self._models: list[_Model] = []
        self._places: dict[Weights, int] = {}
        rest = [base, *(named[row.model] for row in vocabulary.given.values() if row.model is not None)]
        for view in [*views.values(), *(View(one, one.tensors) for one in rest if one is not None)]:
            if view.weights not in self._places and (numbering := view.weights.tokenizer.numbering) is not None:
                self._places[view.weights] = len(self._models)
                self._models.append(_Model(view, numbering, _numbers(vocabulary.numbering, numbering, most)))
        self._base = None if base is None else self._places.get(base)
        self._wrong: list[Finding] = []
        self._given = [
            _Given(vocabulary.numbering.ids[text], pick, said.force)
            for text, said in vocabulary.given.items()
            for pick in self._picks(text, said, named)
        ]

    def views(self, ends: Collection[int]) -> tuple[dict[int, View], list[Finding]]:
        """The views by token, and what was found. `ends`: those whose embedding or head goes into the result.

        A view whose rows are right already stays as it is.
        """
        found, findings = dict(self._views), list(self._wrong)
        for index in ends:
            view = self._views[index]
            if view.weights not in self._places:
                findings += self._untold(view)
                continue
            made = {name: tensor for name in self._rows if (tensor := self._made(view, name)) is not None}
            if made:
                found[index] = View(Rows(view.weights, made), {**view.tensors, **made})
                findings += self._apart(view)
        return found, findings

    def _made(self, view: View, name: str) -> RowTensor | None:
        """A tensor of a view by token; None where it is that already, or nothing that has rows."""
        own, rows, place = view.tensors.get(name), self._rows[name], self._places[view.weights]
        if own is None or math.prod(own.shape) == 0:
            return None
        tensors = [model.tensor(name) for model in self._models]
        has, numbers = self._has(tensors, own, rows)
        # By the only model that has it, the mean, none; rather by the base, and first of all its own.
        origin = torch.where(has.sum(0) == 1, has.int().argmax(0), torch.where(has.any(0), MEAN, ZERO))
        for better in (self._base, place):
            if better is not None:
                origin = torch.where(has[better], better, origin)
        row = numbers.gather(0, origin.clamp(min=0)[None])[0] * (origin >= 0)
        for given in self._given:
            if given.at < rows and (given.force or not has[place, given.at]):
                origin[given.at], row[given.at] = given.pick or (ZERO, 0)
        if rows == own.shape[0] and bool((origin == place).all()) and torch.equal(row, torch.arange(rows)):
            return None
        means = {
            at: tuple((model, int(numbers[model, at])) for model in has[:, at].nonzero().flatten().tolist())
            for at in (origin == MEAN).nonzero().flatten().tolist()
        }
        origins = tuple(
            (model.view.weights, "" if tensor is None else tensor.name)
            for model, tensor in zip(self._models, tensors, strict=True)
        )
        return RowTensor(name, own.dtype, (rows, *own.shape[1:]), origins, origin, row, means)

    def _has(self, tensors: Sequence[Described | None], own: Described, rows: int) -> tuple[Tensor, Tensor]:
        """Of each model and each row of the result: whether it has it in a tensor like `own`, and its number there."""
        lengths = [one.shape[0] if one is not None and one.shape[1:] == own.shape[1:] else 0 for one in tensors]
        numbers = torch.stack([model.numbers[:rows] for model in self._models])
        return (numbers >= 0) & (numbers < torch.tensor(lengths)[:, None]), numbers

    def _picks(self, text: str, said: TokenRow, named: Mapping[ModelRef, Weights]) -> Iterator[Pick | None]:
        """The row that the recipe names for a token; none where there is no such row."""
        if said.model is None:
            yield None
            return
        place = self._places.get(named[said.model])
        model = None if place is None else self._models[place]
        number = said.token if isinstance(said.token, int) else None
        if model is not None and number is None:
            number = model.numbering.ids.get(text if said.token is None else str(said.token))
        embedding = None if model is None else embedding_of(model.view.tensors.values())
        if place is None or number is None or embedding is None or number >= embedding.shape[0]:
            wanted = text if said.token is None else said.token
            self._wrong.append(
                error(f"{said.model} has no row for the token {wanted!r}, which `tokens` takes of it.", RecipeError)
            )
        else:
            yield place, number

    def _untold(self, view: View) -> Iterator[Finding]:
        """What is wrong with a view whose tokens cannot be told: nothing where its rows are as many."""
        if any(name in view.tensors and view.tensors[name].shape[0] != rows for name, rows in self._rows.items()):
            yield error(no_tokens(view.weights.tokenizer.listing))
        else:
            yield warning(f"The tokens of {view.name} cannot be told; its rows are taken to be those of the result.")

    def _apart(self, view: View) -> Iterator[Finding]:
        """How the tokens of a view and those of the result differ."""
        if (embedding := embedding_of(view.tensors.values())) is None:
            return
        name = next(name for name, tensor in view.tensors.items() if tensor is embedding)
        rows = self._rows[name]
        has, _ = self._has([model.tensor(name) for model in self._models], embedding, rows)
        ours, theirs = self._vocabulary.numbering.ids, self._models[self._places[view.weights]].numbering.ids
        own = has[self._places[view.weights]].tolist()
        lacks = [text for text, number in ours.items() if number < rows and not own[number]]
        nobody = (~has.any(0)).tolist()
        if taken := [text for text in lacks if not nobody[ours[text]]]:
            yield warning(f"{view.name} has no row for {_tokens(taken)}; it takes those of the models that have them.")
        if empty := [text for text in lacks if nobody[ours[text]] and text not in self._vocabulary.given]:
            yield warning(f"No model has a row for {_tokens(empty)}: zeros stand there.")
        left = {text: number for text, number in theirs.items() if text not in ours}
        if kept := [text for text, number in left.items() if number < embedding.shape[0]]:
            yield warning(
                f"The result lacks {_tokens(kept)} of {view.name}; `tokenizer_source: union` keeps the tokens of all."
            )
        if behind := [text for text in left if text not in kept]:
            yield warning(f"The result lacks {_tokens(behind)} of {view.name}, which has no row for it.")


def _rows_in(weights: Weights, name: str) -> int | None:
    tensor = weights.tensors.get(name)
    return None if tensor is None or not tensor.shape else tensor.shape[0]


def _numbers(ours: Numbering, theirs: Numbering, rows: int) -> Tensor:
    """Which row of a model with `theirs` each of `rows` rows is; `_NONE` for a token that it has not.

    A row without a token stands for itself: padding is merged by number.
    """
    key = ours.key, theirs.key, rows
    if key in _remembered:
        return _remembered[key]
    if ours.same(theirs):
        numbers = torch.arange(rows)
    else:
        found = list(range(rows))
        for number in theirs.ids.values():
            if number < rows:
                found[number] = _NONE
        inside = {text: number for text, number in ours.ids.items() if number < rows}
        for number in inside.values():
            found[number] = _NONE
        for text, number in inside.items():
            # Two texts of one number are one token by two names.
            if (there := theirs.ids.get(text)) is not None and found[number] != number:
                found[number] = there
        numbers = torch.tensor(found)
    if len(_remembered) >= _REMEMBERED:
        _remembered.clear()
    _remembered[key] = numbers
    return numbers


def _tokens(texts: Sequence[str]) -> str:
    """So many tokens, and the first of them."""
    return f"{len(texts):,} token{'s' if len(texts) > 1 else ''} ({some(map(repr, texts))})"
