"""Hostile checkpoints: none is obeyed, each is refused in one sentence or loads, within time and memory."""

import io
import json
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from bounded_loading import (
    EndlessError,
    Watch,
    load_bounded,
    narrow_candidates,
    within_memory,
    within_time,
    write_sound_files,
)
from hostile_checkpoints import KINDS
from hostile_contents import own, saved, sound
from hostile_opcodes import (
    BEGIN,
    STREAM_HEAD,
    archive,
    called,
    stored,
    table,
    tensor,
    text,
    with_tensor,
    zipped,
)

from yolov9bench.errors import CheckpointError
from yolov9bench.plots.predicted_image import PredictedImage
from yolov9bench.weights import load

# Kinds whose files take long to make or to read: every so manieth in `make test`, all in `make accuracy`.
STEPS = {
    "endless_lengths": 6,
    "wrong_facts": 9,
    "claimed_members": 4,
    "broken_archives": 3,
}


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    narrow_candidates(monkeypatch)


def require_sound(kind: str, step: int, folder: Path, watch: Watch) -> None:
    path = folder / "file.pt"
    for name, content in islice(KINDS[kind](), 0, None, step):
        path.write_bytes(content)
        outcome = load_bounded(path, watch)
        assert outcome.is_sound, (name, outcome)
        assert list(folder.iterdir()) == [path], name


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(tmp_path: Path, watch: Watch, kind: str) -> None:
    require_sound(kind, STEPS.get(kind, 1), tmp_path, watch)


@pytest.mark.accuracy
@pytest.mark.parametrize("kind", STEPS)
def test_all_of_the_long_kinds(tmp_path: Path, watch: Watch, kind: str) -> None:
    require_sound(kind, 1, tmp_path, watch)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (BEGIN + b"c", b""),
        (BEGIN + b"X\xff\xff\xff\xff", b""),
        (STREAM_HEAD + BEGIN + b"c", b""),
        (STREAM_HEAD + BEGIN + b"}." + BEGIN + b"X\xff\xff\xff\x7f", b""),
        (b"PK\x03\x04", b""),
        (b"PK\x03\x04", b"PK\x05\x06" + bytes(8) + b"\0\0\0\xf0" + bytes(6)),
        (b"PK\x03\x04", zipped(b"}")),
        (struct.pack("<Q", 2**32) + b'{"a":', b""),
        (b"<html>", b"</html>"),
    ],
    ids=["name", "text", "name in a stream", "text in a stream", "zip", "members", "archive", "JSON", "page"],
)
def test_holes_of_8_gb(tmp_path: Path, watch: Watch, begin: bytes, end: bytes) -> None:
    """A file that takes a block of the disk, and whose size would allow for all memory."""
    with (tmp_path / "file.pt").open("wb") as file:
        file.write(begin)
        file.seek(2**33, 1)
        file.write(end or b"\0")
    assert load_bounded(tmp_path / "file.pt", watch, size=0).word == "refused"


def test_the_sound_files_load(tmp_path: Path, watch: Watch) -> None:
    """So that what is made of them is refused for its own fault."""
    for kind, path in write_sound_files(tmp_path).items():
        assert load_bounded(path, watch).word == "loaded", kind


