import { getRequestConfig } from "next-intl/server";
import { isLocale, locales } from "./locales";

export default getRequestConfig(async ({ requestLocale }) => {
  const asked = (await requestLocale) ?? "";
  const locale = isLocale(asked) ? asked : locales[0];
  return {
    locale,
    messages: (await import(`../../messages/${locale}.json`)).default,
    timeZone: "Europe/Berlin",
    onError: (error) => {
      throw error;
    },
  };
});
