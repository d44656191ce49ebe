"use client";

import { useLocale, useTranslations } from "next-intl";
import { useEffect, useState } from "react";
import { duration } from "@/time";

const SLOW_FROM = 3; // s; what takes less needs no words

/** For how many seconds something has been on its way, once that is long; null before. */
export function useSlow(isOn: boolean): number | null {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    setSeconds(0);
    if (!isOn) return;
    const timer = setInterval(() => setSeconds((now) => now + 1), 1_000);
    return () => clearInterval(timer);
  }, [isOn]);
  return isOn && seconds >= SLOW_FROM ? seconds : null;
}

/** Said where something is still being read after seconds. It stands where room is kept for it, so that nothing jumps. */
export function Slow({ query }: { query: { isPending: boolean; fetchStatus: string } }) {
  const t = useTranslations("Catalog");
  const locale = useLocale();
  const seconds = useSlow(query.isPending && query.fetchStatus === "fetching");
  return <span role="status">{seconds === null ? "" : t("slow", { time: duration(locale, seconds) })}</span>;
}
