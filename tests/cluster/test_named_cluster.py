"""The tools on a cluster that the user names, images pushed by hand: used as it is, and left alone by ``down``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tools.cluster.prepare import Prepared

from support.documents import ROOT

pytestmark = pytest.mark.alone


def test_a_named_cluster_is_prepared_with_the_users_images_and_never_taken_down(
    prepared: Prepared, tmp_path: Path
) -> None:
    kubectl = prepared.commands()
    context = prepared.context or kubectl("config", "current-context").strip()
    server = kubectl.get("deployment", "s3", "storage")["spec"]["template"]["spec"]["containers"][0]["image"]
    programs = f"{Path(prepared.kubectl).parent}:{Path(prepared.helm).parent}"
    environment = {
        **os.environ,
        "ALIGNMENT_CLUSTER_CONTEXT": context,
        "KUBECONFIG": prepared.kubeconfig,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path),  # another user's: nothing of the cluster's own start is known there
    }

    def tool(verb: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tools.cluster", verb]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    up = tool("up")
    assert up.returncode == 0, up.stderr
    listed = subprocess.run(
        up.stdout.splitlines()[-1].split(),
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "alignment-operator" in listed.stdout

    missing = tool("prepare")
    assert missing.returncode == 1
    assert "set ALIGNMENT_OPERATOR_IMAGE to an image that the cluster can pull" in missing.stderr

    images = {
        "ALIGNMENT_OPERATOR_IMAGE": prepared.operator,
        "ALIGNMENT_TRAINER_IMAGE": prepared.trainer,
        "ALIGNMENT_VERSITYGW_IMAGE": server,
    }
    done = tool("prepare", **images)
    assert done.returncode == 0, done.stderr
    assert tool("down").returncode == 0
    assert "alignment-operator" in kubectl("get", "deployments", "-A")
