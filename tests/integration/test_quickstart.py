"""The quick start, followed line by line: its data, its manifest, its commands, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from alignment_api.exitcodes import AlignExit
from support.documents import ROOT, blocks
from support.embedded import Project, edits

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "quickstart.md"
ELSEWHERE = ("make setup", "source ", "align demo", "helm ", "kubectl ")
"""Installation and the demo have tests of their own; a cluster is not here."""
OUTCOMES = {"align run -f notes-1.yaml": {AlignExit.PUBLISHED, AlignExit.GATE_FAILED, AlignExit.UNDECIDED}}


def lines() -> Iterator[str]:
    for block in blocks("sh", PAGE):
        for line in block.text.splitlines():
            if line and not line.startswith(ELSEWHERE):
                yield line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has: a model, a folder of feedback that begins with the page's own row, and the manifest."""
    project = Project.local(tmp_path_factory.mktemp("quickstart"))
    folder = project.folder
    (row,) = blocks("json", PAGE)
    (folder / "feedback").mkdir()
    (folder / "feedback" / "page.jsonl").write_text(row.text, encoding="utf-8")
    project.with_rows(edits(700), "feedback/rows.jsonl").with_model()
    (manifest,) = (block for block in blocks("yaml", PAGE) if "kind: AlignmentRun" in block.text)
    text = manifest.text.replace("file:///models/notes-sft/", f"{folder.as_uri()}/base/")
    for place in ("feedback", "models", "artifacts"):
        text = text.replace(f"file:///{place}/", f"{folder.as_uri()}/{place}/")
    document = yaml.safe_load(text)
    # Sizes of a tiny model on a processor; everything else as the page has it.
    document["spec"]["training"] |= {"precision": "Float32", "maxLength": 256, "epochs": 1}
    document["spec"]["evaluation"] = {"generation": {"prompts": 10, "maxNewTokens": 8}}
    (folder / "notes-1.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


def test_the_page_can_be_followed(folder: Path) -> None:
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    followed = []
    for line in lines():
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode in OUTCOMES.get(line, {0}), f"{line}: {done.stderr or done.stdout}"
        followed.append(line.split()[1])
    assert followed == ["data", "gate", "run", "run", "status", "report", "clone"]
    assert (
        yaml.safe_load((folder / "notes-2.yaml").read_text(encoding="utf-8"))["metadata"]["name"] == "notes-2"
    )
    assert (folder / ".align" / "runs" / "notes-1").is_dir()
