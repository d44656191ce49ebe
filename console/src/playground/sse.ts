import { createParser } from "eventsource-parser";

/**
 * The data of each event of a stream, in order. Bytes may be cut anywhere, also within a character. Throws when the
 * stream ends without `[DONE]`: an answer that was cut must not look like a whole one.
 */
export async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const waiting: string[] = [];
  const parser = createParser({ onEvent: (event) => waiting.push(event.data) });
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (value) parser.feed(decoder.decode(value, { stream: true }));
      for (const data of waiting.splice(0)) {
        if (data === "[DONE]") return;
        yield data;
      }
      if (done) throw new StreamCut();
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** The connection ended in the middle of an answer. */
export class StreamCut extends Error {}
