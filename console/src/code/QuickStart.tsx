"use client";

import { byReadiness, useCatalog } from "@/api/catalog";
import { Samples } from "./Samples";

/** The first request, to a chat model that is ready now, or soonest. */
export function QuickStart() {
  const catalog = useCatalog().data;
  const chat = catalog?.models.filter((model) => model.task === "chat") ?? [];
  const tiers = byReadiness(chat).flatMap((model) => model.tiers);
  const model = (tiers.find((tier) => tier.state === "warm") ?? tiers[0])?.id ?? "qwen3-32b";
  const body = { model, messages: [{ role: "user", content: "Hello" }], stream: true };
  return <Samples api={catalog?.api_url ?? "https://…"} body={body} tall />;
}
