"use client";

import { useQuery } from "@tanstack/react-query";
import { useLocale, useTranslations } from "next-intl";
import { read } from "@/api/read";
import { Refusal } from "@/api/refusal";
import { type Currency, currencies, money } from "@/money";
import { isObject } from "./asking";
import Sheet from "./Sheet";

type Properties = { requestId: string; apiKey: string; close: () => void };

/** What the ledger says of one request. It is written some seconds after the answer, so it is asked for until it is there. */
export default function ReceiptDialog({ requestId, apiKey, close }: Properties) {
  const t = useTranslations("Receipts");
  const receipt = useQuery({
    queryKey: ["receipt", requestId, apiKey],
    queryFn: ({ signal }) => read<unknown>(`/v1/receipts/${encodeURIComponent(requestId)}`, { key: apiKey, signal }),
    retry: false,
    staleTime: 60_000,
    refetchInterval: (query) => (query.state.status === "error" && isMissing(query.state.error) ? 5_000 : false),
  });
  return (
    <Sheet title={t("title")} close={close}>
      <p className="mb-4 font-mono text-[0.8125rem] wrap-anywhere text-muted">{requestId}</p>
      {receipt.data !== undefined ? (
        <Lines receipt={isObject(receipt.data) ? receipt.data : {}} />
      ) : receipt.error ? (
        <div role="status" className="rounded-md border border-hairline bg-sunk px-4 py-3">
          <p className="font-semibold">{isMissing(receipt.error) ? t("missing") : t("failed")}</p>
          <p className="mt-1 text-muted" lang={isMissing(receipt.error) ? undefined : "en"}>
            {isMissing(receipt.error) ? t("missingNote") : receipt.error.message}
          </p>
          <button type="button" className="button-quiet mt-3 min-h-8" onClick={() => receipt.refetch()}>
            {t("again")}
          </button>
        </div>
      ) : (
        <p className="min-h-24 text-muted">{t("loading")}</p>
      )}
    </Sheet>
  );
}

const isMissing = (error: Error | null) => error instanceof Refusal && error.status === 404;

function Lines({ receipt }: { receipt: Record<string, unknown> }) {
  const t = useTranslations("Receipts");
  const locale = useLocale();
  const currency = currencies.find((one): one is Currency => one === receipt.currency);
  const amount = typeof receipt.amount === "string" ? receipt.amount : null;
  const reason = typeof receipt.reason === "string" ? receipt.reason : null;
  return (
    <div>
      <p data-testid="receipt-charged" className="text-[1.125rem] font-semibold">
        {receipt.charged === false ? t("notCharged") : t("charged")}
        {amount !== null && receipt.charged !== false ? (
          <span className="numbers ml-2 font-mono">
            {currency ? money(locale, currency, amount) : `${amount} ${String(receipt.currency ?? "")}`}
          </span>
        ) : null}
      </p>
      {reason ? (
        <p lang="en" className="mt-1 text-muted">
          {reason}
        </p>
      ) : null}
      <details className="mt-4">
        <summary className="min-h-8 text-[0.875rem]">{t("whole")}</summary>
        <pre tabIndex={0} className="mt-2 overflow-x-auto rounded-md bg-sunk p-3 font-mono text-[0.8125rem]">
          {JSON.stringify(receipt, null, 2)}
        </pre>
      </details>
    </div>
  );
}
