import type { Metadata } from "next";
import { getTranslations, setRequestLocale } from "next-intl/server";
import { Prose } from "@/frame/Prose";
import type { Locale } from "@/i18n/locales";

const SECTIONS = ["provider", "contact", "register"] as const;

type Properties = { params: Promise<{ locale: Locale }> };

export async function generateMetadata({ params }: Properties): Promise<Metadata> {
  const t = await getTranslations({ locale: (await params).locale, namespace: "Legal.imprint" });
  return { title: t("title") };
}

export default async function Imprint({ params }: Properties) {
  setRequestLocale((await params).locale);
  const t = await getTranslations("Legal.imprint");
  return (
    <Prose title={t("title")}>
      <p className="rounded-md border border-warn bg-warn-soft px-4 py-3">{t("stub")}</p>
      {SECTIONS.map((name) => (
        <section key={name}>
          <h2>{t(`${name}.title`)}</h2>
          <p className="text-muted">{t(`${name}.text`)}</p>
        </section>
      ))}
    </Prose>
  );
}
