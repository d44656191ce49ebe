/** Why a tier does not answer. The gateway says it in English; those sentences that we have in every language, by their text. */
const names = {
  "Its image cannot be pulled.": "image",
  "Its release is not complete.": "configuration",
  "Its weights could not be fetched, or are not those that were declared.": "weights",
  "Its engine ends again and again.": "engine",
  "No node has room or free cards for it.": "room",
  "A quota of the cluster does not allow it.": "quota",
  "The cluster refuses its pods.": "refused",
  "It was not ready in its time.": "deadline",
  "It is not clear who scales it, and an operator has to say.": "drivers",
  "The cluster does not take the number of its pods.": "scale",
} as const;

export type Reason = { name: (typeof names)[keyof typeof names] } | { name: "away"; since: string };

/** Null for a sentence that we do not know: it is shown as it is. */
export function reasonOf(text: string): Reason | null {
  const since = /not been heard of since (\d{4}-\d\d-\d\d) (\d\d:\d\d) UTC/.exec(text);
  if (since) return { name: "away", since: `${since[1]}T${since[2]}:00Z` };
  return text in names ? { name: names[text as keyof typeof names] } : null;
}
