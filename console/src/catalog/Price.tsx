"use client";

import { useFormatter, useLocale, useTranslations } from "next-intl";
import type { Tier } from "@/api/catalog";
import { type Currency, money } from "@/money";

/** What a tier promises for its price: a first token that comes later is billed at the base price. */
export function Target({ tier }: { tier: Tier }) {
  const t = useTranslations("Catalog");
  const format = useFormatter();
  const target = tier.first_token_target;
  if (!target) return null;
  const most = target.up_to_prompt_tokens;
  return (
    <span className="block text-[0.8125rem] text-muted" title={t("promisedHelp")} data-testid="promise">
      {t("promised", { ms: format.number(target.milliseconds) })}
      {most === null ? "" : ` ${t("promisedUpTo", { tokens: format.number(most) })}`}
    </span>
  );
}

/** What a tier costs for a million tokens, in and out, or a dash where this currency has no price list. */
export function Price({ tier, currency }: { tier: Tier; currency: Currency }) {
  const t = useTranslations("Catalog");
  const locale = useLocale();
  const prices = tier.prices_per_million_tokens[currency];
  if (!prices) return <span className="text-muted">{t("noPrice")}</span>;
  if (prices.embedding) return <span className="numbers">{money(locale, currency, prices.embedding)}</span>;
  return (
    <span className="numbers whitespace-nowrap">
      <span title={t("promptPrice")}>{prices.prompt ? money(locale, currency, prices.prompt) : "–"}</span>
      <span className="px-1.5 text-muted">/</span>
      <span title={t("completionPrice")}>{prices.completion ? money(locale, currency, prices.completion) : "–"}</span>
    </span>
  );
}
