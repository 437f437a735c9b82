// Runs slither over src/ and compares what it finds of high and medium impact with analysis/slither.json, where each finding
// that stays has its reason. A finding without a reason fails, and so does a reason without a finding.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { environment, executable } from "../bin/python.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const LOOKED_AT = ["High", "Medium"];

/** "Contract.function" of the first element that is inside one, else the contract. */
function placeOf({ elements }) {
  const element = elements.find(({ type }) => type === "function") ?? elements[0];
  const contract = element.type_specific_fields?.parent?.name;
  return contract === undefined ? element.name : `${contract}.${element.name}`;
}

function findings() {
  const folder = mkdtempSync(join(tmpdir(), "lethe-slither-"));
  try {
    const file = join(folder, "slither.json");
    const args = [".", "--filter-paths", "node_modules|test/", "--exclude-low", "--exclude-informational", "--exclude-optimization", "--json", file];
    const { stderr, error } = spawnSync(executable("slither"), args, { cwd: ROOT, env: environment(), encoding: "utf8" });
    if (error) throw error;
    const analysed = stderr.match(/analyzed \((\d+) contracts with (\d+) detectors\)/);
    if (analysed === null) throw new Error(`slither analysed nothing:\n${stderr}`);
    const { success, error: refused, results } = JSON.parse(readFileSync(file, "utf8"));
    if (!success) throw new Error(refused);
    const found = (results.detectors ?? []).filter(({ impact }) => LOOKED_AT.includes(impact));
    return { analysed: analysed[0], found: found.map((one) => ({ ...one, place: placeOf(one) })) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const triage = JSON.parse(readFileSync(join(ROOT, "analysis/slither.json"), "utf8"));
const { analysed, found } = findings();
const explains = (entry, { check, place }) => entry.check === check && entry.places.includes(place);
const unexplained = found.filter((one) => !triage.some((entry) => explains(entry, one)));
const stale = triage.flatMap(({ check, places }) =>
  places.filter((place) => !found.some((one) => one.check === check && one.place === place)).map((place) => `${check} in ${place}`));
const silent = triage.filter(({ reason }) => !reason);

for (const { impact, check, place, description } of unexplained) console.error(`${impact} ${check} in ${place}: ${description}`);
for (const entry of stale) console.error(`slither does not find ${entry} any more: take it out of analysis/slither.json`);
for (const { check } of silent) console.error(`${check} has no reason in analysis/slither.json`);
if (unexplained.length + stale.length + silent.length > 0) process.exit(1);
console.log(`slither ${analysed}: ${found.length} findings of high or medium impact, each with its reason in analysis/slither.json`);
