"""Three ways to a cluster, in this order: one that the user names, kind where Docker answers, binaries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Protocol

from tools.cluster import binaries, images, local, paths, shell
from tools.cluster.kubectl import Kubectl

__all__ = ["Provider", "choose"]

CONTEXT_VARIABLE = "ALIGNMENT_CLUSTER_CONTEXT"
_KIND = "alignment"


class Provider(Protocol):
    """A place where Kubernetes runs."""

    def up(self) -> Kubectl:
        """Start it unless it runs; kubectl for it."""
        ...

    def down(self) -> None:
        """Stop it, and leave nothing behind."""
        ...

    def image(self, target: str) -> str:
        """Build a target of the Dockerfile, bring it into the cluster, and return its name there."""
        ...

    def program(self, program: str) -> str:
        """The same for a program of images.PROGRAM_IMAGES."""
        ...


def choose() -> Provider:
    """The provider for this machine. Raises shell.Failed."""
    if os.environ.get(CONTEXT_VARIABLE):
        return Named(os.environ[CONTEXT_VARIABLE])
    if not local.exists() and _docker_answers():
        return Kind()
    return Local()


class Named:
    """A cluster of the user's, by kubectl context. Images come from the user's registry."""

    def __init__(self, context: str) -> None:
        self._context = context

    def up(self) -> Kubectl:
        kubectl = Kubectl(_program("kubectl"), _program("helm"), context=self._context)
        kubectl("version")
        return kubectl

    def down(self) -> None:
        """Nothing: what the user named is the user's."""

    def image(self, target: str) -> str:
        variable = f"ALIGNMENT_{target.upper()}_IMAGE"
        if not os.environ.get(variable):
            raise shell.Failed(
                f"set {variable} to an image that the cluster can pull: "
                f"docker build --target {target} -t REGISTRY/alignment-{target}:TAG . && docker push …"
            )
        return os.environ[variable]

    def program(self, program: str) -> str:
        variable = f"ALIGNMENT_{program.upper()}_IMAGE"
        if not os.environ.get(variable):
            raise shell.Failed(f"set {variable} to an image of {program} that the cluster can pull")
        return os.environ[variable]


class Kind:
    """kind: a node in a Docker container."""

    def up(self) -> Kubectl:
        kind = _needed("kind", "install kind (https://kind.sigs.k8s.io), or stop Docker to use binaries")
        kubeconfig = paths.state() / "kubeconfig"
        if _KIND not in shell.run([kind, "get", "clusters"]).split():
            paths.state().mkdir(parents=True, exist_ok=True)
            arguments = ["--name", _KIND, "--kubeconfig", str(kubeconfig), "--wait", "120s"]
            shell.run([kind, "create", "cluster", *arguments], show=True)
        return Kubectl(_program("kubectl"), _program("helm"), str(kubeconfig))

    def down(self) -> None:
        if shutil.which("kind"):
            shell.run(["kind", "delete", "cluster", "--name", _KIND])
        shutil.rmtree(paths.state(), ignore_errors=True)

    def image(self, target: str) -> str:
        name = images.build_with_docker(target)
        shell.run(["kind", "load", "docker-image", "--name", _KIND, name])
        return name

    def program(self, program: str) -> str:
        with tempfile.TemporaryDirectory() as temporary:
            archive = Path(temporary) / "image.tar"
            name = images.write_program(program, archive)
            shell.run(["kind", "load", "image-archive", "--name", _KIND, str(archive)])
        return name


class Local:
    """A node from binaries on this machine."""

    def up(self) -> Kubectl:
        kubeconfig = local.up()
        kubectl = Kubectl(binaries.find("kubectl"), binaries.find("helm"), str(kubeconfig))
        images.pause_into_node()
        dns = self.program("coredns")
        manifest = (Path(__file__).parent / "manifests" / "coredns.yaml").read_text().replace("$(IMAGE)", dns)
        kubectl.apply(manifest)
        kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=120s")
        return kubectl

    def down(self) -> None:
        local.down()

    def image(self, target: str) -> str:
        built = images.build(target)
        images.into_node(built)
        return built.name

    def program(self, program: str) -> str:
        return images.import_program(program)


def _docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        asked = subprocess.run(
            ["docker", "version", "--format", "{{json .Server}}"],
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    try:
        return asked.returncode == 0 and isinstance(json.loads(asked.stdout), dict)
    except ValueError:
        return False


def _program(name: str) -> Path:
    return Path(shutil.which(name) or binaries.find(name))


def _needed(name: str, remedy: str) -> str:
    found = shutil.which(name)
    if not found:
        raise shell.Failed(f"{name} is not on PATH: {remedy}")
    return found