def test_the_bounds_are_felt(tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that obeys, that wants memory, that does not end or that fails in its own words is caught."""

    def obey(path: Path) -> None:
        pickle.loads(path.read_bytes())

    (tmp_path / "file.pt").write_bytes(pickle.dumps(print, protocol=2))
    for act, word in (
        (obey, "does pickle.find_class"),
        (lambda path: path.with_name("made").write_text("x"), "does open"),
        (lambda _: [][0], "raises IndexError"),
    ):
        monkeypatch.setattr("bounded_loading.load", act)
        assert load_bounded(tmp_path / "file.pt", watch).word == word
    if sys.platform == "linux":
        with pytest.raises(MemoryError), within_memory(1000):
            bytearray(2**30)
    monkeypatch.setattr("bounded_loading.SECONDS", 0.05)
    with pytest.raises(EndlessError), within_time():
        while True:
            pass


def inspected(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "yolov9bench", "inspect", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow(12)
def test_real_processes(tmp_path: Path) -> None:
    """One line on stderr and status 2; the text of a file that loads is escaped."""
    bomb = table((text("model"), called("os.system", text("touch obeyed\x1b"))))
    for name, content in (("call", zipped(bomb)), ("flood", zipped(b"]" * 10**7))):
        (tmp_path / f"{name}.pt").write_bytes(content)
        ended = inspected(tmp_path / f"{name}.pt")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.count("\n") == 1 and ended.stderr.rstrip("\n").isprintable()
    assert not (tmp_path / "obeyed").exists()
    names = {0: "\x1b[2J", 1: "a\nb", 2: "c"}
    (tmp_path / "text.pt").write_bytes(saved({**own(), "names": names}))
    ended = inspected(tmp_path / "text.pt")
    assert ended.returncode == 0 and "\x1b" not in ended.stdout
    assert {int(label): name for label, name in json.loads(ended.stdout)["names"].items()} == names


def complaint(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_views_of_the_same_numbers(tmp_path: Path) -> None:
    """A file that states a network of many layers and stores the numbers of one."""
    largest = torch.zeros(max(value.numel() for value in sound().values()))
    views = {
        key: largest[: value.numel()].view(value.shape) if value.is_floating_point() else value
        for key, value in sound().items()
    }
    views |= {f"model.99.{number}": largest.view(-1) for number in range(100)}
    (tmp_path / "file.pt").write_bytes(saved(views))
    claimed = sum(value.nbytes for value in views.values())
    assert f"has {claimed} bytes of tensors in a file of" in complaint(tmp_path / "file.pt")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_members(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(io.BytesIO(saved(own()))) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    (tmp_path / "file.pt").write_bytes(archive(members, method))
    assert "data.pkl compressed, as torch.save writes nothing" in complaint(tmp_path / "file.pt")


def test_members_that_share_their_bytes(tmp_path: Path) -> None:
    """A list of members that names one place in the file twice, under two names."""
    content = archive({"a/data.pkl": BEGIN + b"}.", "a/data/0": bytes(1000), "a/data/1": bytes(1000)})
    second, third = (content.rfind(name) for name in (b"a/data/0", b"a/data/1"))
    place = content[second - 4 : second]  # the field before the name in the list of members
    assert place != content[third - 4 : third]
    (tmp_path / "file.pt").write_bytes(content[: third - 4] + place + content[third:])
    assert "has parts that overlap" in complaint(tmp_path / "file.pt")


@pytest.mark.parametrize(("field", "value", "most"), [("depth", 10**9, 64), ("out", 2**62, 16_384)])
def test_specs_of_endless_networks(tmp_path: Path, field: str, value: int, most: int) -> None:
    """Refused before any layer is made."""
    spec = own()["spec"]
    block = {**spec["top_down"][0], field: value}
    (tmp_path / "file.pt").write_bytes(saved({**own(), "spec": {**spec, "top_down": (block, block)}}))
    expected = f"describes a network with {field} {value}, not 1 to {most}"
    assert expected in complaint(tmp_path / "file.pt")


def test_a_view_beyond_its_storage(tmp_path: Path) -> None:
    claim = tensor(stored("0", "FloatStorage", 1), (1,), (1,), offset=1)
    (tmp_path / "file.pt").write_bytes(with_tensor("model.0.conv.weight", claim))
    assert "with 1 numbers, of which it stores fewer" in complaint(tmp_path / "file.pt")


def test_half_a_letter_in_a_class_name(tmp_path: Path) -> None:
    """It could not be written to any report."""
    (tmp_path / "file.pt").write_bytes(saved({**own(), "names": ["a\udc80", "b", "c"]}))
    assert r"has 'a\udc80' as the name of a class" in complaint(tmp_path / "file.pt")


def test_the_name_of_a_file_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J\nb.pt").write_bytes(saved({}))
    assert complaint(tmp_path / "a\x1b[2J\nb.pt").startswith(r"a\x1b[2J\nb.pt is in no known format")


def test_a_name_of_a_class_is_escaped_where_it_is_shown() -> None:
    boxes = np.zeros((1, 4), np.float32)
    found = PredictedImage(
        "a.jpg", None, None, (4, 4), boxes, np.ones(1, np.float32), np.zeros(1, np.int64), {0: "a\x1b[2J\nb"}
    )
    assert repr(found).isprintable() and re.search(r"1 a\\x1b\[2J\\nb", repr(found))


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hash would not be that of its weights."""
    path = tmp_path / "file.pt"
    path.write_bytes(saved(own()))
    module = sys.modules["yolov9bench.weights.load"]
    assert load(path).spec.name == own()["spec"]["name"]
    hashed = module.sha256_of

    def change(changed: Path) -> str:
        changed.write_bytes(saved({**own(), "row": "yolov9-t"}) + b" ")
        return str(hashed(changed))

    monkeypatch.setattr(module, "sha256_of", change)
    with pytest.raises(CheckpointError, match="was changed while it was read"):
        load(path)


def test_only_the_network_is_read(tmp_path: Path) -> None:
    """A storage that no tensor of the network uses may even be damaged: nothing is taken from it."""
    content = saved({**own(), "training": {"state": torch.full((1000,), 7.0)}})
    damaged = content.replace(torch.full((1000,), 7.0).numpy().tobytes(), bytes(4000))
    assert damaged != content
    (tmp_path / "file.pt").write_bytes(damaged)
    assert load(tmp_path / "file.pt").spec.name == own()["spec"]["name"]
