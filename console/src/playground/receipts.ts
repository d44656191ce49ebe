import { useQuery } from "@tanstack/react-query";
import { read } from "@/api/read";
import { Refusal } from "@/api/refusal";
import type { components } from "@/api/schema";
import type { Locale } from "@/i18n/locales";
import { type Currency, currencies, money } from "@/money";
import type { Turn } from "./conversation";

export type Receipt = components["schemas"]["Receipt"];

/** Of which request: its id, when it ended (ms), whether it was refused before anything began, and whom it asked. */
export type Asked = { requestId: string; endedAt: number; isFree: boolean; model: string };

export function askedOf(turn: Turn | undefined): Asked | null {
  const requestId = turn?.requestId ?? turn?.fault?.requestId;
  return requestId
    ? { requestId, endedAt: turn?.endedAt ?? 0, isFree: turn?.fault?.isFree ?? false, model: turn?.asked ?? "" }
    : null;
}

/** What the ledger has said of an answer, kept with it. The amount is exact and net; no currency: it was not charged. */
export type Settled = { isCharged: boolean; currency: string | null; amount: string };

/** Where a receipt stands that is not there: asked for, on its way, not in the books, or not to be read at the moment. */
export type Standing = "asking" | "soon" | "none" | "unread";

const FIRST = 1_500; // ms after the end of an answer: a usual one is in the books by then
const AGAIN = 5_000; // ms
export const GRACE = 60_000; // ms; another gateway adopts the journal of one that died within half of it

/**
 * What the ledger says of one request that ended at an instant (ms). It is asked until it knows, but no longer than the
 * books may be behind; then it is the reader's to ask again.
 */
export function useReceipt(requestId: string, apiKey: string, endedAt: number, isWanted = true) {
  const query = useQuery({
    queryKey: ["receipt", requestId, apiKey],
    queryFn: async ({ signal }) => {
      await new Promise((over) => setTimeout(over, endedAt + FIRST - Date.now()));
      return read<Receipt>(`/v1/receipts/${encodeURIComponent(requestId)}`, { key: apiKey, signal });
    },
    enabled: apiKey !== "" && isWanted,
    retry: false,
    staleTime: 60_000,
    refetchInterval: ({ state }) =>
      state.status === "error" && state.errorUpdatedAt < endedAt + GRACE ? AGAIN : false,
  });
  const { data, error, errorUpdatedAt, refetch, isFetching } = query;
  return {
    data,
    error,
    standing: standingOf(apiKey, error, errorUpdatedAt, endedAt),
    ask: () => refetch(),
    isFetching,
  };
}

/** A ledger that has nothing yet proves nothing before the books can know. */
export function standingOf(apiKey: string, error: Error | null, readAt: number, endedAt: number): Standing {
  if (apiKey === "") return "unread";
  if (error === null) return "asking";
  if (!(error instanceof Refusal && error.status === 404)) return "unread";
  return readAt < endedAt + GRACE ? "soon" : "none";
}

export const settledBy = ({ charged, currency, amount }: Receipt): Settled => ({
  isCharged: charged,
  currency,
  amount,
});

/** The amount in words of the reader's language; in a currency that we have no list for, as it stands. */
export function amountOf({ currency, amount }: { currency: string | null; amount: string }, locale: Locale): string {
  const known = currencies.find((one): one is Currency => one === currency);
  return known ? money(locale, known, amount) : `${amount} ${currency ?? ""}`.trim();
}
