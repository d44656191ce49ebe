"""The table of metrics: names, base units, where each value comes from. `docs/exporter.md` shows it, and a test
compares both.

Metrics of a card carry CARD_LABELS and the labels written here. What pods a card works for is one metric of its own
(WORKLOAD), to be joined by `uuid`: a pod that moves must not begin a new series of the energy of its card.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CARD_LABELS = ("uuid", "index", "model", "host")


@dataclass(frozen=True, slots=True)
class Metric:
    """One name. `source` is the vendor's function, or how we make the value."""

    name: str
    kind: Literal["gauge", "counter"]
    unit: str
    help: str
    source: str
    labels: tuple[str, ...] = ()
    raw_bits: int | None = None  # of the hardware's counter behind a counter of ours


def _gauge(name: str, unit: str, help: str, source: str, *labels: str) -> Metric:
    return Metric(name, "gauge", unit, help, source, labels)


def _counter(name: str, unit: str, help: str, source: str, *labels: str, raw_bits: int | None = None) -> Metric:
    return Metric(name, "counter", unit, help, source, labels, raw_bits)


UP = _gauge(
    "studio_gpu_up", "0/1", "Whether the card answers; 0 also for one that was there and is gone", "mxSmlGetDeviceInfo"
)
LOST = _gauge("studio_gpu_lost_info", "1", "Why a card does not answer", "return codes, the list of cards", "cause")
INFO = _gauge(
    "studio_gpu_info",
    "1",
    "Address and versions of a card",
    "mxSmlGetDeviceInfo, mxSmlGetDeviceVersion",
    "bdf",
    "driver",
    "bios",
)
UNAVAILABLE = _gauge(
    "studio_gpu_unavailable_info",
    "1",
    "Why a card that answers takes no work, in the vendor's words",
    "mxSmlGetDeviceUnavailableReason",
    "code",
    "reason",
)
WORKLOAD = _gauge(
    "studio_gpu_workload_info",
    "1",
    "The container that holds a card, and what it works for where the mapping says so",
    "the kubelet's pod-resources API",
    "namespace",
    "pod",
    "container",
    "served_model",
    "variant",
    "tenant",
)

