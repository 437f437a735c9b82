// OpenAI's JavaScript client and Vercel's AI SDK ask for embeddings: embeddings.mjs MODEL

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { cosineSimilarity, embedMany } from "ai";
import OpenAI from "openai";
import { apiKey, baseUrl, check } from "./check.mjs";

const TOLERANCE = 2e-6;
const model = process.argv[2];
const { cases } = JSON.parse(readFileSync(new URL("minilm.json", import.meta.url)));
const texts = cases.map(({ text }) => text);

function same(vectors) {
  assert.equal(vectors.length, cases.length);
  for (const [n, vector] of vectors.entries()) {
    assert.equal(vector.length, 384);
    const off = Math.max(...vector.map((number, at) => Math.abs(number - cases[n].vector[at])));
    assert.ok(off < TOLERANCE, `${texts[n]}: ${off}`);
  }
}

await check("javascript: openai's client, in the form that it asks for itself and as numbers", async () => {
  const client = new OpenAI({ baseURL: baseUrl, apiKey, maxRetries: 0, timeout: 30_000 });
  for (const more of [{}, { encoding_format: "float" }]) {
    const { data } = await client.embeddings.create({ model, input: texts, ...more });
    same(data.map(({ embedding }) => embedding));
  }
});

await check("javascript: vercel's ai sdk, many at a time", async () => {
  const lethe = createOpenAICompatible({ name: "lethe", baseURL: baseUrl, apiKey });
  const { embeddings } = await embedMany({ model: lethe.textEmbeddingModel(model), values: texts });
  same(embeddings);
  assert.ok(cosineSimilarity(embeddings[0], embeddings[1]) > cosineSimilarity(embeddings[0], embeddings[2]));
});
