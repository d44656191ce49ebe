import { expect, test } from "@playwright/test";
import { plain } from "../../src/playground/asking";
import { billedOf, chargedBy } from "../../src/playground/batch/charges";
import { jsonl, records } from "../../src/playground/batch/exports";
import {
  askedIn,
  emptyTest,
  isStale,
  requestOf,
  type Test,
  wayOf,
  withoutResults,
} from "../../src/playground/batch/test";
import { newTurn } from "../../src/playground/conversation";
import { unset } from "../../src/playground/parameters";

const asking = { system: "", parameters: unset, tools: "", format: plain };
const warmer = { ...asking, parameters: { ...unset, temperature: "1.5" } };
const answer = (text: string, part: object = {}) => ({ ...newTurn("q", "m", "done"), text, ...part });
const row = { prompt: "q", expected: null };

test("an answer that was made another way is old, whatever changed, and is not when it is set back", () => {
  let batch: Test = { ...emptyTest, models: ["m"], cells: { "0 m": answer("a"), "1 m": answer("b") } };
  batch = askedIn(askedIn(batch, "0 m", wayOf(asking)), "1 m", wayOf(warmer));
  const old = (now: typeof asking) => ["0 m", "1 m"].map((cell) => isStale(batch, cell, wayOf(now)));
  expect(old(asking)).toEqual([false, true]);
  expect(old(warmer)).toEqual([true, false]);
  expect(old({ ...asking, system: "Be brief." })).toEqual([true, true]);
  expect(old({ ...asking, system: "  " })).toEqual([false, true]);
  // Several answers are not asked for here, and a bound that holds anyway changes nothing.
  expect(old({ ...asking, parameters: { ...unset, n: "3", max_tokens: "256" } })).toEqual([false, true]);
  expect(requestOf({ ...asking, parameters: { ...unset, n: "3" } }, "m", row)).not.toHaveProperty("n");
  expect(withoutResults(batch)).toEqual({ ...emptyTest, models: ["m"] });
  const [first, second] = records(batch, [row, row], () => undefined, "EUR");
  expect([first?.asked_with, second?.asked_with]).toEqual([
    '{"max_tokens":256}',
    '{"temperature":1.5,"max_tokens":256}',
  ]);
  expect(jsonl([{ a: 1 }, { a: 2 }])).toBe('{"a":1}\n{"a":2}\n');
});

test("a column costs what the gateway's sum says, and only where it says it all", () => {
  const cells = {
    "0 m": answer("a", { requestId: "req_1", endedAt: 5 }),
    "1 m": { ...answer("", { endedAt: 9 }), state: "failed" as const }, // refused: in no book
    "2 m": answer("c", { requestId: "req_2", endedAt: 7, state: "stopped" }),
    "0 other": answer("d", { requestId: "req_3", endedAt: 8 }),
  };
  expect(billedOf({ ...emptyTest, cells }, "m", 3)).toEqual({ ids: ["req_1", "req_2"], endedAt: 7 });
  const sum = { object: "receipt.sum" as const, requests: 2, known: 2, costs: [] };
  const euro = { currency: "EUR", amount: "0.000123", unpriced_tokens: 0 };
  expect(chargedBy({ ...sum, costs: [euro] })).toEqual({ currency: "EUR", amount: "0.000123", missing: 0 });
  expect(chargedBy({ ...sum, known: 1, costs: [euro] })?.missing).toBe(1);
  expect(chargedBy(sum)).toBeNull();
  expect(chargedBy({ ...sum, costs: [{ ...euro, unpriced_tokens: 3 }] })).toBeNull();
  expect(chargedBy({ ...sum, costs: [euro, { ...euro, currency: "CNY" }] })).toBeNull();
});
