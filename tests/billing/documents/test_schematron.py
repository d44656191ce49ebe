"""The official rules are run, or the document is not valid: nothing passes because nobody looked."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from billing.documents import cii, rule_sets, ubl, xml_schema
from billing.documents.making import judge_by_official_rules
from billing.documents.rule_sets import RULE_SETS, RuleSet, RulesMissing
from billing.documents.schematron import NotJudged, Schematron
from tests.billing.documents.samples import GERMAN, SAMPLES, snapshot

INVOICE = SAMPLES["domestic"]
XRECHNUNG = next(rules for rules in RULE_SETS if rules.name.startswith("XRechnung"))


def test_a_finding_names_rule_place_and_words(official: Schematron) -> None:
    (finding,) = official.judge(XRECHNUNG, ubl.write(snapshot(buyer={**GERMAN, "postcode": ""})))
    assert (finding.rule, finding.is_fatal) == ("BR-DE-9", True)
    assert "PostalAddress" in finding.where
    assert "Buyer post code" in finding.words


@pytest.mark.parametrize("rules", RULE_SETS, ids=lambda rules: rules.name)
def test_every_rule_set_finds_a_total_that_is_none(rules: RuleSet, official: Schematron) -> None:
    wrong = snapshot(gross=INVOICE.gross + 5)
    document = cii.write(wrong) if rules.syntax == "cii" else ubl.write(wrong)
    found = " ".join(f"{finding.rule} {finding.words}" for finding in official.judge(rules, document))
    # XRechnung's own rules say nothing of sums: those are the European norm's, which judges the same document.
    assert ("BR-CO-15" in found) is (rules is not XRECHNUNG)


@pytest.mark.parametrize(
    "changes",
    [{"package": "no_such_package"}, {"file": "rules/none.xsl"}, {"sha256": "0" * 64}],
    ids=lambda changes: next(iter(changes)),
)
def test_rules_that_are_not_those_we_know_are_an_error(
    changes: dict[str, str], official: Schematron, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(XRECHNUNG, **changes)  # type: ignore[arg-type]
    with pytest.raises(RulesMissing):
        official.judge(other, ubl.write(INVOICE))
    monkeypatch.setattr(rule_sets, "RULE_SETS", (other,))
    verdicts = judge_by_official_rules({"ubl": ubl.write(INVOICE)}, official)
    assert [verdict.is_valid for verdict in verdicts] == [True, False]  # the schema, and the rules that are missing


def test_a_document_of_another_kind_is_not_judged_and_not_valid(official: Schematron) -> None:
    with pytest.raises(NotJudged, match="do not judge other"):
        official.judge(XRECHNUNG, b"<other/>")
    with pytest.raises(NotJudged, match="do not judge"):
        official.judge(XRECHNUNG, cii.write(INVOICE))
    with pytest.raises(NotJudged):
        official.judge(XRECHNUNG, b"no XML at all")


def test_a_worker_that_dies_is_an_error_and_the_next_document_has_another() -> None:
    judge = Schematron(most_per_worker=2)
    try:
        assert judge.judge(XRECHNUNG, ubl.write(INVOICE)) == []
        first = judge._process  # which process is what this is about
        assert first is not None
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(NotJudged, match="was not judged"):
            judge.judge(XRECHNUNG, ubl.write(INVOICE))
        pids = []
        for _ in range(3):
            assert judge.judge(XRECHNUNG, ubl.write(INVOICE)) == []
            assert judge._process is not None
            pids.append(judge._process.pid)
        assert pids[0] == pids[1] != pids[2]  # replaced after two documents
    finally:
        judge.close()


def test_the_schema_finds_an_element_out_of_order() -> None:
    xml = ubl.write(INVOICE)
    assert xml_schema.judge("ubl", xml) == []
    id = b"<cbc:ID>XDE-2026-000001</cbc:ID>"
    moved = xml.replace(id, b"", 1).replace(
        b"<cbc:IssueDate>2026-11-02</cbc:IssueDate>", b"<cbc:IssueDate>2026-11-02</cbc:IssueDate>" + id, 1
    )
    assert xml_schema.judge("ubl", moved)
