import type { Metadata } from "next";
import { getTranslations, setRequestLocale } from "next-intl/server";
import type { Locale } from "@/i18n/locales";
import { Words } from "@/i18n/Words";
import { SignIn } from "@/session/SignIn";

type Properties = { params: Promise<{ locale: Locale }> };

export async function generateMetadata({ params }: Properties): Promise<Metadata> {
  const t = await getTranslations({ locale: (await params).locale, namespace: "Session" });
  return { title: t("title"), robots: { index: false } };
}

export default async function SignInPage({ params }: Properties) {
  setRequestLocale((await params).locale);
  return (
    <Words of={["Session", "Refusals", "Catalog"]}>
      <SignIn />
    </Words>
  );
}
