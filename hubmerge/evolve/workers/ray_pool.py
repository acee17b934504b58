"""The pool of Ray actors: candidates measured side by side, on this machine's cores or on a cluster's."""

import contextlib
import os
import pickle
import socket
import sys
import time
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from ...errors import HubmergeError, ResourceError, SearchError
from ...evaluate.measurement import Measurement
from ..examples.asked import EVERYTHING, Asked
from ..spaces.candidate import Contestant
from .pool import MakeWorker, Worker, attempt, describe

LIVES = 2
"""How many actors a candidate may end before that counts as its own fault."""

STARTS = 3
"""How many starts in a row may fail before no more are tried."""

PATIENCE = 120.0
"""Seconds that a cluster may have no room for a single actor, at the start or after all were lost."""

_PASSED_ON = ("HF_", "HUGGING_FACE_", "HUBMERGE_", "TRANSFORMERS_", "TOKENIZERS_", "OMP_WAIT_")
_ALSO = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CACHE_HOME")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_OBJECT_STORE = 100 * 2**20  # candidates and measurements are small; Ray would take 30% of the memory
_POLL = 1.0  # seconds between two looks at the clock while nothing happens


class RayPool:
    """`actors` workers, each in a process of its own.

    make_worker: made in each actor; see `MakeWorker`. Models never travel: each actor opens them by name.
    gpus_per_actor: may be a share, 0.5 for two actors a GPU; with 0 the actors see no GPU.
    cpus_per_actor: threads that an actor computes with.
    address: None starts Ray on this machine, unseen from outside, and ends it with the pool. "auto" or "host:port" is
    a cluster that this machine is part of, "ray://host:port" one that it is not (needs `ray[client]`). Its machines
    need the same Python and the same installed hubmerge, and must reach the models: by Hub ID, or in a folder that
    all of them see. Where this process is already connected to Ray, that connection is used and kept.

    Environment variables of the Hub, its token included, are handed to the actors; they appear in no log of Ray's.
    The constructor returns when the first actor is ready; the others join as they come. An actor that dies (killed,
    out of memory, its machine lost) is replaced and its candidate measured again, once: a second death is that
    candidate's error. Each is counted once, whoever else may still be computing it.

    Raises what `make_worker` raises if it is a `HubmergeError`, and `ResourceError` where no actor can be started or
    none is left.
    """

    def __init__(
        self,
        make_worker: MakeWorker,
        *,
        actors: int,
        gpus_per_actor: float = 0,
        cpus_per_actor: int = 1,
        address: str | None = None,
        patience: float = PATIENCE,
    ) -> None:
        if actors < 1 or cpus_per_actor < 1 or gpus_per_actor < 0:
            raise SearchError(
                "actors and cpus_per_actor must be at least 1 and gpus_per_actor at least 0, got "
                f"{actors}, {cpus_per_actor} and {gpus_per_actor}."
            )
        if gpus_per_actor > 1 and gpus_per_actor != int(gpus_per_actor):
            raise SearchError(f"gpus_per_actor above 1 must be a whole number, got {gpus_per_actor}.")
        self.size = actors
        self.replaced = 0  # actors that died and were started again
        self._make_worker = _pickled(make_worker)
        self._needs = {"num_cpus": cpus_per_actor, "num_gpus": gpus_per_actor}
        self._environment = _environment(cpus_per_actor, gpus_per_actor)
        self._patience = patience
        self._waiting: deque[_Order] = deque()
        self._idle: list[Any] = []
        self._flying: dict[Any, _Seat] = {}  # by the reference to what the actor was last asked for
        self._measured: dict[int, Measurement] = {}
        self._failed_starts = 0
        self._reason: BaseException | str = "Ray gave no reason"
        self._last_placed = time.monotonic()
        self._was_ready = False
        self._ray, self._owns_ray = _connect(address, actors * cpus_per_actor)
        try:
            if address is None and self._owns_ray:
                self._require_gpus()
            for _ in range(actors):
                self._launch()
            while not self._idle:
                self._advance(_POLL)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "RayPool":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def submit(self, number: int, candidate: Contestant, asked: Asked = EVERYTHING) -> None:
        """Gives the candidate to a free actor, or lets it wait for one."""
        self._waiting.append(_Order(number, candidate, asked))
        self._dispatch()

    def finished(self, wait: float | None = None) -> dict[int, Measurement]:
        """Measurements in the order in which they arrived; see `Pool.finished`."""
        deadline = None if wait is None else time.monotonic() + wait
        self._advance(0)
        while not self._measured and self._busy:
            left = _POLL if deadline is None else min(_POLL, deadline - time.monotonic())
            if left <= 0:
                break
            self._advance(left)
        measured, self._measured = self._measured, {}
        return measured

    def close(self) -> None:
        """Ends the actors, and Ray where this pool started it."""
        self._waiting.clear()
        seats = [seat.actor for seat in self._flying.values()]
        doomed, self._idle, self._flying = self._idle + seats, [], {}
        try:
            for actor in doomed:
                self._kill(actor)
        finally:
            if self._owns_ray:
                self._owns_ray = False
                self._ray.shutdown()

    @property
    def alive(self) -> int:
        """How many actors are ready or at work; those that are starting are not among them."""
        return len(self._idle) + sum(seat.order is not None for seat in self._flying.values())

    def _require_gpus(self) -> None:
        needed, found = self.size * self._needs["num_gpus"], self._ray.cluster_resources().get("GPU", 0)
        if needed > found:
            raise ResourceError(
                f"{self.size} actors with {self._needs['num_gpus']:g} GPUs each need {needed:g}; this machine has "
                f"{found:g}: ask for fewer, or for a share such as 0.5."
            )

    @property
    def _busy(self) -> bool:
        return bool(self._waiting) or any(seat.order for seat in self._flying.values())

    def _launch(self) -> None:
        actor = self._ray.remote(_Actor).options(**self._needs, max_restarts=0).remote(self._environment, sys.path)
        self._flying[actor.place.remote()] = _Seat(actor, placed=False)

    def _dispatch(self) -> None:
        while self._waiting and self._idle:
            actor, order = self._idle.pop(), self._waiting.popleft()
            # ObjectRefs of results live here and nowhere else: a lost one is a death, never computed behind our back.
            self._flying[actor.measure.remote(order.candidate, order.asked)] = _Seat(actor, order)

    def _advance(self, timeout: float) -> None:
        """Waits up to `timeout` seconds for anything to happen, then deals with all that has."""
        if self._flying:
            ready, rest = self._ray.wait(list(self._flying), num_returns=1, timeout=timeout)
            if ready and rest:
                ready += self._ray.wait(rest, num_returns=len(rest), timeout=0)[0]
            for reference in ready:
                self._land(reference, self._flying.pop(reference))
        self._dispatch()
        if self._idle or self._measured or any(seat.placed for seat in self._flying.values()):
            self._last_placed = time.monotonic()
        elif not self._flying:
            raise self._nobody(self._reason)
        elif time.monotonic() - self._last_placed > self._patience:
            raise self._nobody(f"after {self._patience:.0f} seconds Ray still has no room for one ({self._room()})")

    def _land(self, reference: Any, seat: "_Seat") -> None:
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(reference)
        except errors.RayTaskError as exc:  # raised inside an actor that lives on
            cause = exc.cause if isinstance(exc.cause, Exception) else exc
            if seat.order is None:
                self._start_failed(seat.actor, cause, again=self._was_ready)
            elif isinstance(cause, HubmergeError):
                raise cause from None
            else:  # the candidate did not even unpickle
                self._measured[seat.order.number] = Measurement(error=describe(cause))
                self._idle.append(seat.actor)
        except errors.RayError as exc:
            if seat.order is None:
                self._start_failed(seat.actor, _first_line(exc), again=True)
            else:
                self._actor_died(seat.actor, seat.order, _first_line(exc))
        else:
            if not seat.placed:
                self._flying[seat.actor.start.remote(self._make_worker)] = _Seat(seat.actor)
                return
            self._idle.append(seat.actor)
            if seat.order is None:
                self._failed_starts, self._was_ready = 0, True
            else:
                self._measured[seat.order.number] = answer

    def _actor_died(self, actor: Any, order: "_Order", reason: str) -> None:
        self._kill(actor)  # Ray may only have lost sight of it
        if order.deaths + 1 < LIVES:
            self._waiting.appendleft(replace(order, deaths=order.deaths + 1))
        else:
            self._measured[order.number] = Measurement(error=f"It ended {LIVES} actors; the last one: {reason}")
        self.replaced += 1
        self._reason = reason
        self._launch()

    def _start_failed(self, actor: Any, reason: Exception | str, *, again: bool) -> None:
        self._kill(actor)
        self._reason = reason
        self._failed_starts += 1
        if again and self._failed_starts < STARTS:
            self._launch()

    def _kill(self, actor: Any) -> None:
        with contextlib.suppress(Exception):  # it may be dead, and Ray with it
            self._ray.kill(actor, no_restart=True)

    def _nobody(self, reason: BaseException | str) -> HubmergeError:
        if isinstance(reason, HubmergeError):
            return reason
        text = describe(reason) if isinstance(reason, BaseException) else reason
        return ResourceError(f"No Ray actor could be kept at work: {text.rstrip('.')}.")

    def _room(self) -> str:
        wanted = ", ".join(f"{count:g} {name[4:].upper()}" for name, count in self._needs.items() if count)
        have = self._ray.cluster_resources()
        return f"an actor takes {wanted}; the cluster has {have.get('CPU', 0):g} CPUS, {have.get('GPU', 0):g} GPUS"


