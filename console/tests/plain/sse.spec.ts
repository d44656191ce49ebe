import { expect, test } from "@playwright/test";
import { eventsOf, StreamCut } from "../../src/playground/sse";

const bytes = new TextEncoder().encode(': hello\r\ndata: {"text":"三 Zeichen"}\r\n\r\ndata: two\n\ndata: [DONE]\n\n');

function streamOf(...pieces: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });
}

async function read(stream: ReadableStream<Uint8Array>) {
  const events: string[] = [];
  for await (const event of eventsOf(stream)) events.push(event);
  return events;
}

test("a stream may be cut at every byte, also within a character", async () => {
  for (let at = 0; at <= bytes.length; at++) {
    expect(await read(streamOf(bytes.slice(0, at), bytes.slice(at)))).toEqual(['{"text":"三 Zeichen"}', "two"]);
  }
});

test("a stream that ends without [DONE] was cut, and what came before is kept", async () => {
  const events: string[] = [];
  const reading = (async () => {
    for await (const event of eventsOf(streamOf(bytes.slice(0, 60)))) events.push(event);
  })();
  await expect(reading).rejects.toBeInstanceOf(StreamCut);
  expect(events[0]).toContain("三");
});
