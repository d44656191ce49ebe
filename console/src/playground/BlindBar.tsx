"use client";

import { useTranslations } from "next-intl";
import { ModelState } from "@/catalog/State";
import { GatewaySays, type Said } from "@/frame/GatewaySays";
import { letters, type Verdict } from "./blind";
import type { Reveal, Round } from "./session";

type Properties = {
  round: Round | null;
  reveal: Reveal | null;
  count: number;
  canVote: boolean;
  trouble: Said | null;
  vote: (verdict: Verdict) => void;
};

/** What a blind comparison is doing: not begun, waiting for the vote, or uncovered. Of one height, so that nothing jumps. */
export function BlindBar({ round, reveal, count, canVote, trouble, vote }: Properties) {
  const t = useTranslations("Compare");
  return (
    <section
      aria-label={t("blind")}
      className="flex min-h-14 flex-wrap items-center gap-x-3 gap-y-2 border-b border-hairline bg-sunk px-4 py-2 text-[0.875rem] sm:px-6"
    >
      {round ? (
        <>
          <p className={count > 2 ? "w-full" : "mr-auto"}>{canVote ? t("voteNow") : t("answering")}</p>
          {letters.slice(0, count).map((letter) => (
            <button
              key={letter}
              type="button"
              className="button-quiet min-h-8"
              disabled={!canVote}
              onClick={() => vote(letter)}
            >
              {t("better", { letter })}
            </button>
          ))}
          {(["tie", "none"] as const).map((verdict) => (
            <button
              key={verdict}
              type="button"
              className="button-quiet min-h-8"
              disabled={!canVote}
              onClick={() => vote(verdict)}
            >
              {t(verdict)}
            </button>
          ))}
        </>
      ) : reveal ? (
        <p aria-live="polite" data-testid="reveal">
          {reveal.models.map((model, place) => (
            <span key={model} className="mr-3 inline-block">
              {letters[place]}: <code className="font-mono">{model}</code> <ModelState id={model} />
              {reveal.verdict === letters[place] ? ` (${t("yours")})` : ""}
            </span>
          ))}
          {reveal.verdict === "tie" || reveal.verdict === "none" ? `(${t(reveal.verdict)}) ` : ""}
          <span className="text-muted">{t("counted")}</span>
        </p>
      ) : (
        <p className="text-muted">{t("blindNote")}</p>
      )}
      {trouble ? (
        <div role="alert" className="w-full text-bad">
          <GatewaySays said={trouble} />
        </div>
      ) : null}
    </section>
  );
}
