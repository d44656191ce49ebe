"use client";

import { useTranslations } from "next-intl";
import { Refusal } from "@/api/refusal";
import { GatewaySays } from "@/frame/GatewaySays";
import { useSlow } from "@/frame/slow";

type Query = { isError: boolean; isFetching: boolean; error: unknown; data: unknown; refetch: () => unknown };

// Over the head of the page and not in it: it comes and goes, and what is being read may not jump for it.
const above = "fixed inset-x-2 top-1.5 z-40 mx-auto w-fit max-w-[44rem] shadow-lg";

/** Said when the gateway cannot be reached, refuses, or takes its time. What was read before stays in view. */
export function Trouble({ query }: { query: Query }) {
  const t = useTranslations("Catalog");
  const isSlow = useSlow(query.isFetching && !query.isError) !== null;
  if (isSlow) {
    return (
      <output className={`card px-4 py-2.5 text-[0.875rem] ${above}`}>
        {t("slow")} {query.data ? t("stale") : ""}
      </output>
    );
  }
  if (!query.isError) return null;
  return (
    <div
      role="alert"
      className={`flex flex-wrap items-center gap-x-3 gap-y-1 rounded-md border border-bad bg-bad-soft px-4 ${query.data ? `py-2 ${above}` : "mb-4 py-3"}`}
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
