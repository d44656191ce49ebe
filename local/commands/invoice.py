"""`studio invoice`: order, look at, review, approve, hold and fetch invoices."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from billing.documents.kinds import FORMS
from local.api import Api
from local.output import AsJson, console, show, show_rows
from studio import ids


class Format(StrEnum):
    """The documents of an invoice, as `billing.documents.kinds` names them."""

    PDF = "pdf"
    CII = "cii"
    UBL = "ubl"
    CSV = "csv"
    JSON = "json"
    FAPIAO = "fapiao"


app = typer.Typer(no_args_is_help=True, help="Invoices.")

Draft = Annotated[str, typer.Argument(help="An invoice's draft (inv_...) or a correction's (cor_...).")]


@app.command(name="list")
def list_(tenant: Annotated[str | None, typer.Option(help="Of one tenant.")] = None, as_json: AsJson = False) -> None:
    """List invoices, newest first."""
    rows = Api.from_environment().get("/admin/v1/invoices", **({"tenant": tenant} if tenant else {}))
    show_rows(rows, as_json, ("id", "tenant", "state", "number", "month", "currency", "net", "tax", "gross"))


@app.command(name="show")
def show_(invoice_id: str, as_json: AsJson = False) -> None:
    """Show an invoice with its lines."""
    invoice = Api.from_environment().get(f"/admin/v1/invoices/{invoice_id}")
    if as_json:
        show(invoice, True, "")
        return
    number = invoice["number"] or "draft"
    console.print(f"{number} for {invoice['tenant']}, {invoice['period_from']} to {invoice['period_until']}")
    show_rows(invoice["lines"], False, ("line_no", "model", "explanation", "exact", "amount"))
    totals = f"net {invoice['net']} + tax {invoice['tax']} = {invoice['gross']} {invoice['currency']}"
    console.print(totals, highlight=False)
    if invoice["prepaid"] != "0.00":
        console.print(f"{invoice['prepaid']} of it paid from credit", highlight=False)


@app.command()
def rerate(
    month: Annotated[str, typer.Argument(help="Such as 2026-11.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the differences of all tenants.")] = False,
    correct: Annotated[
        bool, typer.Option("--correct", help="Order the corrections of a tenant's final month.")
    ] = False,
    tenant: Annotated[str | None, typer.Option(help="Whose, for --correct.")] = None,
    reason: Annotated[str | None, typer.Option(help="Printed on the corrections.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a month would come to with the price book and the code of now, where that is not what was rated.

    Nothing is changed by that. `--correct` drafts what the final invoices of one tenant should be corrected by; two
    persons make each final, as with any correction.
    """
    if dry_run == correct:
        raise typer.BadParameter("use one of --dry-run and --correct: rated usage is never changed, only corrected")
    api = Api.from_environment()
    if correct:
        if tenant is None or reason is None:
            raise typer.BadParameter("--correct needs --tenant and --reason")
        drafts = api.post(f"/admin/v1/rerates/{month}/corrections", {"tenant": tenant, "reason": reason})
        if as_json:
            show(drafts, True, "")
            return
        if not drafts:
            console.print("Nothing is left to correct: drafts that said something else are dropped.")
        for draft in drafts:
            console.print(_ordered(draft), highlight=False)
            show_rows(draft["lines"], False, ("line_no", "amount", "explanation"))
        return
    answer = api.get(f"/admin/v1/rerates/{month}")
    if as_json:
        show(answer, True, "")
        return
    columns = ("tenant", "model", "unit", "rated", "now", "change", "currency", "rated_at", "priced_now_at")
    show_rows(answer["differences"], False, columns)
    console.print(f"{answer['seals']} seals, {len(answer['differences'])} differences", highlight=False)


@app.command()
def order(
    tenant: Annotated[str, typer.Option(help="Whose.")],
    month: Annotated[str, typer.Option(help="Such as 2026-11.")],
    reason: Annotated[str, typer.Option(help="Why it is not left to the calendar.")],
    as_json: AsJson = False,
) -> None:
    """Ask for an invoice over what the month has and no invoice holds yet. Dagster drafts it within seconds."""
    body = {"tenant": tenant, "month": month, "reason": reason}
    ordered = Api.from_environment().post("/admin/v1/invoices/orders", body)
    show(ordered, as_json, f"Ordered ({ordered['id']}); see `studio invoice list --tenant {tenant}`.")


@app.command()
def correct(
    invoice_id: str,
    reason: Annotated[str, typer.Option(help="Printed on the document.")],
    line: Annotated[
        list[str] | None, typer.Option(help="Line and net amount, such as 2=1.50; again for each line.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Take back all that is left of the invoice.")] = False,
    add: Annotated[bool, typer.Option("--add", help="The lines were too low: bill the amounts on top.")] = False,
    as_json: AsJson = False,
) -> None:
    """Order a correction of a final invoice: a draft, to be approved like one of an invoice."""
    if cancel and add:
        raise typer.BadParameter("use one of --cancel and --add")
    kind = "cancellation" if cancel else "additional_invoice" if add else "credit_note"
    body = {"kind": kind, "lines": [_corrected_line(text) for text in line or []], "reason": reason}
    ordered = Api.from_environment().post(f"/admin/v1/invoices/{invoice_id}/corrections", body)
    show(ordered, as_json, _ordered(ordered))


