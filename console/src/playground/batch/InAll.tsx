"use client";

import { useFormatter, useLocale, useTranslations } from "next-intl";
import { type Currency, money, type Prices } from "@/money";
import { amountOf } from "../receipts";
import { useCharged } from "./charges";
import { sum } from "./estimate";
import { cellOf, costOf, type Test } from "./test";

type Properties = {
  test: Test;
  model: string;
  rows: number;
  prices: Record<string, Prices> | undefined;
  currency: Currency;
  apiKey: string;
  isRunning: boolean;
};

/** A model's answers in all. What they cost is the gateway's sum of their receipts; until it has all of them an estimate. */
export function InAll({ test, model, rows, prices, currency, apiKey, isRunning }: Properties) {
  const t = useTranslations("Batch");
  const format = useFormatter();
  const locale = useLocale();
  const charged = useCharged(test, model, rows, apiKey, isRunning);
  const turns = Array.from({ length: rows }, (_, place) => test.cells[cellOf(place, model)]);
  const done = turns.filter((turn) => turn?.state === "done");
  const failed = turns.filter((turn) => turn?.state === "failed").length;
  const waits = done.map((turn) => turn?.ttftMs ?? null).filter((one) => one !== null);
  const middle = waits.sort((a, b) => a - b)[Math.floor(waits.length / 2)];
  const reckoned = sum(turns.filter((turn) => turn?.usage).map((turn) => costOf(turn, prices, currency)));
  const cost =
    charged?.missing === 0
      ? t("charged", { amount: amountOf(charged, locale) })
      : reckoned === undefined
        ? ""
        : `≈ ${money(locale, currency, reckoned)}${charged ? ` (${t("notBooked", { count: charged.missing })})` : ""}`;
  return [
    t("done", { done: done.length, of: rows }),
    failed ? t("failed", { count: failed }) : "",
    middle === undefined ? "" : t("median", { ms: format.number(Math.round(middle)) }),
    done.length ? cost : "",
  ]
    .filter(Boolean)
    .join(" · ");
}
