"use client";

import { useTranslations } from "next-intl";
import type { Session } from "./session";

export type DialogName = "presets" | "share" | "code" | "tally";

type Properties = {
  session: Session;
  isBusy: boolean;
  hasKey: boolean;
  change: (part: Partial<Session>) => void;
  addColumn: () => void;
  switchBlind: () => void;
  clear: () => void;
  open: (dialog: DialogName) => void;
};

const MOST_COLUMNS = 4;

/** What one does here, and with what. */
export function Toolbar({ session, isBusy, hasKey, change, addColumn, switchBlind, clear, open }: Properties) {
  const t = useTranslations("Playground");
  const isChat = session.mode === "chat";
  const isOpen = session.round !== null; // a blind round waits for its vote
  const toggle = "button-quiet min-h-8 aria-pressed:border-accent aria-pressed:bg-accent-soft";
  return (
    <div className="flex flex-wrap items-center gap-2 border-b border-hairline px-4 py-2 sm:px-6">
      <h1 className="text-[1.125rem] font-semibold">{t("title")}</h1>
      <fieldset aria-label={t("mode")} className="mr-auto flex gap-1">
        {(["chat", "batch"] as const).map((mode) => (
          <button
            key={mode}
            type="button"
            aria-pressed={session.mode === mode}
            className={toggle}
            disabled={isBusy || isOpen}
            onClick={() => change({ mode })}
          >
            {t(`modes.${mode}`)}
          </button>
        ))}
      </fieldset>
      <div className="-my-1 flex gap-2 py-1 max-sm:w-full max-sm:overflow-x-auto sm:flex-wrap">
        {isChat ? (
          <>
            <button
              type="button"
              className="button-quiet min-h-8"
              onClick={addColumn}
              disabled={isBusy || isOpen || session.columns.length >= MOST_COLUMNS}
            >
              {t("addColumn")}
            </button>
            <button
              type="button"
              aria-pressed={session.isBlind}
              className={toggle}
              disabled={isBusy || isOpen}
              onClick={switchBlind}
            >
              {t("blind")}
            </button>
            <button
              type="button"
              className="button-quiet min-h-8"
              disabled={!hasKey || isOpen}
              onClick={() => open("tally")}
            >
              {t("tally")}
            </button>
          </>
        ) : null}
        <button
          type="button"
          className="button-quiet min-h-8"
          disabled={isBusy || isOpen}
          onClick={() => open("presets")}
        >
          {t("presets")}
        </button>
        <button type="button" className="button-quiet min-h-8" disabled={isOpen} onClick={() => open("share")}>
          {t("share")}
        </button>
        {isChat ? (
          <>
            <button type="button" className="button-quiet min-h-8" onClick={() => open("code")}>
              {t("code")}
            </button>
            <button
              type="button"
              className="button-quiet min-h-8"
              disabled={isBusy || session.columns.every((column) => column.turns.length === 0)}
              onClick={clear}
            >
              {t("clear")}
            </button>
          </>
        ) : null}
      </div>
    </div>
  );
}
