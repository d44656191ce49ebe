import type { Body } from "@/code/samples";
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
};

export const unset: Parameters = {
  temperature: "",
  top_p: "",
  max_tokens: "",
  stop: "",
  seed: "",
  presence_penalty: "",
  frequency_penalty: "",
};

type Bounds = { least: number; most: number; step: number; whole?: boolean };

export const bounds: Record<Exclude<keyof Parameters, "stop">, Bounds> = {
  temperature: { least: 0, most: 2, step: 0.1 },
  top_p: { least: 0.05, most: 1, step: 0.05 },
  max_tokens: { least: 1, most: 131_072, step: 1, whole: true },
  seed: { least: 0, most: 2_147_483_647, step: 1, whole: true },
  presence_penalty: { least: -2, most: 2, step: 0.1 },
  frequency_penalty: { least: -2, most: 2, step: 0.1 },
};

/** Whether a text can be sent as this parameter; an empty one can. */
export function isGood(name: keyof Parameters, text: string): boolean {
  if (text === "" || name === "stop") return true;
  const { least, most, whole } = bounds[name];
  const value = Number(text);
  return Number.isFinite(value) && value >= least && value <= most && (!whole || Number.isInteger(value));
}

/** The request, exactly as it is sent and as "show code" shows it. What failed or was never answered is left out. */
export function bodyOf(model: string, system: string, turns: Turn[], parameters: Parameters): Body {
  const messages: { role: string; content: string }[] = system.trim() ? [{ role: "system", content: system }] : [];
  for (const turn of turns) {
    messages.push({ role: "user", content: turn.prompt });
    if (turn.text) messages.push({ role: "assistant", content: turn.text });
  }
  const set = Object.entries(parameters)
    .filter(([name, text]) => text !== "" && isGood(name as keyof Parameters, text))
    .map(([name, text]) => [name, name === "stop" ? text : Number(text)]);
  return { model, messages, ...Object.fromEntries(set) };
}
