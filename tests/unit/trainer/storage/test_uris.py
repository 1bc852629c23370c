"""URIs and globs: string work, tried against the standard library where it has the same idea."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_trainer.errors import RequestError
from alignment_trainer.storage import uris


@pytest.mark.parametrize(
    ("pattern", "uri", "matches"),
    [
        ("s3://b/a*c", "s3://b/abc", True),
        ("s3://b/a*c", "s3://b/a/c", False),
        ("s3://b/**/c", "s3://b/c", True),
        ("s3://b/**/c", "s3://b/x/y/c", True),
        ("s3://b/**/c", "s3://b/xc", False),
        ("s3://b/x**c", "s3://b/x/y/c", True),
        ("s3://b/[]x]", "s3://b/]", True),
        ("s3://b/[a-c]", "s3://b/b", True),
        ("s3://b/[!a-c]", "s3://b/b", False),
        ("s3://b/[!a]", "s3://b/^", True),
        ("s3://b/[[]1]", "s3://b/[1]", True),
        ("s3://b/f/", "s3://b/f/x/y", True),
        ("s3://b/f/", "s3://b/fx", False),
        ("s3://b/a.c", "s3://b/abc", False),
        ("file:///a?b", "file:///a%20b", True),
    ],
)
def test_glob(pattern: str, uri: str, matches: bool) -> None:
    assert bool(uris.glob_regex(pattern).match(uri)) is matches


@given(st.text("ab*?[]!-", max_size=8), st.text("ab-]!", max_size=6))
def test_within_one_folder_globs_mean_what_shells_mean(pattern: str, name: str) -> None:
    if "**" in pattern or "\n" in name:
        return
    try:
        found = uris.glob_regex(pattern).match(name)
    except RequestError:
        return
    assert bool(found) == fnmatch.fnmatchcase(name, pattern)


@given(st.text("ab/*?[", max_size=12), st.text("ab/[", max_size=12))
def test_everything_that_matches_lies_below_the_prefix(pattern: str, uri: str) -> None:
    try:
        matched = uris.glob_regex(pattern).match(uri)
    except RequestError:
        return
    if matched:
        assert uri.startswith(uris.glob_prefix(pattern))


@pytest.mark.parametrize("pattern", ["s3://b/[a", "s3://b/[z-a]"])
def test_broken_class_is_refused_with_the_pattern(pattern: str) -> None:
    with pytest.raises(RequestError, match="s3://b/") as caught:
        uris.glob_regex(pattern)
    assert caught.value.reason == "UriInvalid"


@pytest.mark.parametrize("uri", ["", "/path", "s3:/b/k", "://b/k", "s3://b/../k", "s3://b/./k"])
def test_what_no_store_could_mean_is_refused(uri: str) -> None:
    with pytest.raises(RequestError):
        uris.parse(uri)


def test_join_keeps_single_slashes_and_the_last() -> None:
    assert uris.join("s3://b/", "/a/", "c") == "s3://b/a/c"
    assert uris.join("s3://b", "a/") == "s3://b/a/"


def test_parent_and_name_of_objects_and_folders() -> None:
    assert (uris.parent("s3://b/a/c"), uris.name("s3://b/a/c")) == ("s3://b/a/", "c")
    assert (uris.parent("s3://b/a/c/"), uris.name("s3://b/a/c/")) == ("s3://b/a/", "c")
