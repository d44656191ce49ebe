import type { Body } from "@/code/samples";
import { type Asking, isObject, jsonOf, responseFormatOf, toolChoiceOf, toolsOf } from "./asking";
import type { Turn } from "./conversation";

/** What can be set. An empty text is not sent: the engine's own default holds. */
export const unset = {
  temperature: "",
  top_p: "",
  top_k: "",
  min_p: "",
  max_tokens: "",
  stop: "",
  n: "",
  seed: "",
  presence_penalty: "",
  frequency_penalty: "",
  repetition_penalty: "",
  top_logprobs: "",
  logit_bias: "",
  tool_choice: "",
  parallel_tool_calls: "",
};

export type Name = keyof typeof unset;
export type Parameters = Record<Name, string>;

type Bounds = { least: number; most: number; step: number; whole?: boolean };

export const bounds = {
  temperature: { least: 0, most: 2, step: 0.1 },
  top_p: { least: 0.05, most: 1, step: 0.05 },
  top_k: { least: 0, most: 1_000, step: 1, whole: true },
  min_p: { least: 0, most: 1, step: 0.05 },
  max_tokens: { least: 1, most: 131_072, step: 1, whole: true },
  n: { least: 1, most: 8, step: 1, whole: true },
  seed: { least: 0, most: 2_147_483_647, step: 1, whole: true },
  presence_penalty: { least: -2, most: 2, step: 0.1 },
  frequency_penalty: { least: -2, most: 2, step: 0.1 },
  repetition_penalty: { least: 0.1, most: 2, step: 0.05 },
  top_logprobs: { least: 0, most: 20, step: 1, whole: true },
} satisfies Partial<Record<Name, Bounds>>;

export type Numeric = keyof typeof bounds;

export const MOST_STOPS = 4;

/** Several texts stand on lines of their own; within one, `\n` is a line's end. */
export const stopsOf = (text: string): string[] =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.replaceAll("\\n", "\n"));

/** Tokens by their number, each with what is added to its chance: from -100 (never) to 100. Null for what cannot be sent. */
export function biasOf(text: string): Record<string, number> | null {
  const bias = jsonOf(text);
  const isOne = ([token, by]: [string, unknown]) =>
    /^\d+$/.test(token) && typeof by === "number" && Math.abs(by) <= 100;
  return isObject(bias) && Object.entries(bias).every(isOne) ? (bias as Record<string, number>) : null;
}

/** Whether a text can be sent as this parameter; an empty one can. */
export function isGood(name: Name, text: string): boolean {
  if (text === "") return true;
  if (name === "stop") return stopsOf(text).length <= MOST_STOPS;
  if (name === "logit_bias") return biasOf(text) !== null;
  if (name === "tool_choice" || name === "parallel_tool_calls") return true; // chosen, not typed
  const { least, most, whole }: Bounds = bounds[name];
  const value = Number(text);
  return Number.isFinite(value) && value >= least && value <= most && (!whole || Number.isInteger(value));
}

/** What is sent of the parameters: only what is set and good. */
export function sentOf({ parameters, tools }: Pick<Asking, "parameters" | "tools">): object {
  const names = Object.keys(bounds) as Numeric[];
  const numbers = names
    .filter((name) => parameters[name] !== "" && isGood(name, parameters[name]))
    .map((name) => [name, Number(parameters[name])]);
  const stops = isGood("stop", parameters.stop) ? stopsOf(parameters.stop) : [];
  const bias = parameters.logit_bias === "" ? null : biasOf(parameters.logit_bias);
  const known = toolsOf(tools) ?? [];
  const choice = toolChoiceOf(parameters.tool_choice, known);
  return {
    ...Object.fromEntries(numbers),
    ...(stops.length ? { stop: stops.length === 1 ? stops[0] : stops } : {}),
    ...(parameters.top_logprobs === "" ? {} : { logprobs: true }),
    ...(bias ? { logit_bias: bias } : {}),
    ...(known.length ? { tools: known } : {}),
    ...(choice === undefined ? {} : { tool_choice: choice }),
    ...(known.length && parameters.parallel_tool_calls
      ? { parallel_tool_calls: parameters.parallel_tool_calls === "true" }
      : {}),
  };
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
  const format = responseFormatOf(asking.format);
  return { model, messages, ...sentOf(asking), ...(format ? { response_format: format } : {}) };
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
