"""What taking our cluster down does to a machine, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tools.cluster import cleanup, local, providers
from tools.cluster.node import Layout

OURS = """*nat
:KUBE-SERVICES - [0:0]
:CNI-1 - [0:0]
:CNI-2 - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A POSTROUTING -s 10.244.0.3/32 -m comment --comment "name: \\"alignment-test\\" id: \\"a\\"" -j CNI-1
-A POSTROUTING -s 10.42.0.3/32 -m comment --comment "name: \\"cbr0\\" id: \\"b\\"" -j CNI-2
COMMIT
"""


class Machine:
    """Programs are noted, not run. rules: what iptables-save answers for the table nat."""

    def __init__(self, folder: Path) -> None:
        self.here = Layout(state=folder / "state", images=folder / "images")
        self.results = folder / "results"
        self.cgroups = folder / "cgroups"
        self.forwarding = folder / "ip_forward"
        self.rules = ""
        self.ran: list[str] = []
        for made in (self.here.state, self.results, self.cgroups):
            made.mkdir()
        self.forwarding.write_text("0")

    def run(self, command: Sequence[object], **_options: object) -> str:
        words = " ".join(map(str, command))
        if "-save" in words:
            return self.rules if words == "iptables-save -t nat" else ""
        self.ran.append(words)
        return ""

    def changed(self) -> set[str]:
        """What was done to the rules."""
        return {words.split("nat ")[1] for words in self.ran if words.startswith("iptables -t nat ")}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine(tmp_path)
    monkeypatch.setattr(cleanup, "_RESULTS", made.results)
    monkeypatch.setattr(cleanup, "_CGROUPS", made.cgroups)
    monkeypatch.setattr(cleanup, "_FORWARDING", made.forwarding)
    monkeypatch.setattr(cleanup.shell, "run", made.run)
    monkeypatch.setenv("PATH", "")
    return made


def test_where_no_cluster_was_started_nothing_is_done(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    machine.rules = OURS
    local.down()
    assert machine.ran == []


def test_on_a_machine_of_its_own_everything_that_kubernetes_made_goes(machine: Machine) -> None:
    cleanup.remember(machine.here)
    machine.rules = OURS
    (machine.cgroups / "cpu" / "kubepods" / "burstable").mkdir(parents=True)
    machine.forwarding.write_text("1")
    cleanup.network(machine.here)
    assert {
        "-D PREROUTING -j KUBE-SERVICES",
        "-F KUBE-SERVICES",
        "-X KUBE-SERVICES",
        "-X CNI-1",
    } <= machine.changed()
    assert not list(machine.cgroups.glob("**/kubepods"))
    assert machine.forwarding.read_text() == "0"


@pytest.mark.parametrize("trace", ["rules", "cgroups"])
def test_on_a_node_of_another_cluster_only_what_carries_our_name_goes(machine: Machine, trace: str) -> None:
    theirs = machine.cgroups / "kubepods.slice"
    if trace == "rules":
        machine.rules = OURS
    else:
        theirs.mkdir()
    cleanup.remember(machine.here)
    machine.rules = OURS
    (machine.cgroups / "kubepods").mkdir()
    cleanup.network(machine.here)
    rule = '-D POSTROUTING -s 10.244.0.3/32 -m comment --comment name: "alignment-test" id: "a" -j CNI-1'
    assert machine.changed() == {rule, "-F CNI-1", "-X CNI-1"}
    assert (machine.cgroups / "kubepods").exists()


def test_where_nobody_wrote_down_what_was_there_it_is_taken_for_anothers(machine: Machine) -> None:
    machine.rules = OURS
    cleanup.network(machine.here)
    assert not [words for words in machine.changed() if "KUBE" in words]


def test_a_start_that_is_repeated_does_not_take_its_own_rules_for_anothers(machine: Machine) -> None:
    cleanup.remember(machine.here)
    machine.rules = OURS
    cleanup.remember(machine.here)
    assert json.loads((machine.here.state / "before.json").read_text())["node"] is False


def test_only_network_namespaces_of_our_own_pods_are_deleted(machine: Machine) -> None:
    def note(name: str, namespace: str) -> None:
        interfaces = [{"name": "veth1"}, {"name": "eth0", "sandbox": f"/var/run/netns/{namespace}"}]
        (machine.results / name).write_text(json.dumps({"result": {"interfaces": interfaces}}))

    note("alignment-test-1-eth0", "cni-ours")
    note("cbr0-2-eth0", "cni-theirs")
    (machine.results / "alignment-test-3-eth0").write_text("{")
    cleanup.mounts(machine.here)
    assert [words for words in machine.ran if "netns" in words] == ["ip netns delete cni-ours"]


def test_a_cluster_that_broke_is_taken_down_by_who_started_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(providers.CONTEXT_VARIABLE, raising=False)
    monkeypatch.setattr(providers, "_docker_answers", lambda: True)
    assert isinstance(providers.choose(), providers.Kind)
    local.layout().pki.mkdir(parents=True)
    assert isinstance(providers.choose(), providers.Local)
