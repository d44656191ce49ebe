"use client";

import { Tabs } from "@base-ui/react/tabs";
import { useTranslations } from "next-intl";
import { Copy } from "./Copy";
import { type Body, languageNames, languages, sample } from "./samples";

/** Three tabs of code with a button that copies. `lines` keeps the height of the longest, so that tabs do not jump. */
export function Samples({ api, body, tall = false }: { api: string; body: Body; tall?: boolean }) {
  const t = useTranslations("Code");
  return (
    <Tabs.Root defaultValue="curl" className="card overflow-hidden">
      <Tabs.List aria-label={t("language")} className="flex border-b border-hairline px-2">
        {languages.map((language) => (
          <Tabs.Tab
            key={language}
            value={language}
            className="min-h-10 border-b-2 border-transparent px-3 text-[0.8125rem] text-muted hover:text-text data-[active]:border-accent data-[active]:text-text"
          >
            {languageNames[language]}
          </Tabs.Tab>
        ))}
      </Tabs.List>
      {languages.map((language) => {
        const text = sample(language, api, body);
        return (
          <Tabs.Panel key={language} value={language} tabIndex={-1} className="relative outline-none">
            <pre
              tabIndex={0}
              className={`overflow-auto p-4 focus-visible:-outline-offset-2 pr-20 font-mono text-[0.8125rem] leading-6 ${tall ? "h-[21.5rem]" : "max-h-96"}`}
            >
              <code data-copied>{text}</code>
            </pre>
            <Copy text={text} className="absolute top-3 right-3" />
          </Tabs.Panel>
        );
      })}
    </Tabs.Root>
  );
}
