"use client";

import { useLocale, useTranslations } from "next-intl";
import { useEffect, useState } from "react";
import { Refusal } from "@/api/refusal";
import { Trouble } from "@/catalog/Trouble";
import { tags } from "@/i18n/locales";
import { rememberedKey, rememberKey } from "@/playground/session";
import { Caller, useCaller } from "@/session/Caller";
import { Credits } from "./Credits";
import { Figures } from "./Figures";
import { useMonths, useReport } from "./slo";

/** What was promised in a month, how it was kept, and what one was credited where it was not. */
export function Service() {
  const t = useTranslations("Service");
  const locale = useLocale();
  const [pasted, setPasted] = useState("");
  const [chosen, setChosen] = useState<string>();
  useEffect(() => setPasted(rememberedKey()), []);
  const { key } = useCaller(pasted);
  const months = useMonths(key);
  const month = chosen ?? months.data?.data[0];
  const report = useReport(key, month);
  const nameOf = (one: string) =>
    new Intl.DateTimeFormat(tags[locale], { month: "long", year: "numeric", timeZone: "UTC" }).format(
      new Date(`${one}-01T00:00Z`),
    );
  const refusal = months.error instanceof Refusal && months.error.status === 401 ? months.error : null;
  return (
    <div className="space-y-6">
      <section aria-label={t("caller")} className="card max-w-[26rem] px-5 py-4">
        <Caller
          value={pasted}
          error={refusal}
          isGood={months.isSuccess}
          change={(one) => {
            rememberKey(one);
            setPasted(one);
            setChosen(undefined);
          }}
        />
      </section>
      {refusal ? null : <Trouble query={months} />}
      {months.data?.data.length === 0 ? <p className="text-muted">{t("none")}</p> : null}
      {month ? (
        <>
          <div className="flex flex-wrap items-center gap-x-4 gap-y-2">
            <label className="flex items-center gap-2">
              <span className="font-semibold">{t("month")}</span>
              <select className="field" value={month} onChange={(event) => setChosen(event.target.value)}>
                {months.data?.data.map((one) => (
                  <option key={one} value={one}>
                    {nameOf(one)}
                  </option>
                ))}
              </select>
            </label>
            <span className="min-h-5 text-[0.8125rem] text-muted">
              {report.data
                ? `${t("computed", {
                    time: new Intl.DateTimeFormat(tags[locale], {
                      dateStyle: "medium",
                      timeStyle: "short",
                      timeZone: "Europe/Berlin",
                    }).format(new Date(report.data.computed_at)),
                  })} ${t(report.data.is_final ? "final" : "open")}`
                : ""}
            </span>
          </div>
          <Trouble query={report} />
          <Figures figures={report.data?.figures} />
          <Credits credits={report.data?.credited} />
        </>
      ) : null}
    </div>
  );
}
