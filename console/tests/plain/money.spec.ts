import { expect, test } from "@playwright/test";
import { lineCost, money, requestCost } from "../../src/money";

const prices = { prompt: "0.1", cached_prompt: "0.05", completion: "0.3" };

test("a request costs what its tokens cost, to the last digit", () => {
  // In floats 276 x 0.1 + 1024 x 0.05 + 412 x 0.3 is 202.39999999999998.
  expect(requestCost(prices, { prompt: 1_300, cached: 1_024, completion: 412 })).toBe("0.0002024");
  expect(lineCost(prices, "completion", 1)).toBe("0.0000003");
});

test("a missing price is no price, never zero", () => {
  expect(requestCost({ prompt: "1" }, { prompt: 1, cached: 0, completion: 0 })).toBeUndefined();
  expect(requestCost({ prompt: "1", completion: "1" }, { prompt: 2, cached: 1, completion: 0 })).toBeUndefined();
});

test("money reads as each language writes it", () => {
  expect(money("en", "EUR", "1234.5")).toBe("€1,234.50");
  expect(money("de", "EUR", "1234.5")).toBe("1.234,50\u00a0€");
  expect(money("zh", "CNY", "1234.5")).toBe("¥1,234.50");
  expect(money("en", "CNY", "1234.5")).toBe("CNY\u00a01,234.50");
  expect(money("de", "CNY", "0.192")).toBe("0,192\u00a0CNY");
});

test("what costs something is never shown as nothing", () => {
  expect(money("en", "EUR", "0.0000003")).toBe("< €0.000001");
  expect(money("en", "EUR", "0.0002024")).toBe("€0.000202");
  expect(money("en", "EUR", "0")).toBe("€0.00");
});

test("an amount that no float can hold keeps its digits", () => {
  expect(money("en", "EUR", "90071992547409931.23")).toBe("€90,071,992,547,409,931.23");
});
