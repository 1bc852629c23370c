"""Find the programs a cluster needs, or build them from their Go modules, once, into the user's cache.

``python -m tools.cluster.binaries kube-apiserver etcd`` prints one path per program. A program is taken
from the folder that ALIGNMENT_CLUSTER_BINARIES names, else from PATH, else from ``<cache>/bin``, where it is
built when missing. Programs of one module come from one place, so that versions never mix.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools.cluster import paths

__all__ = ["PROGRAMS", "Module", "Unavailable", "ensure", "find", "main", "module_folder"]

FOLDER_VARIABLE = "ALIGNMENT_CLUSTER_BINARIES"

# A DNS server for cluster names only: the full CoreDNS links every cloud's client and takes minutes to build.
_COREDNS_MAIN = """package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() {
	dnsserver.Directives = []string{"errors", "health", "ready", "cache", "kubernetes"}
	coremain.Run()
}
"""


class Unavailable(Exception):
    """Why a program cannot be had, and what to do."""


@dataclass(frozen=True)
class Module:
    """A Go module and the programs in it.

    Attributes
    ----------
    packages
        Program name to the path of its main package.
    siblings
        ``replace`` directives to a folder of the module's repository name modules that are published on
        their own with this version; "" where the module has none.
    main
        Source of a main package of our own, for a program assembled from the module.
    any_on_path
        Whether whatever version lies on PATH will do.
    """

    path: str
    version: str
    packages: dict[str, str]
    siblings: str = ""
    main: str = ""
    any_on_path: bool = True

    @property
    def stamp(self) -> str:
        """Names the build in the cache, so that a new version is built anew."""
        return f"{self.path.replace('/', '_')}@{self.version}"


_KUBERNETES = "v1.35.4"
_COMPONENTS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)

_MODULES = (
    Module(
        "k8s.io/kubernetes",
        _KUBERNETES,
        {name: f"k8s.io/kubernetes/cmd/{name}" for name in _COMPONENTS},
        siblings=_KUBERNETES.replace("v1", "v0", 1),
    ),
    Module("go.etcd.io/etcd/server/v3", "v3.6.6", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Module("github.com/coredns/coredns", "v1.15.0", {"coredns": "."}, main=_COREDNS_MAIN, any_on_path=False),
    Module("helm.sh/helm/v4", "v4.3.1", {"helm": "helm.sh/helm/v4/cmd/helm"}),
    Module(
        "github.com/versity/versitygw", "v1.8.0", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}
    ),
    Module("sigs.k8s.io/kueue", "v0.14.0", {"kueue": "sigs.k8s.io/kueue/cmd/kueue"}, any_on_path=False),
    Module("helm.sh/helm/v3", "v3.19.2", {"helm3": "helm.sh/helm/v3/cmd/helm"}),
)

PROGRAMS = {program: module for module in _MODULES for program in module.packages}


def ensure(*programs: str) -> dict[str, Path]:
    """The path of each program; builds what is missing. Raises Unavailable with the reason."""
    return {program: find(program) for program in programs}


def find(program: str) -> Path:
    """The path of one program. Raises Unavailable; KeyError for a program that nobody listed."""
    module = PROGRAMS[program]
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder and all((Path(folder) / name).is_file() for name in module.packages):
        return Path(folder) / program
    if module.any_on_path and all(shutil.which(name) for name in module.packages):
        return Path(str(shutil.which(program)))
    return _build(module)[program]


def module_folder(program: str) -> Path:
    """The unpacked source of the module that a program comes from (charts, manifests lie in it)."""
    module = PROGRAMS[program]
    listed = _go(["mod", "download", "-json", f"{module.path}@{module.version}"], cwd=paths.cache())
    found = re.search(r'"Dir": "([^"]+)"', listed)
    if not found:
        raise Unavailable(f"go mod download names no folder for {module.path}: {listed.strip()}")
    return Path(found.group(1))


def main(programs: list[str]) -> int:
    """Print the path of each program named, or of all."""
    try:
        for program in programs or sorted(PROGRAMS):
            print(find(program), flush=True)
    except (Unavailable, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _build(module: Module) -> dict[str, Path]:
    places = {program: paths.binaries() / program for program in module.packages}
    stamp = paths.binaries() / f".{module.stamp}"
    # Two processes that need the same program: the second waits and finds it built.
    with (paths.binaries() / f".{module.stamp}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and all(place.is_file() for place in places.values()):
            return places
        print(f"building {', '.join(module.packages)} from {module.path} {module.version}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=paths.binaries()) as temporary:
            _write_shim(module, Path(temporary))
            for program, package in module.packages.items():
                built = Path(temporary) / "out" / program
                _go(
                    [
                        "build",
                        "-mod=mod",
                        "-trimpath",
                        "-ldflags",
                        _ldflags(module),
                        "-o",
                        str(built),
                        package,
                    ],
                    Path(temporary),
                )
                built.replace(places[program])
        stamp.touch()
    return places


def _write_shim(module: Module, folder: Path) -> None:
    """A module of our own that requires the one wanted.

    ``go install module@version`` refuses a module with ``replace`` directives. Here they are not in force, except
    those to sibling folders, which become the published versions of the siblings.
    """
    replaces = ""
    if module.siblings:
        source = (module_folder(next(iter(module.packages))) / "go.mod").read_text()
        names = re.findall(r"^\s*(?:replace )?(\S+) => \./staging/", source, re.MULTILINE)
        replaces = "\n".join(f"replace {name} => {name} {module.siblings}" for name in names)
    version = _go(["env", "GOVERSION"], folder).strip().removeprefix("go").split("-")[0]
    requirement = f"require {module.path} {module.version}"
    (folder / "go.mod").write_text(f"module shim\n\ngo {version}\n\n{requirement}\n{replaces}\n")
    if module.main:
        (folder / "main.go").write_text(module.main)


def _ldflags(module: Module) -> str:
    flags = "-s -w"
    if module.path == "k8s.io/kubernetes":
        # Unstamped, every component calls itself v0.0.0 and the skew checks of clients fail.
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            flags += f" -X {package}.gitVersion={module.version} -X {package}.gitMajor=1"
            flags += f" -X {package}.gitMinor={module.version.split('.')[1]}"
    return flags


def _go(arguments: list[str], cwd: Path) -> str:
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        raise Unavailable(
            f"Go is not on PATH, and it would build what is missing: install Go 1.26 or newer, "
            f"or put the programs into a folder and name it in {FOLDER_VARIABLE}"
        )
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-buildvcs=false",
        "GOTOOLCHAIN": "auto",
        "GOWORK": "off",
    }
    ran = subprocess.run(
        [go, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        raise Unavailable(f"go {' '.join(arguments)} failed:\n{ran.stderr.strip()[-2000:]}")
    return ran.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
