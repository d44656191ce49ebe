import { refusalOf } from "./refusal";
import { askAgain, credentials, isSession } from "./session";

/** A POST of JSON that answers with JSON, or a Refusal. */
export async function send<T>(
  path: string,
  key: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<T> {
  const response = await fetch(path, {
    method: "POST",
    headers: { ...credentials(key), ...headers, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (response.status === 401 && isSession(key)) askAgain();
  if (!response.ok) throw await refusalOf(response);
  return (await response.json()) as T;
}
