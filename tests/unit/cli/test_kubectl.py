"""What kubectl's refusals mean, by the words that it has for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment_api.exitcodes import AlignExit
from alignment_cli.cluster.kubectl import Kubectl
from alignment_cli.errors import CommandError, Unreachable


def refusal(words: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> CommandError:
    """What a kubectl that ends with these words raises."""
    (folder / "words").write_text(words, encoding="utf-8")
    binary = folder / "kubectl"
    binary.write_text(f"#!/bin/sh\ncat '{folder}/words' >&2\nexit 1\n", encoding="utf-8")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    with pytest.raises(CommandError) as refused:
        Kubectl("team", None)("get", "alignmentruns", "notes")
    return refused.value


@pytest.mark.parametrize(
    "words",
    [
        "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?",
        "Unable to connect to the server: dial tcp 10.0.0.1:6443: i/o timeout",
        "Unable to connect to the server: net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
        "Error from server (ServiceUnavailable): the server is currently unable to handle the request",
        "Error from server (InternalError): an error on the server has prevented the request from succeeding",
        "Error from server (TooManyRequests): the server has received too many requests",
        "Error from server (Timeout): the server was unable to return a response in the time allotted",
        "Error from server: etcdserver: leader changed",
        "error: client rate limiter Wait returned an error: context deadline exceeded",
        "error: http2: client connection lost",
        "error: unexpected EOF",
    ],
)
def test_what_may_pass_is_worth_asking_again(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = refusal(words, tmp_path, monkeypatch)
    assert isinstance(refused, Unreachable)
    assert refused.exit_code == AlignExit.OTHER
    assert words in refused.message


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ('Error from server (NotFound): alignmentruns "notes" not found', AlignExit.REQUEST_INVALID),
        ('Error from server (Forbidden): alignmentruns "notes" is forbidden', AlignExit.OTHER),
        ("error: You must be logged in to the server (Unauthorized)", AlignExit.OTHER),
        ('error: the server doesn\'t have a resource type "alignmentruns"', AlignExit.OTHER),
        ("error: current-context must exist in order to minify", AlignExit.OTHER),
        ("", AlignExit.OTHER),
    ],
)
def test_what_stays_is_not(
    words: str, code: AlignExit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = refusal(words, tmp_path, monkeypatch)
    assert not isinstance(refused, Unreachable)
    assert refused.exit_code == code
    assert refused.message
