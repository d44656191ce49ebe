"use client";

import { useLocale, useTranslations } from "next-intl";
import { amountOf, isMissing, type Receipt, useReceipt } from "./receipts";
import Sheet from "./Sheet";

type Properties = { requestId: string; apiKey: string; close: () => void };

/** What the ledger says of one request, whole. */
export default function ReceiptDialog({ requestId, apiKey, close }: Properties) {
  const t = useTranslations("Receipts");
  const receipt = useReceipt(requestId, apiKey);
  return (
    <Sheet title={t("title")} close={close}>
      <p className="mb-4 font-mono text-[0.8125rem] wrap-anywhere text-muted">{requestId}</p>
      {receipt.data ? (
        <Lines receipt={receipt.data} />
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

function Lines({ receipt }: { receipt: Receipt }) {
  const t = useTranslations("Receipts");
  const locale = useLocale();
  return (
    <div>
      <p data-testid="receipt-charged" className="text-[1.125rem] font-semibold">
        {receipt.charged ? t("charged") : t("notCharged")}
        {receipt.charged ? <span className="numbers ml-2 font-mono">{amountOf(receipt, locale)}</span> : null}
      </p>
      <details className="mt-4">
        <summary className="min-h-8 text-[0.875rem]">{t("whole")}</summary>
        <pre tabIndex={0} className="mt-2 overflow-x-auto rounded-md bg-sunk p-3 font-mono text-[0.8125rem]">
          {JSON.stringify(receipt, null, 2)}
        </pre>
      </details>
    </div>
  );
}
