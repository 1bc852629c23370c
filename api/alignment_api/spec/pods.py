"""``spec.pods``: a narrow, listed subset of what can be set on the stages' pods."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, WithJsonSchema

from alignment_api.base import DnsLabel, ListType, Rule, SpecModel, list_of, map_list_of, section

__all__ = ["EnvVar", "NameRef", "PodsSpec", "Quantity", "Resources", "StagePod", "Toleration", "TrainPod"]

_QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"
Quantity = Annotated[
    int | Annotated[str, StringConstraints(max_length=32, pattern=_QUANTITY_PATTERN)],
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": _QUANTITY_PATTERN,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""A Kubernetes quantity: 1, 500m, 16Gi."""

_Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]
_Value = Annotated[str, StringConstraints(max_length=4096)]
_RESERVED_PREFIXES = ("ALIGNMENT_", "AWS_")


class NameRef(SpecModel):
    """An object of the run's namespace, by name."""

    name: DnsLabel = Field(description="Name of the object.")


class Resources(SpecModel):
    """Compute resources of the stage's container."""

    limits: dict[str, Quantity] = Field(
        default_factory=dict,
        max_length=16,
        description="Upper limits, e.g. {nvidia.com/gpu: 1, memory: 64Gi}.",
    )
    requests: dict[str, Quantity] = Field(
        default_factory=dict, max_length=16, description="What is reserved; omitted: the limits."
    )


class Toleration(SpecModel):
    """A taint that the pods accept; fields as in core/v1."""

    key: _Name | None = Field(default=None, description="Taint key; omitted: every key.")
    operator: Annotated[str, StringConstraints(pattern=r"^(Exists|Equal)$", max_length=6)] = Field(
        default="Equal", description="Exists or Equal."
    )
    value: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        default=None, description="Taint value."
    )
    effect: (
        Annotated[str, StringConstraints(pattern=r"^(NoSchedule|PreferNoSchedule|NoExecute)$", max_length=16)]
        | None
    ) = Field(default=None, description="Taint effect; omitted: every effect.")
    toleration_seconds: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = Field(
        default=None, description="How long NoExecute is tolerated."
    )


class EnvVar(SpecModel):
    """One environment variable with a plain value. Secrets belong into spec.storage and judge.secretRef."""

    RULES = (
        Rule(
            "!self.name.startsWith('ALIGNMENT_') && !self.name.startsWith('AWS_')",
            "names beginning with ALIGNMENT_ or AWS_ are reserved; credentials belong into storage.credentialsSecretRef",
            lambda s: not s.name.startswith(_RESERVED_PREFIXES),
        ),
    )

    name: Annotated[str, StringConstraints(max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Name of the variable."
    )
    value: _Value = Field(description="Its value.")


class StagePod(SpecModel):
    """Settings of one stage's pod."""

    resources: Resources = section(Resources, "Compute resources.")
    node_selector: dict[str, Annotated[str, StringConstraints(max_length=63)]] = Field(
        default_factory=dict, max_length=16, description="Node labels that are required."
    )
    tolerations: tuple[Toleration, ...] = list_of("Taints that are accepted.", maximum=16)
    env: tuple[EnvVar, ...] = map_list_of("Further environment variables.", "name", maximum=64)
    shared_memory: Quantity | None = Field(
        default=None,
        description="Size of /dev/shm, counted against the memory limit; omitted: 64Mi, 1Gi for train.",
    )
    scratch: Quantity | None = Field(
        default=None,
        description="Size limit of the scratch volume for models and checkpoints; omitted: none.",
    )


class TrainPod(StagePod):
    """Settings of the train stage's pods."""

    nodes: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Pods that train together; above 1 an Indexed Job with a headless Service."
    )


class PodsSpec(SpecModel):
    """Settings of the stages' pods."""

    service_account_name: DnsLabel | None = Field(
        default=None,
        description="Service account, e.g. one with workload identity for the bucket; omitted: default.",
    )
    image_pull_secrets: tuple[NameRef, ...] = Field(
        default_factory=tuple,
        max_length=16,
        description="Secrets for pulling images.",
        json_schema_extra=ListType.by("name"),
    )
    queue_name: Annotated[str, StringConstraints(max_length=63)] = Field(
        default="", description="Kueue LocalQueue; becomes the label kueue.x-k8s.io/queue-name."
    )
    prepare: StagePod = section(StagePod, "The prepare stage.")
    train: TrainPod = section(TrainPod, "The train stage.")
    evaluate: StagePod = section(StagePod, "The evaluate stage.")
    publish: StagePod = section(StagePod, "The publish stage.")

    def of(self, stage: str) -> StagePod:
        """Settings of a stage, by its name."""
        pod: Any = getattr(self, stage)
        assert isinstance(pod, StagePod)  # noqa: S101  the stage names are the field names
        return pod
