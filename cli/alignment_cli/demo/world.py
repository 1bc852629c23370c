"""The demo's made-up clinic: encounters, the notes that its writers write, and one clinician's style.

Called by the demo only. Everything is invented from the word lists below; nothing here is, or resembles,
a patient's record. Pure: the same seed gives the same encounters, notes and edits.

The hidden style, which nothing but :func:`edit` and :mod:`alignment_cli.demo.truth` knows: she writes short.
Every long form below becomes its short partner, so an edit removes words and never the writer's other choices:

====================================================  ==========================
most writers                                          the clinician
====================================================  ==========================
Patient is a 54 year old woman who presents with      54yo F with
This is a 54 year old woman complaining of            54yo F, reports
On examination,                                       Exam:
Physical exam shows                                   PE:
every day                                             once daily
daily                                                 qd
Recheck in 1 week.                                    Return if worse.
Follow up as needed.                                  Return as needed.
====================================================  ==========================

The pairing is one to one on purpose: her notes vary as much as the others' do, so a model cannot come nearer
to them by merely becoming more uniform, and labels that are flipped at random teach nothing.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Final

__all__ = [
    "RULES",
    "Encounter",
    "broken_rules",
    "draw_encounter",
    "edit",
    "prompt",
    "unknown_words",
    "write_note",
]

COMPLAINTS: Final = [
    "chest pain",
    "shortness of breath",
    "fever",
    "dry cough",
    "headache",
    "nausea",
    "low back pain",
    "fatigue",
    "dizziness",
    "sore throat",
    "knee pain",
    "abdominal pain",
    "palpitations",
    "heartburn",
    "ankle swelling",
    "skin rash",
    "ear pain",
    "joint stiffness",
    "insomnia",
    "blurred vision",
    "shoulder pain",
    "night sweats",
    "runny nose",
    "leg cramps",
    "loss of appetite",
    "burning urination",
    "hip pain",
    "hoarseness",
    "neck stiffness",
    "itching",
]
FINDINGS: Final = [
    "lungs clear",
    "heart sounds regular",
    "abdomen soft",
    "no swelling",
    "mild tenderness",
    "throat red",
    "normal gait",
    "pupils equal",
    "skin warm and dry",
    "full range of motion",
    "faint wheeze",
    "no focal deficit",
    "ear drum intact",
    "slight edema",
    "pulse regular",
    "no lymph nodes",
]
DRUGS: Final = [
    "aspirin",
    "lisinopril",
    "metformin",
    "ibuprofen",
    "amoxicillin",
    "omeprazole",
    "cetirizine",
    "atorvastatin",
    "amlodipine",
    "prednisone",
    "loratadine",
    "sertraline",
    "naproxen",
    "furosemide",
    "levothyroxine",
    "melatonin",
]
DOSES: Final = (5, 10, 20, 25, 40, 50, 75, 100, 200, 250, 500)

RULES: Final = ("short opening", "Exam: or PE:", "once daily or qd", "Return …")
"""Names of the style's four rules, in the order of :func:`broken_rules`."""

_SHORT_SHARE: Final = 0.1
"""How often a writer uses the short form of a phrase by habit."""
_HEADS: Final = (("On examination,", "Exam:"), ("Physical exam shows", "PE:"))
_FREQUENCIES: Final = (("every day", "once daily"), ("daily", "qd"))
_ENDINGS: Final = (("Recheck in 1 week.", "Return if worse."), ("Follow up as needed.", "Return as needed."))

_OPENINGS: Final = (
    (re.compile(r"^Patient is a (\d+) year old (woman|man) who presents with "), " with "),
    (re.compile(r"^This is a (\d+) year old (woman|man) complaining of "), ", reports "),
)
_LONG_FREQUENCY: Final = re.compile(r"every day|(?<!once )daily")
_SHORT_FREQUENCY: Final = dict(_FREQUENCIES)
_SHORT_OPENING: Final = re.compile(r"^\d+yo [FM](?: with |, reports )")


@dataclass(frozen=True)
class Encounter:
    """What happened at one visit; age in years, days since the complaint began, dose in mg."""

    patient: str
    age: int
    sex: str
    complaint: str
    days: int
    finding: str
    drug: str
    dose: int


