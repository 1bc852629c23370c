"""Remove what a node leaves on a machine: containers, mounts, network namespaces, rules, cgroups.

The machine may be the node of another cluster (k3s, kubeadm), whose network and cgroups look like ours. What carries our
name goes; what is called alike in every cluster goes only where :func:`remember` found none of it before.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from tools.cluster import shell
from tools.cluster.node import NETWORK, NODE_BRIDGE, POD_BRIDGE, Layout

__all__ = ["containers", "mounts", "network", "remember", "unmount"]

_TABLES = ("nat", "filter", "mangle")
_FAMILIES = ("iptables", "ip6tables")
_CGROUPS = Path("/sys/fs/cgroup")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_RESULTS = Path("/var/lib/cni/results")
"""Where the container runtime notes what a network plugin did for each pod."""


def remember(here: Layout) -> None:
    """Write down, before anything is started, what this machine had: forwarding, and whether it is a node already."""
    note = here.state / "before.json"
    if note.exists():
        return
    rules = "".join(_saved(family, table) for family in _FAMILIES for table in _TABLES)
    node = ":KUBE-" in rules or any(_CGROUPS.glob("**/kubepods*"))
    note.write_text(json.dumps({"forwarding": _FORWARDING.read_text(), "node": node}))


def containers(here: Layout) -> None:
    """Kill and remove every container of this containerd."""
    if not shell.alive("containerd", here.state):
        return
    ctr = ["ctr", "--address", here.socket, "--namespace", "k8s.io"]
    tasks = shell.run([*ctr, "tasks", "ls", "-q"], check=False).split()
    for task in tasks:
        shell.run([*ctr, "tasks", "kill", "-s", "SIGKILL", task], check=False)
    for task in tasks:
        shell.run([*ctr, "tasks", "rm", "-f", task], check=False)
    for container in shell.run([*ctr, "containers", "ls", "-q"], check=False).split():
        shell.run([*ctr, "containers", "rm", container], check=False)


def mounts(here: Layout) -> None:
    """Unmount everything of this node, and its pods' network namespaces."""
    unmount(here.state, here.images, here.socket.parent)
    for namespace in _namespaces():
        shell.run(["ip", "netns", "delete", namespace], check=False)


def unmount(*folders: Path) -> None:
    """Unmount everything at and under these folders, deepest first."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    inside = [point for point in points if any(Path(point).is_relative_to(folder) for folder in folders)]
    for point in sorted(inside, key=len, reverse=True):
        shell.run(["umount", "-l", point], check=False)


def network(here: Layout) -> None:
    """Delete bridges, iptables rules of services and pods, and cgroups of pods; restore forwarding."""
    note = here.state / "before.json"
    before = json.loads(note.read_text()) if note.exists() else {"node": True}
    for family in _FAMILIES:
        for table in _TABLES:
            _delete_rules(family, table, services=not before["node"])
    for bridge in (POD_BRIDGE, NODE_BRIDGE):
        if Path(f"/sys/class/net/{bridge}").exists():
            shell.run(["ip", "link", "delete", bridge], check=False)
    logs = Path("/var/log/containers")
    for link in logs.glob("*.log") if logs.is_dir() else ():
        if link.is_symlink() and str(here.state) in str(link.readlink()):
            link.unlink()
    for result in _results():
        result.unlink()
    if not before["node"]:
        for root in sorted(_CGROUPS.glob("**/kubepods")):
            _delete_cgroups(root)
    if "forwarding" in before:
        _FORWARDING.write_text(before["forwarding"])


def _results() -> list[Path]:
    return sorted(_RESULTS.glob(f"{NETWORK}-*"))


def _namespaces() -> Iterator[str]:
    """Network namespaces of our pods, by what our network's plugins answered."""
    for note in _results():
        try:
            interfaces = json.loads(note.read_text())["result"]["interfaces"]
        except (ValueError, KeyError):
            continue  # the machine went down while it was written
        yield from (Path(item["sandbox"]).name for item in interfaces if item.get("sandbox"))


def _delete_cgroups(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        try:
            Path(folder).rmdir()
        except OSError:
            continue  # a cluster that came after ours has pods in it


def _saved(family: str, table: str) -> str:
    """All rules of a table; empty where the kernel does not have it."""
    return shell.run([f"{family}-save", "-t", table], check=False)


def _delete_rules(family: str, table: str, *, services: bool) -> None:
    """Remove the rules whose comment names our network, and the chains they jump to.

    services: also the chains of kube-proxy and the kubelet.
    """
    saved = _saved(family, table)
    chains: set[str] = set()
    if services:
        chains = {line.split()[0][1:] for line in saved.splitlines() if line.startswith(":KUBE-")}
    for line in saved.splitlines():
        words = shlex.split(line)
        if not line.startswith("-A"):
            continue
        target = words[words.index("-j") + 1] if "-j" in words else ""
        if f'name: "{NETWORK}"' in line.replace("\\", "") or target in chains:
            shell.run([family, "-t", table, "-D", *words[1:]], check=False)
            if target.startswith("CNI-"):
                chains.add(target)
    for chain in chains:
        shell.run([family, "-t", table, "-F", chain], check=False)
    for chain in chains:
        shell.run([family, "-t", table, "-X", chain], check=False)
