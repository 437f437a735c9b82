// The types of what the node tells, made from its OpenAPI document. The first line ties them to it: a test of the repository
// computes the same hash.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";

const FROM = "../crates/lethe/openapi.json";
const TO = "src/openapi.ts";

const text = readFileSync(FROM);
const hash = createHash("sha256").update(text).digest("hex");
const { openapi, info, components } = JSON.parse(text.toString());
// The page needs what is told, not how it is asked for.
const told = { openapi, info, paths: {}, components: { schemas: components.schemas } };
let types = astToString(await openapiTS(told)).replace(/^export type (webhooks|paths|operations|\$defs) = .*\n/gm, "");

// TypeScript takes what lists itself under a name of its own only.
const itself = /^ {8}(\w+): (.*components\["schemas"\]\["\1"\].*);$/gm;
for (const [, name, type] of types.matchAll(itself)) {
  types += `export type ${name} = ${type.replaceAll(`components["schemas"]["${name}"]`, name)};\n`;
}
types = types.replace(itself, "        $1: $1;");

writeFileSync(TO, `// Made by types.mjs from crates/lethe/openapi.json, SHA-256 ${hash}. Not to be edited.\n\n${types}`);