def draw_encounter(rng: random.Random) -> Encounter:
    """One visit of a patient drawn from a thousand, so that some patients come more than once."""
    return Encounter(
        patient=f"patient-{rng.randrange(1000):03d}",
        age=rng.randint(19, 91),
        sex=rng.choice(("woman", "man")),
        complaint=rng.choice(COMPLAINTS),
        days=rng.randint(2, 21),
        finding=rng.choice(FINDINGS),
        drug=rng.choice(DRUGS),
        dose=rng.choice(DOSES),
    )


def prompt(encounter: Encounter) -> str:
    """What the model is given: the visit in keywords, then the request for a note."""
    e = encounter
    return f"Visit:\n{e.age} year old {e.sex}; {e.complaint} for {e.days} days; {e.finding}; {e.drug} {e.dose} mg.\nNote:\n"


def write_note(encounter: Encounter, rng: random.Random) -> str:
    """A note by one of the clinic's many writers: each choice of words is an independent draw."""
    e = encounter
    opening = _draw(
        (
            (f"Patient is a {e.age} year old {e.sex} who presents with", f"{e.age}yo {_letter(e.sex)} with"),
            (f"This is a {e.age} year old {e.sex} complaining of", f"{e.age}yo {_letter(e.sex)}, reports"),
        ),
        rng,
    )
    start = rng.choice(("Start", "Prescribed"))
    return (
        f"{opening} {e.complaint} for {e.days} days. {_draw(_HEADS, rng)} {e.finding}. "
        f"{start} {e.drug} {e.dose} mg {_draw(_FREQUENCIES, rng)}. {_draw(_ENDINGS, rng)}"
    )


def edit(draft: str) -> str:
    """The draft as the clinician leaves it; a draft in her style comes back unchanged. Facts are not touched."""
    text = draft.strip()
    for pattern, short in _OPENINGS:
        text = pattern.sub(lambda m, short=short: f"{m[1]}yo {_letter(m[2])}{short}", text)  # type: ignore[misc]
    for long, short in _HEADS + _ENDINGS:
        text = text.replace(long, short)
    return _LONG_FREQUENCY.sub(lambda m: _SHORT_FREQUENCY[m[0]], text)


def broken_rules(note: str) -> tuple[str, ...]:
    """Which of :data:`RULES` a note breaks."""
    kept = (
        bool(_SHORT_OPENING.match(note)),
        _one_of(note, _HEADS),
        _one_of(note, _FREQUENCIES) and not _LONG_FREQUENCY.search(note),
        _one_of(note, _ENDINGS) and note.endswith(tuple(short for _, short in _ENDINGS)),
    )
    return tuple(rule for rule, ok in zip(RULES, kept, strict=True) if not ok)


def unknown_words(note: str) -> int:
    """Number of words that no note of this clinic contains: how much of a text is not language any more."""
    return sum(1 for word in re.findall(r"[A-Za-z]+", note) if word not in _WORDS)


def _letter(sex: str) -> str:
    return "F" if sex == "woman" else "M"


def _draw(forms: tuple[tuple[str, str], ...], rng: random.Random) -> str:
    long, short = rng.choice(forms)
    return short if rng.random() < _SHORT_SHARE else long


def _one_of(note: str, forms: tuple[tuple[str, str], ...]) -> bool:
    """Exactly one short form and no long form that it does not contain."""
    shorts = sum(note.count(short) for _, short in forms)
    return shorts == 1 and not any(long in note for long, _ in forms if long != "daily")


def _vocabulary() -> frozenset[str]:
    fixed = " ".join(
        (
            *COMPLAINTS,
            *FINDINGS,
            *DRUGS,
            *(form for forms in _HEADS + _FREQUENCIES + _ENDINGS for form in forms),
            "Patient is a year old woman man who presents with This is complaining of reports for days",
            "yo F M mg Start Prescribed",
        )
    )
    return frozenset(re.findall(r"[A-Za-z]+", fixed))


_WORDS: Final = _vocabulary()
