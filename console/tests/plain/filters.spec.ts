import { expect, test } from "@playwright/test";
import type { CatalogModel, Tier } from "../../src/api/catalog";
import { everything, filtersOf, inCurrency, matching, searchOf, sorted } from "../../src/catalog/filters";

const tier = (part: Partial<Tier>): Tier => ({
  id: "one",
  tier: "base",
  context_tokens: 32_768,
  max_output_tokens: null,
  state: "warm",
  state_reason: null,
  is_open: true,
  eta_seconds: 0,
  usual_warmup_seconds: 60,
  usual_warmup_stages: null,
  opens_at: null,
  closes_at: null,
  week: null,
  speed: null,
  prices_per_million_tokens: { EUR: { prompt: "0.1", completion: "0.4" }, CNY: { prompt: "1", completion: "3" } },
  first_token_target: null,
  ...part,
});

const model = (id: string, tiers: Tier[]): CatalogModel => ({
  id,
  name: id,
  publisher: "Somebody",
  task: "chat",
  vision: false,
  licence: "MIT",
  licence_url: "https://example.com",
  shutdown_date: null,
  notice: null,
  tiers,
});

const speed = { requests: 30, ttft_ms_p95: 400, tokens_per_second_p50: 50, latest_at: "2026-11-02T10:00:00Z" };
const models = [
  model("sleepy-fast", [tier({}), tier({ id: "sleepy-fast", tier: "fast", state: "cold", is_open: false })]),
  model("awake-fast", [tier({ state: "cold" }), tier({ tier: "fast", speed: { ...speed, ttft_ms_p50: 90 } })]),
  model("plain", [tier({ context_tokens: 131_072, speed: { ...speed, ttft_ms_p50: 300 } })]),
  model("dear", [tier({ prices_per_million_tokens: { EUR: { prompt: "1", completion: "4.8" } } })]),
];
const names = (asked: object) => matching(models, { ...everything, ...asked }, "EUR").map((one) => one.id);

test("a fast tier has to be all of what is asked for itself", () => {
  expect(names({ tier: "fast" })).toEqual(["sleepy-fast", "awake-fast"]);
  expect(names({ tier: "fast", state: "warm" })).toEqual(["awake-fast"]);
  expect(names({ tier: "fast", ttft: "200" })).toEqual(["awake-fast"]);
  expect(names({ tier: "fast", context: "131072" })).toEqual([]);
});

test("context, price and first token hold for one and the same tier", () => {
  expect(names({ context: "131072" })).toEqual(["plain"]);
  expect(names({ price: "0.5" })).toEqual(["sleepy-fast", "awake-fast", "plain"]);
  expect(names({ ttft: "200" })).toEqual(["awake-fast"]);
  expect(names({ text: "DEA" })).toEqual(["dear"]);
});

test("a price limit is none in another currency, and none is offered that is not there", () => {
  const chosen = { ...everything, price: "0.5", tier: "fast" };
  expect(inCurrency(chosen, "EUR")).toEqual(chosen);
  expect(inCurrency(chosen, "CNY").price).toBe("");
  expect(searchOf(inCurrency(chosen, "CNY"))).toBe("?tier=fast");
  expect(inCurrency(filtersOf("?price=7"), "EUR").price).toBe("");
});

test("an order puts the best first and what is unknown last", () => {
  const by = (sort: string, currency: "EUR" | "CNY" = "EUR") =>
    sorted(models, { ...everything, sort }, currency).map((one) => one.id);
  expect(by("ttft")).toEqual(["awake-fast", "plain", "sleepy-fast", "dear"]);
  expect(by("price", "CNY").at(-1)).toBe("dear");
});

test("an order goes by those tiers that are asked for, not by others of the same model", () => {
  const quick = model("quick-base", [
    tier({ speed: { ...speed, ttft_ms_p50: 10 } }),
    tier({ tier: "fast", speed: { ...speed, ttft_ms_p50: 200 } }),
  ]);
  const all = [quick, ...models.slice(0, 2)];
  const by = (asked: object) =>
    sorted(matching(all, { ...everything, ...asked }, "EUR"), { ...everything, ...asked }, "EUR").map((one) => one.id);
  expect(by({ sort: "ttft" })[0]).toBe("quick-base");
  expect(by({ sort: "ttft", tier: "fast" })).toEqual(["awake-fast", "quick-base", "sleepy-fast"]);
  expect(by({ sort: "ttft", state: "warm" })).toEqual(["quick-base", "awake-fast", "sleepy-fast"]);
});
