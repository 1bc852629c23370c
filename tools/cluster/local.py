"""A real one-node Kubernetes from binaries, on a Linux machine with root and no container engine.

API server, etcd, controller manager, scheduler, kubelet, kube-proxy, containerd and a bridge network, each a
plain process with a pid file and a log under the state folder. Up in about ten seconds; every step may be
repeated. Down removes every process, mount, rule and file that up made, except the cache of images.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tools.cluster import binaries, cleanup, node, paths, pki, shell
from tools.cluster.node import NODE_BRIDGE, NODE_IP, SERVICE_IP, SERVICE_RANGE, Layout

__all__ = [
    "containerd_up",
    "ctr",
    "down",
    "exists",
    "is_up",
    "layout",
    "restart_api_server",
    "stop_api_server",
    "up",
]

_API = "https://127.0.0.1:6443"
_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "openssl": "openssl",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "socat": "socat",
    "busybox": "busybox-static",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}


def layout() -> Layout:
    """Where this machine's cluster lives."""
    return Layout(state=paths.state(), images=paths.cache() / "containerd")


def exists() -> bool:
    """Whether a cluster was started here and not taken down, be it only in part."""
    return layout().pki.exists()


def is_up() -> bool:
    """Whether a cluster runs here."""
    return bool(shell.alive("kubelet", paths.state()))


def up() -> Path:
    """Start what is not running; returns the kubeconfig. Raises Failed or binaries.Unavailable."""
    if os.geteuid() != 0:
        raise shell.Failed("a cluster from binaries needs root: network, mounts and cgroups are its own")
    install_packages(_PACKAGES)
    programs = binaries.ensure(
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubectl",
    )
    here = layout()
    here.state.mkdir(parents=True, exist_ok=True)
    cleanup.remember(here)
    pki.make(here.pki, NODE_IP, SERVICE_IP)
    for client in ("admin", "controller-manager", "scheduler", "proxy", "node"):
        pki.kubeconfig(here.pki, client, _API, here.config(client))
    shutil.copy(here.config("admin"), here.kubeconfig)
    # Pods must not inherit a resolver that only this machine can reach.
    (here.state / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    node.write(here)
    _network()
    _start_etcd(here, programs)
    containerd_up()
    _start_api_server(here, programs)
    _ready(here, programs)
    _start_controllers(here, programs)
    kubectl = [programs["kubectl"], "--kubeconfig", here.kubeconfig]
    shell.wait_until(
        "node node1 Ready",
        90,
        lambda: "True" in shell.run([*kubectl, "get", "node", "node1", "-o", _READY]),
    )
    shell.wait_until(
        "the default service account", 60, lambda: bool(shell.run([*kubectl, "get", "sa", "default"]))
    )
    return here.kubeconfig


_READY = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'


def down() -> None:
    """Stop everything and remove every trace but the caches. Does nothing where nothing is."""
    here = layout()
    if not here.state.exists():
        return
    for name in (
        "kubelet",
        "kube-proxy",
        "kube-scheduler",
        "kube-controller-manager",
        "kube-apiserver",
        "etcd",
    ):
        shell.stop(name, here.state, patience=1.0)
    cleanup.containers(here)
    shell.stop("containerd", here.state)
    cleanup.mounts(here)
    cleanup.network(here)
    shutil.rmtree(here.socket.parent, ignore_errors=True)
    shutil.rmtree(here.state, ignore_errors=True)


def restart_api_server() -> None:
    """Kill the API server and start it again, as a crash does; returns when it answers."""
    here = layout()
    stop_api_server()
    programs = binaries.ensure("kube-apiserver", "kubectl")
    _start_api_server(here, programs)
    _ready(here, programs)


def stop_api_server() -> None:
    """Kill the API server at once."""
    shell.stop("kube-apiserver", layout().state, patience=0.1)


def containerd_up() -> None:
    """Start containerd alone (images are imported before the control plane is there)."""
    here = layout()
    here.socket.parent.mkdir(parents=True, exist_ok=True)
    shell.start("containerd", ["containerd", "--config", here.state / "containerd.toml"], here.state)
    shell.wait_until("containerd answers", 30, lambda: bool(ctr("version")))


def ctr(*arguments: object) -> str:
    """Talk to containerd in the kubelet's namespace."""
    return shell.run(["ctr", "--address", layout().socket, "--namespace", "k8s.io", *arguments])


def install_packages(wanted: dict[str, str]) -> None:
    """Install the Debian packages of programs that are missing. Raises Failed with the list where apt is not."""
    missing = sorted({package for program, package in wanted.items() if not shutil.which(program)})
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise shell.Failed(f"these programs are missing; install them: {', '.join(missing)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    shell.run(["apt-get", "update", "-q"], environment=quiet)
    shell.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], environment=quiet)


