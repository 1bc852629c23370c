"""``spec.pods``: a narrow, listed subset of what can be set on the stages' pods."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, StringConstraints, WithJsonSchema

from alignment_api.base import DnsLabel, Rule, SpecModel, list_of, map_list_of, section

__all__ = ["EnvVar", "NameRef", "PodsSpec", "Quantity", "Resources", "StagePod", "Toleration", "TrainPod"]

_QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"
Quantity = Annotated[
    Annotated[int, Field(ge=0)] | Annotated[str, StringConstraints(max_length=32, pattern=_QUANTITY_PATTERN)],
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "pattern": _QUANTITY_PATTERN,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""A Kubernetes quantity: 1, 500m, 16Gi."""

_SUBDOMAIN = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = f"^({_SUBDOMAIN}/)?{_LABEL}$"
_RESOURCE = f"^(cpu|memory|ephemeral-storage|hugepages-{_LABEL}|{_SUBDOMAIN}/{_LABEL})$"
_LabelKey = Annotated[str, StringConstraints(max_length=253, pattern=_LABEL_KEY)]
_LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=f"^({_LABEL})?$")]
_Value = Annotated[str, StringConstraints(max_length=4096)]
_RESERVED_PREFIXES = ("ALIGNMENT_", "AWS_")


class NameRef(SpecModel):
    """An object of the run's namespace, by name."""

    name: DnsLabel = Field(description="Name of the object.")


class Resources(SpecModel):
    """Compute resources of the stage's container."""

    RULES = (
        Rule(
            " && ".join(
                f"(!has(self.{field}) || self.{field}.all(k, k.matches('{_RESOURCE}')))"
                for field in ("limits", "requests")
            ),
            "resources are cpu, memory, ephemeral-storage, hugepages-<size>, or have a domain, e.g. nvidia.com/gpu",
            lambda s: all(re.fullmatch(_RESOURCE, name) for name in (*s.limits, *s.requests)),
        ),
    )

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

    RULES = (
        Rule(
            "has(self.key) || self.operator == 'Exists'",
            "without a key the operator must be Exists: every taint is tolerated then",
            lambda s: s.key is not None or s.operator == "Exists",
        ),
        Rule(
            "self.operator == 'Equal' || !has(self.value) || self.value == ''",
            "value belongs to the operator Equal",
            lambda s: s.operator == "Equal" or not s.value,
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds needs the effect NoExecute",
            lambda s: s.toleration_seconds is None or s.effect == "NoExecute",
        ),
    )

    key: _LabelKey | None = Field(default=None, description="Taint key; omitted: every key.")
    operator: Annotated[str, StringConstraints(pattern=r"^(Exists|Equal)$", max_length=6)] = Field(
        default="Equal", description="Exists or Equal."
    )
    value: _LabelValue | None = Field(default=None, description="Taint value.")
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

    RULES = (
        Rule(
            f"!has(self.nodeSelector) || self.nodeSelector.all(k, size(k) <= 253 && k.matches('{_LABEL_KEY}'))",
            "keys of nodeSelector must be keys of labels, e.g. pool or nvidia.com/gpu.product",
            lambda s: all(len(key) <= 253 and re.fullmatch(_LABEL_KEY, key) for key in s.node_selector),
        ),
    )

    resources: Resources = section(Resources, "Compute resources.")
    node_selector: dict[str, _LabelValue] = Field(
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
    image_pull_secrets: tuple[NameRef, ...] = map_list_of("Secrets for pulling images.", "name", maximum=16)
    queue_name: Annotated[str, StringConstraints(max_length=63, pattern=f"^({_SUBDOMAIN})?$")] = Field(
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
