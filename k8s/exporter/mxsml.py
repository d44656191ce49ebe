"""MetaX's management library (libmxsml.so) through ctypes: layouts, return codes, raw values in the vendor's units.

Nothing is cached: a driver that comes later, or comes back, is found by initialising again. One thread calls it.
Layouts are those of the public binding in `gpustack-runtime` 0.2.6 (Apache-2.0) and are tested against a C library;
no card was at hand. Units are in the names. Two things that binding does are not repeated here: it answers
`mxSmlGetMetaXLinkState` with the return code, and it remembers a failed initialisation for ever.
"""

from __future__ import annotations

import ctypes
from ctypes import Array, Structure, byref, c_char, c_float, c_int, c_long, c_uint, c_ulonglong
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from studio.errors import StudioError

_SUCCESS = 0
_INSUFFICIENT_SIZE = 10
_FUNCTION_NOT_FOUND = 999
_ABSENT = frozenset({3, _FUNCTION_NOT_FOUND})  # not supported by this card; not in this version of the library
_LOST = frozenset({2, 6, 21})  # no device, invalid id, the device's file cannot be opened
_REINITIALISE = 1  # flag of mxSmlInitWithFlags
_MOST_CARDS = 128  # mxSmlGetDeviceCount answers the count itself, so a failure can only be a number that cannot be
_BOARD_WAYS = 4  # supplies of one board; the library says when there are more
_TEXT_BYTES = 128

METAXLINK_PORTS = 7

Item = TypeVar("Item")


class LibraryMissing(StudioError):
    """The file is not there or cannot be loaded: no driver yet, or another path."""


class CallFailed(StudioError):
    """A call answered something else than success. `result` is the vendor's code."""

    def __init__(self, function: str, result: int) -> None:
        super().__init__(f"{function} answered {result}")
        self.function = function
        self.result = result


class MetricAbsent(CallFailed):
    """This card, or this version of the library, does not have the value. No reason to worry."""


class CardLost(CallFailed):
    """The card does not answer any more."""


class Temperature(IntEnum):
    """Sensors of mxSmlGetTemperatureInfo that a C-class card has."""

    HOTSPOT = 0
    HOTSPOT_LIMIT = 1
    SOC = 2
    CORE = 3
    INLET = 12
    OUTLET = 14


class Clock(IntEnum):
    """Domains of mxSmlGetClocks."""

    MEMORY = 3
    XCORE = 11


class Direction(IntEnum):
    """Sides of a MetaXLink: what others ask of this card, and what it asks of others."""

    INPUT = 0
    TARGET = 1


class Version(IntEnum):
    """Units of mxSmlGetDeviceVersion."""

    BIOS = 0
    DRIVER = 1


_XCORE_USAGE = 4  # mxSmlGetDeviceIpUsage


class _Fields(Structure):
    _fields_: ClassVar[Any]


class DeviceInfo(_Fields):
    """mxSmlGetDeviceInfo. Texts are bytes, ended by a zero."""

    _fields_ = (
        ("device_id", c_uint),
        ("type", c_uint),
        ("bdf", c_char * 32),
        ("gpu_id", c_uint),
        ("node_id", c_uint),
        ("uuid", c_char * 96),
        ("brand", c_uint),
        ("mode", c_uint),
        ("name", c_char * 32),
    )
    uuid: bytes
    bdf: bytes
    name: bytes


class MemoryInfo(_Fields):
    """mxSmlGetMemoryInfo, in KB of 1,024 bytes."""

    _fields_ = (
        ("visible_total", c_long),
        ("visible_used", c_long),
        ("vram_total", c_long),
        ("vram_used", c_long),
        ("xtt_total", c_long),
        ("xtt_used", c_long),
    )
    vram_total: int
    vram_used: int


class BoardWay(_Fields):
    """One supply of the board: mV, mA, mW."""

    _fields_ = (("voltage", c_uint), ("current", c_uint), ("power", c_uint))
    power: int


class PcieLink(_Fields):
    """GT/s and lanes."""

    _fields_ = (("speed", c_float), ("width", c_uint))
    speed: float
    width: int


