"use client";

import { useLocale, useTranslations } from "next-intl";
import { tags } from "@/i18n/locales";

/** That a model goes out of service, and when. `day`: a civil day. */
export function Sunset({ day }: { day: string }) {
  const t = useTranslations("Catalog");
  const locale = useLocale();
  const format = new Intl.DateTimeFormat(tags[locale], { dateStyle: "long", timeZone: "UTC" });
  return (
    <p className="text-[0.875rem] text-warn" data-testid="sunset">
      {t("sunset", { day: format.format(new Date(`${day}T12:00:00Z`)) })}
    </p>
  );
}