def _network() -> None:
    """A bridge as the node's address: it stays the same whatever the machine's own address is."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    if not Path(f"/sys/class/net/{NODE_BRIDGE}").exists():
        shell.run(["ip", "link", "add", NODE_BRIDGE, "type", "bridge"])
        shell.run(["ip", "address", "add", f"{NODE_IP}/32", "dev", NODE_BRIDGE])
    shell.run(["ip", "link", "set", NODE_BRIDGE, "up"])


def _start_etcd(here: Layout, programs: dict[str, Path]) -> None:
    shell.start(
        "etcd",
        [
            programs["etcd"],
            f"--data-dir={here.state / 'etcd'}",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
        ],
        here.state,
    )


def _start_api_server(here: Layout, programs: dict[str, Path]) -> None:
    keys = here.pki
    shell.start(
        "kube-apiserver",
        [
            programs["kube-apiserver"],
            "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={NODE_IP}",
            "--bind-address=0.0.0.0",
            "--secure-port=6443",
            f"--tls-cert-file={keys / 'apiserver.crt'}",
            f"--tls-private-key-file={keys / 'apiserver.key'}",
            f"--client-ca-file={keys / 'ca.crt'}",
            f"--kubelet-client-certificate={keys / 'admin.crt'}",
            f"--kubelet-client-key={keys / 'admin.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-signing-key-file={keys / 'sa.key'}",
            f"--service-account-key-file={keys / 'sa.pub'}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--allow-privileged=true",
        ],
        here.state,
    )


def _start_controllers(here: Layout, programs: dict[str, Path]) -> None:
    keys = here.pki
    shell.start(
        "kube-controller-manager",
        [
            programs["kube-controller-manager"],
            f"--kubeconfig={here.config('controller-manager')}",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--root-ca-file={keys / 'ca.crt'}",
            f"--service-account-private-key-file={keys / 'sa.key'}",
            f"--cluster-signing-cert-file={keys / 'ca.crt'}",
            f"--cluster-signing-key-file={keys / 'ca.key'}",
        ],
        here.state,
    )
    shell.start(
        "kube-scheduler",
        [programs["kube-scheduler"], f"--kubeconfig={here.config('scheduler')}", "--leader-elect=false"],
        here.state,
    )
    shell.start(
        "kubelet",
        [
            programs["kubelet"],
            f"--config={here.state / 'kubelet.json'}",
            f"--kubeconfig={here.config('node')}",
            f"--node-ip={NODE_IP}",
            "--hostname-override=node1",
            f"--root-dir={here.state / 'kubelet'}",
            f"--cert-dir={here.state / 'kubelet-keys'}",
        ],
        here.state,
    )
    shell.start(
        "kube-proxy", [programs["kube-proxy"], f"--config={here.state / 'kube-proxy.json'}"], here.state
    )


def _ready(here: Layout, programs: dict[str, Path]) -> None:
    command = [programs["kubectl"], "--kubeconfig", here.kubeconfig, "get", "--raw", "/readyz"]

    def ready() -> bool:
        if not shell.alive("kube-apiserver", here.state):
            log = (here.state / "kube-apiserver.log").read_text()[-800:]
            raise shell.Failed(f"kube-apiserver has ended: {log}")
        return shell.run(command) == "ok"

    shell.wait_until("the API server is ready", 90, ready)
