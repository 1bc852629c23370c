"""kubectl and Helm against one cluster."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.cluster import shell

__all__ = ["Kubectl"]

Json = dict[str, Any]


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl, and Helm, with one kubeconfig ("" = the user's own) and context ("" = its current one)."""

    program: Path
    helm_program: Path
    kubeconfig: str = ""
    context: str = ""

    def __call__(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        """Standard output of one command. Raises shell.Failed with kubectl's words."""
        return shell.run([self.program, *self.where(), *arguments], text=text, check=check)

    def where(self) -> list[str]:
        """The flags that name the cluster."""
        flags = ["--kubeconfig", self.kubeconfig] if self.kubeconfig else []
        return [*flags, *(["--context", self.context] if self.context else [])]

    def helm(self, *arguments: str, text: str | None = None) -> str:
        """Standard output of one Helm command. Raises shell.Failed."""
        flags = ["--kubeconfig", self.kubeconfig] if self.kubeconfig else []
        context = ["--kube-context", self.context] if self.context else []
        return shell.run([self.helm_program, *flags, *context, *arguments], text=text)

    def apply(self, manifest: str | Json, *arguments: str) -> str:
        """Apply a manifest, given as text or as an object."""
        content = manifest if isinstance(manifest, str) else json.dumps(manifest)
        return self("apply", "-f", "-", *arguments, text=content)

    def get(self, kind: str, name: str, namespace: str = "default") -> Json:
        """One object as it is now. Raises shell.Failed when it is not there."""
        found: Json = json.loads(self("-n", namespace, "get", kind, name, "-o", "json"))
        return found

    def items(self, kind: str, namespace: str, selector: str = "") -> list[Json]:
        """All objects of a kind in a namespace."""
        chosen = ["-l", selector] if selector else []
        found: list[Json] = json.loads(self("-n", namespace, "get", kind, "-o", "json", *chosen))["items"]
        return found
