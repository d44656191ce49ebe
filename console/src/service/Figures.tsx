import { useFormatter, useTranslations } from "next-intl";
import { ModelState } from "@/catalog/State";
import { byModel, type Figure, type Objective, objectives } from "./slo";

/** One row for each model. What nobody measured says so; a target that was missed is said in words, not by colour alone. */
export function Figures({ figures }: { figures: Figure[] | undefined }) {
  const t = useTranslations("Service");
  if (!figures) return <div className="card min-h-[16rem]" aria-busy="true" />;
  return (
    <section className="card overflow-x-auto" tabIndex={0} aria-label={t("figures")}>
      <table className="w-full min-w-[56rem] text-left text-[0.875rem]">
        <thead>
          <tr className="border-b border-hairline text-[0.8125rem] text-muted">
            <th scope="col" className="px-5 py-2.5 font-normal">
              {t("model")}
            </th>
            {objectives.map((objective) => (
              <th key={objective} scope="col" className="px-3 py-2.5 font-normal">
                {t(`objectives.${objective}`)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {byModel(figures).map(([model, of]) => (
            <tr key={model} className="border-t border-hairline first:border-t-0 align-top">
              <th scope="row" className="px-5 py-3 font-medium wrap-anywhere">
                {model}{" "}
                <span className="block min-h-5 font-normal">
                  <ModelState id={model} />
                </span>
              </th>
              {objectives.map((objective) => (
                <td key={objective} className="px-3 py-3">
                  <Value objective={objective} figure={of[objective]} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Value({ objective, figure }: { objective: Objective; figure: Figure | undefined }) {
  const t = useTranslations("Service");
  const format = useFormatter();
  const shown = (value: string) =>
    objective === "first_token_ms_p50"
      ? t("ms", { value: format.number(Number(value), { maximumFractionDigits: 0 }) })
      : format.number(Number(value), { style: "percent", maximumFractionDigits: 2 });
  if (!figure || figure.value === null) return <span className="text-muted">{t("notMeasured")}</span>;
  return (
    <>
      <span className="numbers block">{shown(figure.value)}</span>
      {figure.target === null ? null : (
        <span className={`block text-[0.8125rem] ${figure.is_met === false ? "font-semibold text-bad" : "text-muted"}`}>
          {t(figure.is_met === false ? "missed" : "met", { target: shown(figure.target) })}
        </span>
      )}
    </>
  );
}
