"use client";

import { useTranslations } from "next-intl";
import type { KeyboardEvent } from "react";

type Properties = {
  draft: string;
  isBusy: boolean;
  canSend: boolean;
  hint: string;
  change: (draft: string) => void;
  send: () => void;
  stop: () => void;
};

/** Where one types. Enter sends and Shift-Enter breaks the line, but never while an input method is composing. */
export function Composer({ draft, isBusy, canSend, hint, change, send, stop }: Properties) {
  const t = useTranslations("Playground");

  function press(event: KeyboardEvent) {
    if (event.key === "Escape" && isBusy) stop();
    // 229: browsers that end the composition before the key that ended it
    const isComposing = event.nativeEvent.isComposing || event.keyCode === 229;
    if (event.key !== "Enter" || event.shiftKey || isComposing) return;
    event.preventDefault();
    send();
  }

  return (
    <form
      className="sticky bottom-0 border-t border-hairline bg-bg px-4 py-3 sm:px-6"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div className="mx-auto flex max-w-[60rem] items-end gap-3">
        <textarea
          aria-label={t("prompt")}
          placeholder={t("promptHint")}
          rows={Math.min(8, Math.max(2, draft.split("\n").length))}
          className="field min-w-0 flex-1 resize-none"
          value={draft}
          onChange={(event) => change(event.target.value)}
          onKeyDown={press}
        />
        {isBusy ? (
          <button type="button" className="button-quiet min-h-10 w-24" onClick={stop}>
            {t("stop")}
          </button>
        ) : (
          <button type="submit" className="button-primary w-24" disabled={!canSend}>
            {t("send")}
          </button>
        )}
      </div>
      <p className="mx-auto mt-1 min-h-5 max-w-[60rem] text-[0.8125rem] text-muted">{hint || t("keys")}</p>
    </form>
  );
}
