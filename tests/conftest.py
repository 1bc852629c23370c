"""Fixtures that every folder of tests may use."""

from __future__ import annotations

import gc
import os
import secrets
from collections.abc import Iterator

import pytest

from support import s3server

# Libraries are loaded while tests are collected, and are not looked through for garbage again and again: half a million
# objects, at every collection that a trainer asks for.
gc.disable()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    try:
        return (yield)  # type: ignore[misc]
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or libraries take what is left at the end for leaks of theirs, and say so


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens", action="store_true", help="write what the code gives now over tests/data"
    )


@pytest.fixture(autouse=True)
def environment_as_found() -> Iterator[None]:
    """What a test's code sets in the environment ends with the test: a later test's processes would inherit it.

    A bench's OMP_NUM_THREADS once made every training of the tests behind it eight times slower.
    """
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3server.S3Server]:
    """A real S3 server, one per test process; skipped where it cannot be had, failed there when CI=true."""
    started = s3server.running(tmp_path_factory.mktemp("s3") / "objects")
    try:
        server = started.__enter__()
    except s3server.Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs a real S3 server: {reason}")
        pytest.skip(f"no S3 server: {reason}")
    try:
        yield server
    finally:
        started.__exit__(None, None, None)


@pytest.fixture
def s3(s3_server: s3server.S3Server, monkeypatch: pytest.MonkeyPatch) -> s3server.S3Server:
    """The S3 server, with this process's environment holding its credentials and nobody else's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    return s3_server


@pytest.fixture
def bucket(s3: s3server.S3Server) -> str:
    """URI of an empty bucket of this test alone."""
    return s3.create_bucket(f"test-{secrets.token_hex(6)}")
