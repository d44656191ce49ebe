"use client";

import { useLocale, useTranslations } from "next-intl";
import { useSlow } from "@/frame/slow";
import { duration } from "@/time";

/** Said until the first token is there; after a while also for how long that has been, and that waiting is safe. */
export function Thinking() {
  const t = useTranslations("Playground");
  const locale = useLocale();
  const seconds = useSlow(true);
  return (
    <span className="text-muted">
      {seconds === null ? t("thinking") : t("thinkingLong", { time: duration(locale, seconds) })}
    </span>
  );
}
