"""Models and all that they come from, walked upward: their common ancestors, and the base that fits them.

>>> tree = trace(["org/merged"])                          # doctest: +SKIP
>>> tree.roots("org/merged"), tree.base                   # doctest: +SKIP
(('mistralai/Mistral-7B-v0.1',), 'mistralai/Mistral-7B-v0.1')
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from ..errors import AccessError, HubError, HubmergeError, NetworkError, NotFoundError
from ..hub.listing import list_files
from ..hub.session import find_token
from ..hub.source import open_source
from ..progress import Event, Progress, silent
from ..reference import ModelRef
from .claims import Claim, claims_of
from .likely import Kin
from .likeness import RELATED, Sample, cosine, distance, likeness, sample, task_vector

TRIED = 64
"""Models of the Hub that are sampled to find the parent of one that names none."""
DEEPEST = 64
_READERS = 8


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
    why it could not be read."""

    repo_id: str
    parents: tuple[Parent, ...] = ()
    doubted: tuple[Parent, ...] = ()
    gone: str | None = None


@dataclass(frozen=True)
class Tree:
    """`asked`: the models that were asked about; `nodes`: those and all their ancestors, by name. `distances`: how far
    each asked model is from `base`; `kinship`: the cosine of what two of them add to it, by their names."""

    asked: tuple[str, ...]
    nodes: Mapping[str, Node]
    base: str | None = None
    distances: Mapping[str, float] | None = None
    kinship: Mapping[tuple[str, str], float] | None = None

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
            "nodes": {
                name: {
                    "parents": [vars(parent) for parent in node.parents],
                    "doubted": [vars(parent) for parent in node.doubted],
                    "gone": node.gone,
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
        self._samples: dict[str, Sample | None] = {}

    def trace(self, models: Sequence[str], progress: Progress = silent) -> Tree:
        """See `trace`."""
        asked = tuple(dict.fromkeys(models))
        for name in asked:  # the first thing that is wrong is said
            list_files(ModelRef.parse(name), self._token)
        wanted, done = list(asked), 0
        with ThreadPoolExecutor(_READERS, "hubmerge-lineage") as pool:
            for _ in range(DEEPEST):
                new = [name for name in dict.fromkeys(wanted) if name not in self._nodes]
                self._nodes |= zip(new, pool.map(self._node, new), strict=True)
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

    def _node(self, name: str) -> Node:
        try:
            listing = list_files(ModelRef.parse(name), self._token)
        except HubmergeError as exc:
            return Node(name, gone=_why(exc))
        claims = claims_of(listing)
        if not self._look or (own := self._sample(name)) is None:
            return Node(name, tuple(Parent(one.repo_id, one.relation, one.told) for one in claims))
        parents: list[Parent] = []
        doubted: list[Parent] = []
        for claim in claims:
            found = self._compared(claim, own)
            is_other = found.likeness is not None and found.likeness < RELATED
            (doubted if is_other else parents).append(found)
        if not parents:
            parents += self._found(name, own)
        return Node(name, tuple(parents), tuple(doubted))

    def _compared(self, claim: Claim, own: Sample) -> Parent:
        other = self._sample(claim.repo_id)
        near = None if other is None else likeness(own, other)
        return Parent(claim.repo_id, claim.relation, claim.told, near)

    def _found(self, name: str, own: Sample) -> Iterator[Parent]:
        """The model of the Hub that this one was most likely made from, where there is one."""
        source = open_source(ModelRef.parse(name), token=self._token)
        tried = {}
        for other in self._kin.older(source)[:TRIED]:
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
            try:
                source = open_source(ModelRef.parse(name), token=self._token)
                self._samples[name] = sample(source)
            except HubmergeError:
                self._samples[name] = None
        return self._samples[name]

    def _with_base(self, tree: Tree) -> Tree:
        """The tree with the base that its models fit: of their common ancestors at the least steps, the one that they
        are nearest to; with how they relate to it."""
        common = tree.common
        if not common or (len(tree.asked) == 1 and common == tree.asked):
            return replace(tree, base=None)
        if len(tree.asked) == 1:
            common = tuple(name for name in common if name not in tree.asked)
        base = common[0]
        if not self._look or (origin := self._sample(base)) is None:
            return replace(tree, base=base)
        shifts, distances = {}, {}
        for name in tree.asked:
            own = self._sample(name)
            if name == base or own is None or (apart := distance(own, origin)) is None:
                continue
            shifts[name], distances[name] = task_vector(own, origin), apart
        names = list(shifts)
        kinship = {}
        for at, one in enumerate(names):
            for other in names[at + 1 :]:
                first, second = shifts[one], shifts[other]
                if first is None or second is None or len(first) != len(second):
                    continue
                if (value := cosine(first, second)) is not None:
                    kinship[one, other] = value
        return replace(tree, base=base, distances=distances, kinship=kinship)


def _why(exc: HubmergeError) -> str:
    """In a word or two, why a model could not be read."""
    for kind, said in ((NotFoundError, "not there"), (AccessError, "no access"), (NetworkError, "the Hub is silent")):
        if isinstance(exc, kind):
            return said
    return "the Hub refuses" if isinstance(exc, HubError) else "cannot be read"
