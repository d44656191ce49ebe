import type { Body } from "@/code/samples";
import { type Currency, type Prices, requestCost } from "@/money";
import { type Asking, responseFormatOf } from "../asking";
import { newTurn, revived, type Turn } from "../conversation";
import { bodyOf, sentOf } from "../parameters";
import type { Order } from "./orders";
import type { PromptRow } from "./prompts";

/** A batch test: prompts down, models across, an answer in each cell; and the jobs that it became. */
export type Test = {
  source: string;
  name: string; // of the file that it came from
  models: string[];
  cells: Record<string, Turn>;
  ways: string[]; // how was asked, each as JSON; a cell names its own by its place here
  asked: Record<string, number>; // cell -> way
  jobs: { id: string; model: string }[];
  orders: Order[]; // jobs that were priced, made or not
};

export const emptyTest: Test = {
  source: "",
  name: "",
  models: [],
  cells: {},
  ways: [],
  asked: {},
  jobs: [],
  orders: [],
};

export const cellOf = (row: number, model: string) => `${row} ${model}`;

export const USUAL_MOST_TOKENS = "256"; // a test of hundreds of prompts has a bound even when nobody set one

/** As a test asks: with a bound, and for one answer, since a cell has room for one. */
const bounded = (asking: Asking): Asking => ({
  ...asking,
  parameters: { ...asking.parameters, n: "", max_tokens: asking.parameters.max_tokens || USUAL_MOST_TOKENS },
});

/** The request of one cell, and of one line of the job. */
export const requestOf = (asking: Asking, model: string, row: PromptRow): Body =>
  bodyOf(model, bounded(asking), [newTurn(row.prompt, model, "waiting")]);

/** Everything that is asked beside the prompt, as JSON: two answers can be compared if it is the same. */
export function wayOf(asking: Asking): string {
  const format = responseFormatOf(asking.format);
  const system = asking.system.trim() ? { system: asking.system } : {};
  return JSON.stringify({ ...system, ...sentOf(bounded(asking)), ...(format ? { response_format: format } : {}) });
}

/** Whether an answer was made another way than is set now. Of one whose way nobody kept, nothing is said. */
export function isStale(test: Test, cell: string, way: string): boolean {
  const asked = test.asked[cell];
  return asked !== undefined && test.cells[cell] !== undefined && test.ways[asked] !== way;
}

/** The same with a cell that is asked in a way. */
export function askedIn(test: Test, cell: string, way: string): Test {
  const at = test.ways.indexOf(way);
  return at < 0
    ? { ...test, ways: [...test.ways, way], asked: { ...test.asked, [cell]: test.ways.length } }
    : { ...test, asked: { ...test.asked, [cell]: at } };
}

/** Without results; what was ordered stays. */
export const withoutResults = (test: Test): Test => ({ ...test, cells: {}, ways: [], asked: {} });

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
    ["prompts", withoutResults(whole as Test)],
    ["jobs", { ...withoutResults(whole as Test), source: "" }],
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
