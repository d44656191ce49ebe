"""The folder where finance drops the bank's files: taken in order, each booked whole, and moved where it belongs.

A file is booked before it is moved. If a run dies in between, the next finds it again and books nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable

from billing.payment_import import Imported
from studio.errors import StudioError
from studio.objects import Bucket, ObjectStore, StoredObject

INBOX, IMPORTED, REFUSED = "inbox/", "imported/", "refused/"
WHY = ".why.txt"


def waiting(objects: ObjectStore) -> list[StoredObject]:
    """The files that nobody has booked yet, by name."""
    return objects.under(Bucket.BANK_STATEMENTS, INBOX)


def refused(objects: ObjectStore) -> list[str]:
    """Keys of the files that could not be read."""
    return [one.key for one in objects.under(Bucket.BANK_STATEMENTS, REFUSED) if not one.key.endswith(WHY)]


def empty(objects: ObjectStore, book: Callable[[bytes, str], Imported]) -> tuple[dict[str, Imported], dict[str, str]]:
    """Book every file that waits; what became of each, and why others were refused, by name."""
    imported: dict[str, Imported] = {}
    not_read: dict[str, str] = {}
    for key in [one.key for one in waiting(objects)]:
        body, name = objects.get(Bucket.BANK_STATEMENTS, key), key.removeprefix(INBOX)
        if body is None:  # somebody took it away meanwhile
            continue
        try:
            imported[name] = book(body, name)
            target = IMPORTED + name
        except StudioError as error:  # one bank's trouble is not the others'; a check shows it
            not_read[name] = error.message
            target = REFUSED + name
            objects.put(Bucket.BANK_STATEMENTS, target + WHY, error.message.encode(), content_type="text/plain")
        objects.put(Bucket.BANK_STATEMENTS, target, body)
        objects.delete(Bucket.BANK_STATEMENTS, key)
    return imported, not_read
