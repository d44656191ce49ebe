import { Refusal, refusalOf } from "@/api/refusal";
import { askAgain, credentials, isSession } from "@/api/session";
import type { Body } from "@/code/samples";
import type { Usage } from "@/money";
import { eventsOf } from "./sse";

/** A token with its probability, and what else it might have been. */
export type Likelihood = { token: string; chance: number; others: { token: string; chance: number }[] };

/** What arrives of an answer. `choice`: of which one, where several were asked for. */
export type Piece =
  | { kind: "began"; requestId: string | null }
  | { kind: "model"; model: string }
  | { kind: "text"; choice: number; text: string }
  | { kind: "thought"; choice: number; text: string }
  | { kind: "call"; choice: number; index: number; id: string; name: string; arguments: string }
  | { kind: "likelihoods"; likelihoods: Likelihood[] }
  | { kind: "usage"; choice: number | null; usage: Usage } // a running count is of one choice, the closing one of all
  | { kind: "finish"; reason: string; stopReason: string | null };

type Logprob = { token: string; logprob: number };

type Chunk = {
  model?: string;
  choices?: {
    index?: number;
    delta?: {
      content?: string | null;
      reasoning_content?: string | null;
      reasoning?: string | null;
      tool_calls?: { index: number; id?: string; function?: { name?: string; arguments?: string } }[] | null;
    };
    logprobs?: { content?: (Logprob & { top_logprobs?: Logprob[] })[] | null } | null;
    finish_reason?: string | null;
    stop_reason?: string | number | null;
  }[];
  usage?: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details?: { cached_tokens?: number | null } | null;
  } | null;
  error?: { message: string; code: string | null };
};

/** What is sent: the engine's own running count is asked for, so that the meter shows what is billed. */
export const streamed = (body: Body): Body => ({
  ...body,
  stream: true,
  stream_options: { include_usage: true, continuous_usage_stats: true },
});

/** One chat request. Throws a Refusal, a StreamCut, or what `fetch` throws. It is never tried again by itself. */
export async function* chat(body: Body, key: string, signal: AbortSignal): AsyncGenerator<Piece> {
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { ...credentials(key), "content-type": "application/json", "x-studio-tag": "console" },
    body: JSON.stringify(streamed(body)),
    signal,
  });
  if (response.status === 401 && isSession(key)) askAgain();
  if (!response.ok || !response.body) throw await refusalOf(response);
  const requestId = response.headers.get("x-request-id");
  yield { kind: "began", requestId };
  let model: string | undefined;
  for await (const data of eventsOf(response.body)) {
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error) throw new Refusal(chunk.error.message, 500, chunk.error.code, requestId, null);
    if (chunk.model && chunk.model !== model) {
      model = chunk.model;
      yield { kind: "model", model };
    }
    const one = chunk.choices?.[0];
    const choice = one?.index ?? 0;
    const thought = one?.delta?.reasoning_content ?? one?.delta?.reasoning;
    if (thought) yield { kind: "thought", choice, text: thought };
    if (one?.delta?.content) yield { kind: "text", choice, text: one.delta.content };
    for (const call of one?.delta?.tool_calls ?? []) {
      const { name = "", arguments: text = "" } = call.function ?? {};
      yield { kind: "call", choice, index: call.index, id: call.id ?? "", name, arguments: text };
    }
    if (choice === 0 && one?.logprobs?.content?.length) {
      yield { kind: "likelihoods", likelihoods: one.logprobs.content.map(likelihoodOf) };
    }
    if (choice === 0 && one?.finish_reason) {
      const stopReason = typeof one.stop_reason === "string" ? one.stop_reason : null;
      yield { kind: "finish", reason: one.finish_reason, stopReason };
    }
    if (chunk.usage) {
      const { prompt_tokens: prompt, completion_tokens: completion, prompt_tokens_details: details } = chunk.usage;
      const usage = { prompt, completion, cached: details?.cached_tokens ?? 0 };
      yield { kind: "usage", choice: one ? choice : null, usage };
    }
  }
}

function likelihoodOf(one: Logprob & { top_logprobs?: Logprob[] }): Likelihood {
  const others = (one.top_logprobs ?? []).filter((other) => other.token !== one.token);
  return {
    token: one.token,
    chance: Math.exp(one.logprob),
    others: others.map((other) => ({ token: other.token, chance: Math.exp(other.logprob) })),
  };
}
