"use client";

import { Collapsible } from "@base-ui/react/collapsible";
import { useFormatter, useLocale, useTranslations } from "next-intl";
import { useEffect, useState } from "react";
import type { Catalog, CatalogModel, Tier } from "@/api/catalog";
import { Copy } from "@/code/Copy";
import { Samples } from "@/code/Samples";
import type { Body } from "@/code/samples";
import { Link } from "@/frame/Link";
import { type Currency, money } from "@/money";
import { noticeNamed } from "./notices";
import { Target } from "./Price";
import { Speed } from "./Speed";
import { State } from "./State";
import { Sunset } from "./Sunset";
import { WeekStrip } from "./WeekStrip";

type Properties = { model: CatalogModel; catalog: Catalog; currency: Currency };

/** One model with its tiers side by side. Opens by itself when the address names it. */
export function ModelRow({ model, catalog, currency }: Properties) {
  const t = useTranslations("Models");
  const c = useTranslations("Catalog");
  const [isOpen, setOpen] = useState(false);
  const known = model.notice ? noticeNamed(model.notice) : null;

  useEffect(() => {
    const look = () => {
      if (location.hash !== `#${model.id}`) return;
      setOpen(true);
      document.getElementById(model.id)?.scrollIntoView();
    };
    look();
    addEventListener("hashchange", look);
    return () => removeEventListener("hashchange", look);
  }, [model.id]);

  return (
    <li id={model.id} className="card scroll-mt-24">
      <Collapsible.Root open={isOpen} onOpenChange={setOpen}>
        <div className="grid grid-cols-1 gap-x-8 gap-y-4 px-5 py-4 lg:grid-cols-[minmax(0,17rem)_minmax(0,1fr)]">
          <div>
            <h2 className="text-[1.0625rem] font-semibold">{model.name}</h2>
            <p className="mt-0.5 text-[0.875rem] text-muted">
              {model.publisher} · {c(`tasks.${model.task}`)}
              {model.vision ? ` · ${c("vision")}` : ""}
            </p>
            {model.shutdown_date ? <Sunset day={model.shutdown_date} /> : null}
            <Collapsible.Trigger
              className="button-quiet mt-3 min-h-8 text-[0.8125rem]"
              aria-label={t("detailsOf", { name: model.name })}
            >
              {isOpen ? t("less") : t("details")}
            </Collapsible.Trigger>
          </div>
          <div className="grid grid-cols-1 gap-3 sm:grid-cols-2">
            {model.tiers.map((tier) => (
              <TierCard key={tier.id} model={model} tier={tier} now={catalog.read_at} currency={currency} />
            ))}
          </div>
        </div>
        {model.notice ? (
          <p className="mx-5 mb-4 rounded-md border border-warn bg-warn-soft px-4 py-2.5 text-[0.875rem]">
            <strong>{t("notice")}</strong> {known ? t(`notices.${known}`) : <span lang="en">{model.notice}</span>}
          </p>
        ) : null}
        <Collapsible.Panel>
          <Details model={model} catalog={catalog} />
        </Collapsible.Panel>
      </Collapsible.Root>
    </li>
  );
}

function TierCard({
  model,
  tier,
  now,
  currency,
}: {
  model: CatalogModel;
  tier: Tier;
  now: string;
  currency: Currency;
}) {
  const t = useTranslations("Models");
  const c = useTranslations("Catalog");
  const locale = useLocale();
  const format = useFormatter();
  const prices = tier.prices_per_million_tokens[currency] ?? {};
  const units = (["prompt", "cached_prompt", "completion", "embedding", "reused"] as const).filter(
    (unit) => prices[unit],
  );
  return (
    <section aria-label={`${model.name}, ${c(tier.tier)}`} className="rounded-md bg-sunk px-4 py-3 text-[0.875rem]">
      <div className="flex items-baseline justify-between gap-3">
        <h3 className="font-semibold">{c(tier.tier)}</h3>
        <State tier={tier} now={now} />
      </div>
      <dl className="mt-2 space-y-0.5">
        {units.map((unit) => (
          <div key={unit} className="flex justify-between gap-4">
            <dt className="text-muted">{c(`units.${unit}`)}</dt>
            <dd className="numbers">{money(locale, currency, prices[unit] ?? "0")}</dd>
          </div>
        ))}
        {units.length === 0 ? <div className="text-muted">{c("noPrice")}</div> : null}
        <div className="flex justify-between gap-4">
          <dt className="text-muted">{t("contextTokens")}</dt>
          <dd className="numbers">{format.number(tier.context_tokens)}</dd>
        </div>
        {tier.max_output_tokens === null ? null : (
          <div className="flex justify-between gap-4">
            <dt className="text-muted">{t("maxOutput")}</dt>
            <dd className="numbers">{format.number(tier.max_output_tokens)}</dd>
          </div>
        )}
      </dl>
      <Target tier={tier} />
      <Speed tier={tier} />
      <div className="mt-3 flex items-center gap-2">
        <output data-copied className="min-w-0 flex-1 truncate font-mono text-[0.8125rem]" title={tier.id}>
          {tier.id}
        </output>
        <Copy text={tier.id} />
        {model.task === "chat" && tier.state !== "not_deployed" ? (
          <Link
            href={`/${locale}/playground?model=${tier.id}`}
            className="button-primary min-h-8 px-3 text-[0.8125rem]"
            aria-label={t("tryTier", { name: model.name, tier: c(tier.tier) })}
          >
            {c("try")}
          </Link>
        ) : null}
      </div>
    </section>
  );
}

function Details({ model, catalog }: { model: CatalogModel; catalog: Catalog }) {
  const t = useTranslations("Models");
  const c = useTranslations("Catalog");
  const format = useFormatter();
  const [first] = model.tiers;
  if (!first) return null;
  return (
    <div className="grid grid-cols-1 gap-8 border-t border-hairline px-5 py-5 lg:grid-cols-2">
      <div>
        <h3 className="mb-3 font-semibold">{t("hours")}</h3>
        <WeekStrip week={first.week} />
        {model.tiers.map((tier) => (
          <p key={tier.id} className="mt-2 text-[0.875rem]">
            <span className="text-muted">{c(tier.tier)}: </span>
            {tier.state === "not_deployed"
              ? t("elsewhere")
              : t("warmup", { seconds: format.number(tier.usual_warmup_seconds) })}
          </p>
        ))}
        <h3 className="mt-6 mb-2 font-semibold">{t("licence")}</h3>
        <p>
          <a className="link" href={model.licence_url} target="_blank" rel="noopener noreferrer">
            {model.licence}
          </a>
        </p>
      </div>
      <div className="min-w-0">
        <h3 className="mb-3 font-semibold">{t("quickStart")}</h3>
        <Samples api={catalog.api_url} body={bodyFor(model, first.id)} />
      </div>
    </div>
  );
}

function bodyFor(model: CatalogModel, id: string): Body {
  if (model.task === "embedding") return { model: id, input: "Hello" };
  if (model.task === "completion") return { model: id, prompt: "def fibonacci(n):", max_tokens: 64 };
  return { model: id, messages: [{ role: "user", content: "Hello" }], stream: true };
}
