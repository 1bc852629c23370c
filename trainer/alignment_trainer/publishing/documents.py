"""The small files of a version: model card, lineage, report, and an adapter's configuration made portable."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from alignment_api.names import StageName
from alignment_trainer.models.folder import BaseRef
from alignment_trainer.models.hub import SCHEME as HUB
from alignment_trainer.publishing.lineage import Lineage
from alignment_trainer.runtime.context import StageContext
from alignment_trainer.storage import uris
from alignment_trainer.storage.local import LocalStore

__all__ = ["base_name", "documents"]

_ADAPTER = "adapter_config.json"
_REPORTS = ("report.json", "report.html")
_TEMPLATES = Path(__file__).parent / "templates"


def documents(lineage: Lineage, context: StageContext) -> dict[str, bytes]:
    """Files by name that a version has besides, or instead of, the candidate's."""
    files = {
        "lineage.json": _json(lineage.to_wire()),
        "README.md": _model_card(lineage).encode(),
    }
    files |= _reports(lineage.inputs[StageName.EVALUATE].uri, context)
    if lineage.base is not None:
        files[_ADAPTER] = _adapter_config(lineage.base, lineage, context)
    return files


def _reports(evaluation: str, context: StageContext) -> dict[str, bytes]:
    """The report without its examples: a version outlives its data, and people's texts must not travel with it."""
    store = context.store(evaluation)
    files = {
        name: store.get(uri)[0]
        for name in _REPORTS
        if store.stat(uri := uris.join(evaluation, name)) is not None
    }
    report: dict[str, Any] = json.loads(files.get(_REPORTS[0], b"{}"))
    if report.get("examples"):
        from alignment_trainer.evaluation.rerender import rerendered

        report["examples"] = []
        files = {_REPORTS[0]: _json(report), _REPORTS[1]: rerendered(report).encode()}
    return files


def base_name(base: BaseRef) -> tuple[str, str | None]:
    """What ``peft`` is told an adapter's base is: (name or path, revision).

    hub models by name and commit, files by path, so that ``AutoPeftModelForCausalLM`` finds them by itself; others
    by URI, which a person downloads first. Never the scratch folder in which the base was trained upon.
    """
    if base.uri.startswith(HUB):
        name, _, revision = base.uri.removeprefix(HUB).rstrip("/").partition("@")
        return name, revision or None
    if base.uri.startswith("file://"):
        return str(LocalStore().local_path(base.uri)), None
    return base.uri, None


def _adapter_config(base: BaseRef, lineage: Lineage, context: StageContext) -> bytes:
    uri = uris.join(lineage.inputs[StageName.TRAIN].uri, _ADAPTER)
    config: dict[str, Any] = json.loads(context.store(uri).get(uri)[0])
    config["base_model_name_or_path"], config["revision"] = base_name(base)
    # Without it AutoPeftModelForCausalLM does not know that it is meant.
    config["task_type"] = config.get("task_type") or "CAUSAL_LM"
    return _json(config)


def _model_card(lineage: Lineage) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,  # noqa: S701  Markdown, not HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    name, revision = base_name(lineage.base) if lineage.base is not None else ("", None)
    text = environment.get_template("model_card.md.j2").render(
        lineage=lineage,
        data=lineage.results[StageName.PREPARE].data,
        training=lineage.results[StageName.TRAIN].training,
        metrics=lineage.results[StageName.EVALUATE].metrics,
        headline=lineage.results[StageName.EVALUATE].headline,
        base_name=name,
        base_revision=revision,
        base_loads_by_name=lineage.base is not None and not name.startswith(("s3://", "pvc://")),
    )
    # Sections that are left out leave their blank lines.
    return re.sub(r"\n{3,}", "\n\n", text)


def _json(wire: Any) -> bytes:
    return (json.dumps(wire, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
