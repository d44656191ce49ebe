"use client";

import { type Catalog, useCatalog } from "@/api/catalog";
import { useCurrency } from "./currency";
import { ReceiptTable } from "./ReceiptTable";

function exampleOf(catalog: Catalog | undefined) {
  const chat = catalog?.models.filter((model) => model.task === "chat") ?? [];
  const model = chat.find((one) => one.id === "qwen3-32b") ?? chat[0];
  return model?.tiers[0];
}

/** One request's bill at the price that holds now. */
export function Receipt() {
  const tier = exampleOf(useCatalog().data);
  return <ReceiptTable tier={tier} currency={useCurrency()} />;
}
