"""Any document that a result was made from, planned again by what it says."""

from typing import TYPE_CHECKING

from .experts.document import Moe
from .experts.mixture import plan_moe
from .extract import EXTRACT
from .extract.adapter import extract
from .publish import measured, planned
from .recipe import Recipe

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .stream.plan import Plan, Settings, Wanted


def plan_only(wanted: "Wanted", *, token: str | None = None) -> "Plan":
    """The plan of a merge or a mixture, of headers alone: nothing is fetched and nothing measured."""
    if isinstance(wanted, Moe):
        return plan_moe(wanted, token=token, ranged=True)
    assert isinstance(wanted, Recipe)
    return planned(wanted, token=token, ranged=True)


def plan_again(wanted: "Wanted", *, token: str | None = None, **settings: "Unpack[Settings]") -> "Plan":
    """The plan of it; what is extracted is factored anew, and what methods need to know of models is measured.

    `settings` as of `make_plan`. Raises what `make_plan`, `extract` and `measured` do."""
    if isinstance(wanted, Moe):
        return plan_moe(wanted, token=token, **settings)
    assert isinstance(wanted, Recipe)
    if wanted.merge_method == EXTRACT:
        return extract(wanted, token=token, **settings).plan
    return measured(planned(wanted, token=token, **settings))
