/** The catalog's notices are English. Those that we have in every language, by their text: another text is shown as it is. */
const names = {
  "Controlled demonstration: eight cards, at most 4,096 tokens of context and 1,024 of answer, very few requests at a time. Expect a high price and seconds to the first token.":
    "demonstration",
  "Embedded demonstration model. Its price is far above its worth, so that a handful of requests makes a bill one can read.":
    "embedded",
  "Vision not verified: we have not yet run this model on images. Text is served as with any model; check what it says of an image before you rely on it.":
    "vision",
} as const;

export function noticeNamed(text: string): (typeof names)[keyof typeof names] | null {
  return text in names ? names[text as keyof typeof names] : null;
}
