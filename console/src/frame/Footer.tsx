import { getTranslations } from "next-intl/server";
import type { Locale } from "@/i18n/locales";
import { Link } from "./Link";

/** Who runs this, and what is known about it. */
export async function Footer({ locale }: { locale: Locale }) {
  const t = await getTranslations("Frame");
  return (
    <footer className="border-t border-hairline">
      <div className="mx-auto flex w-full max-w-[88rem] flex-wrap items-center gap-x-6 gap-y-1 px-4 py-4 text-[0.8125rem] text-muted sm:px-6">
        <span>{t("name")}</span>
        <Link className="flex min-h-8 items-center hover:text-text" href={`/${locale}/service`}>
          {t("service")}
        </Link>
        <Link className="flex min-h-8 items-center hover:text-text" href={`/${locale}/imprint`}>
          {t("imprint")}
        </Link>
        <Link className="flex min-h-8 items-center hover:text-text" href={`/${locale}/privacy`}>
          {t("privacy")}
        </Link>
        <a className="flex min-h-8 items-center hover:text-text" href="/openapi.json">
          openapi.json
        </a>
        <span className="sm:ml-auto">{t("net")}</span>
      </div>
    </footer>
  );
}
