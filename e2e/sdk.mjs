// OpenAI's JavaScript client, unchanged, against `lethe up`.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { apiKey, baseUrl, check } from "./check.mjs";

const client = new OpenAI({ baseURL: baseUrl, apiKey, maxRetries: 0, timeout: 30_000 });
const messages = [{ role: "user", content: "What is a glacier?" }];
let model = "";

const ask = (more = {}) => client.chat.completions.create({ model, messages, temperature: 0, ...more });

async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  return text;
}

await check("javascript: the models are listed", async () => {
  const { data } = await client.models.list();
  assert.equal(data[0].object, "model");
  model = data[0].id;
});

await check("javascript: an answer in one piece, and the same streamed", async () => {
  const whole = await ask();
  assert.equal(whole.choices[0].finish_reason, "stop");
  assert.ok(BigInt(whole.lethe.cost) > 0n);
  assert.equal(await textOf(await ask({ stream: true })), whole.choices[0].message.content);
});

await check("javascript: usage in a stream comes only if asked for", async () => {
  const usages = async (more) => {
    const found = [];
    for await (const chunk of await ask({ stream: true, ...more })) if (chunk.usage) found.push(chunk.usage);
    return found;
  };
  assert.equal((await usages({})).length, 0);
  const asked = await usages({ stream_options: { include_usage: true } });
  assert.equal(asked.length, 1);
  assert.ok(asked[0].completion_tokens > 0);
});

await check("javascript: the client's own stream helper", async () => {
  const runner = client.chat.completions.stream({ model, messages, temperature: 0 });
  const final = await runner.finalChatCompletion();
  assert.ok(final.choices[0].message.content.length > 0);
});

await check("javascript: refusals have their types and name the field", async () => {
  await assert.rejects(ask({ model: "gpt-9" }), (error) => error instanceof OpenAI.NotFoundError && error.message.includes(model));
  await assert.rejects(ask({ temperature: 9 }), (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
  await assert.rejects(ask({ messages: [] }), (error) => error instanceof OpenAI.BadRequestError && error.param === "messages");
  const stranger = client.withOptions({ apiKey: "lethe-wrong-key" });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});

await check("javascript: a stream that is aborted early", async () => {
  const stream = await ask({ stream: true, temperature: 1.5 });
  for await (const chunk of stream) {
    assert.ok(chunk.choices);
    stream.controller.abort();
    break;
  }
  assert.ok((await ask()).choices[0].message.content);
});
