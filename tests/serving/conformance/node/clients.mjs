// What people's programs in Node ask: `node clients.mjs <folder of node_modules> <base URL> <key>`. Each client's
// answers go to stdout as one JSON object, which test_node_clients.py judges.
import { createRequire } from "node:module";

const [folder, baseURL, apiKey] = process.argv.slice(2);
const require = createRequire(`${folder}/package.json`);
const { OpenAI, toFile } = require("openai");
const { ChatOpenAI, OpenAIEmbeddings } = require("@langchain/openai");
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");
const { embedMany, generateText, streamText, tool } = require("ai");
const { z } = require("zod");

const CHAT = "smollm2-135m-instruct";
const EMBEDDING = "all-minilm-l6-v2";
const messages = [{ role: "user", content: "please answer 5 words" }];
const weather = { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } };

async function refusal(promise) {
  try {
    return { is: "no refusal", answer: await promise };
  } catch (error) {
    return { is: error.constructor.name, status: error.status, code: error.code, type: error.type, message: error.message };
  }
}

async function openai() {
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
  const whole = await client.chat.completions.create({ model: CHAT, messages });
  const chunks = [];
  const asked = { model: CHAT, messages, stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create(asked)) chunks.push(chunk);
  const called = await client.chat.completions.create({
    model: CHAT,
    messages: [{ role: "user", content: "call weather" }],
    tools: [{ type: "function", function: weather }],
  });
  const input = ["one", "two"];
  const packed = await client.embeddings.create({ model: EMBEDDING, input }); // the SDK asks for base64 by itself
  const plain = await client.embeddings.create({ model: EMBEDDING, input, encoding_format: "float" });
  const line = { custom_id: "a", method: "POST", url: "/v1/chat/completions", body: { model: CHAT, messages } };
  const text = `${JSON.stringify(line)}\n`;
  const file = await client.files.create({ file: await toFile(Buffer.from(text), "a.jsonl"), purpose: "batch" });
  const order = { input_file_id: file.id, endpoint: line.url, completion_window: "24h" };
  const batch = await client.batches.create(order);
  const response = await client.responses.create({ model: CHAT, input: "please answer 5 words" });
  const next = { model: CHAT, input: "answer 3 words", previous_response_id: response.id, stream: true };
  const events = [];
  for await (const event of await client.responses.create(next)) events.push(event.type);
  const listed = [];
  for await (const model of client.models.list()) listed.push(model.id);
  const stranger = new OpenAI({ baseURL, apiKey: "xpu_wrong", maxRetries: 0 });
  return {
    whole: { text: whole.choices[0].message.content, usage: whole.usage, request: whole._request_id },
    stream: {
      text: chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? "").join(""),
      ends: chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.finish_reason)).filter(Boolean),
      usage: chunks.at(-1).usage,
    },
    called: called.choices[0].message.tool_calls[0],
    embeddings: { packed: packed.data.map((one) => one.embedding), plain: plain.data.map((one) => one.embedding) },
    file: { content: await (await client.files.content(file.id)).text(), sent: text },
    batch: [(await client.batches.retrieve(batch.id)).id === batch.id, (await client.batches.cancel(batch.id)).status],
    responses: {
      text: response.output_text,
      kept: (await client.responses.retrieve(response.id)).output_text,
      items: (await client.responses.inputItems.list(response.id)).data.length,
      events,
    },
    listed,
    refusals: [
      await refusal(client.chat.completions.create({ model: "no/such", messages })),
      await refusal(client.chat.completions.create({ model: CHAT, messages, temperature: 9 })),
      await refusal(stranger.models.list()),
      await refusal(client.files.retrieve("file-nothing")),
    ],
  };
}

async function langchain() {
  const configuration = { baseURL };
  const model = new ChatOpenAI({ model: CHAT, apiKey, configuration, maxRetries: 0 });
  const whole = await model.invoke("please answer 5 words");
  let streamed = "";
  for await (const chunk of await model.stream("please answer 5 words")) streamed += chunk.content;
  const bound = model.bindTools([{ type: "function", function: weather }]);
  const called = await bound.invoke("call weather");
  const embeddings = new OpenAIEmbeddings({ model: EMBEDDING, apiKey, configuration, maxRetries: 0 });
  const vectors = await embeddings.embedDocuments(["one", "two"]);
  return {
    text: whole.content,
    usage: whole.usage_metadata,
    streamed,
    called: called.tool_calls.map((call) => call.name),
    vectors: vectors.map((one) => one.length),
  };
}

async function aiSdk() {
  const provider = createOpenAICompatible({ name: "studio", baseURL, apiKey, includeUsage: true });
  const model = provider.chatModel(CHAT);
  const prompt = "please answer 5 words";
  const whole = await generateText({ model, prompt, maxRetries: 0 });
  const stream = streamText({ model, prompt, maxRetries: 0 });
  let streamed = "";
  for await (const piece of stream.textStream) streamed += piece;
  const tools = { weather: tool({ inputSchema: z.object({ city: z.string().optional() }) }) };
  const called = await generateText({ model, prompt: "call weather", tools, maxRetries: 0 });
  const values = ["one", "two"];
  const embedded = await embedMany({ model: provider.embeddingModel(EMBEDDING), values, maxRetries: 0 });
  return {
    text: whole.text,
    usage: whole.usage,
    streamed,
    streamUsage: await stream.usage,
    called: called.toolCalls.map((call) => call.toolName),
    vectors: embedded.embeddings.map((one) => one.length),
  };
}

console.log(JSON.stringify({ openai: await openai(), langchain: await langchain(), ai: await aiSdk() }));
