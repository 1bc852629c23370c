"""A demo that is asked for again makes only what is missing. What it makes is in tests/integration/test_demo.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment_cli.demo import setup
from alignment_cli.demo.settings import BaseRecipe, Demo
from alignment_cli.demo.setup import lay_out


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made; training and drafting themselves take a minute and are left out."""
    found: list[str] = []

    def pretrain(_examples: Any, folder: Path, **_settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        found.append("base")

    def write_events(_base: Path, file: Path, **_settings: Any) -> None:
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}\n", encoding="utf-8")
        found.append(file.name)

    monkeypatch.setattr(setup, "_EXAMPLES", 1)
    monkeypatch.setattr(setup, "pretrain", pretrain)
    monkeypatch.setattr(setup, "write_events", write_events)
    return found


def test_a_demo_is_not_made_again_unless_its_base_is_another(tmp_path: Path, made: list[str]) -> None:
    def ask(steps: int, **settings: Any) -> list[str]:
        made.clear()
        lay_out(Demo(tmp_path, recipe=BaseRecipe(steps=steps), **settings), lambda *_: None)
        return made

    assert ask(2) == ["base", "demo-800.jsonl"]
    own = tmp_path / "feedback" / "own.jsonl"
    own.touch()
    assert ask(2) == []
    assert ask(2, contradictory=True) == ["demo-contradictory-800.jsonl"]
    assert ask(3) == ["base", "demo-800.jsonl"]
    assert ask(3, contradictory=True) == ["demo-contradictory-800.jsonl"]
    assert own.exists()
