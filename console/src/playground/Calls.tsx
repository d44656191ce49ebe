"use client";

import { useTranslations } from "next-intl";
import { jsonOf } from "./asking";
import type { ToolCall, ToolResult } from "./conversation";

type Properties = {
  calls: ToolCall[];
  canAnswer: boolean;
  given: (call: string) => string;
  give: (call: string, content: string) => void;
  answer: (results: ToolResult[]) => void;
};

/** The functions that the model wants called. Nothing is called here: a person says what each gave. */
export function Calls({ calls, canAnswer, given, give, answer }: Properties) {
  const t = useTranslations("Playground");
  const results = calls.map((call) => ({ id: call.id, content: given(call.id) }));
  return (
    <form
      className="mt-2 space-y-3 rounded-md border border-hairline p-3 text-[0.875rem]"
      onSubmit={(event) => {
        event.preventDefault();
        answer(results);
      }}
    >
      {calls.map((call, place) => (
        <div key={call.id || place} data-testid="call">
          <p>
            <span className="text-muted">{t("call")} </span>
            <code className="font-mono font-semibold">{call.name}</code>
          </p>
          <pre tabIndex={0} className="mt-1 overflow-x-auto rounded-md bg-sunk p-2 font-mono text-[0.8125rem]">
            {pretty(call.arguments)}
          </pre>
          {canAnswer ? (
            <label className="mt-2 flex flex-col gap-1">
              <span>{t("callAnswer", { name: call.name })}</span>
              <textarea
                rows={2}
                spellCheck={false}
                className="field resize-y font-mono text-[0.8125rem]"
                value={given(call.id)}
                onChange={(event) => give(call.id, event.target.value)}
              />
            </label>
          ) : null}
        </div>
      ))}
      {canAnswer ? (
        <button
          type="submit"
          className="button-primary min-h-8"
          disabled={results.some((result) => result.content.trim() === "")}
        >
          {t("sendResults")}
        </button>
      ) : null}
    </form>
  );
}

function pretty(text: string): string {
  const value = jsonOf(text);
  return value === undefined ? text : JSON.stringify(value, null, 2);
}
