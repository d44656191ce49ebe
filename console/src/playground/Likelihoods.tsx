"use client";

import { useFormatter, useTranslations } from "next-intl";
import type { Likelihood } from "./chat";

/** How sure the model was of each token, and what it would have written instead. */
export default function Likelihoods({ likelihoods }: { likelihoods: Likelihood[] }) {
  const t = useTranslations("Playground");
  const format = useFormatter();
  const percent = (chance: number) => format.number(chance, { style: "percent", maximumFractionDigits: 1 });
  return (
    <details className="mt-2 rounded-md border border-hairline px-3 py-2 text-[0.8125rem]">
      <summary className="text-muted">{t("likelihoods")}</summary>
      <div className="mt-2 max-h-64 overflow-y-auto" tabIndex={0}>
        <table className="numbers w-full font-mono">
          <thead className="text-left text-muted">
            <tr>
              <th scope="col">{t("token")}</th>
              <th scope="col">{t("chance")}</th>
              <th scope="col">{t("others")}</th>
            </tr>
          </thead>
          <tbody>
            {likelihoods.map((one, place) => (
              <tr key={place} className="border-t border-hairline align-top">
                <td className="whitespace-pre">{JSON.stringify(one.token)}</td>
                <td className="px-3">{percent(one.chance)}</td>
                <td>
                  {one.others.map((other) => `${JSON.stringify(other.token)} ${percent(other.chance)}`).join("  ")}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
