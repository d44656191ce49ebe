import type { Metadata } from "next";
import { getTranslations, setRequestLocale } from "next-intl/server";
import { Link } from "@/frame/Link";
import { Prose } from "@/frame/Prose";
import type { Locale } from "@/i18n/locales";

type Properties = { params: Promise<{ locale: Locale }> };

export async function generateMetadata({ params }: Properties): Promise<Metadata> {
  const t = await getTranslations({ locale: (await params).locale, namespace: "Missing" });
  return { title: t("title"), robots: { index: false } };
}

/** What the gateway answers with status 404 for a page that there is not. */
export default async function Missing({ params }: Properties) {
  const { locale } = await params;
  setRequestLocale(locale);
  const t = await getTranslations("Missing");
  return (
    <Prose title={t("title")}>
      <p className="text-muted">{t("text")}</p>
      <p>
        <Link className="link" href={`/${locale}`}>
          {t("home")}
        </Link>
      </p>
    </Prose>
  );
}
