"use client";

import { useTranslations } from "next-intl";
import { useState } from "react";
import { fileEndings, fileFault, MOST_MEGABYTES, type PromptFault } from "./prompts";

type Properties = {
  source: string;
  name: string;
  count: number;
  faults: PromptFault[];
  isLocked: boolean;
  change: (source: string, name: string) => void;
};

const MOST_SHOWN = 5; // faults
const MOST_TYPED = 200_000; // characters; a longer file is named and not shown

/** Where the prompts come from: typed, pasted, dropped or chosen. A file is judged by name and size before it is read. */
export function Source({ source, name, count, faults, isLocked, change }: Properties) {
  const t = useTranslations("Batch");
  const [refusal, setRefusal] = useState("");
  const [isOver, setOver] = useState(false);
  const isShown = source.length <= MOST_TYPED;

  async function take(file: File | undefined) {
    if (!file) return;
    const fault = fileFault(file.name, file.size);
    if (fault) {
      const size = Math.round(file.size / 1_000_000);
      return setRefusal(
        fault === "type"
          ? t("wrongType", { file: file.name, types: fileEndings.join(" ") })
          : t("tooLarge", { file: file.name, size, most: MOST_MEGABYTES }),
      );
    }
    setRefusal("");
    change(await file.text(), file.name);
  }

  return (
    <section
      aria-label={t("prompts")}
      className={`rounded-md border border-dashed p-4 ${isOver ? "border-accent bg-accent-soft" : "border-control"}`}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        if (!isLocked) take(event.dataTransfer.files[0]);
      }}
    >
      <div className="flex flex-col gap-1">
        <h2 id="prompts" className="font-semibold">
          {t("prompts")}
        </h2>
        {isShown ? (
          <textarea
            aria-labelledby="prompts"
            rows={8}
            className="field resize-y font-mono text-[0.8125rem]"
            placeholder={t("promptsHint")}
            value={source}
            disabled={isLocked}
            onChange={(event) => change(event.target.value, "")}
          />
        ) : (
          <output className="rounded-md bg-sunk p-3 text-muted">{t("longFile", { file: name })}</output>
        )}
      </div>
      <div className="mt-2 flex flex-wrap items-center gap-2 text-[0.875rem]">
        <label className="button-quiet min-h-8 has-[:focus-visible]:outline-2 has-[:focus-visible]:outline-offset-2 has-[:focus-visible]:outline-accent">
          {t("choose")}
          <input
            type="file"
            className="sr-only"
            accept={fileEndings.join()}
            disabled={isLocked}
            onChange={(event) => {
              take(event.target.files?.[0]);
              event.target.value = "";
            }}
          />
        </label>
        {source && !isLocked ? (
          <button type="button" className="button-quiet min-h-8" onClick={() => change("", "")}>
            {t("clearPrompts")}
          </button>
        ) : null}
        <span className="numbers text-muted">
          {name ? `${name} · ` : ""}
          {t("count", { count })}
        </span>
      </div>
      <p className="mt-1 text-[0.8125rem] text-muted">{t("promptsNote", { most: MOST_MEGABYTES })}</p>
      {refusal ? (
        <p role="alert" className="mt-2 text-bad">
          {refusal}
        </p>
      ) : null}
      {faults.some((fault) => fault.kind !== "empty") ? (
        <ul role="alert" className="mt-2 text-bad">
          {faults.slice(0, MOST_SHOWN).map((fault) => (
            <li key={`${fault.line}-${fault.kind}`}>{t(`faults.${fault.kind}`, { line: fault.line })}</li>
          ))}
          {faults.length > MOST_SHOWN ? <li>{t("moreFaults", { count: faults.length - MOST_SHOWN })}</li> : null}
        </ul>
      ) : null}
    </section>
  );
}
