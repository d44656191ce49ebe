"use client";

import { useLocale, useTranslations } from "next-intl";
import { useSyncExternalStore } from "react";
import { type Currency, currencies } from "@/money";

const EVENT = "xpulink-currency";

function subscribe(changed: () => void) {
  addEventListener(EVENT, changed);
  addEventListener("storage", changed);
  return () => {
    removeEventListener(EVENT, changed);
    removeEventListener("storage", changed);
  };
}

/** The currency that a reader wants to see: chosen before in this browser, else that of the language. */
export function useCurrency(): Currency {
  const usual: Currency = useLocale() === "zh" ? "CNY" : "EUR";
  return useSyncExternalStore(
    subscribe,
    () => currencies.find((one) => one === localStorage.getItem("currency")) ?? usual,
    () => usual,
  );
}

/** Two buttons of which one is pressed. Prices of both currencies are lists of their own; nothing is converted. */
export function CurrencySwitch() {
  const t = useTranslations("Catalog");
  const chosen = useCurrency();
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset would need a legend that shows
    <div role="group" aria-label={t("currency")} className="inline-flex rounded-md border border-control">
      {currencies.map((one) => (
        <button
          key={one}
          type="button"
          aria-pressed={one === chosen}
          onClick={() => {
            localStorage.setItem("currency", one);
            dispatchEvent(new Event(EVENT));
          }}
          className="min-h-8 px-3 text-[0.8125rem] font-medium text-muted first:rounded-l-[5px] last:rounded-r-[5px] aria-pressed:bg-accent aria-pressed:text-on-accent"
        >
          {one}
        </button>
      ))}
    </div>
  );
}
