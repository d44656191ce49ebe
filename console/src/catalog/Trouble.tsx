"use client";

import { useTranslations } from "next-intl";
import { Refusal } from "@/api/refusal";
import { GatewaySays } from "@/frame/GatewaySays";

type Query = { isError: boolean; error: unknown; data: unknown; refetch: () => unknown };

/** Said when the gateway cannot be reached, or refuses. What was read before stays in view. */
export function Trouble({ query }: { query: Query }) {
  const t = useTranslations("Catalog");
  if (!query.isError) return null;
  return (
    <div
      role="alert"
      className="mb-4 flex flex-wrap items-center gap-3 rounded-md border border-bad bg-bad-soft px-4 py-3"
    >
      <div>
        <GatewaySays said={query.error instanceof Refusal ? query.error : t("unreachable")} />
        {query.data ? <p>{t("stale")}</p> : null}
      </div>
      <button type="button" className="button-quiet" onClick={() => query.refetch()}>
        {t("again")}
      </button>
    </div>
  );
}
