"use client";

import { useTranslations } from "next-intl";

/** Light or dark, against what shows now. Until one chooses, the system decides. */
export function ThemeSwitch() {
  const t = useTranslations("Frame");

  function turn() {
    const root = document.documentElement;
    const shown = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = shown === "dark" ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  }

  return (
    <button
      type="button"
      onClick={turn}
      aria-label={t("theme")}
      title={t("theme")}
      className="grid size-10 place-items-center rounded-md text-muted hover:text-text"
    >
      <svg
        viewBox="0 0 24 24"
        className="size-5"
        fill="none"
        stroke="currentColor"
        strokeWidth="1.75"
        aria-hidden="true"
      >
        <circle cx="12" cy="12" r="8.5" />
        <path d="M12 3.5a8.5 8.5 0 0 1 0 17z" fill="currentColor" stroke="none" />
      </svg>
    </button>
  );
}
