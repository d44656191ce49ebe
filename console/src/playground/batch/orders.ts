import { send } from "@/api/caller";
import { Refusal, refusalOf } from "@/api/refusal";
import type { components } from "@/api/schema";
import { credentials } from "@/api/session";
import { newId } from "../conversation";

export type Batch = components["schemas"]["BatchObject"];
type Quote = components["schemas"]["QuoteObject"];

/**
 * A batch job that is intended: its file is uploaded, its price promised where it can be. It is sent with `key`, so that
 * sending it again after an answer that was lost makes and bills it once.
 */
export type Order = {
  model: string;
  content: string; // which requests of whom, as a fingerprint
  key: string;
  file: string;
  quote: { id: string; currency: string; most: string; expiresAt: number } | null; // expires: s
  unquoted: { message: string; code: string | null } | null; // why no price could be promised
  job: string | null; // what it became
};

/** Uploads the requests and asks for their price. An order without a promise is one, too: the model may be asleep. */
export async function prepare(apiKey: string, model: string, lines: string, content: string): Promise<Order> {
  const file = await upload(apiKey, `playground-${model}.jsonl`, lines);
  const order = { model, content, key: newId(), file, quote: null, unquoted: null, job: null };
  try {
    const quote = await send<Quote>("/v1/quotes", apiKey, { input_file_id: file, endpoint: "/v1/chat/completions" });
    const { id, currency, max_cost: most, expires_at: expiresAt } = quote;
    return { ...order, quote: { id, currency, most, expiresAt } };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { ...order, unquoted: { message: error.message, code: error.code } };
  }
}

/** Sends it; however often, it is one job. */
export function place(apiKey: string, order: Order): Promise<Batch> {
  const body = { input_file_id: order.file, endpoint: "/v1/chat/completions", completion_window: "24h" };
  const quoted = order.quote ? { ...body, quote_id: order.quote.id } : body;
  return send<Batch>("/v1/batches", apiKey, quoted, { "idempotency-key": order.key });
}

/** Whether an order is for these requests, has not become a job, and its price still holds. */
export const isOpen = (order: Order, content: string, now: number): boolean =>
  order.content === content && order.job === null && (order.quote === null || now < order.quote.expiresAt * 1_000);

/** Tells requests of one caller from others; two FNV sums, since digests are there in safe contexts only. */
export function fingerprint(apiKey: string, lines: string): string {
  let [a, b] = [0x811c9dc5, 0xcbf29ce4];
  const text = `${apiKey}\n${lines}`;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    a = Math.imul(a ^ code, 0x01000193);
    b = Math.imul(b ^ code, 0x01000195);
  }
  return `${text.length}-${a >>> 0}-${b >>> 0}`;
}

async function upload(key: string, name: string, content: string): Promise<string> {
  const form = new FormData();
  form.set("purpose", "batch");
  form.set("file", new Blob([content], { type: "application/x-ndjson" }), name);
  const response = await fetch("/v1/files", { method: "POST", headers: credentials(key), body: form });
  if (!response.ok) throw await refusalOf(response);
  return ((await response.json()) as { id: string }).id;
}
