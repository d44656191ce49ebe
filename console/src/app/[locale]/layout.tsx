import type { Metadata } from "next";
import { notFound } from "next/navigation";
import { getTranslations, setRequestLocale } from "next-intl/server";
import type { ReactNode } from "react";
import "../globals.css";
import { Footer } from "@/frame/Footer";
import { fonts } from "@/frame/fonts";
import { Header } from "@/frame/Header";
import { Queries } from "@/frame/Queries";
import { isLocale, locales, tags } from "@/i18n/locales";

export const dynamicParams = false;

export function generateStaticParams() {
  return locales.map((locale) => ({ locale }));
}

type Properties = { children: ReactNode; params: Promise<{ locale: string }> };

export async function generateMetadata({ params }: Properties): Promise<Metadata> {
  const { locale } = await params;
  if (!isLocale(locale)) notFound();
  const t = await getTranslations({ locale, namespace: "Frame" });
  return { title: { default: t("title"), template: `%s · ${t("name")}` }, description: t("description") };
}

export default async function LocaleLayout({ children, params }: Properties) {
  const { locale } = await params;
  if (!isLocale(locale)) notFound();
  setRequestLocale(locale);
  const t = await getTranslations("Frame");
  return (
    <html lang={tags[locale]} className={fonts} suppressHydrationWarning>
      <head>
        <script src="/theme.js" />
      </head>
      <body className="flex min-h-dvh flex-col">
        <a href="#content" className="button-primary absolute -top-20 left-4 z-50 focus:top-2">
          {t("skip")}
        </a>
        <Queries>
          <Header locale={locale} />
          <main id="content" tabIndex={-1} className="flex flex-1 flex-col outline-none">
            {children}
          </main>
        </Queries>
        <Footer locale={locale} />
      </body>
    </html>
  );
}
