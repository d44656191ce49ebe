"use client";

import { useTranslations } from "next-intl";
import { useEffect, useState } from "react";

/** Copies a text and says so for two seconds. Without a clipboard what shows it is selected: the nearest `data-copied`. */
export function Copy({ text, className = "" }: { text: string; className?: string }) {
  const t = useTranslations("Code");
  const [isDone, setDone] = useState(false);

  useEffect(() => {
    if (!isDone) return;
    const timer = setTimeout(() => setDone(false), 2_000);
    return () => clearTimeout(timer);
  }, [isDone]);

  async function copy(button: HTMLButtonElement) {
    try {
      await navigator.clipboard.writeText(text); // there is none in plain http, and it may be forbidden
      setDone(true);
    } catch {
      const shown = shownNear(button);
      if (shown) getSelection()?.selectAllChildren(shown);
    }
  }

  return (
    <button
      type="button"
      onClick={(event) => copy(event.currentTarget)}
      className={`min-h-8 rounded-md border border-control bg-surface px-2.5 text-[0.8125rem] text-text hover:bg-sunk ${className}`}
    >
      <span aria-live="polite">{isDone ? t("copied") : t("copy")}</span>
    </button>
  );
}

function shownNear(button: HTMLElement): Element | null {
  for (let around = button.parentElement; around; around = around.parentElement) {
    const shown = around.querySelector("[data-copied]");
    if (shown) return shown;
  }
  return null;
}
