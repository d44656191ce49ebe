"use client";

import { useLocale, useTranslations } from "next-intl";
import { amountOf, isMissing, useReceipt } from "./receipts";

/** What an answer without its closing count has cost: not what the page believes, but what stands in the ledger. */
export function Charge({ requestId, apiKey }: { requestId: string; apiKey: string }) {
  const t = useTranslations("Receipts");
  const locale = useLocale();
  const { data, error } = useReceipt(requestId, apiKey);
  return (
    <p className="mt-2 min-h-5 text-[0.875rem] text-muted" data-testid="charge">
      {data
        ? data.charged
          ? `${t("byLedger")} ${amountOf(data, locale)}`
          : t("freeByLedger")
        : isMissing(error)
          ? t("none")
          : error
            ? t("unread")
            : t("asking")}
    </p>
  );
}
