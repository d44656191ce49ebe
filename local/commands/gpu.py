"""`studio gpu`: cards that are reserved for one tenant, and paid by the hour."""

from __future__ import annotations

from typing import Annotated

import typer

from local.api import Api
from local.output import AsJson, show, show_rows

app = typer.Typer(no_args_is_help=True, help="Cards that are reserved for one tenant, and paid by the hour.")

Tenant = Annotated[str, typer.Option(help="Whose.")]


@app.command()
def reserve(
    tenant: Tenant,
    cards: Annotated[int, typer.Argument(help="How many.")],
    reason: Annotated[str, typer.Option(help="Such as the contract.")],
    valid_from: Annotated[str | None, typer.Option("--from", help="Such as 2027-01-01T00:00:00+01:00; now.")] = None,
    valid_until: Annotated[str | None, typer.Option("--until", help="Else until it is ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """Reserve cards for a tenant: it pays for each hour, used or not."""
    body = {"cards": cards, "valid_from": valid_from, "valid_until": valid_until, "reason": reason}
    made = Api.from_environment().post(f"/admin/v1/tenants/{tenant}/card-reservations", body)
    until = f" to {made['valid_until']}" if made["valid_until"] else ""
    cards_are = "1 card" if made["cards"] == 1 else f"{made['cards']} cards"
    sentence = f"{tenant} has {cards_are} from {made['valid_from']}{until}, paid by the hour ({made['id']})."
    show(made, as_json, sentence)


@app.command()
def end(
    tenant: Tenant,
    reservation_id: Annotated[str, typer.Argument(help="A reservation (rsv_...).")],
    at: Annotated[str | None, typer.Option(help="An instant to come; now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give the cards of a reservation back."""
    path = f"/admin/v1/tenants/{tenant}/card-reservations/{reservation_id}/end"
    ended = Api.from_environment().post(path, {"valid_until": at})
    show(ended, as_json, f"{reservation_id} ends at {ended['valid_until']}.")


@app.command(name="list")
def list_(tenant: Tenant, as_json: AsJson = False) -> None:
    """Every reservation that a tenant has or had."""
    rows = Api.from_environment().get(f"/admin/v1/tenants/{tenant}/card-reservations")
    show_rows(rows, as_json, ("id", "cards", "valid_from", "valid_until", "approved_by", "reason"))
