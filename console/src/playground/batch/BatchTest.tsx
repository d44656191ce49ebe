"use client";

import { useLocale, useTranslations } from "next-intl";
import { useMemo, useState } from "react";
import { useCurrency } from "@/catalog/currency";
import { useStateWords } from "@/catalog/State";
import { money } from "@/money";
import type { Asking } from "../asking";
import { saveFile } from "../files";
import type { Offer } from "../offers";
import { mostCost, sum } from "./estimate";
import { csv, jsonl, type PricesOf, records } from "./exports";
import { Jobs } from "./Jobs";
import { MOST_ROWS, promptsOf } from "./prompts";
import { filters, ResultTable, type Shown } from "./ResultTable";
import { Source } from "./Source";
import { cellOf, isStale, requestOf, USUAL_MOST_TOKENS, wayOf, withoutResults } from "./test";
import { useTest } from "./useTest";

const MOST_MODELS = 4;

type Properties = {
  apiKey: string;
  lacks: "needsKey" | "needsTenant" | null;
  asking: Asking;
  offers: Offer[];
  now: string;
  models: string[];
  areGood: boolean;
};

/** Many prompts over several models: what each says, how fast and for how much; and the way from there to a batch job. */
export default function BatchTest({ apiKey, lacks, asking, offers, now, models, areGood }: Properties) {
  const t = useTranslations("Batch");
  const p = useTranslations("Playground");
  const words = useStateWords();
  const locale = useLocale();
  const currency = useCurrency();
  const { test, setTest, kept, isRunning, start, stop } = useTest(apiKey);
  const [shown, setShown] = useState<Shown>("all");
  const named = models.join();
  const chosen = useMemo(
    () => (test.models.length ? test.models : [...new Set(named.split(","))].filter(Boolean)),
    [test.models, named],
  );
  const { rows, faults } = useMemo(() => promptsOf(test.source, test.name), [test.source, test.name]);
  const pricesOf: PricesOf = (model) => offers.find((one) => one.tier.id === model)?.tier.prices_per_million_tokens;
  const most = (kind: "" | "batch_") =>
    sum(
      chosen.map((model) =>
        mostCost(
          rows.map((row) => requestOf(asking, model, row)),
          pricesOf(model)?.[currency],
          kind,
        ),
      ),
    );
  const price = (amount: string | undefined) => (amount === undefined ? "–" : money(locale, currency, amount));
  const cold = offers.filter((one) => chosen.includes(one.tier.id) && one.tier.state !== "warm");
  const isTooMany = rows.length > MOST_ROWS;
  const hasResults = Object.keys(test.cells).length > 0;
  const left = rows.flatMap((_, place) => chosen.filter((model) => test.cells[cellOf(place, model)]?.state !== "done"));
  const way = useMemo(() => wayOf(asking), [asking]);
  const stale = rows.flatMap((_, place) => chosen.filter((model) => isStale(test, cellOf(place, model), way)));
  const canAsk = apiKey !== "" && areGood && rows.length > 0 && chosen.length > 0 && !isTooMany && !cold.length;
  const canRun = canAsk && left.length > 0;
  const hint = lacks
    ? p(lacks)
    : !areGood
      ? p("needsGood")
      : isTooMany
        ? t("tooMany", { most: MOST_ROWS })
        : cold[0]
          ? t("cold", { model: cold[0].tier.id })
          : "";

  function choose(model: string, isIn: boolean) {
    const next = isIn ? [...chosen, model] : chosen.filter((one) => one !== model);
    setTest((old) => ({ ...old, models: next.slice(0, MOST_MODELS) }));
  }

  const whole = () => records({ ...test, models: chosen }, rows, pricesOf, currency);

  return (
    <section className="min-h-0 flex-1 overflow-y-auto px-4 py-5 sm:px-6" tabIndex={0} aria-label={t("title")}>
      <div className="mx-auto max-w-[76rem] space-y-6">
        <div className="grid gap-6 lg:grid-cols-[3fr_2fr]">
          <Source
            source={test.source}
            name={test.name}
            count={rows.length}
            faults={faults}
            isLocked={isRunning}
            change={(source, name) => setTest((old) => ({ ...withoutResults(old), source, name }))}
          />
          <div className="space-y-4">
            <fieldset disabled={isRunning}>
              <legend className="font-semibold">{t("models")}</legend>
              <ul className="mt-1 max-h-44 space-y-1 overflow-y-auto" tabIndex={0}>
                {offers.map((one) => (
                  <li key={one.tier.id}>
                    <label className="flex min-h-7 items-center gap-2 text-[0.875rem]">
                      <input
                        type="checkbox"
                        className="size-4 accent-accent"
                        checked={chosen.includes(one.tier.id)}
                        disabled={!chosen.includes(one.tier.id) && chosen.length >= MOST_MODELS}
                        onChange={(event) => choose(one.tier.id, event.target.checked)}
                      />
                      <span className="font-mono wrap-anywhere">{one.tier.id}</span>
                      <span className="text-muted">{words(one.tier, now)}</span>
                    </label>
                  </li>
                ))}
              </ul>
            </fieldset>
            <p data-testid="quote" className="numbers min-h-12">
              {t("quote", { prompts: rows.length, models: chosen.length, most: price(most("")) })}{" "}
              {asking.parameters.max_tokens === "" ? t("usualMost", { tokens: USUAL_MOST_TOKENS }) : ""}
            </p>
            <div className="flex flex-wrap items-center gap-2">
              {isRunning ? (
                <button type="button" className="button-quiet min-h-10" onClick={stop}>
                  {p("stop")}
                </button>
              ) : (
                <button
                  type="button"
                  className="button-primary"
                  disabled={!canRun}
                  onClick={() => start(asking, rows, chosen, false)}
                >
                  {!hasResults ? t("run") : left.length ? t("runRest", { count: left.length }) : t("allDone")}
                </button>
              )}
              {hasResults && !isRunning ? (
                <button type="button" className="button-quiet min-h-10" onClick={() => setTest(withoutResults)}>
                  {t("clearResults")}
                </button>
              ) : null}
            </div>
            <p className="min-h-5 text-[0.8125rem] text-muted" aria-live="polite">
              {hint}
            </p>
          </div>
        </div>
        {kept === "all" ? null : (
          <p role="status" className="rounded-md border border-warn bg-warn-soft px-4 py-2.5 text-[0.875rem]">
            {t(`kept.${kept}`)}
          </p>
        )}
        {stale.length && !isRunning ? (
          <div
            role="status"
            className="flex flex-wrap items-center gap-x-4 gap-y-2 rounded-md border border-warn bg-warn-soft px-4 py-2.5 text-[0.875rem]"
          >
            <p className="mr-auto">{t("areStale", { count: stale.length })}</p>
            <button
              type="button"
              className="button-quiet min-h-8"
              disabled={!canAsk}
              onClick={() => start(asking, rows, chosen, true)}
            >
              {t("runStale", { count: stale.length })}
            </button>
          </div>
        ) : null}
        {hasResults ? (
          <section aria-label={t("results")} className="space-y-3">
            <div className="flex flex-wrap items-center gap-2">
              <h2 className="mr-auto font-semibold">{t("results")}</h2>
              {filters.map((one) => (
                <button
                  key={one}
                  type="button"
                  aria-pressed={shown === one}
                  className="button-quiet min-h-8 aria-pressed:border-accent aria-pressed:bg-accent-soft"
                  onClick={() => setShown(one)}
                >
                  {t(`shown.${one}`)}
                </button>
              ))}
              <button
                type="button"
                className="button-quiet min-h-8"
                onClick={() => saveFile("batch-test.csv", csv(whole()), "text/csv;charset=utf-8")}
              >
                {t("exportCsv")}
              </button>
              <button
                type="button"
                className="button-quiet min-h-8"
                onClick={() => saveFile("batch-test.jsonl", jsonl(whole()), "application/x-ndjson")}
              >
                {t("exportJsonl")}
              </button>
            </div>
            <ResultTable
              test={{ ...test, models: chosen }}
              rows={rows}
              shown={shown}
              way={way}
              pricesOf={pricesOf}
              currency={currency}
              apiKey={apiKey}
              isRunning={isRunning}
            />
          </section>
        ) : null}
        {rows.length > 0 || test.jobs.length > 0 ? (
          <Jobs
            apiKey={apiKey}
            asking={asking}
            rows={rows}
            models={chosen}
            most={price(most("batch_"))}
            canStart={apiKey !== "" && areGood && rows.length > 0 && faults.length === 0}
            test={test}
            change={setTest}
          />
        ) : null}
      </div>
    </section>
  );
}
