"""The files that the daemons of a one-node cluster read: container runtime, network, kubelet, kube-proxy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Layout", "write"]

NETWORK = "alignment-test"
NODE_IP = "10.200.0.1"
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
SERVICE_IP = "10.96.0.1"
DNS_IP = "10.96.0.10"
NODE_BRIDGE = "align-node0"
POD_BRIDGE = "align-pods0"

# The pause image: containerd needs one for every pod, and no registry is there to give it.
PAUSE = "localhost/pause:1"


@dataclass(frozen=True)
class Layout:
    """Folders of one cluster. state: gone after cluster-down. images: containerd's store, kept for the next."""

    state: Path
    images: Path

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "kubeconfig"

    @property
    def socket(self) -> Path:
        """Containerd's socket."""
        # A socket's path may have 107 characters, so it can't lie under a cache folder of any depth.
        return Path("/run/alignment-cluster/containerd.sock")

    def config(self, client: str) -> Path:
        """The kubeconfig of one component."""
        return self.state / f"{client}.kubeconfig"


def write(layout: Layout) -> None:
    """Write all configuration files under the state folder."""
    (layout.state / "containerd.toml").write_text(_containerd(layout))
    network = layout.state / "cni"
    network.mkdir(exist_ok=True)
    (network / "10-pods.conflist").write_text(json.dumps(_network(layout), indent=1))
    (layout.state / "kubelet.json").write_text(json.dumps(_kubelet(layout), indent=1))
    (layout.state / "kube-proxy.json").write_text(json.dumps(_proxy(layout), indent=1))


def _containerd(layout: Layout) -> str:
    return f"""version = 2
root = "{layout.images}"
state = "{layout.socket.parent}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{layout.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Without CAP_SYS_RESOURCE, as in many virtual machines, lowering the score is refused.
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{layout.state}/cni"
"""


def _network(layout: Layout) -> dict[str, Any]:
    bridge = {
        "type": "bridge",
        "bridge": POD_BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_RANGE}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(layout.state / "cni-addresses"),
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": NETWORK, "plugins": [bridge, ports]}


def _kubelet(layout: Layout) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / "node.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "node.key"),
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "failCgroupV1": False,
        "staticPodPath": "",
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{layout.socket}",
        "resolvConf": str(layout.state / "resolv.conf"),
        # Images that were imported cannot be pulled again, so they are never collected.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "1%", "nodefs.available": "1%", "imagefs.available": "1%"},
        "podLogsDir": str(layout.state / "pod-logs"),
        "maxPods": 250,
    }


def _proxy(layout: Layout) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": "node1",
        "clientConnection": {"kubeconfig": str(layout.config("proxy"))},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
