import { useTranslations } from "next-intl";
import type { ReactNode } from "react";

const ROWS = 9; // kept free before the answer is there, so that nothing below jumps
export const rowHeight = "min-h-[11.5rem] md:min-h-[5.5rem] xl:min-h-[4.25rem]";
export const barHeight = "min-h-12 sm:min-h-9";

type Properties = { isBusy: boolean; note?: string | undefined; children?: ReactNode };

/** The board's heads and its rows; without rows, the room that they will take, perhaps with a note why there are none. */
export function BoardFrame({ isBusy, note, children }: Properties) {
  const t = useTranslations("Catalog");
  return (
    <div className="card" aria-busy={isBusy}>
      <div
        aria-hidden="true"
        className="hidden grid-cols-[minmax(0,1.3fr)_minmax(0,1fr)_minmax(0,1fr)_minmax(0,1.1fr)_auto] gap-4 border-b border-hairline px-5 py-2.5 text-[0.8125rem] text-muted md:grid"
      >
        <span>{t("model")}</span>
        <span>{t("baseInOut")}</span>
        <span>{t("fastInOut")}</span>
        <span>{t("state")}</span>
        <span className="w-20" />
      </div>
      <ul>
        {children ??
          Array.from({ length: ROWS }, (_, row) => (
            <li
              key={row}
              className={`grid place-content-center px-5 text-center text-muted ${note ? "" : "border-t border-hairline first:border-t-0"} ${rowHeight}`}
            >
              {row === 0 ? note : null}
            </li>
          ))}
      </ul>
    </div>
  );
}
