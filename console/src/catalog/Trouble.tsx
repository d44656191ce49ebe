"use client";

import { useTranslations } from "next-intl";
import { Refusal } from "@/api/refusal";

type Query = { isError: boolean; error: unknown; data: unknown; refetch: () => unknown };

/** Said when the gateway cannot be reached. What was read before stays in view. */
export function Trouble({ query }: { query: Query }) {
  const t = useTranslations("Catalog");
  if (!query.isError) return null;
  return (
    <div
      role="alert"
      className="mb-4 flex flex-wrap items-center gap-3 rounded-md border border-bad bg-bad-soft px-4 py-3"
    >
      <span>
        {query.error instanceof Refusal ? query.error.message : t("unreachable")} {query.data ? t("stale") : ""}
      </span>
      <button type="button" className="button-quiet" onClick={() => query.refetch()}>
        {t("again")}
      </button>
    </div>
  );
}
