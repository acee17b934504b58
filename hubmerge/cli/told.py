"""What commands print with `--json`: plain values. Sizes are bytes, shares 0..1, times seconds."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ..evolve.plan import SearchPlan
    from ..hub.source import Source
    from ..reproduce import Reproduction
    from ..stream.findings import Finding
    from ..stream.plan import Plan
    from ..stream.verify import Verification


def of_plan(plan: "Plan") -> dict[str, Any]:
    """A merge's plan. `result` is None where an error forbids it."""
    result = {
        "tensors": len(plan.tensors),
        "parameters": plan.parameters,
        "dtypes": sorted({tensor.dtype for tensor in plan.tensors}),
        "bytes": plan.output_bytes,
        "files": len(plan.shards),
    }
    return {
        "recipe": plan.recipe.to_dict(),
        "key": plan.key,
        "methods": list(plan.methods),
        "models": _models(plan.sources),
        "result": result if plan.tensors else None,
        "fetch_bytes": plan.fetch_bytes,
        "peak_memory_bytes": plan.peak_memory,
        "disk_bytes": plan.disk_bytes,
        "compute_seconds": round(plan.compute_seconds, 3) if plan.tensors else 0.0,
        "threads": plan.threads,
        "device": plan.device,
        **_findings(plan.findings),
    }


def of_search(plan: "SearchPlan") -> dict[str, Any]:
    """A search's plan."""
    return {
        "models": _models(plan.models),
        "phases": [asdict(phase) for phase in plan.phases],
        "fetch_bytes": plan.fetch,
        "disk_bytes": plan.output,
        "memory_bytes": asdict(plan.held),
        "demand": None if plan.demand is None else asdict(plan.demand),
        **_findings(plan.findings),
    }


def of_verification(found: "Verification") -> dict[str, Any]:
    """What `verify` found."""
    beside = found.beside._asdict()
    return {**asdict(found), "beside": beside, "ok": found.ok, "findings": list(found.findings)}


def of_reproduction(found: "Reproduction") -> dict[str, Any]:
    """What `reproduce` found."""
    folder = None if found.folder is None else str(found.folder)
    return {**asdict(found), "folder": folder, "ok": found.ok, "findings": list(found.findings)}


def of_run(run: "Path") -> dict[str, Any]:
    """What a search has done so far: `best` of its candidates, and `rows`, the final table, once it is done."""
    from ..evolve.report.data import read_stages

    last = read_stages(run)[-1]
    best = max(last.measured, key=lambda evaluation: evaluation.fitness[0], default=None)
    told: Mapping[str, Any] = {} if best is None else {"number": best.number, "score": best.score, "of": best.n}
    return {
        "name": last.name,
        "done": last.done,
        "evaluations": len(last.evaluations),
        "failed": len(last.evaluations) - len(last.measured),
        "planned": last.planned,
        "best": {**told, "fitness": list(best.fitness)} if best is not None else None,
        "search": dict(last.facts),
        "winner": dict(last.winner),
        "rows": [{key: value for key, value in row.items() if key != "values"} for row in last.rows],
    }


def _models(sources: "Iterable[Source]") -> list[dict[str, Any]]:
    return [
        {
            "model": part.ref.whole,
            "commit": part.commit,
            "licence": part.licence.id,
            **({"parameters": source.parameters} if part is source.parts[0] else {}),
        }
        for source in sources
        for part in source.parts
    ]


def _findings(findings: "Iterable[Finding]") -> dict[str, list[str]]:
    told: dict[str, list[str]] = {"errors": [], "warnings": []}
    for finding in findings:
        told[f"{finding.level}s"].append(finding.message)
    return told
