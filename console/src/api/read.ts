import { refusalOf } from "./refusal";
import { askAgain, credentials, isSession } from "./session";

/** A GET of JSON, or a Refusal. */
export async function read<T>(path: string, { key, signal }: { key?: string; signal?: AbortSignal } = {}): Promise<T> {
  const response = await fetch(path, { headers: credentials(key ?? ""), signal: signal ?? null });
  if (response.status === 401 && isSession(key)) askAgain();
  if (!response.ok) throw await refusalOf(response);
  return (await response.json()) as T;
}
