import { refusalOf } from "./refusal";

/** What says who calls: the one place for it. Empty without a key. */
export const callerHeaders = (key: string): Record<string, string> => (key ? { authorization: `Bearer ${key}` } : {});

/** A POST of JSON that answers with JSON, or a Refusal. */
export async function send<T>(path: string, key: string, body: unknown): Promise<T> {
  const response = await fetch(path, {
    method: "POST",
    headers: { ...callerHeaders(key), "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw await refusalOf(response);
  return (await response.json()) as T;
}
