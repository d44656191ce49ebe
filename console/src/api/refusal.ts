/** The gateway said no. `message` is its own sentence, which names the way out; `requestId` is what support asks for. */
export class Refusal extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string | null,
    readonly requestId: string | null,
    readonly retryAfterSeconds: number | null,
  ) {
    super(message);
  }

  /** No engine has started, so nothing is charged. */
  get isFree(): boolean {
    return this.status < 500 || this.status === 503;
  }
}

/** Reads OpenAI's envelope; an answer of somebody between (a proxy, say) has none. */
export async function refusalOf(response: Response): Promise<Refusal> {
  const text = await response.text();
  let message = text.slice(0, 300) || response.statusText;
  let code: string | null = null;
  try {
    const { error } = JSON.parse(text) as { error: { message: string; code: string | null } };
    message = error.message;
    code = error.code;
  } catch {}
  const after = response.headers.get("retry-after");
  return new Refusal(
    message,
    response.status,
    code,
    response.headers.get("x-request-id"),
    after === null ? null : Number(after),
  );
}
