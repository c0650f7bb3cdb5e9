"""Damage sound checkpoints at random, load each, and count what came of it.

    python tests/fuzz_checkpoints.py --mutants 20000 --seed 0

Every mutant depends on the seed and its number alone: `--first N --mutants 1` repeats one. Those of the older
stream differ in the addresses that torch.save takes as the names of storages.
"""

import argparse
import io
import json
import pickletools
import random
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from bounded_loading import Outcome, Watch, load_bounded, narrow_candidates, write_sound_files

Mutator = Callable[[bytes, random.Random, list[bytes]], bytes]
OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
NUMBERS = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x01")


def flip(content: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    """One to eight bytes become others."""
    mutated = bytearray(content)
    for __ in range(chance.randint(1, 8)):
        mutated[chance.randrange(len(mutated))] = chance.randrange(256)
    return bytes(mutated)


def flip_head(content: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """The same within the first 600 bytes, where most kinds of file describe themselves."""
    return flip(content[:600], chance, others) + content[600:]


def truncate(content: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    """The end is missing."""
    return content[: chance.randrange(len(content))]


def delete(content: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    """A part is missing."""
    begin = chance.randrange(len(content))
    return content[:begin] + content[begin + chance.choice((1, 2, 8, 100, 4096)) :]


def splice(content: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """A part of another file takes a place."""
    other = chance.choice(others)
    begin, length = chance.randrange(len(other)), chance.choice((1, 4, 30, 500, 20_000))
    place = chance.randrange(len(content))
    replaced = length if chance.random() < 0.5 else 0
    return content[:place] + other[begin : begin + length] + content[place + replaced :]


def extreme(content: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    """One, two, four or eight bytes in a row become an extreme number."""
    place, length = chance.randrange(len(content)), chance.choice((1, 2, 4, 8))
    return content[:place] + chance.choice(NUMBERS) * length + content[place + length :]


def swap_opcodes(content: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    """Opcodes of the pickle become others, vanish, or stand twice, with sound checksums around them."""

    def mutate(pickled: bytes) -> bytes:
        places = opcode_places(pickled)
        for _ in range(chance.randint(1, 3)):
            place = chance.choice(places)
            put = chance.choice((chance.choice(OPCODES), b"", pickled[place : place + 1] * 2))
            pickled = pickled[:place] + put + pickled[place + 1 :]
        return pickled

    return with_pickle(content, mutate)


def move_operations(content: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    """A run of whole operations is copied over another place of the pickle."""

    def mutate(pickled: bytes) -> bytes:
        places = opcode_places(pickled)
        begin, to = chance.randrange(len(places)), chance.choice(places)
        end = min(begin + chance.randint(1, 12), len(places) - 1)
        return pickled[:to] + pickled[places[begin] : places[end]] + pickled[to:]

    return with_pickle(content, mutate)


def flip_pickle(content: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Bytes of the pickle become others, or extreme numbers, with sound checksums around them."""
    change = chance.choice((flip, extreme, delete))
    return with_pickle(content, lambda pickled: change(pickled, chance, others))


def restructure(content: bytes, chance: random.Random, _: list[bytes]) -> bytes:
    """An archive with members compressed, left out, doubled, renamed, reordered, or other than they were."""
    if not content.startswith(b"PK"):
        return splice(content, chance, [content])
    members = members_of(content)
    names = list(members)
    victim = chance.choice(names)
    method = zipfile.ZIP_STORED
    deed = chance.randrange(6)
    if deed == 0:
        method = chance.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    elif deed == 1:
        del members[victim]
    elif deed == 2:
        members[victim + chance.choice(("x", "/data.pkl", "\x1b"))] = members.pop(victim)
    elif deed == 3:
        members[victim] = members[victim] * chance.choice((0, 2, 3))
    elif deed == 4:
        members[victim] = members[chance.choice(names)]
    else:
        chance.shuffle(names)
        members = {name: members[name] for name in names}
    return zipped(members, method)


def flip_structure(content: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Bytes of an archive's list of members, or of an older stream's list of storages, become others."""
    begin = content.find(b"PK\x01\x02") if content.startswith(b"PK") else max(len(content) - 4000, 0)
    change = chance.choice((flip, extreme, delete))
    return content[:begin] + change(content[begin:], chance, others)


MUTATORS: Mapping[str, Mutator] = {
    each.__name__: each
    for each in (
        flip, flip_head, truncate, delete, splice, extreme,
        swap_opcodes, move_operations, flip_pickle, restructure, flip_structure,
    )
}  # fmt: skip


def with_pickle(content: bytes, mutate: Callable[[bytes], bytes]) -> bytes:
    """A file whose pickle is another; the header of a file that has none."""
    if content.startswith(b"PK"):
        members = members_of(content)
        name = next(name for name in members if name.endswith("data.pkl"))
        return zipped(members | {name: mutate(members[name])})
    if content.startswith(b"\x80"):
        stream = io.BytesIO(content)
        for _ in range(5):
            list(pickletools.genops(stream))
        return mutate(content[: stream.tell()]) + content[stream.tell() :]
    length = int.from_bytes(content[:8], "little")
    header = mutate(content[8 : 8 + length])
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def opcode_places(pickled: bytes) -> list[int]:
    """Where operations begin; every byte's place in what is no pickle."""
    places: list[int] = []
    stream = io.BytesIO(pickled)
    try:
        while stream.tell() < len(pickled):
            begin = stream.tell()
            places += [begin + (place or 0) for _, _, place in pickletools.genops(pickled[begin:])]
            stream.seek(places[-1] + 1)
    except (ValueError, IndexError):
        return places or list(range(len(pickled)))
    return places


def members_of(content: bytes) -> dict[str, bytes]:
    """The members of an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)  # which has the same date every time
            info.compress_type = method
            archive.writestr(info, content)
    return stream.getvalue()


def mutant(number: int, seed: int, sound: list[bytes]) -> tuple[str, bytes]:
    """The name of a mutator and what it makes of one of the sound files; one in four is damaged twice."""
    chance = random.Random(f"{seed} {number}")
    name = chance.choice(list(MUTATORS))
    content = MUTATORS[name](chance.choice(sound), chance, sound)
    if content and chance.random() < 0.25:
        content = flip(content, chance, sound)
    return name, content


def fuzz(folder: Path, numbers: range, seed: int, watch: Watch) -> dict[int, tuple[str, Outcome, float]]:
    """What came of each mutant, by its number: the mutator, the outcome and the seconds that it took."""
    (folder / "sound").mkdir()
    sound = [path.read_bytes() for path in write_sound_files(folder / "sound").values()]
    path, found = folder / "mutant.pt", {}
    for number in numbers:
        name, content = mutant(number, seed, sound)
        path.write_bytes(content)
        begin = time.process_time()
        outcome = load_bounded(path, watch)
        found[number] = (name, outcome, time.process_time() - begin)
    return found


def main() -> int:
    """Run the mutants and print a table of mutators and outcomes, in JSON; 1 if any outcome is not sound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=20_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of all of them")
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        narrow_candidates(patch)
        numbers = range(asked.first, asked.first + asked.mutants)
        found = fuzz(Path(folder), numbers, asked.seed, Watch())
    table: dict[str, Counter[str]] = {}
    for name, outcome, _ in found.values():
        table.setdefault(name, Counter())[outcome.word] += 1
    unsound = {number: outcome for number, (_, outcome, _) in found.items() if not outcome.is_sound}
    slowest = max(found.items(), key=lambda item: item[1][2])
    lines = [json.dumps({name: dict(counts) for name, counts in sorted(table.items())}, indent=2)]
    lines += [
        f"{len(found)} mutants, {len(unsound)} not sound, the slowest {slowest[0]}: {slowest[1][2]:.2f} s"
    ]
    lines += [f"{number} {found[number][0]} {outcome}" for number, outcome in unsound.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(bool(unsound))


if __name__ == "__main__":
    raise SystemExit(main())
