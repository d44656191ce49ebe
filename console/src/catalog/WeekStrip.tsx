"use client";

import { useLocale, useTranslations } from "next-intl";
import type { Week } from "@/api/catalog";
import { weekday } from "@/time";

const DAYS = [1, 2, 3, 4, 5, 6, 7];
const hourOf = (clock: string) => Number(clock.slice(0, 2)) + Number(clock.slice(3, 5)) / 60;

/** The regular week as seven lines of 24 hours, with the hours in words for whoever cannot see them. */
export function WeekStrip({ week }: { week: Week | null }) {
  const t = useTranslations("Catalog");
  const locale = useLocale();
  return (
    <div>
      <div className="relative">
        <ul className="space-y-1.5">
          {DAYS.map((day) => {
            const spans =
              week === null ? [{ opens: "00:00", closes: "24:00" }] : week.spans.filter((s) => s.weekday === day);
            return (
              <li key={day} className="flex items-center gap-3 text-[0.8125rem]">
                <span className="w-8 shrink-0 text-muted">{weekday(locale, day)}</span>
                <span className="relative h-3.5 flex-1 overflow-hidden rounded-sm bg-sunk" aria-hidden="true">
                  {spans.map((span) => (
                    <span
                      key={span.opens}
                      className="absolute inset-y-0 bg-accent"
                      style={{
                        left: `${(hourOf(span.opens) / 24) * 100}%`,
                        width: `${((hourOf(span.closes) - hourOf(span.opens)) / 24) * 100}%`,
                      }}
                    />
                  ))}
                </span>
                <span className="numbers w-24 shrink-0 text-right">
                  {spans.length === 0 ? (
                    <span className="text-muted">{t("closed")}</span>
                  ) : (
                    spans.map((span) => `${span.opens}–${span.closes}`).join(", ")
                  )}
                </span>
              </li>
            );
          })}
        </ul>
      </div>
      <p className="mt-3 text-[0.8125rem] text-muted">
        {week === null ? t("aroundTheClock") : t("zone", { zone: week.time_zone })}
        {week?.closed_on_holidays ? ` ${t("holidays")}` : ""}
      </p>
    </div>
  );
}
