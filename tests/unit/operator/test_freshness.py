"""A silent watch is told from a quiet cluster."""

from __future__ import annotations

from alignment_operator.freshness import Freshness

JOBS = ("jobs", "")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_quiet_cluster_owes_nothing() -> None:
    clock = Clock()
    subject = Freshness(clock)
    clock.now = 10_000.0
    assert subject.lag("jobs") == 0.0


def test_our_own_write_must_come_back() -> None:
    clock = Clock()
    subject = Freshness(clock)
    subject.expect(JOBS, "7")
    clock.now = 30.0
    assert subject.lag("jobs") == 30.0
    assert subject.lag("pods") == 0.0
    subject.saw(JOBS, "6")
    assert subject.lag("jobs") == 30.0
    subject.saw(JOBS, "7")
    assert subject.lag("jobs") == 0.0


def test_what_came_before_it_was_expected_is_not_awaited() -> None:
    subject = Freshness(Clock())
    subject.saw(JOBS, "9")
    subject.expect(JOBS, "8")
    assert subject.lag("jobs") == 0.0


def test_a_listing_that_knows_more_than_the_watch_shows_the_watch_to_be_silent() -> None:
    clock = Clock()
    subject = Freshness(clock)
    subject.saw(JOBS, "5")
    subject.listed(JOBS, ["3", "8"])
    clock.now = 60.0
    assert subject.lag("jobs") == 60.0


def test_what_was_deleted_meanwhile_is_no_longer_awaited() -> None:
    clock = Clock()
    subject = Freshness(clock)
    subject.expect(JOBS, "9")
    subject.listed(JOBS, [])
    clock.now = 60.0
    assert subject.lag("jobs") == 0.0


def test_watches_of_several_namespaces_are_told_apart() -> None:
    clock = Clock()
    subject = Freshness(clock)
    subject.expect(("jobs", "a"), "5")
    subject.saw(("jobs", "b"), "9")
    clock.now = 5.0
    assert subject.lag("jobs") == 5.0
