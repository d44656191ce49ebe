"use client";

import { useTranslations } from "next-intl";
import { useEffect, useRef } from "react";
import { useCurrency } from "@/catalog/currency";
import { Price, Target } from "@/catalog/Price";
import { State, useStateWords } from "@/catalog/State";
import { Sunset } from "@/catalog/Sunset";
import { isAlias, type letters } from "./blind";
import { ColdBanner } from "./ColdBanner";
import { type Column, versionAt } from "./columns";
import { HeldBanner } from "./HeldBanner";
import type { Offer } from "./offers";
import { type TurnActions, TurnView } from "./TurnView";

type Properties = {
  letter: (typeof letters)[number] | null;
  column: Column;
  model: string;
  isHidden: boolean; // the models of a blind round are not named
  isBusy: boolean;
  waitsFor: Offer | undefined; // cold, and a question waits for it
  offers: Offer[];
  now: string;
  changeModel: (model: string) => void;
  remove: (() => void) | null;
  cancel: () => void;
  use: (model: string) => void;
  actions: TurnActions;
  suggest: (prompt: string) => void;
};

const colours = { A: "text-series-a", B: "text-series-b", C: "text-series-c", D: "text-series-d" };

/** One model with what was said to it. */
export function ColumnView(properties: Properties) {
  const { letter, column, model, isHidden, isBusy, waitsFor, offers, now } = properties;
  const { changeModel, remove, cancel, use, actions, suggest } = properties;
  const t = useTranslations("Playground");
  const c = useTranslations("Catalog");
  const words = useStateWords();
  const currency = useCurrency();
  const offer = offers.find((one) => one.tier.id === model);
  const last = column.turns.at(-1);
  // What was said before a blind round names its models.
  const turns = column.turns
    .map((turn, place) => ({ turn, place }))
    .filter(({ turn }) => !isHidden || turn.round === last?.round);
  const alternative = isHidden ? undefined : offers.find((one) => one.tier.state === "warm");
  const scroller = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);

  // What is at its end stays there while it grows, also when answers become longer or models are uncovered.
  useEffect(() => {
    const box = scroller.current;
    const content = box?.firstElementChild;
    if (!box || !content) return;
    const observer = new ResizeObserver(() => {
      if (isAtEnd.current) box.scrollTop = box.scrollHeight;
    });
    observer.observe(content);
    return () => observer.disconnect();
  }, []);

  return (
    <section
      aria-label={letter ? t("column", { letter }) : t("conversation")}
      className="flex min-h-0 min-w-0 flex-col"
    >
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1 border-b border-hairline px-4 py-2 sm:px-6">
        {letter ? (
          <span aria-hidden="true" className={`font-mono font-semibold ${colours[letter]}`}>
            {letter}
          </span>
        ) : null}
        {isHidden ? (
          <span className="flex min-h-9 items-center text-muted">{t("hiddenModel")}</span>
        ) : (
          <>
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
            {remove ? (
              <button
                type="button"
                aria-label={t("removeColumn", { letter: letter ?? "" })}
                className="button-quiet min-h-8 px-2.5"
                disabled={isBusy}
                onClick={remove}
              >
                ×
              </button>
            ) : null}
            <span className="flex min-h-6 w-full flex-wrap items-center gap-x-4 text-[0.8125rem] xl:w-auto">
              {offer ? (
                <>
                  <State tier={offer.tier} now={now} />
                  <span title={c("perMillion")}>
                    <Price tier={offer.tier} currency={currency} />
                  </span>
                  <Target tier={offer.tier} />
                  {offer.sunset ? <Sunset day={offer.sunset} /> : null}
                </>
              ) : null}
            </span>
          </>
        )}
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
          {turns.map(({ turn, place }) => (
            <TurnView
              key={turn.id}
              turn={turn}
              version={versionAt(column, place)}
              prices={offers.find((one) => one.tier.id === turn.asked)?.tier.prices_per_million_tokens}
              isLast={place === column.turns.length - 1}
              isBusy={isBusy}
              actions={actions}
            />
          ))}
          {waitsFor ? (
            <ColdBanner
              offer={isAlias(last?.asked ?? "") ? { ...waitsFor, name: t("oneModel") } : waitsFor}
              now={now}
              alternative={alternative}
              cancel={cancel}
              use={use}
            />
          ) : last?.state === "waiting" && last.held ? (
            <HeldBanner held={last.held} cancel={cancel} />
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
