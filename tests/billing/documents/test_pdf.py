"""The PDF: the same bytes each time, all fonts inside, Chinese names printed, the marks of PDF/A and Factur-X."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pikepdf
import pypdf
import pypdfium2
import pytest
import zxingcpp

from billing import epc_qr
from billing.documents import cii, pdf
from billing.documents.pdf import CharacterMissing
from billing.documents.snapshot import Snapshot
from tests.billing.documents import samples
from tests.billing.documents.samples import CHINESE, CHINESE_INVOICE, SAMPLES, snapshot

INVOICE = SAMPLES["domestic"]
HYBRID = pdf.render(INVOICE, cii.write(INVOICE))


def test_the_same_snapshot_gives_the_same_bytes_in_another_process_too(tmp_path: Path) -> None:
    script = (
        "import sys; from billing.documents import cii, pdf; from tests.billing.documents.samples import SAMPLES;"
        "one = SAMPLES['domestic']; sys.stdout.buffer.write(pdf.render(one, cii.write(one)))"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert other.stdout == HYBRID


def test_the_marks_of_pdf_a_and_factur_x() -> None:
    """What a structural look can prove; veraPDF, where it is installed, looks further (the next test)."""
    with pikepdf.open(BytesIO(HYBRID)) as document:
        root = document.Root
        xmp = root.Metadata.read_bytes().decode()
        (attached,) = root.AF
        assert (str(attached.AFRelationship), str(attached.F)) == ("/Alternative", "factur-x.xml")
        assert str(attached.EF.F.Subtype) == "/text/xml"
        assert len(root.OutputIntents) == 1
    assert re.search(r"<pdfaid:part>3</pdfaid:part>\s*<pdfaid:conformance>B</pdfaid:conformance>", xmp)
    assert xmp.count("<pdfaExtension:schemas>") == 1  # two are not allowed
    assert "<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>" in xmp
    assert "<fx:DocumentFileName>factur-x.xml</fx:DocumentFileName>" in xmp


@pytest.mark.skipif(shutil.which("verapdf") is None, reason="veraPDF is not installed")
def test_vera_pdf_agrees(tmp_path: Path) -> None:
    path = tmp_path / "invoice.pdf"
    path.write_bytes(HYBRID)
    judged = subprocess.run(["verapdf", "--flavour", "3b", "--format", "text", path], capture_output=True, check=False)
    assert judged.stdout.startswith(b"PASS")


@pytest.mark.parametrize("content", [INVOICE, SAMPLES["third country G"], CHINESE_INVOICE, SAMPLES["cancellation"]])
def test_every_font_is_inside(content: Snapshot) -> None:
    reader = pypdf.PdfReader(BytesIO(pdf.render(content, None)))
    fonts = [font.get_object() for page in reader.pages for font in page["/Resources"]["/Font"].values()]  # type: ignore[index]
    descriptors = [font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object() for font in fonts]
    assert fonts
    assert all({"/FontFile", "/FontFile2", "/FontFile3"} & one.keys() for one in descriptors)


def test_a_chinese_name_prints() -> None:
    text = _text(SAMPLES["third country G"])
    for word in (CHINESE["name"], CHINESE["street"], "账单", "付款期限"):
        assert word in text


def test_a_document_of_a_chinese_company_says_that_it_is_no_fapiao() -> None:
    text = _text(CHINESE_INVOICE)
    assert "本文件不是发票" in text
    assert "发票" not in text.replace("本文件不是发票", "")


@pytest.mark.parametrize(("name", "character"), [("㐂 Trading", "㐂"), ("Rocket 🚀 GmbH", "🚀")])
def test_a_character_without_a_glyph_is_an_error_that_names_it(name: str, character: str) -> None:
    with pytest.raises(CharacterMissing, match=rf"'{character}' in buyer\.name of XDE-2026-000001"):
        pdf.render(snapshot(buyer={**samples.GERMAN, "name": name}), None)


def test_the_transfer_code_says_what_a_bank_needs() -> None:
    payload = epc_qr.payload(
        name="XPULINK Demo GmbH", iban="DE02 1203 0000 0000 2020 51", bic="BYLADEM1001", amount=INVOICE.due,
        reference="RF70XDE2026000001",
    )  # fmt: skip
    assert payload.split("\n") == [
        *("BCD", "002", "1", "SCT", "BYLADEM1001", "XPULINK Demo GmbH", "DE02120300000000202051"),
        *("EUR1457.99", "", "RF70XDE2026000001"),
    ]
    with pytest.raises(ValueError, match=r"checksum|valid"):
        epc_qr.payload(name="x", iban="DE02120300000000202052", bic=None, amount=INVOICE.due, reference="RF1")


def test_a_phone_reads_the_transfer_from_the_printed_page() -> None:
    """Rendered as a screen or a printer does, and read by a decoder that knows nothing of us."""
    payment = pdf.paper_of(INVOICE).payment
    assert payment is not None
    document = pypdfium2.PdfDocument(HYBRID)
    pages = [page.render(scale=2).to_pil() for page in document]
    (code,) = [found for page in pages for found in zxingcpp.read_barcodes(page)]
    lines = code.text.split("\n")
    assert lines[:4] == ["BCD", "002", "1", "SCT"]
    assert lines[5] == INVOICE.seller["name"]
    assert (lines[6], lines[7]) == (payment.account.replace(" ", ""), f"EUR{INVOICE.due}")
    assert lines[9] == payment.reference.replace(" ", "")


def test_only_a_payable_invoice_in_euro_has_a_transfer_code() -> None:
    codes = {name: getattr(pdf.paper_of(one).payment, "qr_code", None) for name, one in SAMPLES.items()}
    assert {name for name, code in codes.items() if code} == {
        *("domestic", "prepaid", "reverse charge", "third country G", "third country O", "additional invoice")
    }


def _text(content: Snapshot) -> str:
    reader = pypdf.PdfReader(BytesIO(pdf.render(content, None)))
    return "\n".join(page.extract_text() for page in reader.pages)
