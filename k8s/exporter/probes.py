"""One card, read call by call into values in base units. What the card does not say is absent, never 0.

A probe that fails costs its own metrics only; a card that is lost raises `CardLost`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from k8s.exporter import metrics
from k8s.exporter.cards import Card, Values
from k8s.exporter.metrics import Metric
from k8s.exporter.mxsml import CallFailed, CardLost, Clock, Direction, MetricAbsent, Mxsml, Temperature, Version

_KB = 1024
_MB = 1_000_000

# Bits of mxSmlGetCurrentClocksThrottleReason.
THROTTLE_REASONS = {
    0x001: "idle",
    0x002: "application_limit",
    0x004: "power",
    0x008: "chip_temperature",
    0x010: "regulator_temperature",
    0x020: "memory_temperature",
    0x040: "temperature",
    0x080: "peak_current",
    0x100: "power_brake",
    0x200: "current_slope",
    0x400: "low_usage",
}
_LINK_STATES = ("enabled", "switched_off", "off_for_sriov", "off_for_number_of_cards", "training_failed")
_PORT_STATES = ("not_trained", "up", "down_module_in_place", "down_module_missing", "down_module_unused", "unused")
_UNUSED_PORT = 5
_SENSORS = {
    Temperature.HOTSPOT: "hotspot",
    Temperature.SOC: "soc",
    Temperature.CORE: "core",
    Temperature.INLET: "inlet",
    Temperature.OUTLET: "outlet",
}
_CLOCKS = {Clock.XCORE: "xcore", Clock.MEMORY: "memory"}
_DIRECTIONS = {Direction.INPUT: "input", Direction.TARGET: "target"}

Measured = Iterable[tuple[Metric, tuple[str, ...], float]]
CallErrors = Counter[tuple[str, int]]


def identify(library: Mxsml, device: int) -> Card:
    """Who a card is. CardLost or CallFailed when it does not say."""
    info = library.device_info(device)
    bdf = info.bdf.decode(errors="replace")
    return Card(
        uuid=info.uuid.decode(errors="replace") or bdf,
        index=device,
        model=info.name.decode(errors="replace"),
        bdf=bdf,
    )


def versions(library: Mxsml, card: Card) -> tuple[str, str]:
    """Of driver and BIOS; empty where they are not said."""
    texts = []
    for unit in (Version.DRIVER, Version.BIOS):
        try:
            texts.append(library.version(card.index, unit))
        except CardLost:
            raise
        except CallFailed:
            texts.append("")
    return texts[0], texts[1]


def read(library: Mxsml, device: int, errors: CallErrors) -> Values:
    """All values of a card; calls that fail are counted in `errors`. CardLost when it is gone."""
    values: Values = {}
    for probe in _PROBES:
        try:
            values.update({(metric, labels): value for metric, labels, value in probe(library, device)})
        except CardLost:
            raise
        except MetricAbsent:
            continue
        except CallFailed as error:
            errors[error.function, error.result] += 1
    return values


def _power(library: Mxsml, device: int) -> Measured:
    yield metrics.POWER, (), sum(way.power for way in library.board_ways(device)) / 1000


def _power_limit(library: Mxsml, device: int) -> Measured:
    yield metrics.POWER_LIMIT, (), library.board_power_limit_mw(device) / 1000


def _temperature(sensor: Temperature, name: str) -> Callable[[Mxsml, int], Measured]:
    def probe(library: Mxsml, device: int) -> Measured:
        yield metrics.TEMPERATURE, (name,), library.temperature_centidegrees(device, sensor) / 100

    return probe


def _temperature_limit(library: Mxsml, device: int) -> Measured:
    limit = library.temperature_centidegrees(device, Temperature.HOTSPOT_LIMIT)
    yield metrics.TEMPERATURE_LIMIT, (), limit / 100


def _memory(library: Mxsml, device: int) -> Measured:
    memory = library.memory(device)
    yield metrics.MEMORY_TOTAL, (), memory.vram_total * _KB
    yield metrics.MEMORY_USED, (), memory.vram_used * _KB


def _utilisation(library: Mxsml, device: int) -> Measured:
    yield metrics.UTILISATION, (), library.xcore_usage_percent(device) / 100


def _clock(domain: Clock, name: str) -> Callable[[Mxsml, int], Measured]:
    def probe(library: Mxsml, device: int) -> Measured:
        clocks = library.clocks_mhz(device, domain)
        if clocks:
            yield metrics.CLOCK, (name,), max(clocks) * 1_000_000

    return probe


def _throttling(library: Mxsml, device: int) -> Measured:
    bits = library.throttle_reasons(device)
    for bit, reason in THROTTLE_REASONS.items():
        yield metrics.THROTTLED, (reason,), bool(bits & bit)
    yield metrics.THROTTLED, ("other",), bool(bits & ~sum(THROTTLE_REASONS))


def _ecc(library: Mxsml, device: int) -> Measured:
    errors = library.ecc_errors(device)
    yield metrics.ECC_ERRORS, ("sram", "corrected"), errors.sram_corrected
    yield metrics.ECC_ERRORS, ("sram", "uncorrected"), errors.sram_uncorrected
    yield metrics.ECC_ERRORS, ("dram", "corrected"), errors.dram_corrected
    yield metrics.ECC_ERRORS, ("dram", "uncorrected"), errors.dram_uncorrected
    yield metrics.RETIRED_PAGES, (), errors.retired_pages


def _pcie_link(library: Mxsml, device: int) -> Measured:
    link = library.pcie_link(device)
    yield metrics.PCIE_SPEED, (), link.speed * 1e9
    yield metrics.PCIE_LANES, (), link.width


def _pcie_link_most(library: Mxsml, device: int) -> Measured:
    link = library.pcie_link_most(device)
    yield metrics.PCIE_MOST_SPEED, (), link.speed * 1e9
    yield metrics.PCIE_MOST_LANES, (), link.width


def _pcie_throughput(library: Mxsml, device: int) -> Measured:
    throughput = library.pcie_throughput(device)
    yield metrics.PCIE_THROUGHPUT, ("received",), throughput.received * _MB
    yield metrics.PCIE_THROUGHPUT, ("sent",), throughput.sent * _MB


def _link_state(library: Mxsml, device: int) -> Measured:
    state = library.metaxlink_state(device)
    yield metrics.LINK_ENABLED, (_word(_LINK_STATES, state),), state == 0


def _ports(library: Mxsml, device: int) -> Measured:
    for port, state in enumerate(library.metaxlink_port_states(device)):
        if state != _UNUSED_PORT:
            yield metrics.PORT_UP, (str(port), _word(_PORT_STATES, state)), state == 1


def _bandwidth(library: Mxsml, device: int) -> Measured:
    for direction, name in _DIRECTIONS.items():
        for port, link in enumerate(library.metaxlink_bandwidth(device, direction)):
            yield metrics.LINK_BANDWIDTH, (str(port), name, "request"), link.request * _MB
            yield metrics.LINK_BANDWIDTH, (str(port), name, "response"), link.response * _MB


def _traffic(library: Mxsml, device: int) -> Measured:
    for direction, name in _DIRECTIONS.items():
        for port, link in enumerate(library.metaxlink_traffic(device, direction)):
            yield metrics.LINK_TRAFFIC, (str(port), name, "request"), link.request
            yield metrics.LINK_TRAFFIC, (str(port), name, "response"), link.response


def _unavailable(library: Mxsml, device: int) -> Measured:
    reason = library.unavailable_reason(device)
    if reason.code:
        yield metrics.UNAVAILABLE, (str(reason.code), reason.reason.decode(errors="replace")), 1


def _word(words: tuple[str, ...], code: int) -> str:
    return words[code] if code < len(words) else str(code)


_PROBES: tuple[Callable[[Mxsml, int], Measured], ...] = (
    _power,
    _power_limit,
    *(_temperature(sensor, name) for sensor, name in _SENSORS.items()),
    _temperature_limit,
    _memory,
    _utilisation,
    *(_clock(domain, name) for domain, name in _CLOCKS.items()),
    _throttling,
    _ecc,
    _pcie_link,
    _pcie_link_most,
    _pcie_throughput,
    _link_state,
    _ports,
    _bandwidth,
    _traffic,
    _unavailable,
)
