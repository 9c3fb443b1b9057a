"""The Grafana board and the scrape of deploy/: everything that they name is in `/metrics`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator

import pytest
import yaml

from conductor_core.operator import OperatorSettings
from tests.conductor_admin.gateway_rig import MakeRig, Rig
from tests.conductor_admin.scraped import Scraped, scraped
from tests.conductor_admin.test_memory_loads import ONE, TABLE
from tests.conductor_admin.test_metrics import ask
from tests.source_tree import ROOT

BOARD = json.loads((ROOT / "deploy/grafana/conductor.json").read_text(encoding="utf-8"))
METRIC = re.compile(r"\b(?:conductor|process)_\w+")
SELECTOR = re.compile(r"(\w+)\s*=~?\s*\"")
GROUPING = re.compile(r"\bby \(([^)]*)\)")
LEGEND = re.compile(r"\{\{(\w+)\}\}")


def targets() -> Iterator[tuple[str, str]]:
    """Expression and legend of every curve, and of every variable."""
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"], target["legendFormat"]
    for variable in BOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            yield f"sum by ({label}) ({metric})", ""


def labels_of(expression: str, legend: str) -> set[str]:
    grouped = {name.strip() for names in GROUPING.findall(expression) for name in names.split(",")}
    return grouped | set(SELECTOR.findall(expression)) | set(LEGEND.findall(legend))


async def traffic(rig: Rig) -> None:
    """Everything that a gateway counts happens at least once."""
    for category in ("a", "b", "nothing"):
        await ask(rig, category)
    await rig.torchserve.workers("b")[0].kill()
    await ask(rig, "b")
    rig.torchserve.may_load.clear()
    leaving = asyncio.create_task(ask(rig, "c"))
    await rig.until(lambda: len(list(rig.gateway.telemetry.traces.running())) == 1)
    leaving.cancel()
    await rig.until(lambda: not list(rig.gateway.telemetry.traces.running()))


@pytest.fixture
async def seen(make_rig: MakeRig) -> Scraped:
    async with make_rig(settings=TABLE, budget=ONE) as rig:
        await traffic(rig)
        return await scraped(rig)


async def test_every_metric_and_label_of_the_board_is_in_a_live_scrape(seen: Scraped) -> None:
    assert len(list(targets())) > 30
    for expression, legend in targets():
        names = METRIC.findall(expression)
        assert names, expression
        for name in names:
            assert name in seen.labels, expression
            wanted = labels_of(expression, legend)
            assert wanted <= seen.labels[name], f"{expression} {legend}: {sorted(wanted)}"


async def test_every_figure_of_the_gateway_is_on_the_board(seen: Scraped) -> None:
    shown = {name for expression, _ in targets() for name in METRIC.findall(expression)}
    own = {name for name in seen.labels if name.startswith("conductor_")}
    assert not {name for name in own if not name.endswith(("_sum", "_count"))} - shown


async def test_the_table_of_the_readme_names_every_figure_and_its_labels(seen: Scraped) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("| metric | labels | |") :].split("\n\n")[0].splitlines()[2:]
    named: dict[str, set[str]] = {}
    for line in table:
        _, names, labels, *_ = line.split("|")
        named |= {
            f"conductor_{name}": set(re.findall(r"`(\w+)`", labels)) for name in re.findall(r"`(\w+)`", names)
        }
    own = {name for name in seen.labels if name.startswith("conductor_")}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in own} == named.keys()
    told = {name: seen.labels[name] for name in own & named.keys()}
    assert not {name: labels - named[name] for name, labels in told.items() if labels - named[name]}


def test_curves_of_a_panel_have_references_of_their_own() -> None:
    panels = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
    for panel in panels:
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
    identities = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(identities)) == len(identities)


def test_the_scrape_asks_the_gateway_where_it_listens() -> None:
    page = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = page["scrape_configs"]
    fields = OperatorSettings.model_fields
    assert job["static_configs"] == [{"targets": [f"{fields['host'].default}:{fields['port'].default}"]}]
    assert job.get("metrics_path", "/metrics") == "/metrics"
