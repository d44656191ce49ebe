import type { Metadata } from "next";
import { getTranslations, setRequestLocale } from "next-intl/server";
import type { Locale } from "@/i18n/locales";
import { Words } from "@/i18n/Words";
import { Service } from "@/service/Service";

type Properties = { params: Promise<{ locale: Locale }> };

export async function generateMetadata({ params }: Properties): Promise<Metadata> {
  const t = await getTranslations({ locale: (await params).locale, namespace: "Service" });
  return { title: t("title") };
}

export default async function ServicePage({ params }: Properties) {
  setRequestLocale((await params).locale);
  const t = await getTranslations("Service");
  return (
    <div className="mx-auto w-full max-w-[72rem] px-4 py-8 sm:px-6">
      <h1 className="text-[1.75rem] font-semibold">{t("title")}</h1>
      <p className="mt-1 mb-6 max-w-[44rem] text-muted">{t("lead")}</p>
      <Words of={["Service", "Refusals", "Catalog", "Session", "Playground"]}>
        <Service />
      </Words>
    </div>
  );
}
