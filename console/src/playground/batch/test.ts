import type { Body } from "@/code/samples";
import { type Currency, type Prices, requestCost } from "@/money";
import type { Asking } from "../asking";
import { newTurn, type Turn } from "../conversation";
import { bodyOf } from "../parameters";
import type { PromptRow } from "./prompts";

/** A batch test: prompts down, models across, an answer in each cell; and the jobs that it became. */
export type Test = {
  source: string;
  name: string; // of the file that it came from
  models: string[];
  cells: Record<string, Turn>;
  jobs: { id: string; model: string }[];
};

export const emptyTest: Test = { source: "", name: "", models: [], cells: {}, jobs: [] };

export const cellOf = (row: number, model: string) => `${row} ${model}`;

export const USUAL_MOST_TOKENS = "256"; // a test of hundreds of prompts has a bound even when nobody set one

/** The request of one cell, and of one line of the job. */
export function requestOf(asking: Asking, model: string, row: PromptRow): Body {
  const parameters = { ...asking.parameters, max_tokens: asking.parameters.max_tokens || USUAL_MOST_TOKENS };
  return bodyOf(model, { ...asking, parameters }, [newTurn(row.prompt, model, "waiting")]);
}

/** A batch file, as `/v1/files` takes it. */
export const jobLines = (asking: Asking, model: string, rows: PromptRow[]): string =>
  rows
    .map((row, place) =>
      JSON.stringify({
        custom_id: `row-${place + 1}`,
        method: "POST",
        url: "/v1/chat/completions",
        body: requestOf(asking, model, row),
      }),
    )
    .map((line) => `${line}\n`)
    .join("");

export const costOf = (turn: Turn | undefined, prices: Record<string, Prices> | undefined, currency: Currency) =>
  turn?.usage && prices?.[currency] ? requestCost(prices[currency], turn.usage) : undefined;

const MOST = 2_000_000; // characters
const STORED = "playground-batch";

export function rememberedTest(): Test {
  try {
    const stored = JSON.parse(sessionStorage.getItem(STORED) ?? "null") as Test | null;
    if (stored === null) return emptyTest;
    const cells = Object.entries(stored.cells).map(([place, turn]) => [
      place,
      { ...newTurn("", "", "done"), ...turn, state: turn.state === "running" ? "stopped" : turn.state },
    ]);
    return { ...emptyTest, ...stored, cells: Object.fromEntries(cells) };
  } catch {
    return emptyTest;
  }
}

/** As much as there is room for: results go before prompts, and prompts before jobs. */
export function rememberTest(test: Test) {
  for (const kept of [test, { ...test, cells: {} }, { ...test, cells: {}, source: "" }]) {
    const text = JSON.stringify(kept);
    if (text.length > MOST) continue;
    try {
      sessionStorage.setItem(STORED, text);
      return;
    } catch {
      // No room for that much: try with less.
    }
  }
}
