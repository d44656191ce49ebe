import type { CatalogModel, Tier } from "@/api/catalog";
import { atMost, type Currency } from "@/money";

/** What a reader wants to see. An empty string asks for nothing. Kept in the address, so that it can be sent on. */
export type Filters = {
  text: string;
  task: string;
  context: string;
  price: string;
  tier: string;
  state: string;
  ttft: string;
  sort: string;
};

export const everything: Filters = {
  text: "",
  task: "",
  context: "",
  price: "",
  tier: "",
  state: "",
  ttft: "",
  sort: "",
};
export const tasks = ["chat", "completion", "embedding"] as const;
export const contexts = ["8192", "32768", "131072"] as const;
export const priceLimits: Record<Currency, readonly string[]> = {
  EUR: ["0.2", "0.5", "1"],
  CNY: ["2", "4", "8"],
};
export const firstTokens = ["200", "500", "1000"] as const; // ms, at most
export const orders = ["ttft", "rate", "price"] as const;
export const states = ["warm", "open", "deployed"] as const;

/** What holds of a filter in a currency: a price limit belongs to the list that it was chosen from. */
export const inCurrency = (filters: Filters, currency: Currency): Filters =>
  priceLimits[currency].includes(filters.price) ? filters : { ...filters, price: "" };

export function filtersOf(search: string): Filters {
  const asked = new URLSearchParams(search);
  const read = (name: keyof Filters) => asked.get(name)?.slice(0, 100) ?? "";
  return {
    text: read("text"),
    task: read("task"),
    context: read("context"),
    price: read("price"),
    tier: read("tier"),
    state: read("state"),
    ttft: read("ttft"),
    sort: read("sort"),
  };
}

export function searchOf(filters: Filters): string {
  const asked = new URLSearchParams(Object.entries(filters).filter(([, value]) => value));
  return asked.size ? `?${asked}` : "";
}

/** Models with at least one tier that is all of what was asked. */
export function matching(models: CatalogModel[], filters: Filters, currency: Currency): CatalogModel[] {
  const text = filters.text.trim().toLowerCase();
  return models.filter(
    (model) =>
      (!text ||
        `${model.name} ${model.publisher} ${model.tiers.map((tier) => tier.id)}`.toLowerCase().includes(text)) &&
      (!filters.task || model.task === filters.task) &&
      model.tiers.some((tier) => fits(tier, filters, currency)),
  );
}

function fits(tier: Tier, filters: Filters, currency: Currency): boolean {
  const prices = tier.prices_per_million_tokens[currency];
  const price = prices?.completion ?? prices?.embedding;
  const { price: most } = inCurrency(filters, currency);
  return (
    (!filters.tier || tier.tier === "fast") &&
    tier.context_tokens >= Number(filters.context || 0) &&
    (!filters.ttft || (tier.speed !== null && tier.speed.ttft_ms_p50 <= Number(filters.ttft))) &&
    (!most || (price !== undefined && atMost(price, most))) &&
    (filters.state !== "warm" || tier.state === "warm") &&
    (filters.state !== "open" || tier.is_open) &&
    (filters.state !== "deployed" || tier.state !== "not_deployed")
  );
}

/** By the best of those tiers that are what was asked for. What is not measured or not priced comes last; equals stay as they were. */
export function sorted(models: CatalogModel[], filters: Filters, currency: Currency): CatalogModel[] {
  const rank = orders.find((one) => one === filters.sort);
  if (!rank) return models;
  const of = (tier: Tier) => {
    const prices = tier.prices_per_million_tokens[currency];
    if (rank === "ttft") return tier.speed?.ttft_ms_p50 ?? Number.POSITIVE_INFINITY;
    if (rank === "rate") return -(tier.speed?.tokens_per_second_p50 ?? Number.NEGATIVE_INFINITY);
    return Number(prices?.completion ?? prices?.embedding ?? Number.POSITIVE_INFINITY); // to compare, not to reckon
  };
  const best = (model: CatalogModel) =>
    Math.min(...model.tiers.filter((tier) => fits(tier, filters, currency)).map(of));
  return [...models].sort((a, b) => (best(a) === best(b) ? 0 : best(a) - best(b)));
}
