"use client";

import { useFormatter, useTranslations } from "next-intl";
import type { Tier } from "@/api/catalog";
import { useInstants } from "./instants";

/** How fast a tier was in the last day, over how many streams, and when the last of them was. Reserved when unknown. */
export function Speed({ tier }: { tier: Tier }) {
  const t = useTranslations("Models");
  const format = useFormatter();
  const instants = useInstants();
  const { speed } = tier;
  const whole = (value: number) => format.number(value, { maximumFractionDigits: 0 });
  if (!speed) {
    return <p className="mt-2 min-h-16 border-t border-hairline pt-2 text-muted">{t("notMeasured")}</p>;
  }
  return (
    <div className="mt-2 min-h-16 border-t border-hairline pt-2">
      <dl className="space-y-0.5">
        <div className="flex justify-between gap-4">
          <dt className="text-muted">{t("ttft")}</dt>
          <dd className="numbers">
            {t("ttftValue", { p50: whole(speed.ttft_ms_p50), p95: whole(speed.ttft_ms_p95) })}
          </dd>
        </div>
        {speed.tokens_per_second_p50 === null ? null : (
          <div className="flex justify-between gap-4">
            <dt className="text-muted">{t("rate")}</dt>
            <dd className="numbers">{t("rateValue", { rate: whole(speed.tokens_per_second_p50) })}</dd>
          </div>
        )}
      </dl>
      <p className="mt-0.5 text-[0.8125rem] text-muted">
        {t("measured", {
          requests: speed.requests,
          time: instants(speed.latest_at, speed.latest_at),
        })}
      </p>
    </div>
  );
}
