"""Models and all that they come from, walked upward: their common ancestors, and the base that fits them.

>>> tree = trace(["org/merged"])                          # doctest: +SKIP
>>> tree.roots("org/merged"), tree.base                   # doctest: +SKIP
(('mistralai/Mistral-7B-v0.1',), 'mistralai/Mistral-7B-v0.1')
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from ..errors import AccessError, HubError, HubmergeError, NetworkError, NotFoundError
from ..hub.listing import Listing, list_files
from ..hub.session import find_token
from ..hub.source import open_source
from ..progress import Event, Progress, silent
from ..reference import ModelRef
from .claims import Claim, claims_of
from .likely import Kin
from .likeness import RELATED, Numbers, Sample, cosine, distance, kinship, likeness, sample, task_vector

TRIED = 64
"""Models of the Hub that are sampled to find the parent of one that names none."""
DEEPEST = 64
LOOKED_AT = 12
"""Models tuned from a base that are sampled to find siblings: those downloaded most."""
PROPOSED = 5
"""Siblings that are told."""
THE_SAME = 0.9
"""The cosine of what two models add to their base from which on the second adds nothing to a merge."""
_READERS = 8

Said = tuple[tuple[Claim, ...], tuple[str, ...], str | None]
"""What a model says of its parents, remarks on that, and why it could not be read."""


@dataclass(frozen=True)
class Parent:
    """What a model comes from. `told`: "manifest", "adapter" or "card" say so, or its weights do ("likeness").
    `likeness`: the cosine of what was sampled of both; None where it was not, or cannot be compared."""

    repo_id: str
    relation: str | None
    told: str
    likeness: float | None = None


@dataclass(frozen=True)
class Node:
    """A model of the tree. `doubted`: parents that it names and whose weights are others', with their likeness. `gone`:
    why it could not be read. `remarks`: what its card or manifest says and nobody can follow."""

    repo_id: str
    parents: tuple[Parent, ...] = ()
    doubted: tuple[Parent, ...] = ()
    gone: str | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sibling:
    """A model that fits the asked ones: it was tuned from the same base, which it is near (`distance`, a share of the
    base's length). `kinship`: the highest cosine of what it adds to the base and what one of them adds."""

    repo_id: str
    distance: float
    kinship: float


@dataclass(frozen=True)
class Tree:
    """`asked`: the models that were asked about; `nodes`: those and all their ancestors, by name. `distances`: how far
    each asked model is from `base`; `kinship`: the cosine of what two of them add to it, by their names. `siblings`:
    others that would fit, those that learnt something else than the asked ones first."""

    asked: tuple[str, ...]
    nodes: Mapping[str, Node]
    base: str | None = None
    distances: Mapping[str, float] | None = None
    kinship: Mapping[tuple[str, str], float] | None = None
    siblings: tuple[Sibling, ...] = ()

    def ancestors(self, repo_id: str) -> dict[str, int]:
        """All that a model comes from, itself among them, by how many steps away it is."""
        steps, rank = {repo_id: 0}, [repo_id]
        for name in rank:
            for parent in self.nodes[name].parents if name in self.nodes else ():
                if parent.repo_id not in steps:
                    steps[parent.repo_id] = steps[name] + 1
                    rank.append(parent.repo_id)
        return steps

    def roots(self, repo_id: str) -> tuple[str, ...]:
        """The ancestors that come from nothing, as far as is known; itself, where that does."""
        return tuple(name for name in self.ancestors(repo_id) if not self.nodes[name].parents)

    @property
    def common(self) -> tuple[str, ...]:
        """What all asked models come from, the nearest first."""
        steps = [self.ancestors(name) for name in self.asked]
        shared = reduce(set.intersection, map(set, steps)) if steps else set()
        return tuple(sorted(shared, key=lambda name: (sum(one[name] for one in steps), name)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "models": list(self.asked),
            "roots": {name: list(self.roots(name)) for name in self.asked},
            "common": list(self.common),
            "base": self.base,
            "distances": dict(self.distances or {}),
            "kinship": [{"models": list(pair), "cosine": value} for pair, value in (self.kinship or {}).items()],
            "siblings": [vars(one) for one in self.siblings],
            "nodes": {
                name: {
                    "parents": [vars(parent) for parent in node.parents],
                    "doubted": [vars(parent) for parent in node.doubted],
                    "gone": node.gone,
                    "remarks": list(node.remarks),
                }
                for name, node in self.nodes.items()
            },
        }


def trace(models: Sequence[str], *, token: str | None = None, look: bool = True, progress: Progress = silent) -> Tree:
    """Walks from the models up to where they come from, by what they say.

    With `look`, what they say is compared with a few numbers of the weights, read by range: a parent whose weights are
    others' is doubted and left out, and for a model that then has none, or names none, the nearest of older models of
    its kind and size is looked for. What cannot be read is told in its node, but for the asked ones.

    Raises `HubError` for an asked model that cannot be read.
    """
    return Tracer(token, look).trace(models, progress)


class Tracer:
    """What was read while trees were walked, each model once."""

    def __init__(self, token: str | None = None, look: bool = True) -> None:
        self._token, self._look = find_token(token), look
        self._kin = Kin(self._token)
        self._nodes: dict[str, Node] = {}
        self._listings: dict[str, Listing | HubmergeError] = {}
        self._samples: dict[str, Sample | None] = {}

    def trace(self, models: Sequence[str], progress: Progress = silent) -> Tree:
        """See `trace`."""
        asked = tuple(dict.fromkeys(models))
        wanted, done = list(asked), 0
        with ThreadPoolExecutor(_READERS, "hubmerge-lineage") as pool:
            for listing in pool.map(self._listing, asked):
                if isinstance(listing, HubmergeError):  # the first thing that is wrong is said
                    raise listing
            for _ in range(DEEPEST):
                new = [name for name in dict.fromkeys(wanted) if name not in self._nodes]
                said = list(pool.map(self._claims, new))
                if self._look:
                    named = [claim.repo_id for claims, _, _ in said for claim in claims]
                    deque(pool.map(self._sample, dict.fromkeys([*new, *named])), 0)
                nodes = pool.map(self._node, new, said)
                self._nodes |= zip(new, nodes, strict=True)
                wanted = [parent.repo_id for name in dict.fromkeys(wanted) for parent in self._nodes[name].parents]
                wanted = [name for name in wanted if name not in self._nodes]
                done += len(new)
                progress(Event("read", done, done + len(wanted), "models"))
                if not wanted:
                    break
        known = Tree(asked, {})
        reached = {name for one in asked for name in replace(known, nodes=self._nodes).ancestors(one)}
        tree = Tree(asked, {name: node for name, node in self._nodes.items() if name in reached})
        return self._with_base(tree)

    def _listing(self, name: str) -> Listing | HubmergeError:
        """What the Hub lists of a model, or why it does not, asked for once."""
        if name not in self._listings:
            try:
                self._listings[name] = list_files(ModelRef.parse(name), self._token)
            except HubmergeError as exc:
                self._listings[name] = exc
        return self._listings[name]

    def _claims(self, name: str) -> Said:
        listing = self._listing(name)
        return ((), (), _why(listing)) if isinstance(listing, HubmergeError) else (*claims_of(listing), None)

    def _node(self, name: str, said: Said) -> Node:
        claims, remarks, gone = said
        own = self._sample(name) if self._look else None
        parents: list[Parent] = []
        doubted: list[Parent] = []
        for claim in claims:
            other = self._sample(claim.repo_id) if own is not None else None
            near = kinship(own, other) if own is not None and other is not None else None
            is_other = near is not None and near < RELATED
            (doubted if is_other else parents).append(Parent(claim.repo_id, claim.relation, claim.told, near))
        if not parents and own is not None:
            parents += self._found(name, own)
        return Node(name, tuple(parents), tuple(doubted), gone, remarks)

    def _found(self, name: str, own: Sample) -> Iterator[Parent]:
        """The model of the Hub that this one was most likely made from, where there is one."""
        tried = {}
        for other in self._kin.older(name, own.kind, own.parameters)[:TRIED]:
            if (taken := self._sample(other)) is not None:
                near, apart = likeness(own, taken), distance(own, taken)
                if near is not None and near >= RELATED and apart is not None:
                    tried[other] = apart, near
        if tried:
            nearest = min(tried, key=lambda other: tried[other][0])
            yield Parent(nearest, None, "likeness", tried[nearest][1])

    def _sample(self, name: str) -> Sample | None:
        """What is sampled of a model, once; None where it cannot be."""
        if name not in self._samples:
            found = None
            if not isinstance(listing := self._listing(name), HubmergeError):
                with suppress(HubmergeError):
                    found = sample(open_source(listing.ref, token=self._token, listing=listing))
            self._samples[name] = found
        return self._samples[name]

    def _with_base(self, tree: Tree) -> Tree:
        """The tree with the base that its models fit: the nearest of their common ancestors - of one model, of those of
        its parents - that can be read and comes from none of them, nor is one of them that was tuned itself; with how
        they relate to it."""
        of = tree.asked if len(tree.asked) > 1 else tuple(one.repo_id for one in tree.nodes[tree.asked[0]].parents)
        fits = (name for name in replace(tree, asked=of).common if self._is_base(tree, name))
        base = next(fits, None)
        if base is None or not self._look or (origin := self._sample(base)) is None:
            return replace(tree, base=base)
        shifts, distances = {}, {}
        for name in tree.asked:
            own = self._sample(name)
            if name == base or own is None or (apart := distance(own, origin)) is None:
                continue
            shifts[name], distances[name] = task_vector(own, origin), apart
        names = list(shifts)
        akin = {}
        for at, one in enumerate(names):
            for other in names[at + 1 :]:
                first, second = shifts[one], shifts[other]
                if first is None or second is None or len(first) != len(second):
                    continue
                if (value := cosine(first, second)) is not None:
                    akin[one, other] = value
        siblings = self._siblings(tree, base, origin, [shift for shift in shifts.values() if shift is not None])
        return replace(tree, base=base, distances=distances, kinship=akin, siblings=siblings)

    def _siblings(self, tree: Tree, base: str, origin: Sample, shifts: Sequence[Numbers]) -> tuple[Sibling, ...]:
        """The models that fit `tree`'s, which add `shifts` to the base: of those that name it as theirs, the ones whose
        weights say so too, that have not learnt the same, and that are not made of `tree`'s themselves."""
        if not shifts:
            return ()
        names = [one for one in self._kin.tuned_from(base, origin.parameters) if one not in tree.nodes][:LOOKED_AT]
        found = []
        with ThreadPoolExecutor(_READERS, "hubmerge-lineage") as pool:
            for name, own in zip(names, pool.map(self._sample, names), strict=True):
                near = None if own is None else likeness(own, origin)
                if own is None or near is None or near < RELATED:
                    continue
                if any(claim.repo_id in tree.asked for claim in self._claims(name)[0]):
                    continue
                shift, apart = task_vector(own, origin), distance(own, origin)
                if shift is None or apart is None:
                    continue
                values = [cosine(shift, other) for other in shifts if len(other) == len(shift)]
                akin = max((one for one in values if one is not None), default=None)
                if akin is not None and akin < THE_SAME:
                    found.append(Sibling(name, apart, akin))
        return tuple(sorted(found, key=lambda one: one.kinship)[:PROPOSED])

    @staticmethod
    def _is_base(tree: Tree, name: str) -> bool:
        if name not in tree.nodes or tree.nodes[name].gone:
            return False
        if name in tree.asked and (tree.nodes[name].parents or len(tree.asked) == 1):
            return False
        return not {*tree.asked} & {*tree.ancestors(name)} - {name}


def _why(exc: HubmergeError) -> str:
    """In a word or two, why a model could not be read."""
    for kind, said in ((NotFoundError, "not there"), (AccessError, "no access"), (NetworkError, "the Hub is silent")):
        if isinstance(exc, kind):
            return said
    return "the Hub refuses" if isinstance(exc, HubError) else "cannot be read"
