// Vercel's AI SDK, unchanged; clients.py gives it a market whose model calls tools.

import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { apiKey, baseUrl, check } from "./check.mjs";

const MODEL = "scripted";
const WORDS = "Glaciers are slow rivers of ice.";
const { LETHE_POOR_KEY: poorKey } = process.env;

globalThis.AI_SDK_LOG_WARNINGS = false;
const model = (key = apiKey, name = MODEL) => createOpenAICompatible({ name: "lethe", baseURL: baseUrl, apiKey: key, includeUsage: true })(name);
const weather = tool({
  description: "The weather in a city",
  inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
  execute: async ({ city }) => `snow in ${city}`,
});

await check("vercel: an answer in one piece, with usage", async () => {
  const { text, usage, finishReason } = await generateText({ model: model(), prompt: "Hello" });
  assert.equal(text, WORDS);
  assert.equal(finishReason, "stop");
  assert.ok(usage.outputTokens > 0);
});

await check("vercel: a stream, with usage at its end", async () => {
  const result = streamText({ model: model(), prompt: "Hello" });
  let text = "";
  for await (const piece of result.textStream) text += piece;
  assert.equal(text, WORDS);
  assert.ok((await result.usage).outputTokens > 0);
});

await check("vercel: a tool is called, run, and its result answered, streamed and not", async () => {
  const asked = { model: model(), prompt: "Weather in Bern?", tools: { weather }, stopWhen: stepCountIs(3) };
  const { text, steps } = await generateText(asked);
  assert.deepEqual(steps[0].toolCalls.map(({ toolName, input }) => [toolName, input]), [["weather", { city: "Bern" }]]);
  assert.equal(text, "The tool says snow in Bern.");
  const streamed = streamText(asked);
  await streamed.consumeStream();
  assert.equal(await streamed.text, "The tool says snow in Bern.");
});

await check("vercel: refusals are errors of its own, and a spent budget is not tried again", async () => {
  const refusal = async (wanted) => {
    try {
      await generateText({ prompt: "Hello", ...wanted });
    } catch (error) {
      return error;
    }
    throw new Error("not refused");
  };
  const unknown = await refusal({ model: model(apiKey, "nobody") });
  assert.ok(APICallError.isInstance(unknown) && unknown.statusCode === 404, String(unknown));
  const wrong = await refusal({ model: model("lethe-wrong-key-000") });
  assert.equal(wrong.statusCode, 401);
  const poor = await refusal({ model: model(poorKey) });
  assert.ok(APICallError.isInstance(poor) && poor.statusCode === 402 && !poor.isRetryable, String(poor));
  assert.match(poor.message, /MOR a day/);
});
