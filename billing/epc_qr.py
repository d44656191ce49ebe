"""The QR code that fills in a bank transfer (EPC069-12, "GiroCode"): EUR only. Pure."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from io import BytesIO

from stdnum import bic as bics
from stdnum import iban as ibans

_MOST_NAME, _MOST_BYTES = 70, 331
_LEAST, _MOST = Decimal("0.01"), Decimal("999999999.99")


def payload(*, name: str, iban: str, bic: str | None, amount: Decimal, reference: str) -> str:
    """The text inside the code: version 002, UTF-8, structured reference. ValueError for what it cannot carry."""
    if not _LEAST <= amount <= _MOST or amount != amount.quantize(_LEAST):
        raise ValueError(f"{amount} EUR cannot be in a transfer code")
    lines = (
        *("BCD", "002", "1", "SCT"),
        bics.validate(bic) if bic else "",
        name[:_MOST_NAME],
        ibans.validate(iban),
        f"EUR{amount:.2f}",
        "",  # purpose
        reference,
    )
    text = "\n".join(lines)
    if len(text.encode()) > _MOST_BYTES:
        raise ValueError(f"a transfer code has at most {_MOST_BYTES} bytes")
    return text


@lru_cache(maxsize=64)  # setting and checking a document ask for the same one
def svg(text: str) -> str:
    """The code as an SVG image, the same for the same text. Error correction M, as the standard asks."""
    import segno  # only where documents are made

    out = BytesIO()
    code = segno.make(text, error="m", boost_error=False, micro=False, encoding="utf-8", eci=False)
    code.save(out, kind="svg", border=0, xmldecl=False, svgns=True, omitsize=True)
    return out.getvalue().decode()
