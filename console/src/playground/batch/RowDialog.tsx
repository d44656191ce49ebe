"use client";

import { useTranslations } from "next-intl";
import { useState } from "react";
import { ModelState } from "@/catalog/State";
import { GatewaySays } from "@/frame/GatewaySays";
import type { Turn } from "../conversation";
import ReceiptDialog from "../ReceiptDialog";
import { type Asked, askedOf } from "../receipts";
import Sheet from "../Sheet";
import { differences } from "./diff";
import type { PromptRow } from "./prompts";

type Properties = {
  number: number;
  row: PromptRow;
  models: string[];
  turns: (Turn | undefined)[];
  apiKey: string;
  close: () => void;
};

/** One prompt with all answers in full, and what differs between two of them. */
export function RowDialog({ number, row, models, turns, apiKey, close }: Properties) {
  const t = useTranslations("Batch");
  const p = useTranslations("Playground");
  const choices = [...models, ...(row.expected === null ? [] : [t("expected")])];
  const textOf = (at: number) => (at < models.length ? (turns[at]?.text ?? "") : (row.expected ?? ""));
  const [pair, setPair] = useState<[number, number]>([0, 1]);
  const [receiptOf, setReceiptOf] = useState<Asked | null>(null);
  if (receiptOf) return <ReceiptDialog asked={receiptOf} apiKey={apiKey} close={() => setReceiptOf(null)} />;
  return (
    <Sheet title={t("row", { number })} close={close} wide>
      <p
        className="mb-4 max-h-40 overflow-y-auto rounded-md bg-accent-soft px-4 py-2 wrap-anywhere whitespace-pre-wrap"
        tabIndex={0}
      >
        {row.prompt}
      </p>
      {choices.length > 1 ? (
        <section aria-label={t("difference")} className="mb-5">
          <div className="flex flex-wrap items-center gap-2">
            <h3 className="font-semibold">{t("difference")}</h3>
            {([0, 1] as const).map((side) => (
              <select
                key={side}
                aria-label={side === 0 ? t("left") : t("right")}
                className="field min-h-8 max-w-full font-mono text-[0.8125rem]"
                value={pair[side]}
                onChange={(event) => {
                  const next: [number, number] = [...pair];
                  next[side] = Number(event.target.value);
                  setPair(next);
                }}
              >
                {choices.map((choice, at) => (
                  <option key={choice} value={at}>
                    {choice}
                  </option>
                ))}
              </select>
            ))}
          </div>
          <p
            data-testid="difference"
            className="mt-2 max-h-72 overflow-y-auto rounded-md border border-hairline p-3 wrap-anywhere whitespace-pre-wrap"
            tabIndex={0}
          >
            {differences(textOf(pair[0]), textOf(pair[1])).map((part, at) =>
              part.kind === "same" ? (
                <span key={at}>{part.text}</span>
              ) : part.kind === "left" ? (
                <del key={at} className="bg-bad-soft text-bad">
                  {part.text}
                </del>
              ) : (
                <ins key={at} className="bg-accent-soft text-ok">
                  {part.text}
                </ins>
              ),
            )}
          </p>
        </section>
      ) : null}
      {models.map((model, at) => {
        const turn = turns[at];
        const asked = askedOf(turn);
        return (
          <section key={model} className="mb-4">
            <h3 className="text-[0.875rem]">
              <span className="font-mono font-semibold">{model}</span> <ModelState id={model} />
            </h3>
            <div className="mt-1 max-h-72 overflow-y-auto wrap-anywhere whitespace-pre-wrap" tabIndex={0}>
              {turn?.text || (turn?.fault?.message ? <GatewaySays said={turn.fault} /> : turn ? "" : t("notRun"))}
            </div>
            {asked ? (
              <button
                type="button"
                className="button-quiet mt-2 min-h-8"
                onClick={() => setReceiptOf({ ...asked, model })}
              >
                {p("receipt")}
              </button>
            ) : null}
          </section>
        );
      })}
    </Sheet>
  );
}
