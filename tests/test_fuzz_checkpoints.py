"""A short round of mutants of sound checkpoints; `tests/fuzz_checkpoints.py` runs long ones."""

from pathlib import Path

import pytest
from bounded_loading import Watch, narrow_candidates, write_sound_files
from fuzz_checkpoints import MUTATORS, fuzz, mutant


def test_a_short_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every outcome is a load or a CheckpointError of one line; some of both, by every mutator."""
    narrow_candidates(monkeypatch)
    found = fuzz(tmp_path, range(240), seed=1, watch=Watch())
    for number, (name, outcome, _) in found.items():
        assert outcome.is_sound, (number, name, outcome)
    assert {name for name, _, _ in found.values()} == set(MUTATORS)
    assert {outcome.word for _, outcome, _ in found.values()} == {"loaded", "refused"}


def test_a_mutant_can_be_made_again(tmp_path: Path) -> None:
    sound = [path.read_bytes() for path in write_sound_files(tmp_path).values()]
    for number in range(30):
        assert mutant(number, 5, sound) == mutant(number, 5, sound)
        assert mutant(number, 5, sound)[1] not in sound
