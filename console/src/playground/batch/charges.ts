import { useQuery } from "@tanstack/react-query";
import { send } from "@/api/caller";
import type { components } from "@/api/schema";
import { GRACE } from "../receipts";
import { cellOf, type Test } from "./test";

export type ReceiptSum = components["schemas"]["ReceiptSum"];

/** What a model's answers came to, by the ledger. `missing`: of how many its books have nothing yet. */
export type Charged = { currency: string | null; amount: string; missing: number };

const AGAIN = 3_000; // ms

/** The answers of a model that began, each with when it ended (ms); what was refused before is in no book. */
export function billedOf(test: Test, model: string, rows: number): { ids: string[]; endedAt: number } {
  const turns = Array.from({ length: rows }, (_, place) => test.cells[cellOf(place, model)]);
  const begun = turns.flatMap((turn) =>
    turn?.requestId && turn.endedAt ? [turn as { requestId: string; endedAt: number }] : [],
  );
  return { ids: begun.map((turn) => turn.requestId), endedAt: Math.max(0, ...begun.map((turn) => turn.endedAt)) };
}

/** Null where no one figure says it: two currencies, tokens without a price, a tenant that is not charged. */
export function chargedBy(sum: ReceiptSum): Charged | null {
  const [cost, ...others] = sum.costs;
  if (!cost || others.length || cost.unpriced_tokens > 0) return null;
  return { currency: cost.currency, amount: cost.amount, missing: sum.requests - sum.known };
}

/** Adds nothing up here: the gateway is asked once a run has ended, and again until its books have all of it. */
export function useCharged(test: Test, model: string, rows: number, key: string, isRunning: boolean): Charged | null {
  const { ids, endedAt } = billedOf(test, model, rows);
  const { data } = useQuery({
    queryKey: ["receipt-sum", key, ids.join()],
    queryFn: () => send<ReceiptSum>("/v1/receipts/sum", key, { request_ids: ids }),
    enabled: key !== "" && ids.length > 0 && !isRunning,
    retry: false,
    staleTime: Number.POSITIVE_INFINITY,
    refetchInterval: ({ state }) =>
      state.status === "error" ||
      (state.data && state.data.known === state.data.requests) ||
      state.dataUpdatedAt > endedAt + GRACE
        ? false
        : AGAIN,
  });
  return data ? chargedBy(data) : null;
}
