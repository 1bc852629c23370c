"""A real etcd and kube-apiserver for a while, nothing else: no scheduler, no controllers, no kubelet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.cluster import binaries, pki, shell

__all__ = ["control_plane"]

_ETCD, _PEER, _API = 12379, 12380, 16443


@contextmanager
def control_plane(folder: Path) -> Iterator[Path]:
    """Start both below ``folder``; yields an administrator's kubeconfig. The loopback only; all gone afterwards."""
    programs = binaries.ensure("etcd", "kube-apiserver")
    keys = folder / "pki"
    pki.make(keys, "127.0.0.1", "10.255.0.1")
    kubeconfig = folder / "kubeconfig"
    pki.kubeconfig(keys, "admin", f"https://127.0.0.1:{_API}", kubeconfig)
    try:
        shell.start(
            "etcd",
            [
                programs["etcd"],
                f"--data-dir={folder / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{_ETCD}",
                f"--advertise-client-urls=http://127.0.0.1:{_ETCD}",
                f"--listen-peer-urls=http://127.0.0.1:{_PEER}",
                "--unsafe-no-fsync",
            ],
            folder,
        )
        shell.start(
            "kube-apiserver",
            [
                programs["kube-apiserver"],
                f"--etcd-servers=http://127.0.0.1:{_ETCD}",
                "--advertise-address=127.0.0.1",
                "--bind-address=127.0.0.1",
                f"--secure-port={_API}",
                f"--tls-cert-file={keys / 'apiserver.crt'}",
                f"--tls-private-key-file={keys / 'apiserver.key'}",
                f"--client-ca-file={keys / 'ca.crt'}",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={keys / 'sa.key'}",
                f"--service-account-key-file={keys / 'sa.pub'}",
                "--service-cluster-ip-range=10.255.0.0/24",
            ],
            folder,
        )
        yield kubeconfig
    finally:
        for name in ("kube-apiserver", "etcd"):
            shell.stop(name, folder)
