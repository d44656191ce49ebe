import { type Messages, NextIntlClientProvider } from "next-intl";
import { getMessages } from "next-intl/server";
import type { ReactNode } from "react";

/** Gives client components the words of these namespaces, and no others: what a page does not say is not sent. */
export async function Words({ of, children }: { of: (keyof Messages)[]; children: ReactNode }) {
  const all = await getMessages();
  const some = Object.fromEntries(of.map((name) => [name, all[name]]));
  return <NextIntlClientProvider messages={some}>{children}</NextIntlClientProvider>;
}
