import { useLocale, useTranslations } from "next-intl";
import { instant } from "@/time";

const BERLIN = "Europe/Berlin";

/** Instants in the words of the reader's language, on the clock of the opening hours; its zone is named to whoever lives by another. */
export function useInstants(): (iso: string, now: string, zone?: string | undefined) => string {
  const t = useTranslations("Catalog");
  const locale = useLocale();
  const city = (zone: string) => (zone === BERLIN ? t("berlin") : zone);
  return (iso, now, zone = BERLIN) => instant(locale, iso, zone, now, city);
}
