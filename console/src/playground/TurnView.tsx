"use client";

import dynamic from "next/dynamic";
import { useTranslations } from "next-intl";
import { useState } from "react";
import { Copy } from "@/code/Copy";
import type { Prices } from "@/money";
import { isAlias } from "./blind";
import { Calls } from "./Calls";
import { Charge } from "./Charge";
import type { ToolResult, Turn } from "./conversation";
import { FaultView } from "./FaultView";
import { LongText } from "./LongText";
import { Meter } from "./Meter";
import { Others } from "./Others";
import { Question } from "./Question";
import { type Asked, askedOf, type Settled } from "./receipts";
import { editOf, givenFor } from "./session";
import { Thinking } from "./Thinking";

const Markdown = dynamic(() => import("./Markdown"), { ssr: false });
const Likelihoods = dynamic(() => import("./Likelihoods"), { ssr: false });
const PLAIN_FROM = 200_000; // characters; a longer answer would hold the page up while it is laid out

/** What can be done with a turn. */
export type TurnActions = {
  again: (turn: Turn) => void;
  edit: (turn: Turn, prompt: string) => void;
  answer: (turn: Turn, results: ToolResult[]) => void;
  switchVersion: (turn: Turn, by: 1 | -1) => void;
  showReceipt: (asked: Asked) => void;
  prefer: (turn: Turn, at: number) => void;
  settle: (turn: Turn, settled: Settled) => void;
  apiKey: string; // in whose name the ledger is asked
  unsent: Record<string, string>;
  type: (name: string, text: string | undefined) => void;
};

type Properties = {
  turn: Turn;
  version: { number: number; of: number };
  prices: Record<string, Prices> | undefined;
  isLast: boolean;
  isBusy: boolean;
  actions: TurnActions;
};

/** A question with its answer, what it took, and what went wrong. */
export function TurnView({ turn, version, prices, isLast, isBusy, actions }: Properties) {
  const t = useTranslations("Playground");
  const [isRaw, setRaw] = useState(false);
  const isLong = turn.text.length > PLAIN_FROM;
  const isBlind = isAlias(turn.asked);
  const receiptOf = askedOf(turn);
  const isOver = turn.state !== "running" && turn.state !== "waiting";
  const small = "button-quiet min-h-8 px-2.5 text-[0.8125rem]";
  return (
    <article className="space-y-3" aria-label={t("turn")}>
      <Question
        turn={turn}
        version={version}
        canEdit={!isBusy && !isBlind}
        draft={actions.unsent[editOf(turn)]}
        changeDraft={(text) => actions.type(editOf(turn), text)}
        edit={(prompt) => actions.edit(turn, prompt)}
        switchVersion={(by) => actions.switchVersion(turn, by)}
      />
      {turn.state === "waiting" ? null : (
        <div>
          {turn.thought ? (
            <details className="mb-3 rounded-md border border-hairline px-3 py-2 text-[0.875rem]">
              <summary className="text-muted">{t("thought")}</summary>
              <p className="mt-2 wrap-anywhere whitespace-pre-wrap text-muted">{turn.thought}</p>
            </details>
          ) : null}
          <div data-testid="answer" data-copied className="min-h-6">
            {turn.text === "" ? (
              turn.state === "running" && turn.ttftMs === null ? (
                <Thinking />
              ) : null
            ) : isRaw || isLong ? (
              <LongText text={turn.text} />
            ) : (
              <Markdown text={turn.text} isGrowing={turn.state === "running"} />
            )}
          </div>
          {turn.calls.length ? (
            <Calls
              calls={turn.calls}
              canAnswer={isOver && isLast && !isBusy}
              given={(call) => actions.unsent[givenFor(turn, call)] ?? ""}
              give={(call, content) => actions.type(givenFor(turn, call), content)}
              answer={(results) => actions.answer(turn, results)}
            />
          ) : null}
          {turn.others.length ? (
            <Others
              others={turn.others}
              isGrowing={turn.state === "running"}
              isRaw={isRaw}
              prefer={isOver && isLast && !isBusy ? (at) => actions.prefer(turn, at) : null}
            />
          ) : null}
          {turn.likelihoods.length && isOver ? <Likelihoods likelihoods={turn.likelihoods} /> : null}
          <FaultView turn={turn} showReceipt={isBlind ? null : actions.showReceipt} />
          {turn.state === "stopped" ? <p className="mt-2 text-[0.875rem] text-muted">{t("stopped")}</p> : null}
          {turn.finish === "length" ? <p className="mt-2 text-[0.875rem] text-warn">{t("cutByLength")}</p> : null}
          {turn.finish === "budget" ? <p className="mt-2 text-[0.875rem] text-warn">{t("cutByBudget")}</p> : null}
          {turn.finish === "endless" ? <p className="mt-2 text-[0.875rem] text-warn">{t("endless")}</p> : null}
          <div className="mt-2 border-t border-hairline pt-1">
            {isBlind ? (
              <p className="flex min-h-10 items-center text-[0.8125rem] text-muted">{t("hidden")}</p>
            ) : (
              <Meter turn={turn} prices={prices} />
            )}
            <div className="mt-1 flex min-h-8 flex-wrap items-center gap-2">
              {turn.text && isOver ? <Copy text={turn.text} /> : null}
              {turn.text && !isLong ? (
                <button
                  type="button"
                  aria-pressed={isRaw}
                  className={`${small} aria-pressed:bg-sunk`}
                  onClick={() => setRaw(!isRaw)}
                >
                  {t("raw")}
                </button>
              ) : null}
              {isOver && !isBusy && !isBlind && turn.results.length === 0 ? (
                <button type="button" className={small} onClick={() => actions.again(turn)}>
                  {t("again")}
                </button>
              ) : null}
              {turn.requestId && isOver && !isBlind ? (
                <Charge
                  turn={turn}
                  requestId={turn.requestId}
                  apiKey={actions.apiKey}
                  settle={(settled) => actions.settle(turn, settled)}
                />
              ) : null}
              {turn.requestId && !isBlind ? (
                <>
                  {isOver && receiptOf && !turn.fault?.requestId ? (
                    <button type="button" className={small} onClick={() => actions.showReceipt(receiptOf)}>
                      {t("receipt")}
                    </button>
                  ) : null}
                  <code className="ml-auto truncate font-mono text-[0.75rem] text-muted" title={t("requestId")}>
                    {turn.requestId}
                  </code>
                </>
              ) : null}
            </div>
          </div>
        </div>
      )}
    </article>
  );
}
