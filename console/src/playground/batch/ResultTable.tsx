"use client";

import { useVirtualizer } from "@tanstack/react-virtual";
import { useFormatter, useLocale, useTranslations } from "next-intl";
import { useRef, useState } from "react";
import { ModelState } from "@/catalog/State";
import { useGatewayWords } from "@/frame/GatewaySays";
import { type Currency, money } from "@/money";
import type { Turn } from "../conversation";
import type { PricesOf } from "./exports";
import { InAll } from "./InAll";
import type { PromptRow } from "./prompts";
import { RowDialog } from "./RowDialog";
import { cellOf, costOf, isStale, type Test } from "./test";

const ROW_HEIGHT = 112; // px: three lines of an answer and its figures

type Properties = {
  test: Test;
  rows: PromptRow[];
  shown: Shown;
  way: string; // how would be asked now
  pricesOf: PricesOf;
  currency: Currency;
  apiKey: string;
  isRunning: boolean;
};

export const filters = ["all", "different", "failed", "stale"] as const;
export type Shown = (typeof filters)[number];

/** Prompts down, models across. Only the rows in view are in the page, however many there are. */
export function ResultTable({ test, rows, shown, way, pricesOf, currency, apiKey, isRunning }: Properties) {
  const t = useTranslations("Batch");
  const words = useGatewayWords();
  const format = useFormatter();
  const locale = useLocale();
  const [open, setOpen] = useState<number | null>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const turnsOf = (place: number) => test.models.map((model) => test.cells[cellOf(place, model)]);
  const places = rows
    .map((_, place) => place)
    .filter((place) => {
      const turns = turnsOf(place);
      if (shown === "stale") return test.models.some((model) => isStale(test, cellOf(place, model), way));
      if (shown === "failed") return turns.some((turn) => turn?.state === "failed");
      const texts = new Set(turns.filter((turn) => turn?.state === "done").map((turn) => turn?.text.trim()));
      return shown === "all" || texts.size > 1;
    });
  const virtual = useVirtualizer({
    count: places.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 6,
  });
  const items = virtual.getVirtualItems();

  function figures(turn: Turn | undefined, model: string): string {
    if (!turn) return t("notRun");
    const cost = costOf(turn, pricesOf(model), currency);
    return [
      t(`states.${turn.state}`),
      turn.ttftMs ? `${format.number(Math.round(turn.ttftMs))} ms` : "",
      turn.usage ? t("tokens", { count: turn.usage.completion }) : "",
      cost ? `≈ ${money(locale, currency, cost)}` : "",
    ]
      .filter(Boolean)
      .join(" · ");
  }

  return (
    <>
      <div ref={scroller} className="max-h-[34rem] overflow-auto rounded-md border border-hairline" tabIndex={0}>
        <table
          aria-label={t("results")}
          aria-rowcount={places.length + 2}
          className="w-full table-fixed border-collapse"
        >
          <colgroup>
            <col className="w-56" />
            {test.models.map((model) => (
              <col key={model} className="w-80" />
            ))}
          </colgroup>
          <thead className="sticky top-0 z-10 bg-sunk text-left text-[0.8125rem]">
            <tr aria-rowindex={1}>
              <th scope="col" className="px-3 py-2">
                {t("prompt")}
              </th>
              {test.models.map((model) => (
                <th key={model} scope="col" className="px-3 py-2 wrap-anywhere">
                  <span className="font-mono">{model}</span>{" "}
                  <span className="font-normal">
                    <ModelState id={model} />
                  </span>
                </th>
              ))}
            </tr>
            <tr aria-rowindex={2} className="numbers align-top text-muted">
              <th scope="row" className="px-3 pb-2 font-normal">
                {t("inAll")}
              </th>
              {test.models.map((model) => (
                <td key={model} className="px-3 pb-2" data-testid={`sum-${model}`}>
                  <InAll
                    test={test}
                    model={model}
                    rows={rows.length}
                    prices={pricesOf(model)}
                    currency={currency}
                    apiKey={apiKey}
                    isRunning={isRunning}
                  />
                </td>
              ))}
            </tr>
          </thead>
          <tbody className="text-[0.875rem]">
            <tr style={{ height: items[0]?.start ?? 0 }} />
            {items.map((item) => {
              const place = places[item.index] ?? 0;
              return (
                <tr
                  key={item.key}
                  aria-rowindex={item.index + 3}
                  className="border-t border-hairline align-top"
                  style={{ height: ROW_HEIGHT }}
                >
                  <th scope="row" className="px-3 py-2 text-left font-normal">
                    <button
                      type="button"
                      className="link min-h-6"
                      aria-label={t("openRow", { number: place + 1 })}
                      onClick={() => setOpen(place)}
                    >
                      {format.number(place + 1)}
                    </button>
                    <p className="line-clamp-3 wrap-anywhere">{rows[place]?.prompt}</p>
                  </th>
                  {turnsOf(place).map((turn, at) => (
                    <td key={test.models[at]} className="border-l border-hairline px-3 py-2">
                      <p className={`line-clamp-3 min-h-16 wrap-anywhere ${turn?.fault ? "text-bad" : ""}`}>
                        {turn?.text || (turn?.fault ? (turn.fault.message ? words(turn.fault) : t("broken")) : "")}
                      </p>
                      <p className="numbers truncate font-mono text-[0.75rem] text-muted">
                        {isStale(test, cellOf(place, test.models[at] ?? ""), way) ? (
                          <span className="text-warn">{t("stale")} · </span>
                        ) : null}
                        {figures(turn, test.models[at] ?? "")}
                      </p>
                    </td>
                  ))}
                </tr>
              );
            })}
            <tr style={{ height: virtual.getTotalSize() - (items.at(-1)?.end ?? 0) }} />
          </tbody>
        </table>
      </div>
      {open !== null && rows[open] ? (
        <RowDialog
          number={open + 1}
          row={rows[open]}
          models={test.models}
          turns={turnsOf(open)}
          apiKey={apiKey}
          close={() => setOpen(null)}
        />
      ) : null}
    </>
  );
}