@app.command()
def again(
    invoice_id: Annotated[str, typer.Argument(help="A cancelled invoice.")],
    reason: Annotated[str, typer.Option(help="Why, for the records.")],
    as_json: AsJson = False,
) -> None:
    """Ask for a new invoice over the usage of a cancelled one, by the buyer and terms of now. Once."""
    ordered = Api.from_environment().post(f"/admin/v1/invoices/{invoice_id}/again", {"reason": reason})
    show(ordered, as_json, f"Ordered for {ordered['month']} ({ordered['id']}); see `studio invoice open`.")


@app.command()
def corrections(invoice_id: str, as_json: AsJson = False) -> None:
    """List the corrections of an invoice, drafts too."""
    rows = Api.from_environment().get(f"/admin/v1/invoices/{invoice_id}/corrections")
    show_rows(rows, as_json, ("id", "kind", "state", "number", "net", "tax", "gross", "currency", "reason"))


@app.command(name="open")
def open_(as_json: AsJson = False) -> None:
    """List what is not final: what each waits for, and who must act."""
    rows = Api.from_environment().get("/admin/v1/invoices/open")
    show_rows(rows, as_json, ("id", "kind", "tenant", "month", "gross", "currency", "waits_for", "who", "asked_by"))


@app.command()
def review(
    invoice_id: Draft,
    total: Annotated[str, typer.Option(help="The gross total that you saw, such as 12.34.")],
    as_json: AsJson = False,
) -> None:
    """Say that you have looked at a draft; somebody else approves it then."""
    reviewed = Api.from_environment().post(f"{_path(invoice_id)}/reviews", {"expected_gross": total})
    show(reviewed, as_json, f"Reviewed by {reviewed['reviewed_by']}.")


@app.command()
@app.command(name="finalize")
def approve(
    invoice_id: Draft,
    total: Annotated[str, typer.Option(help="The gross total that you approve, such as 12.34.")],
    as_json: AsJson = False,
) -> None:
    """Approve a draft that somebody else has reviewed; Dagster then makes it final and renders its PDF."""
    approval = Api.from_environment().post(f"{_path(invoice_id)}/approvals", {"expected_gross": total})
    show(approval, as_json, f"Approved by {approval['approved_by']}.")


@app.command()
def document(
    invoice_id: Annotated[str, typer.Argument(help="An invoice (inv_...) or a correction (cor_...).")],
    format: Annotated[Format, typer.Option(help="Which document.")] = Format.PDF,
    out: Annotated[Path | None, typer.Option(help="File; the number when left out.")] = None,
) -> None:
    """Fetch a document of a final invoice or correction: PDF, e-invoice, detail, or request for a fapiao."""
    api = Api.from_environment()
    target = out or Path(f"{api.get(_path(invoice_id))['number']}.{FORMS[format.value].suffix}")
    target.write_bytes(api.download(f"{_path(invoice_id)}/document?format={format.value}"))
    typer.echo(f"Wrote {target}.")


@app.command()
def void(
    invoice_id: Annotated[str, typer.Argument(help="A draft of an invoice (inv_...) or a correction (cor_...).")],
    reason: Annotated[str, typer.Option(help="Why it is dropped.")],
) -> None:
    """Drop a draft: it never has a number, and an invoice's usage is free for another one."""
    Api.from_environment().post(f"{_path(invoice_id)}/void", {"reason": reason})
    typer.echo(f"Dropped {invoice_id}.")


@app.command()
def hold(
    tenant: Annotated[str, typer.Option(help="Whose.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    as_json: AsJson = False,
) -> None:
    """Hold a tenant's invoices: nothing becomes final until somebody releases them."""
    held = Api.from_environment().post(f"/admin/v1/tenants/{tenant}/holds", {"reason": reason})
    show(held, as_json, f"Held ({held['id']}).")


@app.command()
def release(
    hold_id: Annotated[str, typer.Argument(help="A hold (hld_...), see `studio invoice open`.")],
    reason: Annotated[str, typer.Option(help="Why it is in order now.")],
    as_json: AsJson = False,
) -> None:
    """Release a hold. It is in the audit log, with your reason."""
    released = Api.from_environment().post(f"/admin/v1/holds/{hold_id}/release", {"reason": reason})
    show(released, as_json, f"Released by {released['released_by']}.")


@app.command()
def download(
    invoice_id: Annotated[str, typer.Argument(help="An invoice (inv_...) or a correction (cor_...).")],
    out: Annotated[Path | None, typer.Option(help="File; the number when left out.")] = None,
) -> None:
    """Fetch the PDF of a final invoice or correction."""
    document(invoice_id, Format.PDF, out)


def _ordered(draft: Any) -> str:
    totals = f"net {draft['net']} + tax {draft['tax']} = {draft['gross']} {draft['currency']}"
    of_draft = f"{draft['id']} --total {draft['gross']}"
    then = f"studio invoice review {of_draft}\nand somebody else\nstudio invoice approve {of_draft}"
    return f"Drafted {draft['kind'].replace('_', ' ')} {draft['id']}: {totals}.\n{then}"


def _path(id: str) -> str:
    return f"/admin/v1/{'corrections' if id.startswith(ids.CORRECTION) else 'invoices'}/{id}"


def _corrected_line(text: str) -> dict[str, str]:
    line_no, equals, amount = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"a line and its amount are written 2=1.50, not {text!r}")
    return {"line_no": line_no, "amount": amount}