@dataclass(frozen=True)
class _Order:
    """A candidate on its way; `deaths`: how many actors ended while they measured it."""

    number: int
    candidate: Contestant
    asked: Asked
    deaths: int = 0


@dataclass(frozen=True)
class _Seat:
    """An actor that was asked something: a candidate, or (`order` None) to make its worker, once it has a place."""

    actor: Any
    order: _Order | None = None
    placed: bool = True


class _Actor:
    """What runs in an actor's process. Nothing here imports torch before the environment is set."""

    def __init__(self, environment: Mapping[str, str], paths: Sequence[str]) -> None:
        os.environ.update(environment)
        sys.path.extend(path for path in paths if path not in sys.path)
        self._worker: Worker | None = None

    def place(self) -> None:
        """Answers once Ray has found room for the actor and its process runs."""

    def start(self, make_worker: bytes) -> None:
        """Makes the worker, whose function is only unpickled, and its modules imported, here."""
        if torch := sys.modules.get("torch"):  # else it finds the number in the environment
            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self._worker = pickle.loads(make_worker)()

    def measure(self, candidate: Contestant, asked: Asked) -> Measurement:
        """The candidate's measurement; an exception is one."""
        assert self._worker is not None
        return attempt(self._worker, candidate, asked)


def _environment(cpus: int, gpus: float) -> dict[str, str]:
    passed = {name: value for name, value in os.environ.items() if name.upper().startswith(_PASSED_ON)}
    passed |= {name: value for name, value in os.environ.items() if name.upper() in _ALSO}
    passed |= dict.fromkeys(_THREADS, str(cpus))
    return passed if gpus else passed | {"CUDA_VISIBLE_DEVICES": ""}


