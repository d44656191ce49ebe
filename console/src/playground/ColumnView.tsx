"use client";

import { useTranslations } from "next-intl";
import { useEffect, useRef } from "react";
import { useCurrency } from "@/catalog/currency";
import { Price } from "@/catalog/Price";
import { State, useStateWords } from "@/catalog/State";
import { ColdBanner } from "./ColdBanner";
import type { Offer } from "./offers";
import type { Column } from "./session";
import { TurnView } from "./TurnView";

type Properties = {
  letter: "A" | "B" | null;
  column: Column;
  model: string;
  offers: Offer[];
  now: string;
  changeModel: (model: string) => void;
  cancel: () => void;
  again: (model?: string) => void;
  suggest: (prompt: string) => void;
};

/** One model with what was said to it. */
export function ColumnView({ letter, column, model, offers, now, changeModel, cancel, again, suggest }: Properties) {
  const t = useTranslations("Playground");
  const c = useTranslations("Catalog");
  const words = useStateWords();
  const currency = useCurrency();
  const offer = offers.find((one) => one.tier.id === model);
  const last = column.turns.at(-1);
  const waitsFor = last?.state === "waiting" ? offers.find((one) => one.tier.id === last.asked) : undefined;
  const alternative = offers.find((one) => one.tier.state === "warm");
  const scroller = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);

  useEffect(() => {
    const box = scroller.current;
    if (box && isAtEnd.current && last) box.scrollTop = box.scrollHeight;
  }, [last]);

  return (
    <section
      aria-label={letter ? t("column", { letter }) : t("conversation")}
      className="flex min-h-0 min-w-0 flex-col"
    >
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1 border-b border-hairline px-4 py-2 sm:px-6">
        {letter ? (
          <span
            aria-hidden="true"
            className={`font-mono font-semibold ${letter === "A" ? "text-series-a" : "text-series-b"}`}
          >
            {letter}
          </span>
        ) : null}
        <select
          aria-label={letter ? t("modelOf", { letter }) : t("model")}
          className="field min-w-0 flex-1 font-mono text-[0.8125rem] sm:max-w-[26rem]"
          value={offer ? model : ""}
          onChange={(event) => changeModel(event.target.value)}
        >
          {offer ? null : <option value="">{model}</option>}
          {offers.map((one) => (
            <option key={one.tier.id} value={one.tier.id}>
              {`${one.tier.id} · ${words(one.tier, now)}`}
            </option>
          ))}
        </select>
        <span className="flex min-h-6 w-full flex-wrap items-center gap-x-4 text-[0.8125rem] xl:w-auto">
          {offer ? (
            <>
              <State tier={offer.tier} now={now} />
              <span title={c("perMillion")}>
                <Price tier={offer.tier} currency={currency} />
              </span>
            </>
          ) : null}
        </span>
      </div>
      <div
        ref={scroller}
        tabIndex={0}
        onScroll={(event) => {
          const box = event.currentTarget;
          isAtEnd.current = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
        }}
        className="min-h-56 flex-1 overflow-y-auto px-4 py-5 sm:px-6"
      >
        <div className="mx-auto max-w-[48rem] space-y-8">
          {column.turns.length === 0 ? <Suggestions choose={suggest} /> : null}
          {column.turns.map((turn, place) => (
            <TurnView
              key={turn.id}
              turn={turn}
              prices={offers.find((one) => one.tier.id === turn.asked)?.tier.prices_per_million_tokens}
              isLast={place === column.turns.length - 1}
              again={() => again()}
            />
          ))}
          {waitsFor && waitsFor.tier.state !== "warm" ? (
            <ColdBanner offer={waitsFor} now={now} alternative={alternative} cancel={cancel} use={(id) => again(id)} />
          ) : null}
        </div>
      </div>
    </section>
  );
}

const suggestions = ["explain", "extract", "code"] as const;

/** What one could ask, for whoever does not know yet. A click only fills the composer. */
function Suggestions({ choose }: { choose: (prompt: string) => void }) {
  const t = useTranslations("Playground");
  return (
    <div className="pt-6 md:pt-10">
      <p className="mb-4 text-center text-muted">{t("empty")}</p>
      <ul className="space-y-2">
        {suggestions.map((name) => (
          <li key={name}>
            <button
              type="button"
              className="card w-full px-4 py-2.5 text-left hover:border-control"
              onClick={() => choose(t(`suggestions.${name}`))}
            >
              {t(`suggestions.${name}`)}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
