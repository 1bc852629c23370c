"""What the verbs do with the stored artifacts of a cluster's runs: real kubectl, a real S3 server."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from alignment_api.exitcodes import AlignExit
from alignment_api.names import run_folder
from alignment_cli import main as entry
from alignment_cli.cluster import backend as cluster
from support.person import NEEDS_KUBECTL, Person
from support.s3server import S3Server

pytestmark = NEEDS_KUBECTL


@dataclass(frozen=True)
class Stored:
    """What a run has in a bucket, below ``prefix``."""

    server: S3Server
    bucket: str
    prefix: str

    def put(self, name: str) -> None:
        self.server.client().put_object(Bucket=self.bucket, Key=self.prefix + name, Body=b"x")

    def names(self) -> list[str]:
        listed = self.server.client().list_objects_v2(Bucket=self.bucket)
        return [item["Key"].removeprefix(self.prefix) for item in listed.get("Contents", ())]


def test_a_report_is_fetched_with_the_persons_own_credentials(
    person: Person, s3: S3Server, bucket: str
) -> None:
    name = bucket.removeprefix("s3://").rstrip("/")
    s3.client().put_object(Bucket=name, Key="evaluation/report.html", Body=b"<!doctype html>")
    folder = f"s3://{name}/evaluation/"
    person.apply(
        "notes",
        "Published",
        "True",
        stages=[{"name": "evaluate", "artifactUri": folder}],
        spec={"storage": {"endpoint": "http://s3.only-in-the-cluster.svc:7070", "region": "us-east-1"}},
    )
    code, out, error = person(
        "report", "notes", "-n", "team", "--endpoint", s3.endpoint, "--to", "mine.html", **s3.environment
    )
    assert (code, out.strip()) == (0, "mine.html"), error
    assert (person.folder / "mine.html").read_text(encoding="utf-8") == "<!doctype html>"


@pytest.fixture
def stored(person: Person, s3: S3Server, bucket: str) -> Stored:
    """A run that trains and has stored one object; its endpoint is one that only pods reach."""
    storage = {"endpoint": "http://s3.only-in-the-cluster.svc:7070", "region": "us-east-1"}
    person.apply("notes", spec={"artifacts": {"uri": bucket}, "storage": storage})
    folder = run_folder(bucket, "team", "notes", person.run()["metadata"]["uid"])
    found = Stored(s3, bucket.removeprefix("s3://").rstrip("/"), folder.removeprefix(bucket))
    found.put("data/train.parquet")
    return found


def test_artifacts_go_after_the_last_pod_has_saved_its_work(person: Person, stored: Stored) -> None:
    """It is told to stop when the run is deleted, and uploads a checkpoint then."""
    person.work(grace_seconds=300)
    arguments = (
        "delete",
        "notes",
        "-n",
        "team",
        "--artifacts",
        "--yes",
        "--endpoint",
        stored.server.endpoint,
    )
    with person.start(*arguments, **stored.server.environment) as deleting:
        person.api.until(lambda: "deletionTimestamp" in person.run()["metadata"])
        person.collect_garbage()
        pod = person.server.get(("pods", "team", "notes-train-1-a"))
        assert "deletionTimestamp" in pod["metadata"]
        stored.put("checkpoints/10/model.safetensors")
        assert deleting.poll() is None
        person.api.locked(lambda: person.server.remove(("pods", "team", "notes-train-1-a")))
        person.collect_garbage()
        out, error = deleting.communicate(timeout=60)
    assert deleting.returncode == 0, error
    assert error == "align: Waiting for 1 pod of notes to save and end, 360 s at most.\n"
    assert "2 objects below" in out
    assert stored.names() == []


def test_artifacts_stay_where_a_pod_does_not_end(
    person: Person, stored: Stored, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    person.work(grace_seconds=1)
    monkeypatch.setattr(cluster, "MARGIN_SECONDS", 1)
    monkeypatch.setenv("KUBECONFIG", str(person.api.kubeconfig))
    command = ["align", "delete", "notes", "-n", "team", "--artifacts", "--yes", "--endpoint"]
    monkeypatch.setattr(sys, "argv", [*command, stored.server.endpoint])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    error = capsys.readouterr().err
    assert ended.value.code == AlignExit.OTHER
    assert "pod/notes-train-1-a did not go within 2 s" in error
    assert f"Nothing was deleted below s3://{stored.bucket}/{stored.prefix}" in error
    assert stored.names() == ["data/train.parquet"]
    assert person("status", "notes", "-n", "team")[0] == 0, "it can be deleted again"


def test_artifacts_on_a_volume_of_the_cluster_are_out_of_reach(person: Person) -> None:
    person.apply("notes", spec={"artifacts": {"uri": "pvc://artifacts/"}})
    code, _, error = person("delete", "notes", "-n", "team", "--artifacts", "--yes")
    assert code == AlignExit.REQUEST_INVALID
    assert "only pods of the cluster can reach" in error
    assert person.run()["metadata"]["name"] == "notes"


def test_a_report_on_a_volume_of_the_cluster_is_out_of_reach(person: Person) -> None:
    person.apply(
        "notes", "Published", "True", stages=[{"name": "evaluate", "artifactUri": "pvc://artifacts/e/"}]
    )
    code, _, error = person("report", "notes", "-n", "team")
    assert code == AlignExit.REQUEST_INVALID
    assert "only pods of the cluster can read" in error
