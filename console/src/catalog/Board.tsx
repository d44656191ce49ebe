"use client";

import { useFormatter, useLocale, useTranslations } from "next-intl";
import { byReadiness, type Catalog, type CatalogModel, tierOf, useCatalog } from "@/api/catalog";
import { Link } from "@/frame/Link";
import { tags } from "@/i18n/locales";
import { BoardFrame, barHeight, rowHeight } from "./BoardFrame";
import { CurrencySwitch, useCurrency } from "./currency";
import { Price, Target } from "./Price";
import { States } from "./State";
import { Trouble } from "./Trouble";

/** Today's models as a departure board: what each costs in both tiers, and how it is at this second. */
export function Board() {
  const t = useTranslations("Catalog");
  const locale = useLocale();
  const catalog = useCatalog();
  const time = (iso: string) => new Intl.DateTimeFormat(tags[locale], { timeStyle: "medium" }).format(new Date(iso));
  return (
    <div>
      <div className={`mb-3 flex items-center gap-3 ${barHeight}`}>
        <p className="text-[0.8125rem] text-muted">
          {t("perMillion")}
          <span className="numbers">{catalog.data ? ` ${t("readAt", { time: time(catalog.data.read_at) })}` : ""}</span>
        </p>
        <span className="ml-auto">
          <CurrencySwitch />
        </span>
      </div>
      <Trouble query={catalog} />
      <BoardFrame
        isBusy={catalog.isPending}
        note={catalog.data ? t("nothing") : catalog.isError ? t("notRead") : undefined}
      >
        {catalog.data?.models.length
          ? byReadiness(catalog.data.models).map((model) => <Row key={model.id} model={model} catalog={catalog.data} />)
          : undefined}
      </BoardFrame>
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
    <li
      className={`relative grid grid-cols-1 content-center gap-x-4 gap-y-1 border-t border-hairline px-5 py-3 first:border-t-0 md:grid-cols-[minmax(0,1.3fr)_minmax(0,1fr)_minmax(0,1fr)_minmax(0,1.1fr)_auto] md:items-center ${rowHeight}`}
    >
      <span className="min-w-0 max-md:mb-1 max-md:pr-24">
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
          {tier ? (
            <span className="max-md:text-right">
              <Price tier={tier} currency={currency} />
              <Target tier={tier} />
            </span>
          ) : (
            <span className="text-muted">{t("noTier")}</span>
          )}
        </span>
      ))}
      <span className="text-[0.875rem]">
        <States model={model} now={catalog.read_at} />
      </span>
      <span className="max-md:absolute max-md:top-3.5 max-md:right-5 md:w-20 md:text-right">
        {model.task === "chat" && first.state !== "not_deployed" ? (
          <Link href={`/${locale}/playground?model=${first.id}`} className="button-quiet min-h-8 text-[0.8125rem]">
            {t("try")}
          </Link>
        ) : null}
      </span>
    </li>
  );
}
