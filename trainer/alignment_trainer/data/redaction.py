"""Finds identifiers in texts and replaces them, or refuses the row, before anything is written.

Patterns are not de-identification: they find what is written the usual way and miss the rest. A real engine
plugs in as a Python entry point of the group ``alignment_operator.detectors``: a function from a text to the
spans ``(start, end)`` that identify someone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Final

from alignment_api.spec import Redaction, RedactionMode
from alignment_trainer.data.normalise import mapped
from alignment_trainer.data.rows import Event, Pair, Text
from alignment_trainer.errors import RequestError

__all__ = ["DETECTORS", "ENTRY_POINTS", "Redactor"]

ENTRY_POINTS: Final = "alignment_operator.detectors"
Detector = Callable[[str], Iterable[tuple[int, int]]]

_MONTHS: Final = (
    "Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|"
    "Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?"
)


def _pattern(expression: str) -> Detector:
    compiled = re.compile(expression)
    return lambda text: (match.span() for match in compiled.finditer(text))


DETECTORS: Final[dict[str, Detector]] = {
    "dates": _pattern(
        rf"\b\d{{4}}-\d{{1,2}}-\d{{1,2}}\b|\b\d{{1,2}}[/.]\d{{1,2}}[/.](?:\d{{4}}|\d{{2}})\b"
        rf"|\b(?:{_MONTHS})\.? \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?\b|\b\d{{1,2}}\.? (?:{_MONTHS})(?:,? \d{{4}})?\b"
    ),
    "phones": _pattern(
        r"(?<![\w.])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)|\d{3})[ .-]\d{3}[ .-]\d{4}\b|\+\d{7,15}\b"
    ),
    "emails": _pattern(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}"),
    "recordNumbers": _pattern(
        r"(?i)\b(?:mrn|medical record(?: number| no)?|record(?: number| no)|account(?: number| no)|case(?: number| no| ?#)"
        r"|patient id)[.:#]*\s{0,3}[:#]?\s{0,3}[A-Z]{0,4}-?\d[\d-]{3,18}\b"
    ),
    "socialSecurityNumbers": _pattern(r"\b(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}\b"),
    "urls": _pattern(r"\bhttps?://[^\s<>\"')\]]{1,2000}(?<![.,;:!?])"),
    "ipAddresses": _pattern(r"\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b"),
    "ages": _pattern(r"\b(?:9\d|1[0-4]\d)[ -]?(?:year|yr)s?[ -]old\b"),
}
"""Patterns for the obvious identifiers of the HIPAA safe-harbour list (45 CFR 164.514(b)(2)); ages only from 90 on."""


class Redactor:
    """Applies the detectors of a spec. found: how many identifiers each detector replaced or met."""

    def __init__(self, spec: Redaction) -> None:
        """Raises RequestError for a detector that nobody provides."""
        self.found: Counter[str] = Counter()
        self._refuse = spec.mode is RedactionMode.REFUSE
        self._detectors = (
            [] if spec.mode is RedactionMode.NONE else [(name, _detector(name)) for name in spec.detectors]
        )

    def pair(self, pair: Pair) -> Pair | None:
        """The pair without identifiers; None when it is refused."""
        texts = self._texts(pair.prompt, pair.chosen, pair.rejected)
        return None if texts is None else replace(pair, prompt=texts[0], chosen=texts[1], rejected=texts[2])

    def event(self, event: Event) -> Event | None:
        """The event without identifiers; None when it is refused."""
        texts = self._texts(event.prompt, event.response, event.edited or "", event.other or "")
        if texts is None:
            return None
        return replace(
            event,
            prompt=texts[0],
            response=str(texts[1]),
            edited=None if event.edited is None else str(texts[2]),
            other=None if event.other is None else str(texts[3]),
        )

    @property
    def active(self) -> bool:
        """False when there is nothing to do."""
        return bool(self._detectors)

    def _texts(self, *texts: Text) -> list[Text] | None:
        before = self.found.total()
        out = [mapped(text, self._redacted) for text in texts]
        return None if self._refuse and self.found.total() > before else out

    def _redacted(self, text: str) -> str:
        for name, detector in self._detectors:
            spans = _merged(detector(text), len(text))
            self.found[name] += len(spans)
            for start, end in reversed(spans):
                text = f"{text[:start]}[{name}]{text[end:]}"
        return text


def _merged(spans: Iterable[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Spans in order, overlapping ones joined, what lies outside the text cut off: engines are not ours."""
    out: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        start, end = max(start, 0), min(end, length)  # noqa: PLW2901  the clipped span is what counts
        if start >= end:
            continue
        if out and start < out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def _detector(name: str) -> Detector:
    if name in DETECTORS:
        return DETECTORS[name]
    installed = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in installed:
        known = ", ".join(sorted({*DETECTORS, *installed}))
        raise RequestError(
            f"spec.data.redaction.detectors names {name}, which is not installed; there are {known}.",
            reason="DetectorUnknown",
        )
    detector: Detector = installed[name].load()
    return detector