POWER = _gauge("studio_gpu_power_watts", "W", "Power of the board, all its supplies", "mxSmlGetBoardPowerInfo")
POWER_LIMIT = _gauge("studio_gpu_power_limit_watts", "W", "What the board may draw", "mxSmlGetBoardPowerLimit")
ENERGY = _counter(
    "studio_gpu_energy_joules_total",
    "J",
    "Energy since the card was first seen",
    "trapezoid over studio_gpu_power_watts",
)
UNMEASURED = _counter(
    "studio_gpu_energy_unmeasured_seconds_total",
    "s",
    "Time in which power was not known and no energy was counted",
    "gaps between samples",
)
TEMPERATURE = _gauge(
    "studio_gpu_temperature_celsius", "deg C", "Temperatures of the card", "mxSmlGetTemperatureInfo", "sensor"
)
TEMPERATURE_LIMIT = _gauge(
    "studio_gpu_temperature_limit_celsius", "deg C", "Limit of the chip's hottest spot", "mxSmlGetTemperatureInfo"
)
MEMORY_TOTAL = _gauge("studio_gpu_memory_total_bytes", "bytes", "Memory of the card", "mxSmlGetMemoryInfo")
MEMORY_USED = _gauge("studio_gpu_memory_used_bytes", "bytes", "Memory in use", "mxSmlGetMemoryInfo")
UTILISATION = _gauge("studio_gpu_utilisation_ratio", "0..1", "How busy the compute cores are", "mxSmlGetDeviceIpUsage")
CLOCK = _gauge("studio_gpu_clock_hertz", "Hz", "Clocks, the fastest of each domain", "mxSmlGetClocks", "domain")
THROTTLED = _gauge(
    "studio_gpu_throttled",
    "0/1",
    "Whether clocks are held down, by reason",
    "mxSmlGetCurrentClocksThrottleReason",
    "reason",
)
ECC_ERRORS = _counter(
    "studio_gpu_ecc_errors_total",
    "errors",
    "Memory errors; goes on over wraps and restarts of the driver",
    "mxSmlGetTotalEccErrors",
    "memory",
    "kind",
    raw_bits=32,
)
RETIRED_PAGES = _gauge(
    "studio_gpu_retired_pages", "pages", "Pages of memory that are not used any more", "mxSmlGetTotalEccErrors"
)
PCIE_SPEED = _gauge("studio_gpu_pcie_link_transfers_per_second", "T/s", "Speed of the PCIe link", "mxSmlGetPcieInfo")
PCIE_LANES = _gauge("studio_gpu_pcie_link_lanes", "lanes", "Width of the PCIe link", "mxSmlGetPcieInfo")
PCIE_MOST_SPEED = _gauge(
    "studio_gpu_pcie_link_limit_transfers_per_second", "T/s", "Speed that it could have", "mxSmlGetPcieMaxLinkInfo"
)
PCIE_MOST_LANES = _gauge(
    "studio_gpu_pcie_link_limit_lanes", "lanes", "Width that it could have", "mxSmlGetPcieMaxLinkInfo"
)
PCIE_THROUGHPUT = _gauge(
    "studio_gpu_pcie_throughput_bytes_per_second",
    "bytes/s",
    "Traffic over PCIe at the time of the sample",
    "mxSmlGetPcieThroughput",
    "direction",
)
LINK_ENABLED = _gauge(
    "studio_gpu_metaxlink_enabled", "0/1", "Whether MetaXLink is on", "mxSmlGetMetaXLinkState", "state"
)
PORT_UP = _gauge(
    "studio_gpu_metaxlink_port_up",
    "0/1",
    "Whether a MetaXLink port is up; a port that is not used has no value",
    "mxSmlGetMetaXLinkPortState",
    "port",
    "state",
)
LINK_BANDWIDTH = _gauge(
    "studio_gpu_metaxlink_bandwidth_bytes_per_second",
    "bytes/s",
    "Traffic of a port at the time of the sample",
    "mxSmlGetMetaXLinkBandwidth",
    "port",
    "direction",
    "part",
)
LINK_TRAFFIC = _counter(
    "studio_gpu_metaxlink_traffic_bytes_total",
    "bytes",
    "Traffic of a port",
    "mxSmlGetMetaXLinkTrafficStat",
    "port",
    "direction",
    "part",
    raw_bits=63,
)

SOURCE = _gauge(
    "studio_exporter_source",
    "0/1",
    "Where the last sample came from: library, mx_smi, or none of both",
    "own",
    "source",
)
SAMPLED_AT = _gauge("studio_exporter_last_sample_timestamp_seconds", "s since 1970", "When that was", "own")
SAMPLE_SECONDS = _gauge("studio_exporter_sample_seconds", "s", "How long the last sample took", "own")
CALL_ERRORS = _counter(
    "studio_exporter_call_errors_total",
    "calls",
    "Calls of the library that failed, other than with 'not supported'",
    "own",
    "function",
    "result",
)
POD_RESOURCES_UP = _gauge(
    "studio_exporter_pod_resources_up", "0/1", "Whether the kubelet says which pods hold cards", "own"
)
UNKNOWN_DEVICES = _gauge(
    "studio_exporter_unknown_devices", "devices", "Devices that pods hold by an id that is none of a card", "own"
)
UNNAMED_WORKLOADS = _gauge(
    "studio_exporter_unnamed_workloads",
    "containers",
    "Containers that hold cards and that no line of the mapping names; 0 without a mapping",
    "own",
)
RECORDS_SAVED = _gauge(
    "studio_exporter_records_saved",
    "0/1",
    "Whether the last sample is on disk; if not, counters may fall at a restart",
    "own",
)
SCRAPES = _counter("studio_exporter_scrapes_total", "scrapes", "Answers on /metrics, without the present one", "own")
SCRAPE_SECONDS = _counter("studio_exporter_scrape_seconds_total", "s", "Time that they took", "own")
SCRAPE_CPU_SECONDS = _counter("studio_exporter_scrape_cpu_seconds_total", "s", "CPU time that they took", "own")

OF_A_CARD = tuple(m for m in list(vars().values()) if isinstance(m, Metric) and m.name.startswith("studio_gpu_"))
OF_THE_EXPORTER = tuple(
    m for m in list(vars().values()) if isinstance(m, Metric) and m.name.startswith("studio_exporter_")
)
