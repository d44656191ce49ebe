import Big from "big.js";
import { type Locale, tags } from "@/i18n/locales";

/** Money comes as exact decimal strings and stays exact: sums are Big's, and `Intl` is given the string itself. */

export type Prices = Record<string, string>; // unit -> for 1,000,000 tokens
export type Currency = "EUR" | "CNY";
export const currencies: readonly Currency[] = ["EUR", "CNY"];

export type Usage = { prompt: number; cached: number; completion: number };

const PER = Big(1_000_000);

/** What one kind of token costs, exact. Undefined when the model has no such price. */
export function lineCost(prices: Prices, unit: string, tokens: number): string | undefined {
  const price = prices[unit];
  return price === undefined ? undefined : Big(price).times(tokens).div(PER).toFixed();
}

/** The list price of a chat request, as the gateway rates it. Undefined when a price is missing: never zero. */
export function requestCost(prices: Prices, usage: Usage): string | undefined {
  const lines = [
    lineCost(prices, "prompt", usage.prompt - usage.cached),
    usage.cached === 0 ? "0" : lineCost(prices, "cached_prompt", usage.cached),
    lineCost(prices, "completion", usage.completion),
  ];
  if (lines.includes(undefined)) return undefined;
  return lines.reduce<Big>((sum, line) => sum.plus(line ?? "0"), Big(0)).toFixed();
}

/** Whether a price is at most another; both decimal strings. */
export const atMost = (price: string, most: string): boolean => Big(price).lte(most);

/**
 * For people, with two to six digits. Yuan have their code outside Chinese, where a bare sign could be yen. What costs
 * less than a millionth is shown as less than that, never as zero.
 */
export function money(locale: Locale, currency: Currency, amount: string): string {
  const isYuanAbroad = currency === "CNY" && locale !== "zh";
  const value = Big(amount);
  const least = Big("0.000001");
  const isTiny = value.gt(0) && value.lt(least);
  const format = new Intl.NumberFormat(tags[locale], {
    style: "currency",
    currency,
    currencyDisplay: isYuanAbroad ? "code" : "symbol",
    minimumFractionDigits: 2,
    maximumFractionDigits: 6,
  });
  // A decimal string keeps its digits; the type of older libraries knows numbers only.
  const text = format.format((isTiny ? least : value).toFixed() as unknown as number);
  return isTiny ? `< ${text}` : text;
}
