"use client";

import { useLocale, useTranslations } from "next-intl";
import { useEffect, useState } from "react";
import { GatewaySays } from "@/frame/GatewaySays";
import { duration } from "@/time";
import type { Held } from "./conversation";

/** Said while a question waits for a limit to pass, or for a gateway that has too much to do. It goes by itself. */
export function HeldBanner({ held, cancel }: { held: Held; cancel: () => void }) {
  const t = useTranslations("Playground");
  const locale = useLocale();
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  const seconds = Math.max(0, Math.ceil((held.until - now) / 1_000));
  return (
    <section
      aria-label={t("held.label")}
      className="rounded-md border border-warn bg-warn-soft px-4 py-3 text-[0.875rem]"
    >
      <div className="font-semibold" role="status">
        <GatewaySays said={held} />
      </div>
      <p className="numbers mt-1 min-h-5">{t("held.goes", { time: duration(locale, seconds) })}</p>
      <p className="mt-1 text-muted">
        {t("cold.free")} <code className="ml-1 font-mono">{held.code}</code>
      </p>
      <button type="button" className="button-quiet mt-3 min-h-8" onClick={cancel}>
        {t("cold.cancel")}
      </button>
    </section>
  );
}
