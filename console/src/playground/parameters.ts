import type { Body } from "@/code/samples";
import { type Asking, responseFormatOf, toolsOf } from "./asking";
import type { Turn } from "./conversation";

/** What can be set. An empty text is not sent: the engine's own default holds. */
export type Parameters = {
  temperature: string;
  top_p: string;
  max_tokens: string;
  stop: string;
  seed: string;
  presence_penalty: string;
  frequency_penalty: string;
  top_logprobs: string;
};

export const unset: Parameters = {
  temperature: "",
  top_p: "",
  max_tokens: "",
  stop: "",
  seed: "",
  presence_penalty: "",
  frequency_penalty: "",
  top_logprobs: "",
};

type Bounds = { least: number; most: number; step: number; whole?: boolean };

export const bounds: Record<Exclude<keyof Parameters, "stop">, Bounds> = {
  temperature: { least: 0, most: 2, step: 0.1 },
  top_p: { least: 0.05, most: 1, step: 0.05 },
  max_tokens: { least: 1, most: 131_072, step: 1, whole: true },
  seed: { least: 0, most: 2_147_483_647, step: 1, whole: true },
  presence_penalty: { least: -2, most: 2, step: 0.1 },
  frequency_penalty: { least: -2, most: 2, step: 0.1 },
  top_logprobs: { least: 0, most: 20, step: 1, whole: true },
};

/** Whether a text can be sent as this parameter; an empty one can. */
export function isGood(name: keyof Parameters, text: string): boolean {
  if (text === "" || name === "stop") return true;
  const { least, most, whole } = bounds[name];
  const value = Number(text);
  return Number.isFinite(value) && value >= least && value <= most && (!whole || Number.isInteger(value));
}

/** The request, exactly as it is sent and as "show code" shows it. What failed or was never answered is left out. */
export function bodyOf(model: string, asking: Asking, turns: Turn[]): Body {
  const messages: object[] = asking.system.trim() ? [{ role: "system", content: asking.system }] : [];
  for (const turn of turns) {
    const hasAnswer = turn.text !== "" || turn.calls.length > 0;
    if (!hasAnswer && turn !== turns.at(-1)) continue;
    for (const { id, content } of turn.results) messages.push({ role: "tool", tool_call_id: id, content });
    if (turn.results.length === 0) messages.push({ role: "user", content: contentOf(turn) });
    if (hasAnswer) messages.push({ role: "assistant", content: turn.text, ...callsOf(turn) });
  }
  const set = Object.entries(asking.parameters)
    .filter(([name, text]) => text !== "" && isGood(name as keyof Parameters, text))
    .map(([name, text]) => [name, name === "stop" ? text : Number(text)]);
  const tools = toolsOf(asking.tools);
  const format = responseFormatOf(asking.format);
  return {
    model,
    messages,
    ...Object.fromEntries(set),
    ...(asking.parameters.top_logprobs === "" ? {} : { logprobs: true }),
    ...(tools?.length ? { tools } : {}),
    ...(format ? { response_format: format } : {}),
  };
}

function contentOf(turn: Turn): string | object[] {
  if (turn.images.length === 0) return turn.prompt;
  const images = turn.images.map((url) => ({ type: "image_url", image_url: { url } }));
  return [...images, { type: "text", text: turn.prompt }];
}

function callsOf(turn: Turn): object {
  if (turn.calls.length === 0) return {};
  return {
    tool_calls: turn.calls.map((call) => ({
      id: call.id,
      type: "function",
      function: { name: call.name, arguments: call.arguments },
    })),
  };
}
