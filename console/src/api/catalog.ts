import { useQuery } from "@tanstack/react-query";
import { read } from "./read";
import type { components } from "./schema";

export type Catalog = components["schemas"]["Catalog"];
export type CatalogModel = components["schemas"]["CatalogModel"];
export type Tier = components["schemas"]["CatalogTier"];
export type Week = components["schemas"]["Week"];

/** What is sold, and how it is now. Read again every few seconds while the tab is looked at. */
export function useCatalog(everySeconds = 5) {
  return useQuery({
    queryKey: ["catalog"],
    queryFn: ({ signal }) => read<Catalog>("/v1/catalog", { signal }),
    refetchInterval: everySeconds * 1_000,
  });
}

/** Warm first, then what is nearest to it; equals stay in the catalog's order. */
export function byReadiness(models: CatalogModel[]): CatalogModel[] {
  const order = { warm: 0, starting: 1, unreachable: 2, cold: 3, not_deployed: 4 };
  const best = (model: CatalogModel) => Math.min(...model.tiers.map((tier) => order[tier.state]));
  return [...models].sort((a, b) => best(a) - best(b));
}

export const tierOf = (model: CatalogModel, tier: "base" | "fast") => model.tiers.find((one) => one.tier === tier);
