"use client";

import { useLocale, useTranslations } from "next-intl";
import { useEffect } from "react";
import type { Turn } from "./conversation";
import { amountOf, type Settled, settledBy, useReceipt } from "./receipts";

type Properties = { turn: Turn; requestId: string; apiKey: string; settle: (settled: Settled) => void };

/** What an answer has cost: not what the page believes, but what stands in the ledger. What it has said is kept with the answer. */
export function Charge({ turn, requestId, apiKey, settle }: Properties) {
  const t = useTranslations("Receipts");
  const locale = useLocale();
  const { settled } = turn;
  const { data, standing, ask, isFetching } = useReceipt(requestId, apiKey, turn.endedAt ?? 0, settled === null);

  useEffect(() => {
    if (data && settled === null) settle(settledBy(data));
  });

  const canAsk = settled === null && apiKey !== "" && (standing === "none" || standing === "unread");
  return (
    <span className="inline-flex min-h-8 flex-wrap items-center gap-x-2 text-[0.8125rem] text-muted">
      <span data-testid="charge">
        {settled
          ? settled.isCharged
            ? `${t("byLedger")} ${amountOf(settled, locale)}`
            : t("freeByLedger")
          : t(`standing.${standing}`)}
      </span>
      {canAsk ? (
        <button type="button" className="link min-h-6" disabled={isFetching} onClick={ask}>
          {t("again")}
        </button>
      ) : null}
    </span>
  );
}
