"""Scrapes of a gateway's `/metrics`, read by prometheus-client's own parsers."""

from __future__ import annotations

from dataclasses import dataclass

import httpx2
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.conductor_admin.gateway_rig import Rig


@dataclass(frozen=True)
class Scraped:
    """The families of one scrape."""

    families: list[Metric]

    @classmethod
    def of(cls, text: str) -> Scraped:
        return cls(list(text_string_to_metric_families(text)))

    @property
    def labels(self) -> dict[str, set[str]]:
        """Names of samples, and the labels that each has."""
        found: dict[str, set[str]] = {}
        for family in self.families:
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
        return found

    def values(self, label: str) -> set[str]:
        """Every value of a label."""
        samples = (sample for family in self.families for sample in family.samples)
        return {sample.labels[label] for sample in samples if label in sample.labels}

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name with these labels; 0 without any."""
        return sum(
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == f"conductor_{name}" and labels.items() <= sample.labels.items()
        )


async def scraped(rig: Rig, headers: dict[str, str] | None = None) -> Scraped:
    """A scrape of the rig."""
    response: httpx2.Response = await rig.client.get("/metrics", headers=headers)
    assert response.status_code == 200
    return Scraped.of(response.text)
