import { Refusal, refusalOf } from "@/api/refusal";

export type Answer = {
  text: string;
  model: string | null;
  ttftMs: number | null;
  tokensPerSecond: number | null;
  read: number;
  written: number;
};

export const nothing: Answer = { text: "", model: null, ttftMs: null, tokensPerSecond: null, read: 0, written: 0 };

type Chunk = {
  model?: string;
  choices?: { delta?: { content?: string | null } }[];
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
  error?: { message: string; code: string | null };
};

/** Asks in the name of all visitors. Reports as it grows; throws a Refusal, a StreamCut, or what `fetch` throws. */
export async function ask(prompt: string, signal: AbortSignal, report: (answer: Answer) => void) {
  const began = performance.now();
  const response = await fetch("/v1/try-it/ask", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt }),
    signal,
  });
  if (!response.ok || !response.body) throw await refusalOf(response);
  const { eventsOf } = await import("@/playground/sse"); // with the first question, not with the page
  const now = { ...nothing };
  let first: number | null = null;
  for await (const data of eventsOf(response.body)) {
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error) throw new Refusal(chunk.error.message, 500, chunk.error.code, null, null);
    const at = performance.now();
    now.model = chunk.model ?? now.model;
    const text = chunk.choices?.[0]?.delta?.content;
    if (text) {
      now.text += text;
      first ??= at;
      now.ttftMs = first - began;
    }
    if (chunk.usage) {
      now.read = chunk.usage.prompt_tokens;
      now.written = chunk.usage.completion_tokens;
      const seconds = first === null ? 0 : (at - first) / 1_000;
      if (chunk.choices?.length && seconds > 0.05) now.tokensPerSecond = (now.written - 1) / seconds;
    }
    report({ ...now });
  }
}
