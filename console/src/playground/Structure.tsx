"use client";

import { useTranslations } from "next-intl";
import {
  type Asking,
  type Format,
  FUNCTION,
  formatKinds,
  responseFormatOf,
  schemaExample,
  type Tool,
  toolChoiceOf,
  toolChoices,
  toolExample,
  toolsOf,
} from "./asking";
import type { Parameters } from "./parameters";

type Properties = { asking: Asking; change: (part: Partial<Asking>) => void };

/** Functions that the model may call, and the form of its answer. Both are checked before anything is sent. */
export function Structure({ asking, change }: Properties) {
  const { tools, format } = asking;
  const t = useTranslations("Setup");
  const known = toolsOf(tools);
  return (
    <>
      <JsonField
        label={t("tools")}
        help={t("toolsHelp")}
        error={known === null ? t("badTools") : null}
        value={tools}
        example={toolExample}
        change={(text) => change({ tools: text })}
      />
      {known?.length ? (
        <ToolUse
          tools={known}
          parameters={asking.parameters}
          change={(part) => change({ parameters: { ...asking.parameters, ...part } })}
        />
      ) : null}
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

type Use = { tools: Tool[]; parameters: Parameters; change: (part: Partial<Parameters>) => void };

/** Whether and how the functions are called. Asked only where there are some. */
function ToolUse({ tools, parameters, change }: Use) {
  const t = useTranslations("Setup");
  const p = useTranslations("Playground");
  const { tool_choice: choice, parallel_tool_calls: parallel } = parameters;
  return (
    <>
      <div>
        <label className="flex items-center gap-2">
          <span className="flex-1 font-semibold">{t("toolChoice")}</span>
          <select
            className="field min-h-8 max-w-40"
            value={toolChoiceOf(choice, tools) === undefined ? "" : choice}
            onChange={(event) => change({ tool_choice: event.target.value })}
          >
            <option value="">{p("default")}</option>
            {toolChoices.map((one) => (
              <option key={one} value={one}>
                {t(`toolChoices.${one}`)}
              </option>
            ))}
            {tools.map(({ function: { name } }) => (
              <option key={name} value={FUNCTION + name}>
                {t("onlyTool", { name })}
              </option>
            ))}
          </select>
        </label>
        <p className="mt-0.5 text-muted">{t("toolChoiceHelp")}</p>
      </div>
      <div>
        <label className="flex items-center gap-2">
          <span className="flex-1 font-semibold">{t("parallel")}</span>
          <select
            className="field min-h-8"
            value={parallel}
            onChange={(event) => change({ parallel_tool_calls: event.target.value })}
          >
            <option value="">{p("default")}</option>
            <option value="true">{t("several")}</option>
            <option value="false">{t("oneByOne")}</option>
          </select>
        </label>
        <p className="mt-0.5 text-muted">{t("parallelHelp")}</p>
      </div>
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
