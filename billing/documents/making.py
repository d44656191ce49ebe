"""From a snapshot to all its documents, and what our own rules and the official ones say of them. No database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date

from billing.documents import cii, fapiao, invariants, pdf, pdf_check, rule_sets, ubl, xml_schema
from billing.documents.invariants import Broken
from billing.documents.kinds import Kind
from billing.documents.rule_sets import RuleSet, RulesMissing, Syntax
from billing.documents.schematron import Finding, NotJudged, Schematron
from billing.documents.snapshot import Snapshot

_JUDGED: tuple[Syntax, ...] = ("cii", "ubl")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule set said of one document."""

    kind: Kind
    document_sha256: str
    rule_set: str
    version: str
    rules_sha256: str
    is_valid: bool
    findings: tuple[Mapping[str, str], ...]


def make(snapshot: Snapshot) -> dict[Kind, bytes]:
    """PDF and, as the seller's country asks, e-invoices or a request for a fapiao. CharacterMissing."""
    documents: dict[Kind, bytes] = {}
    if snapshot.has_e_invoice:
        documents["cii"], documents["ubl"] = cii.write(snapshot), ubl.write(snapshot)
    if fapiao.is_wanted(snapshot):
        documents["fapiao"] = fapiao.write(snapshot)
    return {"pdf": pdf.render(snapshot, documents.get("cii")), **documents}


def judge_by_own_rules(
    snapshot: Snapshot, documents: Mapping[Kind, bytes], broken_before: Sequence[Broken], today: date
) -> list[Verdict]:
    """One verdict for each document; what is wrong with the content itself is said of the PDF."""
    broken: dict[Kind, list[Broken]] = {
        "pdf": [
            *broken_before,
            *invariants.of_snapshot(snapshot, today),
            *pdf_check.of_pdf(snapshot, documents["pdf"], documents.get("cii")),
        ]
    }
    if "cii" in documents:
        broken["cii"] = invariants.of_cii(snapshot, documents["cii"])
    if "ubl" in documents:
        broken["ubl"] = invariants.of_ubl(snapshot, documents["ubl"])
    if "fapiao" in documents:
        broken["fapiao"] = fapiao.of_request(snapshot, documents["fapiao"])
    return [own_verdict(kind, documents[kind], found) for kind, found in broken.items()]


def own_verdict(kind: Kind, document: bytes, broken: Sequence[Broken]) -> Verdict:
    """Our own rules forgive nothing: anything that is broken makes the document invalid."""
    findings = tuple(asdict(one) for one in broken)
    name, version = invariants.RULE_SET, invariants.VERSION
    return Verdict(kind, _sha256(document), name, version, "", not findings, findings)


def judge_by_official_rules(documents: Mapping[Kind, bytes], schematron: Schematron) -> list[Verdict]:
    """One verdict for each rule set over each e-invoice. Rules that could not be run are a finding, never a yes."""
    return [
        verdict
        for kind in _JUDGED
        if kind in documents
        for verdict in (
            _by_schema(kind, documents[kind]),
            *(_by_rules(schematron, rules, kind, documents[kind]) for rules in rule_sets.rule_sets_of(kind)),
        )
    ]


def _by_schema(kind: Syntax, document: bytes) -> Verdict:
    name, version, sha256 = xml_schema.name_of(kind), xml_schema.VERSION, xml_schema.sha256_of(kind)
    return _verdict(kind, document, name, version, sha256, lambda: xml_schema.judge(kind, document))


def _by_rules(schematron: Schematron, rules: RuleSet, kind: Syntax, document: bytes) -> Verdict:
    name, version, sha256 = rules.name, rules.version, rules.sha256
    return _verdict(kind, document, name, version, sha256, lambda: schematron.judge(rules, document))


def _verdict(
    kind: Kind, document: bytes, name: str, version: str, rules_sha256: str, judge: Callable[[], list[Finding]]
) -> Verdict:
    try:
        findings = judge()
    except (RulesMissing, NotJudged) as error:
        findings = [Finding(error.default_code, "fatal", name, error.message)]
    return Verdict(
        kind=kind,
        document_sha256=_sha256(document),
        rule_set=name,
        version=version,
        rules_sha256=rules_sha256,
        is_valid=not any(finding.is_fatal for finding in findings),
        findings=tuple(asdict(finding) for finding in findings),
    )


def _sha256(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()
