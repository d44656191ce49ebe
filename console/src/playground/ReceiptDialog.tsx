"use client";

import { useLocale, useTranslations } from "next-intl";
import { Refusal } from "@/api/refusal";
import { ModelState } from "@/catalog/State";
import { GatewaySays } from "@/frame/GatewaySays";
import { type Asked, amountOf, type Receipt, useReceipt } from "./receipts";
import Sheet from "./Sheet";

type Properties = { asked: Asked; apiKey: string; close: () => void };

/** What the ledger says of one request, whole. A refusal is in no book: that it costs nothing is known at once. */
export default function ReceiptDialog({ asked, apiKey, close }: Properties) {
  const t = useTranslations("Receipts");
  const { data, error, standing, ask, isFetching } = useReceipt(asked.requestId, apiKey, asked.endedAt, !asked.isFree);
  return (
    <Sheet title={t("title")} close={close}>
      <p className="font-mono text-[0.8125rem] wrap-anywhere text-muted">{asked.requestId}</p>
      <p className="mb-4 text-[0.875rem]">
        <span className="font-mono">{asked.model}</span> <ModelState id={asked.model} />
      </p>
      {asked.isFree ? (
        <div data-testid="receipt-free">
          <p className="text-[1.125rem] font-semibold">{t("notCharged")}</p>
          <p className="mt-1 text-muted">{t("refusedNote")}</p>
        </div>
      ) : data ? (
        <Lines receipt={data} />
      ) : standing === "asking" ? (
        <p className="min-h-24 text-muted">{t("loading")}</p>
      ) : (
        <div role="status" className="rounded-md border border-hairline bg-sunk px-4 py-3">
          <p className="font-semibold">{t(`standing.${standing}`)}</p>
          <div className="mt-1 text-muted">
            {standing === "soon" ? t("soonNote") : standing === "none" ? t("noneNote") : null}
            {standing === "unread" && error instanceof Refusal ? <GatewaySays said={error} /> : null}
          </div>
          <button type="button" className="button-quiet mt-3 min-h-8" disabled={isFetching} onClick={ask}>
            {t("again")}
          </button>
        </div>
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
