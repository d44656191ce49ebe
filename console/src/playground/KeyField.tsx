"use client";

import { useTranslations } from "next-intl";
import { useState } from "react";
import { GatewaySays, type Said } from "@/frame/GatewaySays";

type Properties = { value: string; error: Said | null; isGood: boolean; change: (key: string) => void };

/** The API key of this tab. Nothing else keeps it: not the address, not a cookie, not the disk. */
export function KeyField({ value, error, isGood, change }: Properties) {
  const t = useTranslations("Playground");
  const [draft, setDraft] = useState("");
  if (value) {
    return (
      <div className="text-[0.8125rem]">
        <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
          <span className="text-muted">{t("key")}</span>
          <code className="font-mono">{`${value.slice(0, 8)}…`}</code>
          <span className="min-w-12 text-ok">{isGood ? t("keyGood") : ""}</span>
          <button type="button" className="link ml-auto min-h-6" onClick={() => change("")}>
            {t("forgetKey")}
          </button>
        </div>
        {error ? (
          <div role="alert" className="mt-1 text-bad">
            <GatewaySays said={error} />
          </div>
        ) : null}
      </div>
    );
  }
  return (
    <form
      className="text-[0.8125rem]"
      onSubmit={(event) => {
        event.preventDefault();
        change(draft.trim());
        setDraft("");
      }}
    >
      <label className="flex flex-col gap-1">
        <span className="font-semibold">{t("key")}</span>
        <span className="flex gap-2">
          <input
            type="password"
            autoComplete="off"
            spellCheck={false}
            placeholder="xpu_…"
            className="field min-w-0 flex-1 font-mono"
            value={draft}
            onChange={(event) => setDraft(event.target.value)}
          />
          <button type="submit" className="button-quiet" disabled={!draft.trim()}>
            {t("useKey")}
          </button>
        </span>
      </label>
      <p className="mt-1.5 text-muted">{t("keyNote")}</p>
    </form>
  );
}
