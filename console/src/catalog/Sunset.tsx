"use client";

import { useFormatter, useTranslations } from "next-intl";

/** That a model goes out of service, and when. `day`: a civil day. */
export function Sunset({ day }: { day: string }) {
  const t = useTranslations("Catalog");
  const format = useFormatter();
  const instant = new Date(`${day}T12:00:00Z`);
  return (
    <p className="text-[0.875rem] text-warn" data-testid="sunset">
      {t("sunset", { day: format.dateTime(instant, { dateStyle: "long", timeZone: "UTC" }) })}
    </p>
  );
}
