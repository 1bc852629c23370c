"""Remove what a node leaves on a machine: containers, mounts, network namespaces, rules, cgroups."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from tools.cluster import binaries, shell
from tools.cluster.node import NETWORK, NODE_BRIDGE, POD_BRIDGE, Layout

__all__ = ["containers", "mounts", "network", "unmount"]


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
    """Unmount everything of this node, and pods' network namespaces."""
    unmount(here.state, here.images, here.socket.parent)
    for namespace in Path("/run/netns").glob("cni-*"):
        shell.run(["ip", "netns", "delete", namespace.name], check=False)


def unmount(*folders: Path) -> None:
    """Unmount everything at and under these folders, deepest first."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    inside = [point for point in points if any(Path(point).is_relative_to(folder) for folder in folders)]
    for point in sorted(inside, key=len, reverse=True):
        shell.run(["umount", "-l", point], check=False)


def network(here: Layout) -> None:
    """Delete bridges, iptables rules of services and pods, and cgroups of pods; restore forwarding."""
    try:
        shell.run([binaries.find("kube-proxy"), "--cleanup"], check=False)
    except binaries.Unavailable:
        return  # it was never built, so it never ran
    for table in ("nat", "filter", "mangle"):
        _delete_rules(table)
    for bridge in (POD_BRIDGE, NODE_BRIDGE):
        if Path(f"/sys/class/net/{bridge}").exists():
            shell.run(["ip", "link", "delete", bridge], check=False)
    logs = Path("/var/log/containers")
    for link in logs.glob("*.log") if logs.is_dir() else ():
        if link.is_symlink() and str(here.state) in str(link.readlink()):
            link.unlink()
    for result in Path("/var/lib/cni/results").glob(f"{NETWORK}-*"):
        result.unlink()
    for root in Path("/sys/fs/cgroup").glob("**/kubepods"):
        for folder, _, _ in os.walk(root, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                continue  # another cluster's pods are in it
    before = here.state / "ip_forward.before"
    if before.exists():
        Path("/proc/sys/net/ipv4/ip_forward").write_text(before.read_text())


def _delete_rules(table: str) -> None:
    """Remove the rules whose comment names our network, the chains they jump to, and the kubelet's own."""
    saved = shell.run(["iptables-save", "-t", table], check=False)
    chains: set[str] = {line.split()[0][1:] for line in saved.splitlines() if line.startswith(":KUBE-")}
    for line in saved.splitlines():
        words = shlex.split(line)
        if not line.startswith("-A"):
            continue
        target = words[words.index("-j") + 1] if "-j" in words else ""
        if f'name: "{NETWORK}"' in line.replace("\\", "") or target in chains:
            shell.run(["iptables", "-t", table, "-D", *words[1:]], check=False)
            if target.startswith("CNI-"):
                chains.add(target)
    for chain in chains:
        shell.run(["iptables", "-t", table, "-F", chain], check=False)
    for chain in chains:
        shell.run(["iptables", "-t", table, "-X", chain], check=False)
