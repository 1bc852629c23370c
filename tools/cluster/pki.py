"""Keys and kubeconfigs of a throw-away cluster, made with openssl in three seconds."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tools.cluster.shell import run

__all__ = ["kubeconfig", "make"]

# Component: (organisation, common name). Names that RBAC's built-in roles know.
_CLIENTS = {
    "admin": ("system:masters", "admin"),
    "controller-manager": ("", "system:kube-controller-manager"),
    "scheduler": ("", "system:kube-scheduler"),
    "proxy": ("", "system:kube-proxy"),
    "node": ("system:nodes", "system:node:node1"),
}


def make(folder: Path, node_ip: str, service_ip: str) -> None:
    """Create the authority, the service account key and all certificates, unless they are there."""
    if (folder / "complete").exists():
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"])
    run(["openssl", "rsa", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub"])
    authority = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "365"]
    subject = ["-subj", "/CN=alignment-test-cluster", "-keyout", folder / "ca.key", "-out", folder / "ca.crt"]
    run(["openssl", "req", *authority, *subject])
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names.append("kubernetes.default.svc.cluster.local")
    _certificate(folder, "apiserver", "", "kube-apiserver", names, ["127.0.0.1", service_ip, node_ip])
    for name, (organisation, common) in _CLIENTS.items():
        at_node = name == "node"
        _certificate(
            folder, name, organisation, common, ["node1"] if at_node else [], [node_ip] if at_node else []
        )
    (folder / "complete").touch()


def kubeconfig(folder: Path, client: str, server: str, target: Path) -> None:
    """Write a kubeconfig with everything in it, readable by its owner only."""

    def data(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "alignment",
        "clusters": [
            {"name": "alignment", "cluster": {"server": server, "certificate-authority-data": data("ca.crt")}}
        ],
        "contexts": [{"name": "alignment", "context": {"cluster": "alignment", "user": client}}],
        "users": [
            {
                "name": client,
                "user": {
                    "client-certificate-data": data(f"{client}.crt"),
                    "client-key-data": data(f"{client}.key"),
                },
            }
        ],
    }
    target.touch(mode=0o600)
    target.write_text(json.dumps(content, indent=1))


def _certificate(
    folder: Path, name: str, organisation: str, common: str, hosts: list[str], ips: list[str]
) -> None:
    subject = (f"/O={organisation}" if organisation else "") + f"/CN={common}"
    key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        folder / f"{name}.key",
    ]
    run(["openssl", "req", "-new", *key, "-subj", subject, "-out", folder / f"{name}.csr"])
    extensions = "keyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"
    alternatives = [f"DNS:{host}" for host in hosts] + [f"IP:{ip}" for ip in ips]
    if alternatives:
        extensions += f"subjectAltName={','.join(alternatives)}\n"
    (folder / f"{name}.ext").write_text(extensions)
    authority = ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial", "-days", "365"]
    files = [
        "-in",
        folder / f"{name}.csr",
        "-extfile",
        folder / f"{name}.ext",
        "-out",
        folder / f"{name}.crt",
    ]
    run(["openssl", "x509", "-req", *authority, *files])
