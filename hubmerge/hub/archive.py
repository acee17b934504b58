"""The directory of a zip archive, read from its end by range: which member lies where, and none of them is read.

What torch.save writes is such an archive, its members stored as they are, each beginning at a multiple of 64 bytes.
Source: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass

from ..errors import SourceError
from .headers import LONGEST_NAME, ReadRange

LAST_READ = 64 * 1024
"""Bytes of the first request, at the file's end: the directory of 500 members fits, so most files need only one."""

LARGEST_DIRECTORY = 16 * 2**20
"""Bytes; a file of 65,536 tensors has less."""

ALIGNMENT = 64
"""What torch aligns its members to, in bytes."""

_MOST_ASKED = 4096
"""Members whose own headers are read, one request each, where their places cannot be told from the directory."""

_READERS = 8
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_FULL16, _FULL32 = 2**16 - 1, 2**32 - 1


@dataclass(frozen=True)
class Member:
    """A file in an archive of `size` bytes, behind a header at `header`; `limit`: where the next thing begins.

    `plain`: its bytes lie there as they are. `described`: sizes follow them once more.
    """

    name: str
    size: int
    header: int
    limit: int
    plain: bool
    described: bool

    @property
    def earliest(self) -> int:
        """The first place that its bytes can begin at."""
        return self.header + _LOCAL.size + len(self.name.encode())

    @property
    def expected(self) -> int | None:
        """Where its bytes begin if torch wrote them; None where they cannot begin there."""
        for trailer in (16, 24) if self.described else (0,):
            start = self.limit - trailer - self.size
            if start % ALIGNMENT == 0 and start >= self.earliest:
                return start
        return None


Refuse = Callable[[str], SourceError]
"""Makes the error of a phrase that says what is wrong with the file."""


def read_directory(read: ReadRange, size: int, refuse: Refuse) -> dict[str, Member] | None:
    """The members of an archive of `size` bytes by name, in the order of their bytes; None where it is no archive.

    Raises what `refuse` makes of members that overlap, a name given twice, a directory that lies.
    """
    tail_start = max(0, size - LAST_READ)
    tail = bytes(read(tail_start, size))
    place = _find_end(tail)
    if place is None:
        return None
    _, *numbers, _ = _END.unpack_from(tail, place)
    disk, directory_disk, here, count, length, start = numbers
    end = tail_start + place
    if place >= _LOCATOR.size and tail[place - _LOCATOR.size :].startswith(b"PK\6\7"):
        _, _, end, _ = _LOCATOR.unpack_from(tail, place - _LOCATOR.size)
        if not 0 <= end <= tail_start + place - _LOCATOR.size - _END64.size:
            raise refuse("its end points beside the file")
        inside = end >= tail_start
        found = tail[end - tail_start :][: _END64.size] if inside else bytes(read(end, end + _END64.size))
        magic, _, _, _, disk, directory_disk, here, count, length, start = _END64.unpack(found)
        if magic != b"PK\6\6":
            raise refuse("its end is damaged")
    if (disk, directory_disk) != (0, 0) or here != count:
        raise refuse("it is one of several disks")
    if length > LARGEST_DIRECTORY or count * _CENTRAL.size > length:
        raise refuse(f"its directory would have {length:,} bytes for {count:,} files")
    if start + length != end:
        raise refuse("its directory does not lie at its end")
    directory = tail[start - tail_start : end - tail_start] if start >= tail_start else bytes(read(start, end))
    members = sorted(_members(directory, count, refuse), key=lambda member: member.header)
    limits = [*(member.header for member in members[1:]), start]
    placed = {}
    for member, limit in zip(members, limits, strict=True):
        if member.earliest + member.size * member.plain > limit:
            raise refuse(f"{member.name[:60]!r} in it overlaps what follows")
        if member.name in placed:
            raise refuse(f"it holds {member.name[:60]!r} twice")
        placed[member.name] = Member(member.name, member.size, member.header, limit, member.plain, member.described)
    return placed


