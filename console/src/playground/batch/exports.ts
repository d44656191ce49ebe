import type { Currency, Prices } from "@/money";
import type { PromptRow } from "./prompts";
import { cellOf, costOf, type Test } from "./test";

/** Rows for programs: exact decimals, no grouping, times in milliseconds. */
export function records(test: Test, rows: PromptRow[], pricesOf: PricesOf, currency: Currency) {
  return rows.flatMap((row, place) =>
    test.models.map((model) => {
      const turn = test.cells[cellOf(place, model)];
      return {
        row: place + 1,
        prompt: row.prompt,
        expected: row.expected,
        model,
        answered_by: turn?.model ?? null,
        state: turn?.state ?? "not_run",
        answer: turn?.text ?? null,
        ttft_ms: turn?.ttftMs == null ? null : Math.round(turn.ttftMs),
        prompt_tokens: turn?.usage?.prompt ?? null,
        completion_tokens: turn?.usage?.completion ?? null,
        cost_at_list_price: costOf(turn, pricesOf(model), currency) ?? null,
        currency,
        request_id: turn?.requestId ?? turn?.fault?.requestId ?? null,
        error: turn?.fault?.code ?? turn?.fault?.kind ?? null,
        asked_with: test.ways[test.asked[cellOf(place, model)] ?? -1] ?? null,
      };
    }),
  );
}

export type PricesOf = (model: string) => Record<string, Prices> | undefined;

export const jsonl = (all: object[]): string => all.map((one) => `${JSON.stringify(one)}\n`).join("");

/** With a mark that tells spreadsheets of UTF-8. A text that a spreadsheet would take for a formula is made a text. */
export function csv(all: Record<string, string | number | null>[]): string {
  const names = Object.keys(all[0] ?? {});
  const lines = [names.join(), ...all.map((one) => names.map((name) => cell(one[name] ?? null)).join())];
  return `\uFEFF${lines.join("\r\n")}\r\n`;
}

function cell(value: string | number | null): string {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
