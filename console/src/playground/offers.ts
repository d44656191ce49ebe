import { useQuery } from "@tanstack/react-query";
import { byReadiness, type Tier, useCatalog } from "@/api/catalog";
import { read } from "@/api/read";
import type { components } from "@/api/schema";

type Model = components["schemas"]["Model"];

/** What can be chatted with: the catalog's tiers, and the fine-tuned models of whose key it is. */
export type Offer = { name: string; tier: Tier; vision: boolean; sunset: string | null };

export function useOffers(key: string, isWaiting: boolean) {
  const catalog = useCatalog(isWaiting ? 1 : 5);
  const own = useQuery({
    queryKey: ["models", key],
    queryFn: ({ signal }) => read<{ data: Model[] }>("/v1/models", { key, signal }),
    enabled: key !== "",
    retry: false,
  });
  const offers: Offer[] = byReadiness(catalog.data?.models ?? [])
    .filter((model) => model.task === "chat")
    .flatMap((model) =>
      model.tiers.map((tier) => ({ name: model.name, tier, vision: model.vision, sunset: model.shutdown_date })),
    );
  const tuned = (own.data?.data ?? []).filter((model) => model.parent !== null && model.task === "chat");
  for (const model of tuned) {
    const base = offers.find((offer) => offer.tier.id === model.parent);
    if (base) offers.push({ ...base, name: model.name, tier: { ...base.tier, id: model.id } });
  }
  return { catalog, offers, now: catalog.data?.read_at ?? "", keyError: own.error, isKeyGood: own.isSuccess };
}
