// OpenAI's own library for Node, as openai_python.py tries the one for Python.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const installed = createRequire(pathToFileURL(`${process.env.CLIENT_FOLDER}/package.json`));
const load = (name) => import(pathToFileURL(installed.resolve(name)));
const { default: OpenAI } = await load("openai");
const { zodResponseFormat } = await load("openai/helpers/zod");
const { z } = await load("zod");

const base = `${process.env.CONDUCTOR_URL}/v1`;
const client = new OpenAI({ baseURL: base, apiKey: process.env.OPENAI_API_KEY });
const asked = {
  model: "conversational_chat",
  messages: [{ role: "user", content: "What is the capital of France?" }],
  max_tokens: 24,
  temperature: 0,
};
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const withTools = { ...asked, tools, tool_choice: "required", parallel_tool_calls: false, max_tokens: 80 };

async function check(name, run) {
  let failure = null;
  try {
    await run();
  } catch (error) {
    console.error(error);
    failure = `${error.name}: ${error.message}`;
    process.exitCode = 1;
  }
  console.log(`checked: ${JSON.stringify({ name, failure })}`);
}

await check("models", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.equal(names[0], "conversational_chat");
});

let whole;
await check("chat", async () => {
  whole = await client.chat.completions.create(asked);
  assert.ok(whole.choices[0].message.content);
});

await check("chat stream", async () => {
  let text = "";
  const options = { stream: true, stream_options: { include_usage: true } };
  let usage;
  for await (const chunk of await client.chat.completions.create({ ...asked, ...options })) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.deepEqual(usage, whole.usage);
});

await check("tools required", async () => {
  const [call] = (await client.chat.completions.create(withTools)).choices[0].message.tool_calls;
  assert.ok("city" in JSON.parse(call.function.arguments));
});

await check("tools required stream", async () => {
  const final = await client.chat.completions.stream(withTools).finalChatCompletion();
  assert.ok("city" in JSON.parse(final.choices[0].message.tool_calls[0].function.arguments));
});

await check("parse with zod", async () => {
  const City = z.object({ name: z.string().max(20), country: z.string().max(20) });
  const response_format = zodResponseFormat(City, "city");
  const parsed = await client.chat.completions.parse({ ...asked, max_tokens: 120, response_format });
  assert.equal(typeof parsed.choices[0].message.parsed.name, "string");
});

await check("completions", async () => {
  const done = await client.completions.create({ model: asked.model, prompt: "One, two,", max_tokens: 8 });
  assert.ok(done.choices[0].text);
});

await check("embeddings", async () => {
  const made = await client.embeddings.create({ model: "embedding", input: ["a", "b"] });
  assert.equal(made.data.length, 2);
  assert.equal(made.data[0].embedding.length, 384);
});

await check("responses", async () => {
  const request = { model: asked.model, input: "Say hello.", max_output_tokens: 16, temperature: 0 };
  const response = await client.responses.create(request);
  assert.ok(response.output_text);
  const streamed = await client.responses.stream(request).finalResponse();
  assert.equal(streamed.output_text, response.output_text);
});

await check("NotFoundError", async () => {
  await assert.rejects(client.chat.completions.create({ ...asked, model: "nothing" }), OpenAI.NotFoundError);
});

await check("BadRequestError", async () => {
  await assert.rejects(client.chat.completions.create({ ...asked, temperature: 9 }), OpenAI.BadRequestError);
});

await check("AuthenticationError", async () => {
  const stranger = new OpenAI({ baseURL: base, apiKey: "wrong" });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});
