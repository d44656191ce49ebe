"use client";

import { useTranslations } from "next-intl";
import { type Asking, type Format, formatKinds, responseFormatOf, schemaExample, toolExample, toolsOf } from "./asking";

type Properties = { tools: string; format: Format; change: (part: Partial<Asking>) => void };

/** Functions that the model may call, and the form of its answer. Both are checked before anything is sent. */
export function Structure({ tools, format, change }: Properties) {
  const t = useTranslations("Setup");
  return (
    <>
      <JsonField
        label={t("tools")}
        help={t("toolsHelp")}
        error={toolsOf(tools) === null ? t("badTools") : null}
        value={tools}
        example={toolExample}
        change={(text) => change({ tools: text })}
      />
      <div>
        <label className="flex items-center gap-2">
          <span className="flex-1 font-semibold">{t("format")}</span>
          <select
            className="field min-h-8"
            value={format.kind}
            onChange={(event) => change({ format: { ...format, kind: event.target.value as Format["kind"] } })}
          >
            {formatKinds.map((kind) => (
              <option key={kind} value={kind}>
                {t(`formats.${kind}`)}
              </option>
            ))}
          </select>
        </label>
        <p className="mt-0.5 text-muted">{t("formatHelp")}</p>
      </div>
      {format.kind === "json_schema" ? (
        <JsonField
          label={t("schema")}
          help={t("schemaHelp")}
          error={responseFormatOf(format) === null ? t("badSchema") : null}
          value={format.schema}
          example={schemaExample}
          change={(schema) => change({ format: { ...format, schema } })}
        />
      ) : null}
    </>
  );
}

type One = {
  label: string;
  help: string;
  error: string | null;
  value: string;
  example: string;
  change: (text: string) => void;
};

function JsonField({ label, help, error, value, example, change }: One) {
  const t = useTranslations("Setup");
  return (
    <div>
      <label className="flex flex-col gap-1">
        <span className="font-semibold">{label}</span>
        <textarea
          rows={value ? 8 : 2}
          spellCheck={false}
          className={`field resize-y font-mono text-[0.75rem] ${error ? "border-bad" : ""}`}
          value={value}
          aria-invalid={error !== null}
          onChange={(event) => change(event.target.value)}
        />
      </label>
      <p className={error ? "mt-0.5 text-bad" : "mt-0.5 text-muted"}>
        {error ?? help}{" "}
        <button type="button" className="link min-h-6" onClick={() => change(value ? "" : example)}>
          {value ? t("clearField", { label }) : t("exampleFor", { label })}
        </button>
      </p>
    </div>
  );
}
