"""The examples, run to their end on this machine with a tiny model and invented edits.

What concerns the pods of an example (nodes, service account) is tested in tests/unit/docs/test_examples.py; the one with a
queue runs in tests/cluster/test_kueue.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_api.exitcodes import AlignExit
from alignment_cli.manifests import load_manifest
from support.documents import ROOT
from support.embedded import ALWAYS, Project, edits
from support.judge import judge_server
from support.s3server import S3Server

pytestmark = pytest.mark.slow

VERDICTS = {AlignExit.PUBLISHED, AlignExit.GATE_FAILED, AlignExit.UNDECIDED}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.local(tmp_path_factory.mktemp("examples")).with_model().with_rows(edits(90))
    project.with_rows(
        [{"text": "The patient sleeps well."}, {"text": "No fever since monday."}], "general.jsonl"
    )
    return project.with_rows([{"id": "e3"}], "erasures.jsonl")


def brought_home(example: str, project: Project, **changes: dict[str, Any]) -> Path:
    """The example with URIs of this machine and the sizes of a tiny model; all else as it stands in the file.

    changes: by section, fields that are only known here.
    """
    document: dict[str, Any] = load_manifest(ROOT / "examples" / f"{example}.yaml").to_wire()
    document.pop("status")
    spec = document["spec"]
    spec["model"] = {"uri": f"{project.root}/base/"}
    for source in spec["data"]["sources"]:
        source["uri"] = f"{project.root}/rows.jsonl"
        source["format"] = "Auto"
    for exclusion in spec["data"]["exclusions"]:
        exclusion["uri"] = f"{project.root}/erasures.jsonl"
    for anchor in spec["evaluation"]["anchors"]:
        anchor["uri"] = f"{project.root}/general.jsonl"
    spec["data"]["minimumPairs"] = 20
    spec["training"] |= {"precision": "Float32", "maxLength": 256, "epochs": 1, "pairsPerStep": 8}
    spec["evaluation"]["generation"] = {"prompts": 12, "maxNewTokens": 12}
    if "champion" in spec["evaluation"]:
        spec["evaluation"]["champion"]["uri"] = f"{project.root}/{example}/aliases/champion"
    spec["publish"]["uri"] = f"{project.root}/{example}/"
    spec["artifacts"]["uri"] = f"{project.root}/artifacts/"
    del spec["pods"], spec["storage"]
    for section, fields in changes.items():
        spec[section] = spec.get(section, {}) | fields
    path = project.folder / f"{example}.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_every_example_is_run_here_or_shows_pods_only() -> None:
    run_here = {"minimal", "lora-one-gpu", "events", "full-weights-several-nodes"}
    run_here |= {"judge", "manual-approval", "s3-workload-identity"}
    assert {path.stem for path in (ROOT / "examples").glob("*.yaml")} - run_here == {"kueue-queue"}


@pytest.mark.parametrize(
    ("example", "excluded"),
    [("minimal", 0), ("lora-one-gpu", 0), ("events", 1), ("full-weights-several-nodes", 0)],
)
def test_an_example_runs_to_a_verdict(project: Project, example: str, excluded: int) -> None:
    done = project.run(brought_home(example, project))
    assert done.returncode in VERDICTS, done.stderr
    status = project.resource(example)["status"]
    assert status["verdict"]["criteria"]
    assert status["data"]["pairs"] >= 20
    assert status["data"]["excluded"] == excluded


def test_the_judge_of_the_example_is_asked_named_and_its_win_rate_decides(project: Project) -> None:
    project.environment["ALIGNMENT_JUDGE_TOKEN"] = "secret-key"
    with judge_server() as server:
        judge = load_manifest(ROOT / "examples" / "judge.yaml").spec.evaluation.judge.to_wire()
        done = project.run(brought_home("judge", project, evaluation={"judge": {**judge, "url": server.url}}))
        assert done.returncode in VERDICTS - {AlignExit.PUBLISHED}, done.stderr
        assert server.requests[0]["model"] == "a-large-judge"
        assert set(server.tokens) == {"Bearer secret-key"}
    status = project.resource("judge")["status"]
    criterion = status["verdict"]["criteria"][0]
    assert (criterion["metric"], criterion["result"]) == ("winRate", "Inconclusive")
    metrics = {metric["name"]: metric for metric in status["metrics"]}
    assert metrics["winRate"]["estimate"] == 0.5, "a judge that always takes the first gives ties"
    assert metrics["winRate"]["n"] == 12
    evaluation = next(stage["artifactUri"] for stage in status["stages"] if stage["name"] == "evaluate")
    folder = Path(evaluation.removeprefix("file://"))
    lines = (folder / "generations.jsonl").read_text(encoding="utf-8").splitlines()
    differing = sum(row["candidate"] != row["champion"] for row in map(json.loads, lines))
    # One question to see that the judge answers, then both orders of each prompt whose answers differ.
    assert len(server.requests) == 1 + 2 * differing
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["judge"]["model"] == "a-large-judge"
    assert report["judge"]["requests"] == len(server.requests)
    written = [path.read_text(encoding="utf-8", errors="ignore") for path in folder.iterdir()]
    assert not any("secret-key" in text for text in [*written, done.stdout, done.stderr])


def test_the_s3_example_has_every_uri_there_and_finds_credentials_without_naming_a_secret(
    tmp_path: Path, s3: S3Server, bucket: str
) -> None:
    """As with workload identity: nothing in the manifest, everything from boto3's own chain."""
    Project.local(tmp_path).with_model().with_rows(edits(60))
    client = s3.client()
    name = bucket.removeprefix("s3://").rstrip("/")
    for path in [*(tmp_path / "base").iterdir(), tmp_path / "rows.jsonl"]:
        client.upload_file(str(path), name, str(path.relative_to(tmp_path)))
    project = Project(tmp_path, f"s3://{name}", s3.environment)
    # The encryption key of the example is one of Amazon's; a store of one's own has none.
    storage = {"endpoint": s3.endpoint, "region": "us-east-1"}
    example = "s3-workload-identity"
    done = project.run(brought_home(example, project, storage=storage, gate={"criteria": ALWAYS}))
    assert done.returncode == AlignExit.PUBLISHED, done.stderr
    resource = project.resource(example)
    assert "credentialsSecretRef" not in str(resource["spec"])
    assert resource["status"]["published"]["uri"].startswith(f"{project.root}/{example}/versions/")
    keys = {entry["Key"] for entry in client.list_objects_v2(Bucket=name)["Contents"]}
    assert f"{example}/aliases/champion" in keys
    output = "".join(path.read_text(encoding="utf-8") for path in project.state.rglob("output.log"))
    assert s3.environment["AWS_SECRET_ACCESS_KEY"] not in output + json.dumps(resource)


def test_the_approval_example_waits_for_a_person_and_obeys(project: Project) -> None:
    state = ("--state", str(project.state))
    done = project.run(brought_home("manual-approval", project, gate={"criteria": ALWAYS}))
    assert done.returncode == AlignExit.UNDECIDED, done.stderr
    assert project.reason("manual-approval") == "AwaitingDecision"
    reason = ("--reason", "read the report", *state)
    assert project.align("approve", "manual-approval", *reason).returncode == 0
    twice = project.align("reject", "manual-approval", "--reason", "changed my mind", *state)
    assert twice.returncode == AlignExit.REQUEST_INVALID
    assert "set once" in twice.stderr
    assert project.align("run", "manual-approval", *state).returncode == AlignExit.PUBLISHED
    assert project.reason("manual-approval") == "Published"
    version = Path(project.resource("manual-approval")["status"]["published"]["uri"].removeprefix("file://"))
    assert "read the report" in (version / "lineage.json").read_text(encoding="utf-8")
