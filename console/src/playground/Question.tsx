"use client";

import { useTranslations } from "next-intl";
import type { KeyboardEvent } from "react";
import type { Turn } from "./conversation";

type Properties = {
  turn: Turn;
  version: { number: number; of: number };
  canEdit: boolean;
  draft: string | undefined; // while it is edited
  changeDraft: (text: string | undefined) => void;
  edit: (prompt: string) => void;
  switchVersion: (by: 1 | -1) => void;
};

/** What was asked. Editing it keeps the old question with all that followed, as another version. */
export function Question({ turn, version, canEdit, draft, changeDraft, edit, switchVersion }: Properties) {
  const t = useTranslations("Playground");

  function press(event: KeyboardEvent) {
    const isComposing = event.nativeEvent.isComposing || event.keyCode === 229;
    if (event.key === "Escape") changeDraft(undefined);
    if (event.key === "Enter" && !event.shiftKey && !isComposing) {
      event.preventDefault();
      sendAgain();
    }
  }

  function sendAgain() {
    if (!draft?.trim()) return;
    edit(draft);
  }

  if (draft !== undefined) {
    return (
      <div className="ml-auto max-w-[85%]">
        <textarea
          ref={(box) => box?.focus()}
          aria-label={t("editPrompt")}
          rows={Math.min(10, Math.max(2, draft.split("\n").length))}
          className="field w-full resize-y"
          value={draft}
          onChange={(event) => changeDraft(event.target.value)}
          onKeyDown={press}
        />
        <div className="mt-1 flex justify-end gap-2">
          <button type="button" className="button-quiet min-h-8" onClick={() => changeDraft(undefined)}>
            {t("dismiss")}
          </button>
          <button type="button" className="button-primary min-h-8" disabled={!draft.trim()} onClick={sendAgain}>
            {t("sendEdited")}
          </button>
        </div>
      </div>
    );
  }
  return (
    <div className="ml-auto w-fit max-w-[85%]">
      <div className="rounded-lg bg-accent-soft px-4 py-2.5">
        {turn.images.map((image, place) => (
          // biome-ignore lint/performance/noImgElement: a data address, which needs no optimizing
          <img
            key={`${place}-${image.length}`}
            src={image}
            alt={t("imageOf", { number: place + 1 })}
            className="mb-2 max-h-48 rounded-md"
          />
        ))}
        {turn.results.map((result) => (
          <p key={result.id} className="font-mono text-[0.8125rem] wrap-anywhere whitespace-pre-wrap">
            <span className="text-muted">{t("callResult")} </span>
            {result.content}
          </p>
        ))}
        {turn.prompt ? <p className="wrap-anywhere whitespace-pre-wrap">{turn.prompt}</p> : null}
      </div>
      <div className="mt-1 flex min-h-6 items-center justify-end gap-2 text-[0.8125rem]">
        {version.of > 1 ? (
          <span className="flex items-center gap-1">
            <button
              type="button"
              aria-label={t("previousVersion")}
              className="min-h-6 min-w-6 rounded-md hover:bg-sunk disabled:text-muted"
              disabled={version.number === 1 || !canEdit}
              onClick={() => switchVersion(-1)}
            >
              ‹
            </button>
            <span className="numbers text-muted">{t("version", version)}</span>
            <button
              type="button"
              aria-label={t("nextVersion")}
              className="min-h-6 min-w-6 rounded-md hover:bg-sunk disabled:text-muted"
              disabled={version.number === version.of || !canEdit}
              onClick={() => switchVersion(1)}
            >
              ›
            </button>
          </span>
        ) : null}
        {canEdit && turn.results.length === 0 ? (
          <button type="button" className="link min-h-6" onClick={() => changeDraft(turn.prompt)}>
            {t("edit")}
          </button>
        ) : null}
      </div>
    </div>
  );
}
