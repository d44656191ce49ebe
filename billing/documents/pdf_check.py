"""Reading the PDF back: every figure of the snapshot is in its text, no other amount is, and the XML inside is ours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO
from typing import Any

from billing.documents.invariants import Broken
from billing.documents.pdf import ATTACHMENT, paper_of
from billing.documents.snapshot import Snapshot
from billing.paper import Paper, money_text

_AMOUNT = re.compile(r"-?\d[\d,]*\.\d\d(?!\d)")
_BLANKS = re.compile(r"\s+")


def of_pdf(snapshot: Snapshot, pdf: bytes, cii: bytes | None) -> list[Broken]:
    """Where a PDF says something else than the snapshot, or carries another XML than `cii`."""
    from pypdf import PdfReader  # only where documents are made

    reader = PdfReader(BytesIO(pdf))
    text = "\n".join(page.extract_text() for page in reader.pages)
    attached = [content for name, content in reader.attachments.items() if name == ATTACHMENT]
    broken = [*_figures(snapshot, text), *_words(snapshot, text)]
    if attached != ([[cii]] if cii is not None else []):
        broken.append(Broken("PDF-CARRIES-THE-XML", ATTACHMENT, "another file, or none"))
    return broken


def _figures(snapshot: Snapshot, text: str) -> Iterator[Broken]:
    found = Counter(_AMOUNT.findall(text))
    needed = Counter(
        money_text(amount)
        for amount in (*(line.amount for line in snapshot.lines), snapshot.net, snapshot.tax, snapshot.gross)
    )
    if snapshot.prepaid:
        needed.update((money_text(snapshot.prepaid), money_text(snapshot.due)))
    if snapshot.euro_tax is not None:
        needed[money_text(snapshot.euro_tax.amount)] += 1
    for amount, times in needed.items():
        if found[amount] < times:
            yield Broken("PDF-HAS-EVERY-AMOUNT", amount, f"{found[amount]} times instead of {times}")
    known = set(_AMOUNT.findall("\n".join(_texts(asdict(paper_of(snapshot))))))
    for amount in sorted(found.keys() - known):
        yield Broken("PDF-HAS-NO-OTHER-AMOUNT", amount, "stands in the PDF and not in the invoice")


def _words(snapshot: Snapshot, text: str) -> Iterator[Broken]:
    """Names, numbers and quantities; line breaks do not count."""
    printed = _BLANKS.sub("", text)
    content = paper_of(snapshot)
    quantities = [line.tokens for line in content.lines] if isinstance(content, Paper) else []
    needed = {
        "number": snapshot.number,
        "issued on": snapshot.issued_on.isoformat(),
        "period from": snapshot.period_from.isoformat(),
        "period until": snapshot.period_until.isoformat(),
        "seller": snapshot.seller["name"],
        "buyer": snapshot.buyer["name"],
        "currency": snapshot.currency,
        "exemption reason": snapshot.exemption_reason,
        "original": snapshot.original.number if snapshot.original else None,
        "payment reference": snapshot.payment_reference,
        "IBAN": snapshot.seller.get("iban") if snapshot.due_on else None,
        **{f"line {number} quantity": quantity for number, quantity in enumerate(quantities, start=1)},
    }
    for where, word in needed.items():
        if word and _BLANKS.sub("", str(word)) not in printed:
            yield Broken("PDF-HAS-EVERY-WORD", where, f"{word!r} is not in the text")


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _texts(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _texts(value)