class PcieThroughput(_Fields):
    """MB/s."""

    _fields_ = (("received", c_int), ("sent", c_int))
    received: int
    sent: int


class LinkBandwidth(_Fields):
    """Of one MetaXLink, MB/s."""

    _fields_ = (("request", c_int), ("response", c_int))
    request: int
    response: int


class LinkTraffic(_Fields):
    """Of one MetaXLink, bytes since the driver was loaded."""

    _fields_ = (("request", c_long), ("response", c_long))
    request: int
    response: int


class EccErrors(_Fields):
    """Counts of 32 bits: they wrap, and begin again with the driver."""

    _fields_ = (
        ("sram_corrected", c_uint),
        ("sram_uncorrected", c_uint),
        ("dram_corrected", c_uint),
        ("dram_uncorrected", c_uint),
        ("retired_pages", c_uint),
    )
    sram_corrected: int
    sram_uncorrected: int
    dram_corrected: int
    dram_uncorrected: int
    retired_pages: int


class UnavailableReason(_Fields):
    """0 and an empty text: the card is available."""

    _fields_ = (("code", c_int), ("reason", c_char * 64))
    code: int
    reason: bytes


class _Function(Protocol):
    restype: Any

    def __call__(self, *arguments: Any) -> int: ...


class Mxsml:
    """The loaded library. Each method is one call; CallFailed or a subclass of it when it does not succeed."""

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise LibraryMissing(f"{path} cannot be loaded: {error}") from error

    def initialise(self, *, again: bool = False) -> None:
        """`again` makes the library look for cards anew; a version that cannot do so is initialised plainly."""
        if again:
            try:
                return self._call("mxSmlInitWithFlags", c_uint(_REINITIALISE))
            except MetricAbsent:
                pass
        return self._call("mxSmlInit")

    def device_count(self) -> int:
        """Cards are numbered from 0. Not those of SR-IOV's physical functions, which begin at 100."""
        count = self._function("mxSmlGetDeviceCount")()
        if count > _MOST_CARDS:
            raise CallFailed("mxSmlGetDeviceCount", count)
        return count

    def device_info(self, device: int) -> DeviceInfo:
        """Identity of a card."""
        return self._fill("mxSmlGetDeviceInfo", DeviceInfo(), c_uint(device))

    def version(self, device: int, unit: Version) -> str:
        """Version of the driver or of the card's BIOS."""
        text, size = ctypes.create_string_buffer(_TEXT_BYTES), c_uint(_TEXT_BYTES)
        self._call("mxSmlGetDeviceVersion", c_uint(device), c_uint(unit), text, byref(size))
        return text.value.decode(errors="replace")

    def board_ways(self, device: int) -> list[BoardWay]:
        """Each supply of the board; the card's power is their sum."""
        return self._list("mxSmlGetBoardPowerInfo", BoardWay, _BOARD_WAYS, c_uint(device))

    def board_power_limit_mw(self, device: int) -> int:
        """What the card may draw."""
        return self._fill("mxSmlGetBoardPowerLimit", c_uint(), c_uint(device)).value

    def temperature_centidegrees(self, device: int, sensor: Temperature) -> int:
        """Hundredths of a degree Celsius."""
        return self._fill("mxSmlGetTemperatureInfo", c_int(), c_uint(device), c_uint(sensor)).value

    def memory(self, device: int) -> MemoryInfo:
        """The card's memory."""
        return self._fill("mxSmlGetMemoryInfo", MemoryInfo(), c_uint(device))

    def xcore_usage_percent(self, device: int) -> int:
        """How busy the compute cores are."""
        return self._fill("mxSmlGetDeviceIpUsage", c_int(), c_uint(device), c_uint(_XCORE_USAGE)).value

    def clocks_mhz(self, device: int, domain: Clock) -> list[int]:
        """Clocks of a domain; some have several."""
        return self._list("mxSmlGetClocks", c_uint, 1, c_uint(device), c_uint(domain))

    def throttle_reasons(self, device: int) -> int:
        """A bit for each reason why clocks are lower than they could be."""
        return self._fill("mxSmlGetCurrentClocksThrottleReason", c_ulonglong(), c_uint(device)).value

    def ecc_errors(self, device: int) -> EccErrors:
        """Errors of all memories."""
        return self._fill("mxSmlGetTotalEccErrors", EccErrors(), c_uint(device))

    def pcie_link(self, device: int) -> PcieLink:
        """As it is."""
        return self._fill("mxSmlGetPcieInfo", PcieLink(), c_uint(device))

    def pcie_link_most(self, device: int) -> PcieLink:
        """As it could be."""
        return self._fill("mxSmlGetPcieMaxLinkInfo", PcieLink(), c_uint(device))

    def pcie_throughput(self, device: int) -> PcieThroughput:
        """At this moment."""
        return self._fill("mxSmlGetPcieThroughput", PcieThroughput(), c_uint(device))

    def metaxlink_state(self, device: int) -> int:
        """0 is enabled; 1 to 4 are reasons why it is not."""
        state, text, size = c_uint(), ctypes.create_string_buffer(_TEXT_BYTES), c_uint(_TEXT_BYTES)
        self._call("mxSmlGetMetaXLinkState", c_uint(device), byref(state), text, byref(size))
        return state.value

    def metaxlink_port_states(self, device: int) -> list[int]:
        """Of each port: 0 not trained, 1 up, 2 to 4 down at the optical module, 5 not used."""
        size = c_uint(METAXLINK_PORTS)
        states = (c_uint * METAXLINK_PORTS)()
        self._call("mxSmlGetMetaXLinkPortState", c_uint(device), states, byref(size))  # the size comes last here
        return list(states)[: size.value]

    def metaxlink_bandwidth(self, device: int, direction: Direction) -> list[LinkBandwidth]:
        """Of each port, at this moment."""
        return self._list(
            "mxSmlGetMetaXLinkBandwidth", LinkBandwidth, METAXLINK_PORTS, c_uint(device), c_uint(direction)
        )

    def metaxlink_traffic(self, device: int, direction: Direction) -> list[LinkTraffic]:
        """Of each port, since the driver was loaded."""
        return self._list(
            "mxSmlGetMetaXLinkTrafficStat", LinkTraffic, METAXLINK_PORTS, c_uint(device), c_uint(direction)
        )

    def topology(self, device: int, other: int) -> int:
        """How two cards are connected: 5 MetaXLink, 1 to 4 ever farther over PCIe, 6 through the system."""
        return self._fill("mxSmlGetDeviceTopology", c_uint(), c_uint(device), c_uint(other)).value

    def unavailable_reason(self, device: int) -> UnavailableReason:
        """Why the card takes no work, in the vendor's words."""
        return self._fill("mxSmlGetDeviceUnavailableReason", UnavailableReason(), c_uint(device))

    def _function(self, name: str) -> _Function:
        try:
            function: _Function = getattr(self._library, name)
        except AttributeError:
            raise MetricAbsent(name, _FUNCTION_NOT_FOUND) from None
        function.restype = c_uint
        return function

    def _call(self, name: str, *arguments: Any) -> None:
        result = self._function(name)(*arguments)
        if result != _SUCCESS:
            raise _failure(name, result)

    def _fill(self, name: str, into: Item, *arguments: Any) -> Item:
        self._call(name, *arguments, byref(into))  # type: ignore[arg-type]  # callers give ctypes values only
        return into

    def _list(self, name: str, item: Any, expected: int, *arguments: Any) -> list[Any]:
        """What a function puts into an array of `item`, a ctypes type; numbers come as numbers."""
        size = c_uint(expected)
        items: Array[Any] = (item * expected)()
        result = self._function(name)(*arguments, byref(size), items)
        if result == _INSUFFICIENT_SIZE:
            items = (item * size.value)()
            result = self._function(name)(*arguments, byref(size), items)
        if result != _SUCCESS:
            raise _failure(name, result)
        return list(items)[: size.value]


def _failure(function: str, result: int) -> CallFailed:
    kind = MetricAbsent if result in _ABSENT else CardLost if result in _LOST else CallFailed
    return kind(function, result)
