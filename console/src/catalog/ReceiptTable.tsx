import { useFormatter, useLocale, useTranslations } from "next-intl";
import type { Tier } from "@/api/catalog";
import { type Currency, lineCost, money, requestCost } from "@/money";

const EXAMPLE = { prompt: 1_300, cached: 1_024, completion: 412 };

/** One request's bill: what a line of an invoice is made of. Without a tier the amounts are not known yet. */
export function ReceiptTable({ tier, currency }: { tier?: Tier | undefined; currency: Currency }) {
  const t = useTranslations("Receipt");
  const format = useFormatter();
  const locale = useLocale();
  const prices = tier?.prices_per_million_tokens[currency];
  const lines = [
    { unit: "prompt", tokens: EXAMPLE.prompt - EXAMPLE.cached, name: t("prompt") },
    { unit: "cached_prompt", tokens: EXAMPLE.cached, name: t("cached") },
    { unit: "completion", tokens: EXAMPLE.completion, name: t("completion") },
  ];
  const shown = (amount: string | undefined) => (amount === undefined ? "–" : money(locale, currency, amount));
  return (
    <figure className="card p-5 font-mono text-[0.8125rem]">
      <figcaption className="mb-4 flex min-h-5 justify-between gap-4">
        <span className="font-sans font-semibold">{t("title")}</span>
        <span className="text-muted">{tier?.id ?? ""}</span>
      </figcaption>
      <table className="numbers w-full">
        <thead className="text-left text-muted">
          <tr>
            <th className="pb-2 font-normal">{t("item")}</th>
            <th className="pb-2 text-right font-normal">{t("tokens")}</th>
            <th className="hidden pb-2 text-right font-normal sm:table-cell">{t("price")}</th>
            <th className="pb-2 text-right font-normal">{t("amount")}</th>
          </tr>
        </thead>
        <tbody>
          {lines.map((line) => (
            <tr key={line.unit}>
              <td className="py-1">{line.name}</td>
              <td className="py-1 text-right">{format.number(line.tokens)}</td>
              <td className="hidden py-1 text-right sm:table-cell">{shown(prices?.[line.unit])}</td>
              <td className="py-1 text-right">{shown(prices && lineCost(prices, line.unit, line.tokens))}</td>
            </tr>
          ))}
          <tr className="border-t border-dashed border-control font-semibold">
            <td className="pt-2">{t("sum")}</td>
            <td />
            <td className="hidden sm:table-cell" />
            <td className="pt-2 text-right">{shown(prices && requestCost(prices, EXAMPLE))}</td>
          </tr>
        </tbody>
      </table>
      <p className="mt-4 font-sans text-muted">{t("note")}</p>
    </figure>
  );
}
