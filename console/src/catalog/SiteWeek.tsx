"use client";

import { useCatalog } from "@/api/catalog";
import { WeekStrip } from "./WeekStrip";

/** The regular week that most models follow. */
export function SiteWeek() {
  const tiers = useCatalog().data?.models.flatMap((model) => model.tiers) ?? [];
  const week = tiers.find((tier) => tier.week !== null)?.week ?? null;
  return <div className="min-h-[15rem]">{tiers.length > 0 ? <WeekStrip week={week} /> : null}</div>;
}
