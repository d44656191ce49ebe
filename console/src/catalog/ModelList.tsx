"use client";

import { useFormatter, useLocale, useTranslations } from "next-intl";
import { type ReactNode, useEffect, useState } from "react";
import { byReadiness, useCatalog } from "@/api/catalog";
import { money } from "@/money";
import { CurrencySwitch, useCurrency } from "./currency";
import {
  contexts,
  everything,
  type Filters,
  filtersOf,
  firstTokens,
  inCurrency,
  matching,
  orders,
  priceLimits,
  searchOf,
  sorted,
  states,
  tasks,
} from "./filters";
import { ModelRow } from "./ModelRow";
import { Trouble } from "./Trouble";

/** All models, narrowed by what the address asks for. */
export function ModelList() {
  const t = useTranslations("Models");
  const c = useTranslations("Catalog");
  const locale = useLocale();
  const format = useFormatter();
  const currency = useCurrency();
  const catalog = useCatalog();
  const [chosen, setChosen] = useState<Filters | null>(null); // null until the address has been read
  const filters = inCurrency(chosen ?? everything, currency);
  const search = searchOf(filters);

  useEffect(() => setChosen(filtersOf(location.search)), []);

  // The address says what holds, also when the currency takes a price limit away.
  useEffect(() => {
    if (chosen && location.search !== search)
      history.replaceState(history.state, "", `${location.pathname}${search}${location.hash}`);
  }, [chosen, search]);

  const ask = (change: Partial<Filters>) => setChosen({ ...filters, ...change });

  const all = catalog.data ? byReadiness(catalog.data.models) : [];
  const shown = sorted(matching(all, filters, currency), filters, currency);
  return (
    <div>
      <search className="flex flex-wrap items-end gap-3">
        <label className="flex min-w-40 flex-1 flex-col gap-1 text-[0.8125rem] text-muted">
          {t("search")}
          <input
            type="search"
            className="field text-[0.9375rem]"
            value={filters.text}
            onChange={(event) => ask({ text: event.target.value })}
          />
        </label>
        <Choice label={c("task")} value={filters.task} change={(task) => ask({ task })}>
          {tasks.map((task) => (
            <option key={task} value={task}>
              {c(`tasks.${task}`)}
            </option>
          ))}
        </Choice>
        <Choice label={t("contextFrom")} value={filters.context} change={(context) => ask({ context })}>
          {contexts.map((tokens) => (
            <option key={tokens} value={tokens}>
              {t("from", { tokens: format.number(Number(tokens)) })}
            </option>
          ))}
        </Choice>
        <Choice label={t("priceTo")} value={filters.price} change={(price) => ask({ price })}>
          {priceLimits[currency].map((price) => (
            <option key={price} value={price}>
              {t("to", { price: money(locale, currency, price) })}
            </option>
          ))}
        </Choice>
        <Choice label={t("tier")} value={filters.tier} change={(tier) => ask({ tier })}>
          <option value="fast">{t("withFast")}</option>
        </Choice>
        <Choice label={c("state")} value={filters.state} change={(state) => ask({ state })}>
          {states.map((state) => (
            <option key={state} value={state}>
              {t(`states.${state}`)}
            </option>
          ))}
        </Choice>
        <Choice label={t("ttftTo")} value={filters.ttft} change={(ttft) => ask({ ttft })}>
          {firstTokens.map((ms) => (
            <option key={ms} value={ms}>
              {t("toMs", { ms: format.number(Number(ms)) })}
            </option>
          ))}
        </Choice>
        <Choice label={t("sort")} any={t("orders.ready")} value={filters.sort} change={(sort) => ask({ sort })}>
          {orders.map((order) => (
            <option key={order} value={order}>
              {t(`orders.${order}`)}
            </option>
          ))}
        </Choice>
        <CurrencySwitch />
      </search>
      <p aria-live="polite" className="mt-5 mb-3 min-h-5 text-[0.8125rem] text-muted">
        {catalog.data ? `${t("count", { shown: shown.length, all: all.length })} ${c("perMillion")}` : ""}
      </p>
      <Trouble query={catalog} />
      {catalog.data ? (
        <ul className="space-y-3">
          {shown.map((model) => (
            <ModelRow key={model.id} model={model} catalog={catalog.data} currency={currency} />
          ))}
        </ul>
      ) : (
        <div className="min-h-[60rem]" aria-busy={!catalog.isError} />
      )}
      {catalog.data && shown.length === 0 ? (
        <div className="card px-6 py-10 text-center">
          <p>{all.length === 0 ? t("empty") : t("none")}</p>
          {all.length === 0 ? null : (
            <button type="button" className="button-quiet mt-4" onClick={() => ask(everything)}>
              {t("reset")}
            </button>
          )}
        </div>
      ) : null}
    </div>
  );
}

type ChoiceProperties = {
  label: string;
  any?: string;
  value: string;
  change: (value: string) => void;
  children: ReactNode;
};

function Choice({ label, any, value, change, children }: ChoiceProperties) {
  const t = useTranslations("Models");
  return (
    <label className="flex min-w-[8.5rem] flex-col gap-1 text-[0.8125rem] text-muted max-sm:flex-1">
      {label}
      <select className="field text-[0.9375rem]" value={value} onChange={(event) => change(event.target.value)}>
        <option value="">{any ?? t("any")}</option>
        {children}
      </select>
    </label>
  );
}
