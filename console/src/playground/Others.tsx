"use client";

import dynamic from "next/dynamic";
import { useTranslations } from "next-intl";
import { Calls } from "./Calls";
import type { Choice } from "./conversation";
import { LongText } from "./LongText";

const Markdown = dynamic(() => import("./Markdown"), { ssr: false });
const PLAIN_FROM = 50_000; // characters; there may be seven of them

type Properties = {
  others: Choice[];
  isGrowing: boolean;
  isRaw: boolean;
  prefer: ((at: number) => void) | null;
};

/** The further answers to the same question. The conversation goes on from the first; another may take its place. */
export function Others({ others, isGrowing, isRaw, prefer }: Properties) {
  const t = useTranslations("Playground");
  return (
    <ol className="mt-4 space-y-4" aria-label={t("others")}>
      {others.map((one, at) => (
        <li key={at} className="border-t border-hairline pt-3" data-testid="other">
          <p className="mb-1 flex min-h-8 items-center gap-3 text-[0.8125rem] text-muted">
            {t("otherAnswer", { number: at + 2 })}
            {prefer ? (
              <button type="button" className="button-quiet min-h-8 px-2.5" onClick={() => prefer(at)}>
                {t("prefer")}
              </button>
            ) : null}
          </p>
          {one.text === "" ? null : isRaw || one.text.length > PLAIN_FROM ? (
            <LongText text={one.text} />
          ) : (
            <Markdown text={one.text} isGrowing={isGrowing} />
          )}
          {one.calls.length ? (
            <Calls calls={one.calls} canAnswer={false} given={() => ""} give={() => {}} answer={() => {}} />
          ) : null}
        </li>
      ))}
    </ol>
  );
}
