"""The API server in memory as a person with kubectl sees it: merge patches under the contract's rules, logs, whoami."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from alignment_api.names import PLURAL
from alignment_api.run import AlignmentRun, transition_errors
from support.apiserver import ApiServer, ServerError

__all__ = ["PERSON", "PersonApi"]

PERSON = "dr@example.org"


class PersonApi(ApiServer):
    """logs: what a pod has said, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, str] = {}

    def _answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Any:
        parts = path.strip("/").split("/")
        if path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
            return {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "SelfSubjectReview",
                "metadata": {},
                "status": {"userInfo": {"username": PERSON}},
            }
        if parts[-1] == "log":
            if parts[-2] not in self.logs:
                raise ServerError(400, "BadRequest", f"container of {parts[-2]} is waiting to start")
            return self.logs[parts[-2]]
        if method == "PATCH" and parts[-2] == PLURAL:
            return self._merge((PLURAL, parts[-3], parts[-1]), body)
        return super()._answer(method, path, query, body)

    def _merge(self, key: tuple[str, str, str], patch: dict[str, Any]) -> dict[str, Any]:
        """A merge patch of a run's spec, refused with the rule's sentence as the CRD's rules refuse it."""
        known = self.get(key)
        spec = _merged(known["spec"], patch["spec"])
        old = AlignmentRun.model_validate(known)
        errors = transition_errors(AlignmentRun.model_validate({**known, "spec": spec}), old)
        if errors:
            raise ServerError(422, "Invalid", f'AlignmentRun "{key[2]}" is invalid: spec: {errors[0]}')
        return self.change(key, spec=spec)


def _merged(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    out = copy.deepcopy(base)
    for name, value in patch.items():
        nested = isinstance(value, dict) and isinstance(out.get(name), dict)
        out[name] = _merged(out[name], value) if nested else value
    return out
