import Big from "big.js";
import type { Body } from "@/code/samples";
import { lineCost, type Prices } from "@/money";

const TEMPLATE_TOKENS = 256; // what a model's own template adds at most, as the gateway has it

/** The most that requests can cost: a token is at least a byte, and no answer is longer than its bound. */
export function mostCost(bodies: Body[], prices: Prices | undefined, kind: "" | "batch_"): string | undefined {
  if (prices === undefined) return undefined;
  const encoder = new TextEncoder();
  let read = 0;
  let written = 0;
  for (const body of bodies) {
    read += encoder.encode(JSON.stringify(body.messages)).length + TEMPLATE_TOKENS;
    written += Number(body.max_tokens);
  }
  return sum([lineCost(prices, `${kind}prompt`, read), lineCost(prices, `${kind}completion`, written)]);
}

/** Undefined when a part is not known: never less than it is. */
export function sum(amounts: (string | undefined)[]): string | undefined {
  if (amounts.includes(undefined)) return undefined;
  return amounts.reduce<Big>((all, one) => all.plus(one ?? "0"), Big(0)).toFixed();
}
