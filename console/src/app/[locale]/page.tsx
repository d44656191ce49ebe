import { getTranslations, setRequestLocale } from "next-intl/server";
import { Suspense } from "react";
import { Link } from "@/frame/Link";
import type { Locale } from "@/i18n/locales";
import { Words } from "@/i18n/Words";
import { Later } from "@/landing/Later";
import { BoardStandIn, CodeStandIn, ReceiptStandIn, WeekStandIn } from "@/landing/StandIns";
import { TryIt } from "@/tryit/TryIt";

const questions = ["failed", "stopped", "cap", "cached", "when"] as const;

export default async function Landing({ params }: { params: Promise<{ locale: Locale }> }) {
  const { locale } = await params;
  setRequestLocale(locale);
  const t = await getTranslations("Landing");
  return (
    <Words of={["Catalog", "Refusals", "Code", "Receipt", "TryIt"]}>
      <div className="mx-auto w-full max-w-[88rem] px-4 pb-20 sm:px-6">
        <section className="grid grid-cols-1 items-center gap-10 py-12 lg:grid-cols-[minmax(0,1fr)_minmax(0,34rem)] lg:py-16">
          <div>
            <h1 className="text-[2rem] leading-[1.1] font-semibold sm:text-[2.75rem]">{t("headline")}</h1>
            <p className="mt-5 max-w-[38rem] text-[1.0625rem] text-muted">{t("lead")}</p>
            <div className="mt-7 flex flex-wrap gap-3">
              <Link href={`/${locale}/playground`} className="button-primary">
                {t("openPlayground")}
              </Link>
              <Link href={`/${locale}/models`} className="button-quiet min-h-10 px-4">
                {t("seeModels")}
              </Link>
            </div>
            <dl className="mt-10 grid grid-cols-1 max-w-[38rem] gap-x-8 gap-y-4 sm:grid-cols-3">
              {(["exact", "own", "compatible"] as const).map((name) => (
                <div key={name} className="border-t border-control pt-3">
                  <dt className="font-semibold">{t(`facts.${name}.title`)}</dt>
                  <dd className="mt-1 text-[0.875rem] text-muted">{t(`facts.${name}.text`)}</dd>
                </div>
              ))}
            </dl>
          </div>
          <TryIt />
        </section>

        <Suspense>
          {" "}
          <section aria-labelledby="board" className="py-8">
            <h2 id="board" className="mb-2 text-[1.5rem] font-semibold">
              {t("board")}
            </h2>
            <Later part="board">
              <BoardStandIn />
            </Later>
          </section>
        </Suspense>

        <Suspense>
          {" "}
          <section
            aria-labelledby="code"
            className="grid grid-cols-1 items-start gap-x-12 gap-y-6 border-t border-hairline py-12 lg:grid-cols-2"
          >
            <div>
              <h2 id="code" className="text-[1.5rem] font-semibold">
                {t("code.title")}
              </h2>
              <p className="mt-3 max-w-[36rem] text-muted">{t("code.text")}</p>
              <p className="mt-3 text-[0.8125rem] text-muted">{t("codeNote")}</p>
            </div>
            <Later part="code">
              <CodeStandIn />
            </Later>
          </section>
        </Suspense>
        <Suspense>
          <section aria-labelledby="bill" className="grid grid-cols-1 gap-x-12 gap-y-6 py-12 lg:grid-cols-2">
            <div>
              <h2 id="bill" className="text-[1.5rem] font-semibold">
                {t("bill.title")}
              </h2>
              <p className="mt-3 max-w-[36rem] text-muted">{t("bill.text")}</p>
              <ul className="mt-5 space-y-2.5">
                {(["counted", "cached", "batch", "tax"] as const).map((name) => (
                  <li key={name} className="flex gap-3">
                    <span className="mt-[0.55em] h-px w-4 shrink-0 bg-accent" aria-hidden="true" />
                    {t(`bill.${name}`)}
                  </li>
                ))}
              </ul>
            </div>
            <Later part="receipt">
              <ReceiptStandIn />
            </Later>
          </section>
        </Suspense>

        <Suspense>
          {" "}
          <section
            aria-labelledby="hours"
            className="grid grid-cols-1 gap-x-12 gap-y-6 border-t border-hairline py-12 lg:grid-cols-2"
          >
            <div>
              <h2 id="hours" className="text-[1.5rem] font-semibold">
                {t("hours.title")}
              </h2>
              <p className="mt-3 max-w-[36rem] text-muted">{t("hours.text")}</p>
              <h3 className="mt-8 text-[1.0625rem] font-semibold">{t("tiers.title")}</h3>
              <p className="mt-2 max-w-[36rem] text-muted">{t("tiers.text")}</p>
            </div>
            <Later part="week">
              <WeekStandIn />
            </Later>
          </section>
        </Suspense>

        <Suspense>
          {" "}
          <section
            aria-labelledby="data"
            className="grid grid-cols-1 gap-x-12 gap-y-6 border-t border-hairline py-12 lg:grid-cols-2"
          >
            <div>
              <h2 id="data" className="text-[1.5rem] font-semibold">
                {t("data.title")}
              </h2>
              <p className="mt-3 max-w-[36rem] text-muted">{t("data.text")}</p>
            </div>
            <div>
              <h2 className="text-[1.5rem] font-semibold">{t("questions.title")}</h2>
              <div className="mt-3">
                {questions.map((name) => (
                  <details key={name} className="group border-b border-hairline">
                    <summary className="flex min-h-11 list-none items-center justify-between gap-4 py-2 font-medium hover:text-accent">
                      {t(`questions.${name}.q`)}
                      <span className="text-xl leading-none text-muted group-open:rotate-45" aria-hidden="true">
                        +
                      </span>
                    </summary>
                    <p className="max-w-[36rem] pb-4 text-muted">{t(`questions.${name}.a`)}</p>
                  </details>
                ))}
              </div>
            </div>
          </section>
        </Suspense>
      </div>
    </Words>
  );
}
