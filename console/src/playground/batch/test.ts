import type { Body } from "@/code/samples";
import { type Currency, type Prices, requestCost } from "@/money";
import type { Asking } from "../asking";
import { newTurn, revived, type Turn } from "../conversation";
import { bodyOf } from "../parameters";
import type { Order } from "./orders";
import type { PromptRow } from "./prompts";

/** A batch test: prompts down, models across, an answer in each cell; and the jobs that it became. */
export type Test = {
  source: string;
  name: string; // of the file that it came from
  models: string[];
  cells: Record<string, Turn>;
  jobs: { id: string; model: string }[];
  orders: Order[]; // jobs that were priced, made or not
};

export const emptyTest: Test = { source: "", name: "", models: [], cells: {}, jobs: [], orders: [] };

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

const MOST = 3_000_000; // characters of the five million that browsers give a site; the conversation has the rest
const STORED = "playground-batch";

/** How much of a test the tab's store holds. */
export type Kept = "all" | "prompts" | "jobs" | "nothing";

export function rememberedTest(): Test {
  try {
    const stored = JSON.parse(sessionStorage.getItem(STORED) ?? "null") as Test | null;
    if (stored === null) return emptyTest;
    const cells = Object.entries(stored.cells).map(([place, turn]) => [place, revived(turn)]);
    return { ...emptyTest, ...stored, cells: Object.fromEntries(cells) };
  } catch {
    return emptyTest;
  }
}

/** As much as there is room for: results go before prompts, and prompts before jobs. Says what it was. */
export function rememberTest(test: Test): Kept {
  const cells = Object.fromEntries(Object.entries(test.cells).map(([place, turn]) => [place, slim(turn)]));
  const whole = { ...test, cells };
  const parts: [Kept, object][] = [
    ["all", whole],
    ["prompts", { ...whole, cells: {} }],
    ["jobs", { ...whole, cells: {}, source: "" }],
  ];
  for (const [kept, part] of parts) {
    const text = JSON.stringify(part);
    if (text.length > MOST) continue;
    try {
      sessionStorage.setItem(STORED, text);
      return kept;
    } catch {
      // No room for that much: try with less.
    }
  }
  return "nothing";
}

const blank = newTurn("", "", "done");

/** What a cell has that its row and model do not say: 2,000 answers of the usual bound have room. */
export function slim(turn: Turn): Partial<Turn> {
  const { id, born, prompt, asked, likelihoods, ...rest } = turn;
  const told = Object.entries(rest).filter(
    ([name, value]) => JSON.stringify(value) !== JSON.stringify(blank[name as keyof Turn]),
  );
  return Object.fromEntries(told);
}
