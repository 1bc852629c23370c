"""What the Helm chart renders, with Helm 3 and 4, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.cluster.binaries import Unavailable

from support import helm
from support.helm import Refused, render

# Helm is built from its module where PATH has none: minutes, once per machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "tests" / "data" / "chart" / "default.yaml"
CRD = REPOSITORY / "crds" / "alignmentruns.alignment.dev.yaml"
EVERYTHING: dict[str, Any] = {
    "replicas": 2,
    "watchNamespaces": ["team-a", "team-b"],
    "kueue": {"enabled": True},
    "decisions": {"excludeAuthor": True},
    "imagePullSecrets": [{"name": "registry"}],
    "trainer": {"env": {"HTTPS_PROXY": "http://proxy:3128"}, "user": 1000, "fsGroup": 1000},
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboards": {"enabled": True, "namespace": "grafana", "annotations": {"grafana_folder": "ML"}},
    },
    "networkPolicy": {"scrapers": [{"namespaceSelector": {}}]},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "serviceAccount": {"annotations": {"e": "f"}},
}
NAMES = ("name", "namespace", "serviceAccountName", "priorityClassName", "app.kubernetes.io/instance")
RIGHTS = {
    "alignment.dev/alignmentruns": {"get", "list", "watch"},
    "alignment.dev/alignmentruns/status": {"patch"},
    "alignment.dev/alignmentruns/finalizers": {"update"},
    "batch/jobs": {"get", "list", "watch", "create", "delete"},
    "/pods": {"get", "list", "watch"},
    "/services": {"create"},
    "/events": {"list", "create"},
}


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    try:
        helm.helms()
    except Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs Helm: {reason}")
        pytest.skip(f"no Helm: {reason}")


def of(kind: str, documents: list[dict[str, Any]], suffix: str = "") -> list[dict[str, Any]]:
    return [d for d in documents if d["kind"] == kind and d["metadata"]["name"].endswith(suffix)]


def rights(role: dict[str, Any]) -> dict[str, set[str]]:
    return {
        f"{group}/{resource}": set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def variables(documents: list[dict[str, Any]]) -> dict[str, str]:
    container = of("Deployment", documents)[0]["spec"]["template"]["spec"]["containers"][0]
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


def test_defaults_render_as_recorded_by_both_helms() -> None:
    rendered = [d for d in render() if d["kind"] != "CustomResourceDefinition"]
    assert rendered == list(yaml.safe_load_all(GOLDEN.read_text(encoding="utf-8"))), (
        "the chart's defaults have changed; if that is meant, run `make chart-golden`"
    )
    assert render(helm=helm.helms()["3"]) == render(helm=helm.helms()["4"])


def test_everything_switched_on_renders_the_same_by_both_helms_and_without_a_null() -> None:
    rendered = render(values=EVERYTHING)
    assert rendered == render(values=EVERYTHING, helm=helm.helms()["3"])
    assert list(nulls(rendered)) == []


def nulls(value: Any, path: str = "") -> Iterator[str]:
    if value is None:
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from nulls(item, f"{path}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from nulls(item, f"{path}.{number}")


def test_names_that_look_like_numbers_stay_names() -> None:
    named = EVERYTHING | {
        "watchNamespaces": ["2025", "true"],
        "metrics": {**EVERYTHING["metrics"], "dashboards": {"enabled": True, "namespace": "2026"}},
        "serviceAccount": {"name": "2027"},
        "priorityClassName": "2028",
        "crds": {"enabled": False},
    }
    for values in (named, named | {"watchNamespaces": [], "serviceAccount": {}}):
        rendered = render(values=values, name="2024", namespace="2023")
        assert [path for path, name in chosen(rendered) if not isinstance(name, str)] == []
    assert variables(rendered)["ALIGNMENT_OPERATOR_LEASE_NAMESPACE"] == "2023"


def chosen(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What stands where the chart has a name that somebody chose."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in NAMES:
                yield f"{path}.{key}", item
            yield from chosen(item, f"{path}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from chosen(item, f"{path}.{number}")


def test_the_operator_gets_exactly_the_rights_that_its_gateway_uses() -> None:
    (role,) = of("ClusterRole", render(), "-operator")
    assert rights(role) == RIGHTS
    (role,) = of("ClusterRole", render("kueue.enabled=true"), "-operator")
    assert rights(role) == {**RIGHTS, "kueue.x-k8s.io/workloads": {"list"}}


def test_nobody_gets_secrets_exec_configmaps_or_a_wildcard() -> None:
    for values in ({}, EVERYTHING):
        for role in of("ClusterRole", render(values=values)) + of("Role", render(values=values)):
            names = {resource.rpartition("/")[2] for resource in rights(role)}
            assert names.isdisjoint({"secrets", "exec", "configmaps", "*"}), role["metadata"]["name"]
            assert all("*" not in verbs for verbs in rights(role).values())


def test_watching_named_namespaces_needs_no_right_in_any_other() -> None:
    rendered = render(values={"watchNamespaces": ["team-a", "team-b"]})
    assert of("ClusterRole", rendered, "-operator") == []
    assert of("ClusterRoleBinding", rendered) == []
    assert {role["metadata"]["namespace"]: rights(role) for role in of("Role", rendered)} == {
        "team-a": RIGHTS,
        "team-b": RIGHTS,
    }
    assert variables(rendered)["ALIGNMENT_OPERATOR_NAMESPACES"] == "team-a,team-b"


def test_resource_definitions_are_those_of_the_repository_and_stay_unless_told_otherwise() -> None:
    (kept,) = of("CustomResourceDefinition", render())
    assert kept["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    (dropped,) = of("CustomResourceDefinition", render("crds.keep=false"))
    assert "annotations" not in dropped["metadata"]
    assert of("CustomResourceDefinition", render("crds.enabled=false")) == []
    ours = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    assert kept["spec"] == ours["spec"]


def test_one_replica_has_no_election_and_no_budget_that_would_block_a_drain() -> None:
    rendered = render()
    assert of("PodDisruptionBudget", rendered) == []
    assert of("Role", rendered) == []
    assert "ALIGNMENT_OPERATOR_LEADER_ELECTION" not in variables(rendered)
    (deployment,) = of("Deployment", rendered)
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_two_replicas_elect_and_may_update_only_their_own_lease() -> None:
    rendered = render("replicas=2")
    assert len(of("PodDisruptionBudget", rendered)) == 1
    assert variables(rendered)["ALIGNMENT_OPERATOR_LEADER_ELECTION"] == "true"
    (role,) = of("Role", rendered, "-election")
    update = next(rule for rule in role["rules"] if "update" in rule["verbs"])
    assert update["resourceNames"] == [variables(rendered)["ALIGNMENT_OPERATOR_LEASE_NAME"]]


def test_the_pod_fits_the_restricted_security_profile() -> None:
    pod = of("Deployment", render())[0]["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_digest_wins_over_a_tag() -> None:
    digest = f"sha256:{'a' * 64}"
    rendered = render(f"trainer.image.digest={digest}", "trainer.image.tag=v1")
    assert variables(rendered)["ALIGNMENT_OPERATOR_TRAINER_IMAGE"] == f"alignment-trainer@{digest}"


def test_user_and_group_of_a_values_file_stay_whole_numbers_however_large() -> None:
    ids = {"user": 1_000_650_000, "fsGroup": 2_147_483_647}
    for program in helm.helms().values():
        rendered = variables(render(values={"trainer": ids}, helm=program))
        assert rendered["ALIGNMENT_OPERATOR_POD_USER"] == "1000650000"
        assert rendered["ALIGNMENT_OPERATOR_POD_FS_GROUP"] == "2147483647"


def test_the_network_policy_lets_the_operator_read_progress_of_stage_pods_only() -> None:
    (policy,) = of("NetworkPolicy", render())
    progress = next(rule for rule in policy["spec"]["egress"] if rule["ports"][0]["port"] == 8081)
    assert progress["to"][0]["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/managed-by": "alignment-operator"
    }
    names = policy["spec"]["egress"][0]["ports"]
    assert {port["port"] for port in names} >= {53, 5353}, "DNS pods often listen on 5353"
    assert of("NetworkPolicy", render("networkPolicy.enabled=false")) == []


def test_the_proof_of_who_decided_can_be_switched_off_and_says_so_in_the_notes() -> None:
    assert len(of("ValidatingAdmissionPolicy", render())) == 1
    assert of("ValidatingAdmissionPolicy", render("decisions.policy=false")) == []


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("imgae.tag=v1", "imgae"),
        ("operator.worker=3", "worker"),
        ("replicas=-1", "replicas"),
        ("replicas=two", "replicas"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.digest=latest", "digest"),
        ("operator.logLevel=verbose", "logLevel"),
        ("watchNamespaces={Team_A}", "watchNamespaces"),
        ("crds.keep=maybe", "keep"),
        ("networkPolicy.apiServerPorts={0}", "apiServerPorts"),
        ("metrics.serviceMonitor.interval=often", "interval"),
    ],
)
def test_a_value_that_means_nothing_is_refused_by_name(setting: str, named: str) -> None:
    for program in helm.helms().values():
        with pytest.raises(Refused, match=named):
            render(setting, helm=program)
