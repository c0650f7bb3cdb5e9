"""The first mutants of every kind; thousands more by hand: see `fuzz_data`."""

from pathlib import Path

import pytest
from fuzz_data import attack

COUNTS = {
    "annotations": 300,
    "images": 500,
    "records": 150,
    "layouts": 2000,
    "detections": 500,
    "parameters": 400,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", COUNTS)
def test_every_mutant_is_taken_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    found = attack(kind, COUNTS[kind], seed=0, folder=tmp_path)
    assert not found.crashes, "\n".join(found.crashes.values())
    assert found.counts.total() == COUNTS[kind]
    # Or the mutants would be so broken, or so harmless, that one branch alone is tried.
    taken = sum(count for name, count in found.counts.items() if not name.endswith("Error"))
    assert 0.05 < taken / COUNTS[kind] < 0.95, found.table()


def test_a_crash_is_found_and_named_by_its_mutant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: an error of another kind than ours is a crash, once for each place."""

    def fail(_: Path) -> None:
        raise KeyError("no such key")

    monkeypatch.setattr("fuzz_sets.read_image", fail)
    found = attack("images", 5, seed=0, folder=tmp_path)
    assert found.counts == {"crash: KeyError": 5}
    (crash,) = found.crashes.values()
    assert crash.startswith("mutant 0: ") and "no such key" in crash