def _find_end(tail: bytes) -> int | None:
    """Where the end record begins: the last one whose comment reaches the end of the file."""
    place = len(tail) - _END.size
    while place >= 0 and (place := tail.rfind(b"PK\5\6", 0, place + 4)) >= 0:
        if place + _END.size + int.from_bytes(tail[place + 20 : place + 22], "little") == len(tail):
            return place
        place -= 1
    return None


def _members(directory: bytes, count: int, refuse: Refuse) -> Iterator[Member]:
    place = 0
    for _ in range(count):
        if place + _CENTRAL.size > len(directory):
            raise refuse("its directory ends early")
        magic, _, _, flags, method, _, _, _, packed, size, name_length, more, comment, _, _, _, header = (
            _CENTRAL.unpack_from(directory, place)
        )
        after = place + _CENTRAL.size + name_length
        place = after + more + comment
        if magic != b"PK\1\2" or place > len(directory):
            raise refuse("its directory is damaged")
        try:
            name = directory[after - name_length : after].decode()
        except UnicodeDecodeError:
            raise refuse("a name in its directory is not UTF-8") from None
        if not 0 < name_length <= LONGEST_NAME:
            raise refuse(f"a name in its directory has {name_length:,} bytes")
        if _FULL32 in (size, packed, header):
            size, packed, header = _large(directory[after : after + more], size, packed, header, refuse)
        # Bit 0: encrypted; bit 3: sizes follow the bytes.
        yield Member(name, size, header, 0, method == 0 and not flags & 1 and packed == size, bool(flags & 8))
    if place != len(directory):
        raise refuse("its directory holds more than it says")


def _large(more: bytes, size: int, packed: int, header: int, refuse: Refuse) -> tuple[int, int, int]:
    """The numbers that do not fit into 32 bits, in the order in which zip64 has them."""
    place = 0
    while place + 4 <= len(more):
        kind, length = struct.unpack_from("<2H", more, place)
        if kind == 1:
            numbers = iter(struct.unpack_from(f"<{min(length, len(more) - place - 4) // 8}Q", more, place + 4))
            try:
                size = next(numbers) if size == _FULL32 else size
                packed = next(numbers) if packed == _FULL32 else packed
                header = next(numbers) if header == _FULL32 else header
            except StopIteration:
                break
            return size, packed, header
        place += 4 + length
    raise refuse("its directory lacks a size beyond 4 GB")


def locate(members: Sequence[Member], read: ReadRange, refuse: Refuse) -> Mapping[str, int]:
    """Where the bytes of each of these members begin.

    Only a member's own header says it. Of an archive that lies as torch writes them, one is read, of the largest, to
    see that it does; of any other all are.
    """
    expected = {member.name: member.expected for member in members}
    found = {name: start for name, start in expected.items() if start is not None}
    if len(found) == len(members):
        largest = max(members, key=lambda member: member.size, default=None)
        if largest is None or start_of(largest, read, refuse) == found[largest.name]:
            return found
    if len(members) > _MOST_ASKED:
        raise refuse(f"its {len(members):,} files do not lie as torch writes them, and at most {_MOST_ASKED:,} may")
    return dict(zip((member.name for member in members), _ask(members, read, refuse), strict=True))


def _ask(members: Iterable[Member], read: ReadRange, refuse: Refuse) -> list[int]:
    with ThreadPoolExecutor(_READERS) as pool:
        # Each in a copy of this thread's context, so that what stops this thread stops them.
        asked = [pool.submit(copy_context().run, start_of, member, read, refuse) for member in members]
        try:
            return [one.result() for one in asked]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def start_of(member: Member, read: ReadRange, refuse: Refuse) -> int:
    """Where a member's bytes begin, as its own header says."""
    magic, *_, name, more = _LOCAL.unpack(bytes(read(member.header, member.header + _LOCAL.size)))
    start = int(member.header + _LOCAL.size + name + more)
    if magic != b"PK\3\4" or start + member.size * member.plain > member.limit:
        raise refuse(f"the header of {member.name[:60]!r} in it does not fit its directory")
    return start
