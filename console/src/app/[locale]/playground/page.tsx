import type { Metadata } from "next";
import { getTranslations, setRequestLocale } from "next-intl/server";
import type { Locale } from "@/i18n/locales";
import { Words } from "@/i18n/Words";
import { Playground } from "@/playground/Playground";

type Properties = { params: Promise<{ locale: Locale }> };

export async function generateMetadata({ params }: Properties): Promise<Metadata> {
  const t = await getTranslations({ locale: (await params).locale, namespace: "Playground" });
  return { title: t("title") };
}

export default async function PlaygroundPage({ params }: Properties) {
  setRequestLocale((await params).locale);
  return (
    <Words of={["Playground", "Refusals", "Compare", "Setup", "Receipts", "Batch", "Catalog", "Code", "Session"]}>
      <Playground />
    </Words>
  );
}
