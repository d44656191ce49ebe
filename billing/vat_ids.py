"""VAT ids of buyers: their form is always checked, the EU's register (VIES) where it is switched on. Each check that
an invoice rests on is kept as evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session
from stdnum.eu import vat

from studio import ids
from studio.db.documents import VatIdCheck
from studio.errors import Conflict, StudioError

_GOOD_FOR = timedelta(days=30)  # an answer of the register


class BuyerVatIdInvalid(Conflict):
    """Reverse charge needs the buyer's VAT id, and this one is absent or wrong."""

    default_code = "buyer_vat_id_invalid"


class RegistryUnavailable(StudioError):
    """The register, or the member state behind it, does not answer now."""

    status, default_code = 503, "vat_register_unavailable"


@dataclass(frozen=True, slots=True)
class RegistryAnswer:
    """What a register says of a VAT id. `identifier` proves that it was asked."""

    is_valid: bool
    asked_on: str
    identifier: str | None
    name: str | None
    address: str | None


class Registry(Protocol):
    """A register of VAT ids."""

    def ask(self, vat_id: str, requester: str | None) -> RegistryAnswer:
        """Its answer; RegistryUnavailable when it has none."""
        ...


@dataclass(frozen=True, slots=True)
class Vies:
    """The European Commission's REST service, such as https://ec.europa.eu/taxation_customs/vies/rest-api."""

    url: str
    timeout_seconds: float = 10.0

    def ask(self, vat_id: str, requester: str | None) -> RegistryAnswer:
        """POST check-vat-number. With a `requester` (our own VAT id) the answer carries an identifier."""
        import httpx  # a client of 2 MiB, which gateways hardly ever need

        body = {"countryCode": vat_id[:2], "vatNumber": vat_id[2:]}
        if requester:
            body |= {"requesterMemberStateCode": requester[:2], "requesterNumber": requester[2:]}
        try:
            response = httpx.post(f"{self.url}/check-vat-number", json=body, timeout=self.timeout_seconds)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise RegistryUnavailable(f"The register of VAT ids does not answer: {error}") from error
        if not isinstance(answer, dict) or not isinstance(answer.get("valid"), bool):
            raise RegistryUnavailable(f"The register of VAT ids gives no answer: {_why(answer)}")
        return RegistryAnswer(
            is_valid=answer["valid"],
            asked_on=str(answer.get("requestDate", "")),
            identifier=answer.get("requestIdentifier") or None,
            name=_given(answer.get("name")),
            address=_given(answer.get("address")),
        )


def normalized(text: str) -> str:
    """A VAT id without blanks and dots, in capitals, its country in front; ValueError when it cannot be one."""
    return str(vat.validate(text))  # stdnum's errors are ValueErrors


def require_form(session: Session, tenant_id: UUID, buyer: Mapping[str, Any], now: datetime) -> str:
    """The buyer's VAT id, well-formed and of a member state; kept as evidence. BuyerVatIdInvalid otherwise."""
    given = str(buyer.get("vat_id") or "")
    if not given:
        raise BuyerVatIdInvalid(
            f"{buyer.get('name')} has no VAT id, which an invoice with reverse charge needs: add it to the buyer."
        )
    try:
        vat_id = normalized(given)
    except ValueError as error:
        raise BuyerVatIdInvalid(f"{given!r} is no VAT id of a member state ({error}): correct the buyer.") from error
    if _latest(session, tenant_id, vat_id, "format") is None:
        evidence = {"given": given, "checked_by": "form and check digits"}
        _keep(session, tenant_id, vat_id, "format", True, evidence, now)
    return vat_id


def confirm(
    session: Session, registry: Registry, tenant_id: UUID, vat_id: str, requester: str | None, now: datetime
) -> bool:
    """Ask the register, unless it said yes within 30 days, and keep the answer; RegistryUnavailable."""
    latest = _latest(session, tenant_id, vat_id, "vies")
    if latest is not None and latest.is_valid and now - latest.checked_at < _GOOD_FOR:
        return True
    answer = registry.ask(vat_id, requester)
    _keep(session, tenant_id, vat_id, "vies", answer.is_valid, asdict(answer), now)
    return answer.is_valid


def is_refused(session: Session, tenant_id: UUID, vat_id: str) -> bool:
    """Whether the register's last answer was no."""
    latest = _latest(session, tenant_id, vat_id, "vies")
    return latest is not None and not latest.is_valid


def _latest(session: Session, tenant_id: UUID, vat_id: str, method: str) -> VatIdCheck | None:
    query = select(VatIdCheck).where(
        VatIdCheck.tenant_id == tenant_id, VatIdCheck.vat_id == vat_id, VatIdCheck.method == method
    )
    return session.scalars(query.order_by(VatIdCheck.checked_at.desc(), VatIdCheck.id.desc()).limit(1)).one_or_none()


def _keep(
    session: Session,
    tenant_id: UUID,
    vat_id: str,
    method: str,
    is_valid: bool,
    evidence: dict[str, Any],
    now: datetime,
) -> None:
    session.add(
        VatIdCheck(
            id=ids.uuid7(), tenant_id=tenant_id, vat_id=vat_id, method=method, is_valid=is_valid,
            evidence=evidence, checked_at=now,
        )
    )  # fmt: skip
    session.flush()


def _why(answer: object) -> str:
    if isinstance(answer, dict) and answer.get("errorWrappers"):
        return ", ".join(str(one.get("error")) for one in answer["errorWrappers"])
    return repr(answer)[:200]


def _given(text: object) -> str | None:
    """VIES writes --- for what a member state does not tell."""
    return str(text) if text and text != "---" else None
