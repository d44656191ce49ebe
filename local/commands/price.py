"""`studio price`: prices and minimum commitments of one tenant. The list itself is in the catalog files."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from local.api import Api
from local.output import AsJson, show, show_rows

app = typer.Typer(no_args_is_help=True, help="Prices and minimum commitments of a tenant.")

Tenant = Annotated[str, typer.Option(help="Whose.")]
Reason = Annotated[str, typer.Option(help="Such as the contract.")]


@app.command(name="set")
def set_(
    tenant: Tenant,
    model: Annotated[str, typer.Option(help="As in `/v1/models`; `storage`, `gpu`.")],
    unit: Annotated[str, typer.Option(help="Such as prompt, completion, batch_prompt, storage, gpu_hour.")],
    per_million: Annotated[
        str, typer.Argument(help="Per 1,000,000 tokens, gigabyte-day or GPU hour, in the tenant's currency.")
    ],
    reason: Reason,
    tier: Annotated[
        list[str] | None, typer.Option(help="Tokens of a month and the price above them, such as 1000000000=0.015.")
    ] = None,
    valid_from: Annotated[str | None, typer.Option("--from", help="Such as 2027-01-01T00:00:00+01:00; now.")] = None,
    valid_until: Annotated[str | None, typer.Option("--until", help="When the list's price holds again.")] = None,
    retroactive: Annotated[bool, typer.Option("--retroactive", help="Allow a beginning in the past.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set a price of a tenant's own, with volume tiers if there are any."""
    body = {
        "model": model, "unit": unit, "per_million": per_million, "tiers": [_tier(text) for text in tier or []],
        "valid_from": valid_from, "valid_until": valid_until, "retroactive": retroactive, "reason": reason,
    }  # fmt: skip
    own = Api.from_environment().post(f"/admin/v1/tenants/{tenant}/prices", body)
    of_days = {"storage": "gigabyte-day", "gpu_hour": "GPU hour"}
    what = of_days.get(own["unit"], f"1,000,000 {own['unit']} tokens of {own['model']}")
    price = f"{own['per_million']} {own['currency']} per {what}"
    show(own, as_json, f"From {own['valid_from']} on {tenant} pays {price} ({own['id']}).")


@app.command()
def end(
    tenant: Tenant,
    price_id: Annotated[str, typer.Argument(help="A price (prc_...) or a commitment (cmt_...).")],
    at: Annotated[str, typer.Option(help="An instant of a price, a month (2027-03) of a commitment.")],
    as_json: AsJson = False,
) -> None:
    """End a price or a commitment."""
    kind = "commitments" if price_id.startswith("cmt_") else "prices"
    path = f"/admin/v1/tenants/{tenant}/{kind}/{price_id}/end"
    ended = Api.from_environment().post(path, {"valid_until": at})
    show(ended, as_json, f"{price_id} ends at {ended['valid_until']}.")


@app.command(name="list")
def list_(tenant: Tenant, as_json: AsJson = False) -> None:
    """Every price that a tenant has or had of its own."""
    rows = Api.from_environment().get(f"/admin/v1/tenants/{tenant}/prices")
    shown = rows if as_json else [row | {"tiers": _tiers(row["tiers"])} for row in rows]
    columns = ("id", "model", "unit", "per_million", "currency", "tiers", "valid_from", "valid_until", "reason")
    show_rows(shown, as_json, columns)


@app.command()
def commit(
    tenant: Tenant,
    amount: str,
    reason: Reason,
    valid_from: Annotated[str, typer.Option("--from", help="First month, such as 2027-01.")],
    valid_until: Annotated[str | None, typer.Option("--until", help="First month without it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Commit a tenant to a minimum of net usage a month."""
    body = {"amount": amount, "valid_from": valid_from, "valid_until": valid_until, "reason": reason}
    made = Api.from_environment().post(f"/admin/v1/tenants/{tenant}/commitments", body)
    sentence = f"{tenant} is committed to {made['amount']} {made['currency']} a month from {made['valid_from']} on"
    show(made, as_json, f"{sentence} ({made['id']}).")


@app.command()
def commitments(tenant: Tenant, as_json: AsJson = False) -> None:
    """Every minimum commitment of a tenant."""
    rows = Api.from_environment().get(f"/admin/v1/tenants/{tenant}/commitments")
    show_rows(rows, as_json, ("id", "amount", "currency", "valid_from", "valid_until", "approved_by", "reason"))


def _tier(text: str) -> dict[str, str]:
    from_tokens, equals, per_million = text.replace(",", "").partition("=")
    if not equals:
        raise typer.BadParameter(f"a tier is written 1000000000=0.015, not {text!r}")
    return {"from_tokens": from_tokens, "per_million": per_million}


def _tiers(tiers: list[dict[str, Any]]) -> str:
    return ", ".join(f"{tier['per_million']} above {tier['from_tokens']:,}" for tier in tiers)
