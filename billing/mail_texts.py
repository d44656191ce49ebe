"""What our mails say, in English, German and Chinese. Pure. Plain text without links, at most with an attachment.

The language is that of the buyer's country; a buyer may name another (`language` in the billing data).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Language = Literal["en", "de", "zh"]
Kind = Literal["invoice", "correction", "alert", "dunning"]

_OF_COUNTRY: Mapping[str, Language] = {
    "DE": "de", "AT": "de", "CH": "de", "LI": "de", "CN": "zh", "HK": "zh", "MO": "zh", "TW": "zh",
}  # fmt: skip

# Subject, and body. Each language says the same.
_TEXTS: Mapping[Kind, Mapping[Language, tuple[str, str]]] = {
    "invoice": {
        "en": (
            "Invoice {number}",
            "Dear customer,\n\nattached is the invoice {number} over {amount} {currency}.\n\n{seller}\n",
        ),
        "de": (
            "Rechnung {number}",
            "Guten Tag,\n\nim Anhang finden Sie die Rechnung {number} über {amount} {currency}.\n\n{seller}\n",
        ),
        "zh": (
            "账单 {number}",
            "尊敬的客户：\n\n附件为账单 {number}，金额 {amount} {currency}。本文件不是发票（fapiao）。\n\n{seller}\n",
        ),
    },
    "correction": {
        "en": (
            "Correction {number} of invoice {invoice}",
            (
                "Dear customer,\n\nattached is {number}, which corrects the invoice {invoice} by {amount} {currency}:"
                " {reason}.\n\n{seller}\n"
            ),
        ),
        "de": (
            "Korrektur {number} zur Rechnung {invoice}",
            (
                "Guten Tag,\n\nim Anhang finden Sie {number}, eine Korrektur der Rechnung {invoice} um {amount}"
                " {currency}: {reason}.\n\n{seller}\n"
            ),
        ),
        "zh": (
            "账单 {invoice} 的更正 {number}",
            "尊敬的客户：\n\n附件为 {number}，对账单 {invoice} 更正 {amount} {currency}：{reason}。\n\n{seller}\n",
        ),
    },
    "alert": {
        "en": (
            "{percent} % of your budget is used",
            (
                "Dear customer,\n\n{used} of {amount} {currency} of your {budget} budget are used or held"
                " ({percent} %). When nothing is left, requests are refused.\n\n{seller}\n"
            ),
        ),
        "de": (
            "{percent} % Ihres Budgets sind verbraucht",
            (
                "Guten Tag,\n\n{used} von {amount} {currency} Ihres Budgets ({budget}) sind verbraucht oder reserviert"
                " ({percent} %). Ist nichts mehr übrig, werden Anfragen abgelehnt.\n\n{seller}\n"
            ),
        ),
        "zh": (
            "您的预算已使用 {percent}%",
            (
                "尊敬的客户：\n\n您的预算（{budget}）{amount} {currency} 中已使用或预留 {used}（{percent}%）。"
                "用尽后请求将被拒绝。\n\n{seller}\n"
            ),
        ),
    },
    "dunning": {
        "en": (
            "{title}: invoice {number}",
            (
                "Dear customer,\n\nthe invoice {number} over {amount} {currency} was due on {due_on}. If you have paid"
                " meanwhile, please disregard this.\n\n{seller}\n"
            ),
        ),
        "de": (
            "{title}: Rechnung {number}",
            (
                "Guten Tag,\n\ndie Rechnung {number} über {amount} {currency} war am {due_on} fällig. Haben Sie"
                " inzwischen gezahlt, ist dieses Schreiben gegenstandslos.\n\n{seller}\n"
            ),
        ),
        "zh": (
            "{title}：账单 {number}",
            (
                "尊敬的客户：\n\n账单 {number}（{amount} {currency}）已于 {due_on} 到期。"
                "如已付款，请忽略本邮件。\n\n{seller}\n"
            ),
        ),
    },
}
# Of a reminder, by its level. From the second on a German one is a Mahnung; what is above the last keeps its name.
_DUNNING_TITLES: Mapping[Language, tuple[str, ...]] = {
    "en": ("Reminder", "Second reminder", "Last reminder"),
    "de": ("Zahlungserinnerung", "Mahnung", "Letzte Mahnung"),
    "zh": ("付款提醒", "第二次付款提醒", "最后付款提醒"),
}


def language_of(buyer: Mapping[str, Any]) -> Language:
    """What a buyer reads."""
    named = buyer.get("language")
    if named in ("en", "de", "zh"):
        return named  # type: ignore[no-any-return]
    return _OF_COUNTRY.get(str(buyer.get("country", "")).upper(), "en")


def compose(kind: Kind, language: Language, **facts: object) -> tuple[str, str]:
    """Subject and body; KeyError when a fact is missing. A line break in a fact never reaches the subject."""
    subject, body = _TEXTS[kind][language]
    if kind == "dunning":
        titles = _DUNNING_TITLES[language]
        facts["title"] = titles[min(int(str(facts["level"])), len(titles)) - 1]
    return " ".join(subject.format(**facts).split()), body.format(**facts)
