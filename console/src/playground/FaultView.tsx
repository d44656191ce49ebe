"use client";

import { useTranslations } from "next-intl";
import { GatewaySays } from "@/frame/GatewaySays";
import type { Turn } from "./conversation";
import { type Asked, askedOf } from "./receipts";

/** What went wrong, by the gateway's code, and whether it costs anything. In a blind round a receipt would name the model. */
export function FaultView({ turn, showReceipt }: { turn: Turn; showReceipt: ((asked: Asked) => void) | null }) {
  const t = useTranslations("Playground");
  const { fault } = turn;
  const receiptOf = fault?.requestId ? askedOf(turn) : null;
  if (!fault) return null;
  return (
    <div role="alert" className="mt-3 rounded-md border border-bad bg-bad-soft px-4 py-3 text-[0.875rem]">
      <p className="font-semibold">{t(`faults.${fault.kind}`)}</p>
      {fault.message ? (
        <div className="mt-1">
          <GatewaySays said={fault} />
        </div>
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
      {receiptOf && showReceipt ? (
        <button
          type="button"
          className="button-quiet mt-2 min-h-8 px-2.5 text-[0.8125rem]"
          onClick={() => showReceipt(receiptOf)}
        >
          {t("receipt")}
        </button>
      ) : null}
    </div>
  );
}
