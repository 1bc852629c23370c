"""Settings from the environment."""

from __future__ import annotations

from dataclasses import fields

import pytest

from alignment_operator.errors import SettingsError
from alignment_operator.settings import _PARSERS, Settings, read_settings

IMAGE = {"ALIGNMENT_OPERATOR_TRAINER_IMAGE": "trainer:1"}


def test_only_the_image_must_be_given() -> None:
    settings = read_settings(IMAGE)
    assert settings == Settings(trainer_image="trainer:1", identity=settings.identity)
    with pytest.raises(SettingsError, match="TRAINER_IMAGE is not set"):
        read_settings({})


def test_every_setting_can_be_set() -> None:
    assert {field.name for field in fields(Settings)} == set(_PARSERS)


def test_values_are_read_in_their_kind() -> None:
    given = {
        "NAMESPACES": "team-a, team-b",
        "WORKERS": "4",
        "QUERIES_PER_SECOND": "50",
        "PER_RUN_METRICS": "false",
        "POD_ENV": '{"HTTPS_PROXY": "http://proxy:3128"}',
        "LISTEN": "[::]:9090",
    }
    settings = read_settings(IMAGE | {f"ALIGNMENT_OPERATOR_{k}": v for k, v in given.items()})
    assert settings.namespaces == ("team-a", "team-b")
    assert (settings.workers, settings.queries_per_second, settings.per_run_metrics) == (4, 50.0, False)
    assert settings.pod_env == {"HTTPS_PROXY": "http://proxy:3128"}
    assert settings.listen == "[::]:9090"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "0"),
        ("WORKERS", "many"),
        ("QUERIES_PER_SECOND", "nan"),
        ("KUEUE", "yes"),
        ("LISTEN", "8080"),
        ("POD_ENV", '{"A": 1}'),
        ("POD_ENV", "A=1"),
        ("IMAGE_PULL_POLICY", "Sometimes"),
        ("LEASE_SECONDS", "1"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"ALIGNMENT_OPERATOR_{name}="):
        read_settings(IMAGE | {f"ALIGNMENT_OPERATOR_{name}": value})
