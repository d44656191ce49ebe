"use client";

import Link from "next/link";
import { useFormatter, useLocale, useTranslations } from "next-intl";
import { byReadiness, type Catalog, type CatalogModel, tierOf, useCatalog } from "@/api/catalog";
import { tags } from "@/i18n/locales";
import { CurrencySwitch, useCurrency } from "./currency";
import { Price } from "./Price";
import { States } from "./State";
import { Trouble } from "./Trouble";

const ROWS = 9; // kept free before the answer is there, so that nothing below jumps

/** Today's models as a departure board: what each costs in both tiers, and how it is at this second. */
export function Board() {
  const t = useTranslations("Catalog");
  const locale = useLocale();
  const catalog = useCatalog();
  const time = (iso: string) => new Intl.DateTimeFormat(tags[locale], { timeStyle: "medium" }).format(new Date(iso));
  return (
    <div>
      <div className="mb-3 flex min-h-12 items-center gap-3 sm:min-h-9">
        <p className="text-[0.8125rem] text-muted">
          {t("perMillion")}
          <span className="numbers">{catalog.data ? ` ${t("readAt", { time: time(catalog.data.read_at) })}` : ""}</span>
        </p>
        <span className="ml-auto">
          <CurrencySwitch />
        </span>
      </div>
      <Trouble query={catalog} />
      <div className="card" aria-busy={catalog.isPending}>
        <div
          aria-hidden="true"
          className="hidden grid-cols-[minmax(0,1.3fr)_minmax(0,1fr)_minmax(0,1fr)_minmax(0,1.1fr)_auto] gap-4 border-b border-hairline px-5 py-2.5 text-[0.8125rem] text-muted md:grid"
        >
          <span>{t("model")}</span>
          <span>{t("baseInOut")}</span>
          <span>{t("fastInOut")}</span>
          <span>{t("state")}</span>
          <span className="w-20" />
        </div>
        <ul>
          {catalog.data
            ? byReadiness(catalog.data.models).map((model) => (
                <Row key={model.id} model={model} catalog={catalog.data} />
              ))
            : Array.from({ length: ROWS }, (_, row) => (
                <li key={row} className="h-[11.5rem] border-t border-hairline first:border-t-0 md:h-[4.25rem]" />
              ))}
        </ul>
      </div>
    </div>
  );
}

function Row({ model, catalog }: { model: CatalogModel; catalog: Catalog }) {
  const t = useTranslations("Catalog");
  const format = useFormatter();
  const locale = useLocale();
  const currency = useCurrency();
  const [base, fast] = [tierOf(model, "base"), tierOf(model, "fast")];
  const first = base ?? fast;
  if (!first) return null;
  return (
    <li className="grid min-h-[11.5rem] grid-cols-1 content-center gap-x-4 gap-y-1 border-t border-hairline px-5 py-3 first:border-t-0 md:min-h-[4.25rem] md:grid-cols-[minmax(0,1.3fr)_minmax(0,1fr)_minmax(0,1fr)_minmax(0,1.1fr)_auto] md:items-center">
      <span className="min-w-0">
        <Link href={`/${locale}/models#${model.id}`} className="font-medium hover:text-accent hover:underline">
          {model.name}
        </Link>
        <span className="block truncate text-[0.8125rem] text-muted">
          {t(`tasks.${model.task}`)}
          {model.vision ? ` · ${t("vision")}` : ""} · {t("context", { tokens: format.number(first.context_tokens) })}
        </span>
      </span>
      {[base, fast].map((tier, column) => (
        <span key={column === 0 ? "base" : "fast"} className="flex justify-between gap-4 md:block">
          <span className="text-[0.8125rem] text-muted md:sr-only">
            {column === 0 ? t("baseInOut") : t("fastInOut")}
          </span>
          {tier ? <Price tier={tier} currency={currency} /> : <span className="text-muted">{t("noTier")}</span>}
        </span>
      ))}
      <span className="text-[0.875rem]">
        <States model={model} now={catalog.read_at} />
      </span>
      <span className="md:w-20 md:text-right">
        {model.task === "chat" && first.state !== "not_deployed" ? (
          <Link href={`/${locale}/playground?model=${first.id}`} className="button-quiet min-h-8 text-[0.8125rem]">
            {t("try")}
          </Link>
        ) : null}
      </span>
    </li>
  );
}
