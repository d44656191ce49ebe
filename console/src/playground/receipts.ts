import { useQuery } from "@tanstack/react-query";
import { read } from "@/api/read";
import { Refusal } from "@/api/refusal";
import type { components } from "@/api/schema";
import type { Locale } from "@/i18n/locales";
import { type Currency, currencies, money } from "@/money";

export type Receipt = components["schemas"]["Receipt"];

/** What the ledger says of one request. It is written some seconds after the answer, so it is asked for until it is there. */
export function useReceipt(requestId: string, apiKey: string) {
  return useQuery({
    queryKey: ["receipt", requestId, apiKey],
    queryFn: ({ signal }) => read<Receipt>(`/v1/receipts/${encodeURIComponent(requestId)}`, { key: apiKey, signal }),
    enabled: apiKey !== "",
    retry: false,
    staleTime: 60_000,
    refetchInterval: (query) => (query.state.status === "error" ? 5_000 : false),
  });
}

export const isMissing = (error: Error | null) => error instanceof Refusal && error.status === 404;

/** The amount in words of the reader's language; in a currency that we have no list for, as it stands. */
export function amountOf(receipt: Receipt, locale: Locale): string {
  const currency = currencies.find((one): one is Currency => one === receipt.currency);
  return currency ? money(locale, currency, receipt.amount) : `${receipt.amount} ${receipt.currency ?? ""}`.trim();
}
