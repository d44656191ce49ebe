"use client";

import { useTranslations } from "next-intl";
import { useState } from "react";
import { jsonOf } from "./asking";
import { saveFile } from "./files";
import Sheet from "./Sheet";
import { keepPresets, presets, presetsFrom, type Setup } from "./setup";

const MOST_BYTES = 2_000_000;

/** Setups under names, kept by this browser; a file carries them to another. */
export default function PresetsDialog({
  setup,
  use,
  close,
}: {
  setup: Setup;
  use: (setup: Setup) => void;
  close: () => void;
}) {
  const t = useTranslations("Setup");
  const [all, setAll] = useState(presets);
  const [name, setName] = useState("");
  const [said, say] = useState("");
  const names = Object.keys(all);

  function keep(change: (now: typeof all) => typeof all) {
    const next = change(presets()); // another tab may have written meanwhile
    say(keepPresets(next) ? "" : t("noRoom"));
    setAll(next);
  }

  async function take(file: File | undefined) {
    if (!file) return;
    const found = file.size <= MOST_BYTES ? presetsFrom(jsonOf(await file.text())) : {};
    if (Object.keys(found).length === 0) return say(t("noPresets", { file: file.name }));
    keep((now) => ({ ...now, ...found }));
    say(t("taken", { count: Object.keys(found).length }));
  }

  return (
    <Sheet title={t("presets")} note={t("presetsNote")} close={close}>
      <form
        className="flex flex-wrap gap-2"
        onSubmit={(event) => {
          event.preventDefault();
          const called = name.trim();
          if (!called) return;
          keep((now) => ({ ...now, [called]: setup }));
          setName("");
        }}
      >
        <input
          aria-label={t("name")}
          placeholder={t("name")}
          maxLength={80}
          className="field min-w-0 flex-1"
          value={name}
          onChange={(event) => setName(event.target.value)}
        />
        <button type="submit" className="button-primary" disabled={!name.trim()}>
          {t("save")}
        </button>
      </form>
      {names.length === 0 ? <p className="mt-4 text-muted">{t("empty")}</p> : null}
      <ul className="mt-4 divide-y divide-hairline">
        {names.map((one) => (
          <li key={one} className="flex flex-wrap items-center gap-2 py-2">
            <span className="mr-auto min-w-0 wrap-anywhere">
              {one}
              <span className="ml-2 font-mono text-[0.8125rem] text-muted">
                {all[one]?.models.filter(Boolean).join(" · ")}
              </span>
            </span>
            <button
              type="button"
              className="button-quiet min-h-8"
              aria-label={t("useNamed", { name: one })}
              onClick={() => {
                const chosen = all[one];
                if (chosen) use(chosen);
              }}
            >
              {t("use")}
            </button>
            <button
              type="button"
              className="button-quiet min-h-8"
              aria-label={t("removeNamed", { name: one })}
              onClick={() => keep((now) => Object.fromEntries(Object.entries(now).filter(([name]) => name !== one)))}
            >
              {t("remove")}
            </button>
          </li>
        ))}
      </ul>
      <div className="mt-5 flex flex-wrap items-center gap-2 border-t border-hairline pt-4">
        <button
          type="button"
          className="button-quiet min-h-8"
          disabled={names.length === 0}
          onClick={() => saveFile("playground-presets.json", JSON.stringify(all, null, 2), "application/json")}
        >
          {t("export")}
        </button>
        <label className="button-quiet min-h-8 has-[:focus-visible]:outline-2 has-[:focus-visible]:outline-accent">
          {t("import")}
          <input
            type="file"
            accept="application/json,.json"
            className="sr-only"
            onChange={(event) => {
              take(event.target.files?.[0]);
              event.target.value = "";
            }}
          />
        </label>
        <span role="status" className="text-[0.875rem] text-muted">
          {said}
        </span>
      </div>
    </Sheet>
  );
}
