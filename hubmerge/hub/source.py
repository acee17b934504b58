"""A model to merge from, opened: its commit pinned, its files listed, every tensor located - and no weight read.

>>> source = open_source(ModelRef.parse("org/name"))            # doctest: +SKIP
>>> source.commit, source.tensors["lm_head.weight"].shape       # doctest: +SKIP
('6f2c...', (32000, 4096))
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SourceError
from ..reference import ModelRef
from . import pipeline
from .answers import FileInfo
from .auto_class import auto_class
from .checkpoint import (
    CONFIG,
    GGUF,
    OLDER,
    SAFE,
    TOKENIZERS,
    collect,
    find_weights,
    is_torch,
    lacking,
    parse_config,
    parse_index,
    parse_older,
    read_tensors,
    require_unpacked,
)
from .component import ALIASES, Component, Folder, components, lacks_part
from .content import HashedFile
from .headers import LONGEST_HEADER, TensorHeader
from .listing import Licence, Listing, list_files, within
from .lora import Adapter, is_adapter, open_adapter, trained_on
from .parallel import in_parallel
from .pins import open_pinned, pin
from .pipeline import PIPELINE, TRANSFORMERS, Convention

if TYPE_CHECKING:  # what only some models need is imported where one does
    from .quantised.packed import Quantised


@dataclass(frozen=True)
class Source:
    """A model at one commit (`commit`: 40 hex digits), or in a folder (`commit`: None).

    `tensors` maps each tensor's name to its place; `identity` changes when the content may have changed
    (the commit, or for a folder a digest of its files' names, sizes and times). `adapter`: a LoRA that changes some of
    the tensors when they are read; files, config and tokenizer are the model's own. `folders`: of a model made of
    checkpoints in folders of their own, with which the names of their tensors begin ("unet/conv_in.weight").
    `quantised`: how weights in few bits are read; `config` is that of the model without. `convention`: whose files
    they are.
    """

    ref: ModelRef
    listing: Listing = field(repr=False)
    tensors: Mapping[str, TensorHeader] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)
    adapter: Adapter | None = None
    folders: Mapping[str, Folder] = field(default_factory=dict, repr=False)
    quantised: "Quantised | None" = field(default=None, repr=False)
    convention: Convention = field(default=TRANSFORMERS, repr=False)

    @property
    def name(self) -> str:
        """The Hub ID or the folder as it was given, and after a plus that of its LoRA: for people on this machine."""
        return self.ref.bare

    @property
    def title(self) -> str:
        """The same for everybody: a folder by its own name."""
        return self.ref.title

    @property
    def commit(self) -> str | None:
        """The model's commit; None for a folder."""
        return self.listing.commit

    @cached_property
    def pinned(self) -> ModelRef:
        """The reference at the commits that were opened, a folder at its digest (see pins.py)."""
        lora = self.adapter.pinned if self.adapter else None
        return replace(pin(self), lora=lora, component=self.ref.component)

    @cached_property
    def component(self) -> Component | None:
        """The part of the model that the reference names; None where it names the whole."""
        name = self.ref.component
        return None if name is None else self.components.get(ALIASES.get(name, name))

    @cached_property
    def components(self) -> Mapping[str, Component]:
        """All parts of it, by name; none of a plain model."""
        return components(self.config, self.weights, self.folders)

    @property
    def entry(self) -> list[str] | None:
        """What the settings of a model made of several say of this one, as one of them; None where nobody can tell."""
        return pipeline.entry_of(self.config)

    @cached_property
    def weights(self) -> Mapping[str, TensorHeader]:
        """Its weights as they are read: those in few bits by the names and shapes that they have without."""
        return self.tensors if self.quantised is None else self.quantised.weights(self.tensors)

    @property
    def stored(self) -> Iterable[TensorHeader]:
        """All tensors, where they lie."""
        return self.tensors.values()

    @property
    def parts(self) -> tuple[Listing, ...]:
        """The repositories or folders that it is made of: the model's, and its LoRA's."""
        return (self.listing, self.adapter.listing) if self.adapter else (self.listing,)

    @cached_property
    def place(self) -> tuple[str, str]:
        """Equal where the files are the same, with a LoRA or without."""
        return self.listing.name, self.listing.identity

    @property
    def files(self) -> Mapping[str, FileInfo]:
        """The model's files."""
        return self.listing.files

    @property
    def identity(self) -> str:
        """Changes when the content may have changed."""
        return "+".join(part.identity for part in self.parts)

    @property
    def base_models(self) -> tuple[str, ...]:
        """The models that the card says this one was made from."""
        return self.listing.base_models

    @property
    def is_folder(self) -> bool:
        """Whether the model is a folder on disk rather than a repository of the Hub."""
        return self.commit is None

    @property
    def licence(self) -> Licence:
        """What the model's card says about its licence."""
        return self.listing.licence

    @property
    def parameters(self) -> int:
        """The number of elements of all weights."""
        return sum(tensor.parameters for tensor in self.weights.values())

    @property
    def nbytes(self) -> int:
        """The size of all tensors in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def local_path(self, name: str) -> Path:
        """The file `name` on disk; one of the Hub is first downloaded, at the pinned commit, into the Hub cache.

        Raises `SourceError` where the model has no such file or its size is not the listed one, `HubError` where it
        cannot be downloaded.
        """
        return self.listing.path(name)

    def is_here(self, name: str) -> bool:
        """Whether the file `name` is on this machine: in the folder, or already in the Hub cache."""
        return name in self.listing.made or self.listing.store.is_here(name)

    def read_range(self, file: str, start: int, stop: int) -> memoryview:
        """The bytes `start` up to but not including `stop` of the file `file` and nothing else.

        From the Hub they come by a request for just this part, which leaves no file; many threads may read at once.
        Raises `SourceError` where the model has no such file or a folder's was changed, `HubError` where the Hub does
        not send exactly these bytes of the file that it listed.
        """
        return self.listing.store.read(self.listing.file(file), start, stop)

    def require_words(self) -> None:
        """Raises `SourceError` where it is no model that is asked in words, such as a pipeline that draws."""
        if not self.convention.speaks:
            raise SourceError(
                f"{self.name} is a {auto_class(self.config)}, which answers nothing in words: it can be merged, and is "
                f"opened with {self.convention.library}."
            )

    def hashing(self, file: str) -> HashedFile | None:
        """What compares `file`, read in order from its first tensor to its last, with its sha256.

        None where the Hub lists none, or where there is much beside the tensors.
        """
        info, tensors = self.listing.file(file), [one for one in self.tensors.values() if one.file == file]
        start, stop = min(one.start for one in tensors), max(one.stop for one in tensors)
        if info.sha256 is None or max(start, info.size - stop) > LONGEST_HEADER:
            return None
        return HashedFile(info, self.name, (start, stop), lambda *part: self.read_range(file, *part))

    def read_text(self, name: str) -> str | None:
        """The text of a small file, or None where the model has no file of that name."""
        return self.listing.read_text(name)


def pins_of(sources: Iterable[Source]) -> tuple[ModelRef, ...]:
    """The parts of the sources (see `parts_of`), each pinned."""
    found: dict[tuple[str, str], ModelRef] = {}
    for source in sources:
        pins = [replace(source.pinned, lora=None, component=None), *([source.adapter.pinned] if source.adapter else [])]
        found |= {(part.name, part.identity): one for part, one in zip(source.parts, pins, strict=True)}
    return tuple(found.values())


def parts_of(sources: Iterable[Source]) -> tuple[Listing, ...]:
    """The repositories and folders that the sources are made of, once each, in their order."""
    return tuple({(part.name, part.identity): part for source in sources for part in source.parts}.values())


def open_source(ref: ModelRef | str | Path, *, token: str | None = None, listing: Listing | None = None) -> Source:
    """Opens a model, with its LoRA if it has one: resolves revisions to commits once, reads configs and headers.

    `ref`: its reference, or what a recipe calls it ("org/name@revision+org/lora"); a `Path` is a folder;
    `listing`: what `list_files` gives for it, where that is known.
    From the Hub this costs a few small requests and no weights: the file list, config.json, the index, and one range
    request per shard (three or four for what torch.save wrote). `token` wins over the environment's. Raises
    `SourceError` for content that cannot be merged (quantised in an unknown way, cut short, an index that lies) and
    `HubError` for what the Hub refuses.
    """
    if not isinstance(ref, ModelRef):
        ref = ModelRef.parse(str(ref.absolute()) if isinstance(ref, Path) else ref)
    if ref.stage:
        raise SourceError(
            f"{ref} is what a recipe makes on its way, not a model; it has a meaning in its recipe alone."
        )
    if ref.is_folder and ref.revision is not None:
        source = open_pinned(replace(ref, lora=None, component=None), _open_folder)
        return _with_lora(_part(replace(source, ref=replace(ref, place=source.ref.place))), token)
    listing = listing or list_files(replace(ref, lora=None, component=None), token)
    if is_adapter(listing.files):
        model = trained_on(listing) or "org/model"
        raise SourceError(f"{ref} is an adapter, not a whole model; name it on top of its model: {model}+{ref}.")
    return _with_lora(_part(_open(ref, listing)), token)


def open_alone(file: Path) -> Source:
    """The model of a GGUF file by itself, whatever lies beside it. Raises `SourceError` as `open_source` does."""
    ref = ModelRef.parse(str(file))
    listing = list_files(ref)
    return _open_gguf(ref, replace(listing, files={file.name: listing.file(file.name)}), file.name)


def _part(source: Source) -> Source:
    """The source, if it has the part that its reference names."""
    if (name := source.ref.component) is not None and source.component is None:
        raise SourceError(f"{source.name}: {lacks_part(source.listing.name, name, source.components)}")
    return source


def _open_folder(ref: ModelRef) -> Source:
    return _open(ref, list_files(ref))


def _with_lora(source: Source, token: str | None) -> Source:
    lora = source.ref.lora
    if lora is None:
        return source

    def open_at(ref: ModelRef) -> Adapter:
        where, tensors = source.listing.name, source.weights
        if (part := source.component) is not None:
            where = f"{where}#{part.name}"
            tensors = {name: replace(source.weights[stored], name=name) for name, stored in part.names.items()}
        network = pipeline.network(source.config, source.ref.component)
        return open_adapter(list_files(ref, token), tensors, where, network)

    pinned = lora.is_folder and lora.revision is not None
    return replace(source, adapter=open_pinned(lora, open_at) if pinned else open_at(lora))


def _open(ref: ModelRef, listing: Listing, where: str = "") -> Source:
    where, files = where or listing.name, listing.files
    named = ref.inside.rpartition("/")[2]
    if pipeline.is_pipeline(files, named):
        return _open_pipeline(ref, listing)
    if not any(name.endswith(GGUF) for name in files):
        if named not in files:
            listing.require(CONFIG)
        if needed := lacking(files):
            listing.require(*needed)
    weights = find_weights(files, where)
    if weights.endswith(GGUF):
        return _open_gguf(ref, listing, weights)
    if is_torch(weights):
        from .conversion import find_conversion

        if (copy := find_conversion(listing)) is not None:
            return _open(ref, copy)

    def older() -> dict[str, Any] | None:
        found = [name for name in OLDER if name in files]
        return parse_older(found[0], listing.read_text(found[0]), where) if found else None

    def headers(shard: str) -> tuple[TensorHeader, ...]:
        file = files[shard]
        return read_tensors(lambda start, stop: listing.store.read(file, start, stop), shard, file.size, where)

    if CONFIG not in files and weights.endswith(SAFE):
        read = headers(weights)
        if (told := pipeline.read_one_file(weights, (one.name for one in read))) is not None:
            return Source(ref, listing, collect([read], None, where), told[0], convention=told[1])
    listing.require(CONFIG)
    config, how = parse_config(listing.read_text(CONFIG), where, older)
    weight_map = None
    if weights.endswith(".json"):
        weight_map = parse_index(listing.read_text(weights), files, where, listing.require, weights)
    shards = sorted(set(weight_map.values())) if weight_map else [weights]

    tensors = collect(in_parallel(headers, shards), weight_map, where, scaled=how is not None)
    convention = pipeline.convention_of(config)
    if how is None:
        return Source(ref, listing, tensors, config, convention=convention)
    from .quantised.kinds import find_quantised
    from .quantised.packed import Stored

    def read_small(small: Sequence[TensorHeader]) -> list[bytes]:
        return list(in_parallel(lambda one: bytes(listing.store.read(files[one.file], one.start, one.stop)), small))

    quantised = find_quantised(Stored(tensors, config, how, where, read_small))
    require_unpacked(quantised.weights(tensors) if quantised else tensors, where)
    tensors |= quantised.parts if quantised else {}
    return Source(ref, listing, tensors, config, quantised=quantised, convention=convention)


def _open_pipeline(ref: ModelRef, listing: Listing) -> Source:
    """A pipeline: the tensors of all its parts under names that begin with their folders."""
    where = listing.name
    config, named = pipeline.parse_model_index(listing.read_text(pipeline.MODEL_INDEX), where, listing.files)
    inner = {name: within(listing, name) for name in named}
    for name, one in inner.items():
        if not one.files:
            listing.require(f"{name}/")
            raise SourceError(
                f"{where} lacks the folder {name} that its {pipeline.MODEL_INDEX} names; it may be half uploaded."
            )
    models = [name for name, entry in named.items() if entry.holds_weights]
    opened = dict(
        zip(models, in_parallel(lambda name: _open(ref, inner[name], f"{where}/{name}"), models), strict=True)
    )
    tensors: dict[str, TensorHeader] = {}
    folders = {}
    for name, one in inner.items():
        part = opened.get(name)
        small = pipeline.small_files(one.files, part is not None)
        if part is None:
            pipeline.require_sound(one, small, f"{where}/{name}")
            folders[name] = Folder({}, files=small)
            continue
        if part.quantised is not None or part.folders:
            what = "quantised" if part.quantised else "a pipeline itself"
            raise SourceError(f"The part {name} of {where} is {what}, which is not read within a pipeline.")
        folders[name] = Folder(part.config, part.convention.stem, small)
        for tensor in part.tensors.values():
            stored = f"{name}/{tensor.name}"
            tensors[stored] = replace(tensor, name=stored, file=f"{name}/{tensor.file}")
    if listing.remark is None:
        listing = replace(listing, remark=pipeline.remark(where, config, named, listing.files))
    return Source(ref, listing, tensors, config, folders=folders, convention=PIPELINE)


def _open_gguf(ref: ModelRef, listing: Listing, name: str) -> Source:
    from .gguf.model import read_gguf

    config, file = None, listing.files[name]
    if (text := listing.read_text(CONFIG)) is not None:
        config, _ = parse_config(text, listing.name)
    model = read_gguf(lambda start, stop: listing.store.read(file, start, stop), name, file.size, listing.name, config)
    beside = any(one in listing.files for one in TOKENIZERS)
    made = {name: content for name, content in model.files.items() if name == CONFIG or not beside}
    return Source(
        ref, listing.having(made).licensed(model.licence), model.tensors, model.config, quantised=model.quantised
    )
