"""Whatever one text or attribute of an e-invoice says otherwise, our own invariants find, without official rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from xml.etree import ElementTree as ET

import pytest

from billing.documents import cii, invariants, ubl
from billing.documents.invariants import Broken
from billing.documents.snapshot import Snapshot
from tests.billing.documents.samples import CHINESE_INVOICE, SAMPLES

EVERY = {**SAMPLES, "of a Chinese company": CHINESE_INVOICE}

SYNTAXES: dict[str, tuple[Callable[[Snapshot], bytes], Callable[[Snapshot, bytes], list[Broken]]]] = {
    "CII": (cii.write, invariants.of_cii),
    "UBL": (ubl.write, invariants.of_ubl),
}


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("name", EVERY)
def test_each_text_and_attribute_that_is_corrupted_alone_is_found(name: str, syntax: str) -> None:
    write, judge = SYNTAXES[syntax]
    content = EVERY[name]
    missed = [where for where, xml in _corrupted(write(content)) if not judge(content, xml)]
    assert missed == []


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("name", EVERY)
def test_each_element_that_is_missing_or_there_twice_is_found(name: str, syntax: str) -> None:
    write, judge = SYNTAXES[syntax]
    content = EVERY[name]
    missed = [where for where, xml in _without_or_twice(write(content)) if not judge(content, xml)]
    assert missed == []


def _corrupted(xml: bytes) -> Iterator[tuple[str, bytes]]:
    """The document with one text or attribute changed: digits to other digits, words to other words."""
    root = ET.fromstring(xml)  # noqa: S314 (our own)
    for element in root.iter():
        if element.text and element.text.strip():
            right, element.text = element.text, _other(element.text)
            yield f"{_name(element)} {right!r}", ET.tostring(root)
            element.text = right
        for name, right in element.attrib.items():
            element.set(name, _other(right))
            yield f"{_name(element)}/@{name} {right!r}", ET.tostring(root)
            element.set(name, right)


def _without_or_twice(xml: bytes) -> Iterator[tuple[str, bytes]]:
    root = ET.fromstring(xml)  # noqa: S314 (our own)
    for parent in root.iter():
        for position, child in enumerate(list(parent)):
            parent.remove(child)
            yield f"without {_name(child)}", ET.tostring(root)
            parent.insert(position, child)
            parent.insert(position, child)
            yield f"twice {_name(child)}", ET.tostring(root)
            parent.remove(child)


def _other(value: str) -> str:
    last = value[-1]
    return value[:-1] + (str((int(last) + 1) % 10) if last.isdigit() else "Y" if last != "Y" else "Z")


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
