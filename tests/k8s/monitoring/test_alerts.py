"""A real Prometheus scrapes a real exporter: cards fail, alerts fire, cards come back, alerts end."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

from studio.settings import REPOSITORY
from tests.k8s.conftest import Exporters
from tests.k8s.exporter.node import GpuNode, Kubelet
from tests.k8s.prometheus import prometheus
from tests.local.eventually import eventually

RULES = REPOSITORY / "k8s/monitoring/rules/cards.yaml"


def test_cards_fail_and_come_back_and_the_alerts_with_them(
    node: GpuNode, kubelet: Kubelet, exporters: Exporters, tmp_path: Path
) -> None:
    """Three faults of the library: its first initialisation fails, power changes, a card is removed; and some more."""
    workloads = tmp_path / "workloads.json"
    line = {
        "namespace": "engines",
        "pod": "qwen3-*",
        "model": "qwen3-32b",
        "variant": "qwen3-32b-fast",
        "tenant": "acme",
    }
    workloads.write_text(json.dumps([line]))
    kubelet.run("engines", "qwen3-32b-0", "GPU-0000", "GPU-0001")
    node.state.init_result = 1
    exporter = exporters.start(workloads=workloads)
    at_once = tmp_path / "cards.yaml"
    at_once.write_text(re.sub(r"\bfor: \d+m", "for: 0s", RULES.read_text()))  # their patience is promtool's to test
    with prometheus(tmp_path, [at_once], {"studio-exporter": exporter.address}) as server:
        eventually(lambda: server.firing() == {"GpuDriverDown"}, "the first initialisation has failed")
        assert [count for _, count in server.query('studio_exporter_call_errors_total{function="mxSmlInit"}')]
        assert server.query("studio_gpu_up") == []
        node.state.init_result = 0
        eventually(lambda: len(server.query("studio_gpu_up == 1")) == 4, "the next one finds the cards")

        of = 'pod="qwen3-32b-0", served_model="qwen3-32b", variant="qwen3-32b-fast", tenant="acme"'
        watts = f"studio:gpu_workload_watts:rate5m{{{of}}}"
        eventually(lambda: len([of for _, of in server.query(watts) if of > 0]) == 2, "watts of the workload")
        eventually(lambda: server.firing() == set(), "a healthy node is quiet")

        node.cards[0].way_mw[0] = 400_000  # of 350
        eventually(lambda: "GpuAboveItsLimit" in server.firing(), "more than its limit")
        assert [at for _, at in server.query('studio_gpu_power_watts{uuid="GPU-0000"}')] == [400]
        drawn_more = f'{watts} > on (pod) group_left () studio:gpu_workload_watts:rate5m{{uuid="GPU-0001"}}'
        eventually(
            lambda: [labels["uuid"] for labels, _ in server.query(drawn_more)] == ["GPU-0000"], "its workload's, too"
        )
        node.cards[0].way_mw[0] = 100_000
        eventually(lambda: server.firing() == set(), "and within it again")

        lost, hot, linked = node.cards[1], node.cards[2], node.cards[3]
        lost.present = 0
        hot.centidegrees[0] = 9100
        hot.unavailable_code, hot.unavailable_reason = 7, b"memory error"
        linked.port_states[3] = 2
        node.cards[0].ecc[3] += 1
        wrong = {"GpuLost", "GpuHot", "GpuUnavailable", "MetaXLinkDown", "GpuUncorrectableErrors"}
        eventually(lambda: server.firing() == wrong, "each fault is its alert")
        (labels, _), *more = server.query('ALERTS{alertname="GpuLost"}')
        assert (labels["uuid"], labels["host"], more) == ("GPU-0001", "node-1", [])

        (labels, _), *more = server.query('ALERTS{alertname="GpuUnavailable"}')
        assert (labels["uuid"], labels["reason"], more) == ("GPU-0002", "memory error", [])

        lost.present, hot.centidegrees[0], hot.unavailable_code, linked.port_states[3] = 1, 4150, 0, 1
        eventually(lambda: server.firing() == {"GpuUncorrectableErrors"}, "they end; wrong bits stay for 15 minutes")

        node.state.init_result = 21
        for card in node.cards[:4]:
            card.present = 0
        eventually(lambda: "GpuDriverDown" in server.firing(), "the driver is down")
        eventually(lambda: "GpuLost" not in server.firing(), "that is no alert of each card")
        node.state.init_result = 0
        for card in node.cards[:4]:
            card.present = 1
        eventually(lambda: server.firing() == {"GpuUncorrectableErrors"}, "the driver is back")

        kubelet.stop()
        eventually(lambda: "WorkloadsUnknown" in server.firing(), "the kubelet is away")
        exporter.end(signal.SIGKILL)
        eventually(lambda: "ExporterDown" in server.firing(), "the exporter is down")
