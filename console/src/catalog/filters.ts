import { type CatalogModel, type Tier, tierOf } from "@/api/catalog";
import { atMost, type Currency } from "@/money";

/** What a reader wants to see. An empty string asks for nothing. Kept in the address, so that it can be sent on. */
export type Filters = { text: string; task: string; context: string; price: string; tier: string; state: string };

export const everything: Filters = { text: "", task: "", context: "", price: "", tier: "", state: "" };
export const tasks = ["chat", "completion", "embedding"] as const;
export const contexts = ["8192", "32768", "131072"] as const;
export const priceLimits: Record<Currency, readonly string[]> = {
  EUR: ["0.2", "0.5", "1"],
  CNY: ["2", "4", "8"],
};
export const states = ["warm", "open", "deployed"] as const;

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
      (!filters.tier || tierOf(model, "fast") !== undefined) &&
      model.tiers.some((tier) => fits(tier, filters, currency)),
  );
}

function fits(tier: Tier, filters: Filters, currency: Currency): boolean {
  const prices = tier.prices_per_million_tokens[currency];
  const price = prices?.completion ?? prices?.embedding;
  const most = priceLimits[currency].find((limit) => limit === filters.price);
  return (
    tier.context_tokens >= Number(filters.context || 0) &&
    (!most || (price !== undefined && atMost(price, most))) &&
    (filters.state !== "warm" || tier.state === "warm") &&
    (filters.state !== "open" || tier.is_open) &&
    (filters.state !== "deployed" || tier.state !== "not_deployed")
  );
}
