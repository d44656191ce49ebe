"""`studio receipt`: what single requests came to, and whether such a receipt is genuine."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from local.api import Api
from local.commands._tenant_key import Key
from local.output import AsJson, show
from studio.errors import StudioError
from studio.signing import is_signed

app = typer.Typer(no_args_is_help=True, help="Signed receipts of single requests.")


class ReceiptNotGenuine(StudioError):
    """Not signed by the key, or no receipt at all."""


@app.command()
def fetch(
    request_id: Annotated[str, typer.Argument(help="The answer's `x-request-id`.")],
    key: Key = None,
    out: Annotated[Path | None, typer.Option(help="File; the request's id when left out.")] = None,
) -> None:
    """Fetch the receipt of a request into a file."""
    receipt = Api.from_environment(key=key).get(f"/v1/receipts/{request_id}")
    target = out or Path(f"{request_id}.json")
    target.write_text(json.dumps(receipt, indent=1))
    typer.echo(f"Wrote {target}.")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A receipt as `fetch` wrote it.")],
    keys: Annotated[
        Path | None, typer.Option(help="`/.well-known/studio-signing-keys` as you kept it; else the gateway is asked.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a receipt's signature. With the keys in a file, no network is used."""
    try:
        receipt, signature = _read(file)
        known = json.loads(keys.read_text()) if keys else Api.from_environment().get("/.well-known/studio-signing-keys")
        public_key = {key["id"]: key["public_key"] for key in known["data"] if key["purpose"] == "receipts"}
        genuine = is_signed(receipt["document"].encode(), signature, public_key[receipt["key_id"]])
        document = json.loads(receipt["document"])
    except OSError as error:
        raise ReceiptNotGenuine(f"{error.filename} cannot be read: {error.strerror}.") from error
    except KeyError as error:
        raise ReceiptNotGenuine(f"{file} is no receipt, or of a key that is not known: {error} is missing.") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ReceiptNotGenuine(f"{file} is no receipt, or the keys are none: {error}.") from error
    if not genuine or document["signed_with"] != receipt["key_id"]:
        raise ReceiptNotGenuine(f"{file} is not what was signed with the key {receipt['key_id']}.")
    price = f"{document['amount']} {document['currency']}" if document["charged"] else "nothing"
    show(document, as_json, f"Genuine. {document['request_id']}: {price}; {document['why']}.")


def _read(file: Path) -> tuple[dict[str, Any], bytes]:
    receipt = json.loads(file.read_text())
    try:
        return receipt, base64.b64decode(receipt["signature"], validate=True)
    except binascii.Error as error:
        raise ValueError("the signature is no base64") from error
