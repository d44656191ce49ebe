"use client";

import { useTranslations } from "next-intl";
import { useCatalog } from "@/api/catalog";
import { WeekStrip } from "./WeekStrip";

/** The regular week that most models follow. */
export function SiteWeek() {
  const t = useTranslations("Catalog");
  const { data, isError } = useCatalog();
  const tiers = data?.models.flatMap((model) => model.tiers) ?? [];
  const week = tiers.find((tier) => tier.week !== null)?.week ?? null;
  return (
    <div className="min-h-[15rem]">
      {tiers.length > 0 ? (
        <WeekStrip week={week} />
      ) : data || isError ? (
        <p className="text-muted">{t(data ? "nothing" : "notRead")}</p>
      ) : null}
    </div>
  );
}
