"use client";

import { useTranslations } from "next-intl";
import type { Turn } from "./conversation";

/** What went wrong, in the gateway's own words, and whether it costs anything. In a blind round a receipt would name the model. */
export function FaultView({ turn, showReceipt }: { turn: Turn; showReceipt: ((requestId: string) => void) | null }) {
  const t = useTranslations("Playground");
  const fault = turn.fault;
  if (!fault) return null;
  return (
    <div role="alert" className="mt-3 rounded-md border border-bad bg-bad-soft px-4 py-3 text-[0.875rem]">
      <p className="font-semibold">{t(`faults.${fault.kind}`)}</p>
      {fault.message ? (
        <p lang="en" className="mt-1 wrap-anywhere">
          {fault.message}
        </p>
      ) : null}
      {fault.retryAfterSeconds ? <p className="mt-1">{t("retryAfter", { seconds: fault.retryAfterSeconds })}</p> : null}
      <p className="mt-1 text-muted">
        {fault.isFree
          ? t("notCharged")
          : fault.kind === "network"
            ? t("maybeCharged")
            : fault.kind === "refused"
              ? t("chargedForDelivered")
              : null}
        {fault.code ? <code className="ml-2 font-mono">{fault.code}</code> : null}
        {fault.requestId ? (
          <code className="ml-2 font-mono" data-testid="fault-request">
            {fault.requestId}
          </code>
        ) : null}
      </p>
      {fault.requestId && showReceipt ? (
        <button
          type="button"
          className="button-quiet mt-2 min-h-8 px-2.5 text-[0.8125rem]"
          onClick={() => fault.requestId && showReceipt(fault.requestId)}
        >
          {t("receipt")}
        </button>
      ) : null}
    </div>
  );
}
