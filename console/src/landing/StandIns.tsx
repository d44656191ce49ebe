import { useLocale, useTranslations } from "next-intl";
import { BoardFrame, barHeight } from "@/catalog/BoardFrame";
import { ReceiptTable } from "@/catalog/ReceiptTable";
import { languageNames, languages, sample } from "@/code/samples";

/** What stands on the landing page before its living parts are loaded; all there is without a script. As high as they. */

export function BoardStandIn() {
  const t = useTranslations("Catalog");
  return (
    <div>
      <div className={`mb-3 flex items-center text-[0.8125rem] text-muted ${barHeight}`}>
        <p>{t("perMillion")}</p>
        <noscript>
          <a className="link ml-3" href="/v1/catalog">
            /v1/catalog
          </a>
        </noscript>
      </div>
      <BoardFrame isBusy />
    </div>
  );
}

export function CodeStandIn() {
  const body = { model: "qwen3-32b", messages: [{ role: "user", content: "Hello" }], stream: true };
  return (
    <div className="card overflow-hidden">
      <p className="flex border-b border-hairline px-2" aria-hidden="true">
        {languages.map((language) => (
          <span
            key={language}
            className="flex min-h-10 items-center border-b-2 border-transparent px-3 text-[0.8125rem] text-muted first:border-accent first:text-text"
          >
            {languageNames[language]}
          </span>
        ))}
      </p>
      <pre tabIndex={0} className="h-[21.5rem] overflow-auto p-4 pr-20 font-mono text-[0.8125rem] leading-6">
        <code>{sample("curl", "https://…", body)}</code>
      </pre>
    </div>
  );
}

export function ReceiptStandIn() {
  return <ReceiptTable currency={useLocale() === "zh" ? "CNY" : "EUR"} />;
}

export function WeekStandIn() {
  return <div className="min-h-[15rem]" />;
}
