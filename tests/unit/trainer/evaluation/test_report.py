"""The report: verdict first, nothing from outside, every text escaped, a schema that is published and kept."""

from __future__ import annotations

import html as markup
import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alignment_api.evidence import Evidence
from alignment_api.gate import decide
from alignment_api.metrics import METRICS, MetricName
from alignment_api.names import StageName
from alignment_api.report import Report
from alignment_api.spec import Criterion, ErrorBudget
from alignment_api.stage import ArtifactRef, RunIdentity, StageRequest
from alignment_api.verdict import Result
from alignment_trainer.evaluation.criteria import Alpha, gather_evidence
from alignment_trainer.evaluation.defaults import default_criteria
from alignment_trainer.evaluation.ledger import Reservation
from alignment_trainer.evaluation.material import Material
from alignment_trainer.evaluation.metrics import REGISTRY, measure
from alignment_trainer.evaluation.report import build_report
from alignment_trainer.evaluation.report_html import render_html
from support.material import generation, material, pair
from support.runs import DIGEST, pins, run

SCHEMA = Path(__file__).parents[4] / "docs" / "report.schema.json"
EVIL = "<script>alert(1)</script> & co"


def better(count: int = 120, share: float = 0.6) -> Material:
    """A candidate that writes what the person wanted for ``share`` of the prompts."""
    pairs = [pair(n, cohort=("north", "south")[n % 2]) for n in range(count)]
    base = material(pairs=pairs)
    cut = int(share * count)
    texts = [generation(str(p.chosen)) for p in pairs[:cut]] + base.candidate[cut:]
    return replace(base, candidate=texts)


def report_on(of: Material, **changes: Any) -> Report:
    spec = run().spec
    request = StageRequest(
        stage=StageName.EVALUATE,
        run=RunIdentity(name="notes", namespace="team", uid="u"),
        spec=spec,
        pins=pins(),
        inputs={StageName.TRAIN: ArtifactRef(uri="s3://a/candidate/", digest=DIGEST)},
    )
    criteria = changes.pop("criteria", default_criteria(spec.evaluation, edits=True))
    alpha = changes.pop("alpha", Alpha(0.05 / 52))
    evidence: Evidence = gather_evidence(
        criteria, lambda name, selector: measure(name, of, selector), alpha, comparable=True
    )
    metrics = [measure(n, of).to_result(n) for n in REGISTRY if not METRICS[n].selected]
    settings: dict[str, Any] = {
        "reservation": Reservation(alpha, ErrorBudget(), 3, 0, 3 * 0.05 / 52, "s3://artifacts/ledger/x.json"),
        "judge": None,
        "notes": [],
        "manifest": {"funnel": {"rows": 150, "pairs": 130, "train": 10, "holdout": 120, "duplicates": 20}},
        "training": {
            "schedule": {"steps": 3, "pairs_per_step": 16, "learning_rate": 1e-4},
            "curve": [
                {"step": s, "loss": 0.69 - 0.01 * s, "rewards/margins": 0.1 * s, "epoch": 1}
                for s in (1, 2, 3)
            ],
            "trainPairs": 10,
            "selectionPairs": 4,
            "libraries": {"torch": "2"},
        },
    }
    return build_report(request, of, metrics, evidence, decide((), evidence), **(settings | changes))


def test_the_verdict_comes_first_in_a_sentence() -> None:
    report = report_on(better())
    assert report.verdict.result is Result.PASSED
    html = render_html(report)
    body = html[html.index("<body>") :]
    assert body.index("Passed") < body.index("Criteria")
    assert "The candidate may be released: all 4 blocking criteria are met" in body


def test_nothing_is_fetched_and_no_script_runs() -> None:
    html = render_html(report_on(better()))
    assert "default-src 'none'" in html
    assert not re.search(r"<(script|link|img|iframe)|@import|url\(|https?://", html)


def test_every_text_of_the_data_is_escaped() -> None:
    of = better()
    texts = [generation(EVIL), *of.candidate[1:]]
    html = render_html(report_on(replace(of, candidate=texts), notes=[EVIL]))
    assert EVIL not in html
    assert "&lt;script&gt;" in html


def test_an_inconclusive_report_says_how_many_more_pairs_are_needed() -> None:
    of = better(40, share=0.3)
    mixed = [generation(g.text + " or not") if 12 <= n < 17 else g for n, g in enumerate(of.candidate)]
    report = report_on(replace(of, candidate=mixed))
    assert report.verdict.result is Result.INCONCLUSIVE
    assert any(
        re.search(r"edits \(editBurden\): about \d+ more held-out pairs \(\d+ in all\)", s)
        for s in report.advice
    ), report.advice


