"""A metric as measured: an estimate, the champion's own value, and a remark; or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from alignment_api.evidence import MetricResult
from alignment_api.metrics import MetricName
from alignment_trainer.evaluation.statistics import Estimate, bounds

__all__ = ["Measurement"]

_INTERVAL_ALPHA = 0.025
"""Each side of the two-sided 95 % interval that reports show."""


@dataclass(frozen=True)
class Measurement:
    """estimate: None when unavailable, and then ``message`` says why. champion: the champion's own value, if it has one."""

    estimate: Estimate | None
    champion: float | None = None
    message: str | None = None

    @classmethod
    def unavailable(cls, why: str) -> Measurement:
        """No estimate, for this reason."""
        return cls(None, message=why)

    def to_result(self, name: MetricName, selector: str = "") -> MetricResult:
        """The contract's form, with a two-sided 95 % interval."""
        if self.estimate is None:
            return MetricResult(name=name, selector=selector, message=self.message)
        low, high = bounds(self.estimate, _INTERVAL_ALPHA)
        return MetricResult(
            name=name,
            selector=selector,
            estimate=self.estimate.value,
            low=low,
            high=high,
            n=self.estimate.n,
            clusters=self.estimate.clusters,
            design_effect=self.estimate.design_effect,
            method=self.estimate.method,
            champion=self.champion,
            message=self.message,
        )
