"""A plan as a person reads it: what is fetched and written, how much memory and disk, and what stands in the way."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hubmerge.stream.findings import Finding
from hubmerge.stream.plan import Plan

from ..wording import count, escape, hub_link, size

if TYPE_CHECKING:
    from hubmerge.evolve.plan import SearchPlan

_SPACES = {"ps": "recipes", "dfs": "paths"}


def describe_plan(plan: Plan) -> str:
    """The plan as HTML."""
    facts = (
        (count(plan.parameters), "parameters"),
        (f"{len(plan.tensors):,}", "tensors"),
        (size(plan.fetch_bytes), "to fetch"),
        (size(plan.output_bytes), "to write"),
        (size(plan.peak_memory), "peak memory"),
        (size(plan.disk_bytes), "disk"),
    )
    rows = "".join(
        f"<tr><td>{'<br>+ '.join(hub_link(part.ref, part.name) for part in source.parts)}</td>"
        f'<td class="hm-code">{"<br>".join(escape((part.commit or "folder")[:8]) for part in source.parts)}</td>'
        f'<td class="hm-number">{len(source.tensors):,}</td><td class="hm-number">{size(source.nbytes)}</td>'
        f"<td>{'<br>'.join(escape(part.licence.id or 'not stated') for part in source.parts)}</td></tr>"
        for source in plan.sources
    )
    number = '<th class="hm-number">'
    head = f"<tr><th>Source</th><th>Commit</th>{number}Tensors</th>{number}Size</th><th>Licence</th></tr>"
    fine = (
        "" if plan.errors else '<div class="hm-fine">Ready: nothing was downloaded yet, only headers were read.</div>'
    )
    return (
        f'<div class="hm-panel">{_findings(plan.findings)}{fine}{_figures(facts)}'
        f'<div class="hm-scroll" tabindex="0"><table class="hm-table"><thead>{head}</thead><tbody>{rows}</tbody>'
        "</table></div></div>"
    )


def describe_search_plan(plan: "SearchPlan") -> str:
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
    fine = "Ready. How long it takes is estimated once the first candidates are scored."
    good = "" if any(p.level == "error" for p in plan.findings) else f'<div class="hm-fine">{fine}</div>'
    return f'<div class="hm-panel">{_findings(plan.findings)}{good}{_figures(facts)}</div>'


def _findings(findings: Sequence[Finding]) -> str:
    return "".join(
        f'<div class="hm-problem {escape(finding.level)}" role="alert">{escape(finding.message)}</div>'
        for finding in findings
    )


def _figures(facts: Sequence[tuple[str, str]]) -> str:
    figures = "".join(f"<div><b>{value}</b><span>{label}</span></div>" for value, label in facts)
    return f'<div class="hm-facts">{figures}</div>'