def test_a_failed_report_says_that_more_data_will_not_help() -> None:
    of = better(60)
    worse = [generation("nothing of this kind at all, whatever was asked") for _ in of.pairs]
    report = report_on(replace(of, candidate=worse))
    assert report.verdict.result is Result.FAILED
    assert any("more data will not help" in sentence for sentence in report.advice)


def test_a_spent_budget_is_inconclusive_and_says_when_it_is_free_again() -> None:
    alpha = Alpha(None, "the error budget is spent by 52 decisions; the next is free on 2027-01-04")
    report = report_on(better(), alpha=alpha)
    assert report.verdict.result is Result.INCONCLUSIVE
    assert "free on 2027-01-04" in render_html(report)
    assert report.error_budget.alpha is None


def test_a_report_on_counter_metrics_alone_says_what_is_missing() -> None:
    length = Criterion.model_validate({"name": "length", "metric": "lengthRatio", "maximum": 1.5})
    report = report_on(better(), criteria=(length,))
    assert report.verdict.result is Result.INCONCLUSIVE
    assert "no blocking criterion can show that the model is better" in report.summary
    assert "add one on editBurden or winRate" in report.advice[0]


def test_the_budget_is_visible_with_what_is_spent() -> None:
    html = render_html(report_on(better()))
    assert "3 decisions within a year on this alias and holdout, 0.00288 of 0.05 spent" in html


def test_cohorts_examples_and_temperatures_are_told() -> None:
    report = report_on(better())
    assert {c.name: c.pairs for c in report.cohorts} == {"north": 60, "south": 60}
    kinds = [example.kind for example in report.examples]
    assert kinds.count("Best") == 4
    assert kinds.count("Random") == 4
    best = report.examples[0]
    assert best.candidate_distance < best.champion_distance
    assert report.temperatures[0].taken
    html = render_html(report)
    assert "<mark>poor</mark>" in html, "what the person would have to change is marked"


def test_unavailable_metrics_and_criteria_are_shown_with_their_reason() -> None:
    wins = [
        c.model_copy(update={"metric": MetricName.WIN_RATE, "minimum": 0.5, "maximum": None})
        for c in default_criteria(run().spec.evaluation, edits=True)[:1]
    ]
    report = report_on(better(), criteria=tuple(wins))
    assert report.verdict.result is Result.INCONCLUSIVE
    html = render_html(report)
    assert "No estimate" in html
    assert "no judge is configured" in html


def test_report_json_reads_back_as_it_was_written() -> None:
    report = report_on(better())
    wire = json.loads(json.dumps(report.to_wire()))
    assert Report.model_validate(wire) == report
    assert wire["version"] == 2
    assert datetime.fromisoformat(wire["created"]).tzinfo is not None
    assert datetime.fromisoformat(wire["created"]) <= datetime.now(UTC)


def test_the_published_schema_is_the_one_of_the_code() -> None:
    """``make docs-pages`` writes it."""
    published = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert published == Report.model_json_schema(by_alias=True, mode="serialization")


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_any_report_renders(share: float) -> None:
    assert "</html>" in render_html(report_on(better(40, share)))


def test_a_report_whose_examples_were_taken_out_renders_without_their_texts() -> None:
    """As publish and erase do it: from report.json alone."""
    from alignment_trainer.evaluation.rerender import rerendered

    wire = report_on(better()).to_wire()
    texts = [example["final"] for example in wire["examples"]]
    assert texts
    assert all(text.split()[0] in rerendered(wire) for text in texts)
    html = rerendered(wire | {"examples": []})
    assert not any(text in html for text in texts)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)")
@pytest.mark.parametrize("width", [390, 1280], ids=["a phone", "a desktop"])
def test_a_browser_shows_the_whole_width_of_the_report(width: int, tmp_path: Path) -> None:
    """A page around the report measures it in a frame of that width; the report itself runs no script."""
    assert CHROMIUM is not None
    of = better()
    long = [generation("word" * 60 + EVIL), *of.candidate[1:]]
    report = render_html(report_on(replace(of, candidate=long), notes=["x" * 200]))
    page = tmp_path / "around.html"
    page.write_text(
        f"<!doctype html><iframe width={width} height=900 srcdoc='{markup.escape(report)}'></iframe><p id=told></p>"
        "<script>addEventListener('load', () => { const d = document.querySelector('iframe').contentDocument;"
        "told.textContent = `wide ${d.documentElement.scrollWidth} shown ${d.body.innerText.length}`; })</script>",
        encoding="utf-8",
    )
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}")
    done = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    told = re.search(r"wide (\d+) shown (\d+)", done.stdout)
    assert told, done.stderr[-2000:]
    assert int(told[1]) <= width, "nothing may stick out to the side"
    assert int(told[2]) > 1000, "and the report is there"
