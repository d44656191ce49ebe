import { useFormatter, useLocale, useTranslations } from "next-intl";
import { type Currency, money } from "@/money";
import type { Report } from "./slo";

/** Where the fast tier came late, it was billed at the base price: what that gave back, exactly. */
export function Credits({ credits }: { credits: Report["credited"] | undefined }) {
  const t = useTranslations("Service");
  const format = useFormatter();
  const locale = useLocale();
  if (!credits) return null;
  return (
    <section>
      <h2 className="text-[1.125rem] font-semibold">{t("credited")}</h2>
      <p className="mt-1 mb-3 max-w-[44rem] text-muted">{t("creditedLead")}</p>
      {credits.length === 0 ? (
        <p className="text-muted">{t("nothingCredited")}</p>
      ) : (
        <ul className="card">
          {credits.map((one) => (
            <li
              key={`${one.model} ${one.currency}`}
              className="flex flex-wrap items-baseline gap-x-6 gap-y-1 border-t border-hairline px-5 py-3 first:border-t-0"
            >
              <span className="min-w-0 basis-full font-medium wrap-anywhere sm:flex-1 sm:basis-0">{one.model}</span>
              <span className="numbers text-muted">{t("tokens", { tokens: format.number(one.tokens) })}</span>
              <span className="numbers">
                {t("gaveBack", { amount: money(locale, one.currency as Currency, one.credited) })}
              </span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