def _pickled(make_worker: MakeWorker) -> bytes:
    try:
        return pickle.dumps(make_worker)
    except Exception as exc:
        raise SearchError(
            f"What makes a worker cannot be sent to actors ({describe(exc)}); give a function of a module and plain "
            "arguments."
        ) from exc


def _connect(address: str | None, cpus: int) -> tuple[ModuleType, bool]:
    """The ray module, connected, and whether this call started the connection."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without GPUs of their own our actors are told so by us; Ray would warn that it stops doing this.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as exc:
        raise ResourceError("Actors need Ray, which is not installed; run pip install 'hubmerge[evolve]'.") from exc
    if ray.is_initialized():
        return ray, False
    if address is not None:
        _require_answer(address)
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "namespace": "hubmerge"}
    if address is None:
        options |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
        options["_node_ip_address"] = "127.0.0.1"  # whoever reaches a Ray node may run code on it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address or "local", **options)
    except Exception as exc:
        where = f"reach the Ray cluster {address}" if address else "start Ray on this machine"
        raise ResourceError(f"Could not {where}: {_first_line(exc)}") from exc
    return ray, True


def _require_answer(address: str) -> None:
    """Raises `ResourceError` where nobody listens at "host:port": Ray itself would try for minutes, and tell of it."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto", or something that Ray refuses at once
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as exc:
        raise ResourceError(f"No Ray cluster answers at {address}: {exc}.") from exc


def _first_line(exc: BaseException) -> str:
    """The first line of Ray's explanation; identifiers and log folders follow it."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[0] if lines else type(exc).__name__
