"use client";

import { useFormatter, useLocale, useTranslations } from "next-intl";
import { useCurrency } from "@/catalog/currency";
import { money, type Prices, requestCost } from "@/money";
import type { Turn } from "./conversation";
import { amountOf } from "./receipts";

/**
 * One line of fixed height under an answer: time to the first token, speed, tokens, cost, and who answered. The cost is
 * reckoned at list prices, and said to be, until the ledger has spoken.
 */
export function Meter({ turn, prices }: { turn: Turn; prices: Record<string, Prices> | undefined }) {
  const t = useTranslations("Playground");
  const format = useFormatter();
  const locale = useLocale();
  const currency = useCurrency();
  const usage = turn.usage;
  const reckoned = usage && prices?.[currency] ? requestCost(prices[currency], usage) : undefined;
  const { settled } = turn;
  const about = turn.isFinal ? "" : "≈ ";
  const isOther = turn.model !== null && turn.model !== turn.asked;
  return (
    <dl className="numbers flex min-h-10 flex-wrap items-center gap-x-4 gap-y-0.5 font-mono text-[0.8125rem] text-muted [&_div]:flex [&_div]:gap-1.5 [&_dd]:text-text">
      <div title={t("ttftHelp")}>
        <dt>TTFT</dt>
        <dd>{turn.ttftMs === null ? "–" : `${format.number(Math.round(turn.ttftMs))} ms`}</dd>
      </div>
      <div>
        <dt>{t("speed")}</dt>
        <dd>
          {turn.tokensPerSecond === null ? "–" : format.number(turn.tokensPerSecond, { maximumFractionDigits: 0 })}
        </dd>
      </div>
      <div>
        <dt>{t("in")}</dt>
        <dd>
          {usage === null ? "–" : format.number(usage.prompt)}
          {usage?.cached ? ` (${t("cached", { tokens: format.number(usage.cached) })})` : ""}
        </dd>
      </div>
      <div>
        <dt>{t("out")}</dt>
        <dd>{usage === null ? "–" : `${about}${format.number(usage.completion)}`}</dd>
      </div>
      <div title={t("costHelp")}>
        <dt>{t("cost")}</dt>
        <dd data-testid="cost">
          {settled
            ? settled.isCharged
              ? amountOf(settled, locale)
              : t("free")
            : reckoned === undefined
              ? "–"
              : `≈ ${money(locale, currency, reckoned)}`}
        </dd>
      </div>
      <div>
        <dt>{t("model")}</dt>
        <dd className={isOther ? "text-bad!" : ""} data-testid="answered-by">
          {turn.model ?? "–"}
          {isOther ? ` ${t("otherModel", { asked: turn.asked })}` : ""}
        </dd>
      </div>
    </dl>
  );
}
