"""``align demo``: the whole loop on one machine, with a simulated clinician whose preference is known."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alignment_cli.commands.options import OutputOption
from alignment_cli.errors import CommandError
from alignment_cli.output import Output, emit, say

if TYPE_CHECKING:
    from alignment_api.run import AlignmentRun
    from alignment_cli.demo.settings import Demo
    from alignment_cli.demo.truth import Truth

__all__ = ["register"]

SIMULATED = (
    "The data of this demo is simulated: an invented clinic, a simulated clinician with a hidden style."
)


def register(app: typer.Typer) -> None:
    """Add the verb to the application."""
    app.command("demo")(demo)


def demo(
    pairs: Annotated[int, typer.Option(help="Edited notes to make.", min=50, max=100_000)] = 800,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=2**31 - 1)] = 0,
    directory: Annotated[Path, typer.Option(help="Folder for the demo.")] = Path("align-demo"),
    contradictory: Annotated[
        bool,
        typer.Option("--contradictory", help="Flip half of the edits at random: nothing may be published."),
    ] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a small model and simulated edits, run the whole loop on them, and explain the outcome.

    Nothing is downloaded. Exit code as of align run: 0 published, 3 gate failed, 4 inconclusive.
    """
    from alignment_cli.commands.run import execute, require_trainer

    require_trainer()
    # Before the libraries load: nothing of theirs may reach the network or draw over what the demo says.
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    import yaml

    from alignment_cli.demo.settings import Demo, manifest_text
    from alignment_cli.embedded.state import State
    from alignment_cli.manifests import parse_manifest
    from alignment_cli.outcome import exit_code

    began = time.monotonic()
    settings = Demo(directory, pairs, seed, contradictory)
    if output is Output.TEXT:
        say(SIMULATED)
    wanted = parse_manifest(yaml.safe_load(manifest_text(settings)), str(settings.manifest))
    # Another --pairs or --seed in this directory is refused now, not after minutes of training a base.
    try:
        State(directory / ".align").create(wanted)
    except CommandError as error:
        raise CommandError(
            f"{error.message} Or give the demo another --directory.", exit_code=error.exit_code
        ) from None
    from alignment_cli.demo.setup import lay_out  # loads torch, for seconds

    lay_out(settings, _Progress(quiet=output is not Output.TEXT))
    run = execute(directory / ".align", wanted, output, quiet=output is not Output.TEXT)
    truth = _truth(settings, run)
    seconds = time.monotonic() - began
    if output is Output.TEXT:
        _explain(settings, run, truth, seconds)
    else:
        emit(_summary(run, truth, seconds), output)
    raise typer.Exit(exit_code(run))


class _Progress:
    """One line on a terminal that is overwritten; one line an activity elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._said = ""
        self._terminal = sys.stdout.isatty()

    def __call__(self, activity: str, done: int, total: int) -> None:
        if self._quiet:
            return
        if self._terminal:
            sys.stdout.write(
                f"\r\033[K{activity}: {100 * done // max(total, 1)} %" + ("\n" if done == total else "")
            )
            sys.stdout.flush()
        elif activity != self._said:
            self._said = activity
            say(activity)


def _truth(settings: Demo, run: AlignmentRun) -> Truth | None:
    """The true preference rate of the candidate, published or not; None when there is no candidate."""
    from urllib.parse import unquote, urlsplit

    from alignment_api.names import StageName
    from alignment_cli.demo.truth import true_preference

    candidate = run.status.stage(StageName.TRAIN).artifact_uri
    if candidate is None:
        return None
    return true_preference(Path(unquote(urlsplit(candidate).path)), settings.base, seed=settings.seed)


def _explain(settings: Demo, run: AlignmentRun, truth: Truth | None, seconds: float) -> None:
    from alignment_api.conditions import ConditionType, Reason
    from alignment_api.names import run_folder
    from alignment_cli.durations import duration

    summary = run.status.condition(ConditionType.SUCCEEDED)
    lines = ["What happened, in short:"]
    if settings.contradictory:
        lines.append("- Half of the edits were flipped at random, so the edits teach nothing.")
    else:
        lines.append("- The clinician edited the model's drafts in a style that only the simulation knows.")
    if run.status.headline:
        lines.append(f"- Estimated on held-out patients: {run.status.headline} (below 0: less left to edit).")
    if truth is not None:
        lines.append(
            f"- True preference rate on {truth.n} fresh visits, known because it is simulated: {truth.rate:.2f} "
            f"[{truth.low:.2f}, {truth.high:.2f}] (0.50: no better than the base)."
        )
        lines.append(
            f"- Notes fully in the hidden style: {truth.candidate_in_style:.0%} of the candidate's, {truth.base_in_style:.0%} of the base's."
        )
    if summary is not None and summary.reason is Reason.PUBLISHED:
        lines.append("- The gate passed, so the model was published.")
    else:
        lines.append("- The gate did not pass, so nothing was published. That is what it is for.")
    report = run_folder(run.spec.artifacts.uri, run.metadata.namespace, run.metadata.name, run.metadata.uid)
    lines.append(f"- Report: {report}evaluation/report.html")
    lines.append(
        f"- Manifest: {settings.manifest}   State: {settings.folder / '.align'}   Time: {duration(seconds)}"
    )
    lines.append(SIMULATED)
    say("\n".join(lines))


def _summary(run: AlignmentRun, truth: Truth | None, seconds: float) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "simulated": True,
        "run": run.to_wire(),
        "truePreference": asdict(truth) if truth is not None else None,
        "seconds": round(seconds, 1),
    }
