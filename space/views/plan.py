"""A plan as a person reads it: what is fetched and written, how much memory and disk, and what stands in the way."""

from typing import TYPE_CHECKING

from hubmerge.extract.asked import Estimate
from hubmerge.gguf.conversion import Conversion
from hubmerge.markup import Markup
from hubmerge.stream.plan import Plan

from ..wording import count, hub_url, size
from .parts import render

if TYPE_CHECKING:
    from hubmerge.evolve.plan import SearchPlan

_SPACES = {"ps": "recipes", "dfs": "paths"}


def describe_plan(plan: Plan) -> Markup:
    """The plan as HTML."""
    facts = (
        (count(plan.parameters), "parameters"),
        (f"{len(plan.tensors):,}", "tensors"),
        (size(plan.fetch_bytes), "to fetch"),
        (size(plan.output_bytes), "to write"),
        (size(plan.peak_memory), "peak memory"),
        (size(plan.disk_bytes), "disk"),
    )
    return render("plan", plan=plan, facts=facts, size=size, hub_url=hub_url)


def describe_estimate(found: Estimate) -> Markup:
    """What an extraction takes, as HTML."""
    facts = (
        (f"{found.modules:,}", "modules, at most"),
        (count(found.parameters), "parameters, at most"),
        (size(sum(source.nbytes for source in found.sources)), "to fetch"),
        (size(found.output), "to write, at most"),
        (size(found.memory), "memory for a tensor"),
        (size(found.disk), "disk, at most"),
    )
    return render("estimate", facts=facts, remarks=())


def describe_file(found: Conversion) -> Markup:
    """A GGUF file that is to be written, as HTML."""
    facts = (
        (count(found.source.parameters), "parameters"),
        (f"{len(found.tensors):,}", "tensors"),
        (found.format.name, "format"),
        (size(found.source.nbytes), "to fetch"),
        (size(found.nbytes), "to write"),
    )
    return render("estimate", facts=facts, remarks=found.remarks)


def describe_search_plan(plan: "SearchPlan") -> Markup:
    """What a search would do, as HTML. How long it takes, no headers tell: that is said once candidates are scored."""
    phases = [
        (f"{phase.evaluations:,} {_SPACES[phase.space]}", f"{' then '.join(f'{n:,}' for n in phase.genes)} genes each")
        for phase in plan.phases
    ]
    facts = (
        *phases,
        (size(plan.fetch), "to fetch"),
        (size(plan.held.memory), "memory, at most"),
        (size(plan.output), "disk for the winner"),
    )
    good = not any(finding.level == "error" for finding in plan.findings)
    return render("search_plan", found=plan.findings, good=good, facts=facts)
