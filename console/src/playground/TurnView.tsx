"use client";

import dynamic from "next/dynamic";
import { useTranslations } from "next-intl";
import { useState } from "react";
import { Copy } from "@/code/Copy";
import type { Prices } from "@/money";
import type { Turn } from "./conversation";
import { Meter } from "./Meter";

const Markdown = dynamic(() => import("./Markdown"), { ssr: false });
const PLAIN_FROM = 200_000; // characters; a longer answer would hold the page up while it is laid out

type Properties = { turn: Turn; prices: Record<string, Prices> | undefined; isLast: boolean; again: () => void };

/** A question with its answer, what it took, and what went wrong. */
export function TurnView({ turn, prices, isLast, again }: Properties) {
  const t = useTranslations("Playground");
  const [isRaw, setRaw] = useState(false);
  const isPlain = isRaw || turn.text.length > PLAIN_FROM;
  return (
    <article className="space-y-3" aria-label={t("turn")}>
      <p className="ml-auto w-fit max-w-[85%] rounded-lg bg-accent-soft px-4 py-2.5 wrap-anywhere whitespace-pre-wrap">
        {turn.prompt}
      </p>
      {turn.state === "waiting" ? null : (
        <div>
          {turn.thought ? (
            <details className="mb-3 rounded-md border border-hairline px-3 py-2 text-[0.875rem]">
              <summary className="text-muted">{t("thought")}</summary>
              <p className="mt-2 wrap-anywhere whitespace-pre-wrap text-muted">{turn.thought}</p>
            </details>
          ) : null}
          <div data-testid="answer" className="min-h-6">
            {turn.text === "" ? (
              <span className="text-muted">{turn.state === "running" ? t("thinking") : ""}</span>
            ) : isPlain ? (
              <p className="wrap-anywhere whitespace-pre-wrap">{turn.text}</p>
            ) : (
              <Markdown text={turn.text} isGrowing={turn.state === "running"} />
            )}
          </div>
          {turn.fault ? <FaultView turn={turn} /> : null}
          {turn.state === "stopped" ? <p className="mt-2 text-[0.875rem] text-muted">{t("stopped")}</p> : null}
          {turn.finish === "length" ? <p className="mt-2 text-[0.875rem] text-warn">{t("cutByLength")}</p> : null}
          {turn.finish === "budget" ? <p className="mt-2 text-[0.875rem] text-warn">{t("cutByBudget")}</p> : null}
          <div className="mt-2 border-t border-hairline pt-1">
            <Meter turn={turn} prices={prices} />
            <div className="mt-1 flex min-h-8 flex-wrap items-center gap-2">
              {turn.text && turn.state !== "running" ? <Copy text={turn.text} /> : null}
              {turn.text ? (
                <button
                  type="button"
                  aria-pressed={isRaw}
                  className="button-quiet min-h-8 px-2.5 text-[0.8125rem] aria-pressed:bg-sunk"
                  onClick={() => setRaw(!isRaw)}
                >
                  {t("raw")}
                </button>
              ) : null}
              {isLast && turn.state !== "running" ? (
                <button type="button" className="button-quiet min-h-8 px-2.5 text-[0.8125rem]" onClick={again}>
                  {t("again")}
                </button>
              ) : null}
              {turn.requestId ? (
                <code className="ml-auto truncate font-mono text-[0.75rem] text-muted" title={t("requestId")}>
                  {turn.requestId}
                </code>
              ) : null}
            </div>
          </div>
        </div>
      )}
    </article>
  );
}

function FaultView({ turn }: { turn: Turn }) {
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
      <p className="mt-1 text-muted">
        {fault.isFree ? t("notCharged") : fault.kind === "network" ? t("maybeCharged") : t("chargedForDelivered")}
        {fault.code ? <code className="ml-2 font-mono">{fault.code}</code> : null}
        {fault.requestId ? (
          <code className="ml-2 font-mono" data-testid="fault-request">
            {fault.requestId}
          </code>
        ) : null}
      </p>
    </div>
  );
}
