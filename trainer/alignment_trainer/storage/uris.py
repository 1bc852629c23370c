"""URIs of objects and folders: taking them apart, joining them, matching globs.

Pure string work, called by every store and by whoever builds a key. No key is ever another key's folder:
some stores (those on a file system) refuse such a pair, so :func:`join` keeps files and folders apart by
the trailing slash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from alignment_trainer.errors import RequestError

__all__ = [
    "Location",
    "glob_prefix",
    "glob_regex",
    "is_glob",
    "join",
    "name",
    "parent",
    "parse",
    "quoted",
    "relative",
]

_GLOB = re.compile(r"[*?[]")
_SAFE = "/~!$&'()+,;=:@"


@dataclass(frozen=True, slots=True)
class Location:
    """``scheme://root/key``: root is the bucket (s3), the claim (pvc), empty (file); key has no leading slash."""

    scheme: str
    root: str
    key: str


def parse(uri: str) -> Location:
    """Take a URI apart. Raises RequestError for what no store could mean."""
    scheme, separator, rest = uri.partition("://")
    if not separator or not scheme.isalnum():
        raise RequestError(
            f"{uri!r} is not a URI; write s3://bucket/key, file:///absolute/path or pvc://claim/path.",
            reason="UriInvalid",
        )
    root, _, key = rest.partition("/")
    if any(part in (".", "..") for part in key.split("/")):
        raise RequestError(f"{uri} has a part '.' or '..'; write the full path.", reason="UriInvalid")
    return Location(scheme, root, key)


def quoted(path: str | bytes, *, glob: bool = False) -> str:
    """A path of a file system as it stands in a URI. glob: ``*``, ``?`` and ``[…]`` in it are wildcards and stay."""
    return quote(path, safe=_SAFE + "*?[]" if glob else _SAFE)


def join(folder: str, *parts: str) -> str:
    """``folder`` and ``parts`` with single slashes between; a trailing slash of the last part is kept."""
    uri = folder.rstrip("/")
    for part in parts:
        uri = f"{uri.rstrip('/')}/{part.lstrip('/')}"
    return uri


def parent(uri: str) -> str:
    """The folder that holds an object or folder; ends with ``/``."""
    return uri.rstrip("/").rpartition("/")[0] + "/"


def name(uri: str) -> str:
    """Last part of an object's or folder's URI."""
    return uri.rstrip("/").rpartition("/")[2]


def relative(uri: str, folder: str) -> str:
    """Path of an object within a folder."""
    base = folder.rstrip("/") + "/"
    if not uri.startswith(base):
        raise ValueError(f"{uri} is not below {base}")
    return uri[len(base) :]


def is_glob(pattern: str) -> bool:
    """True when the URI has ``*``, ``?`` or ``[``."""
    return _GLOB.search(pattern) is not None


def glob_prefix(pattern: str) -> str:
    """The part before the first wildcard: what a store lists by. Equals ``pattern`` without wildcards."""
    found = _GLOB.search(pattern)
    return pattern[: found.start()] if found else pattern


@lru_cache(maxsize=256)
def glob_regex(pattern: str) -> re.Pattern[str]:
    """Compiled matcher of whole URIs.

    ``*`` any run of characters but ``/`` · ``**`` any run, ``**/`` also none · ``?`` one character
    · ``[abc]``, ``[a-z]``, ``[!a]`` one of, or none of. A pattern ending in ``/`` matches all below it.
    Raises RequestError for a class that is not closed.
    """
    if pattern.endswith("/"):
        pattern += "**"
    out, i = [], 0
    while i < len(pattern):
        if pattern.startswith("**/", i) and (i == 0 or pattern[i - 1] == "/"):
            out.append("(?:.*/)?")
            i += 3
        elif pattern.startswith("**", i):
            out.append(".*")
            i += 2
        elif pattern[i] == "*":
            out.append("[^/]*")
            i += 1
        elif pattern[i] == "?":
            # A file URI writes some characters as %XX; they are one character all the same.
            out.append("(?:%[0-9A-F]{2}|[^/])")
            i += 1
        elif pattern[i] == "[":
            text, i = _character_class(pattern, i)
            out.append(text)
        else:
            out.append(re.escape(pattern[i]))
            i += 1
    return re.compile("".join(out) + r"\Z", re.DOTALL)


def _character_class(pattern: str, start: int) -> tuple[str, int]:
    end = pattern.find("]", start + 2)  # a ] right after [ is a member, as in shells
    if pattern.startswith("[!", start):
        end = pattern.find("]", start + 3)
    if end < 0:
        raise RequestError(
            f"{pattern} has '[' without ']'; write [[] for the character itself.", reason="UriInvalid"
        )
    body = pattern[start + 1 : end]
    negated = body.startswith("!")
    members = re.sub(r"([\\\[\]^&~|])", r"\\\1", body[1:] if negated else body)
    try:
        text = f"[^/{members}]" if negated else f"[{members}]"
        re.compile(text)
    except re.error:
        raise RequestError(
            f"{pattern} has the range [{body}], which runs backwards.", reason="UriInvalid"
        ) from None
    return text, end + 1
