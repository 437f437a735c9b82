// Demands that the tests reach every line, function and branch of src/, as `forge coverage` sees them.
//
// forge counts both ways of each `require`, `if` and loop. It has no counters for the two ways of `a ? b : c`, `a && b` and
// `a || b`: those are listed here with the tests that go both ways, so that a new one is not overlooked.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { executable } from "../bin/foundry.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");

/** Campaigns and gas snapshots reach nothing more, and take long or do not work on instrumented code. */
const LEFT_OUT = "Invariants|GasTest|Symbolic";

/** file: expression as it stands in the source, spaces apart, and tests that between them go both ways. */
const UNSEEN = {
  "src/BatchSettlement.sol": [
    ["config.withdrawDelay >= MIN_WITHDRAW_DELAY && config.withdrawDelay <= MAX_WITHDRAW_DELAY",
      "test_takes_the_first_and_the_last_delay_and_refuses_their_neighbours"],
    ["config.payerAuthorizer == address(0) ? SignatureChecker",
      "test_without_authorizer_the_payer_signs", "test_counts_only_what_is_new"],
    ["msg.sender == config.receiver || msg.sender == config.receiverAuthorizer",
      "test_is_for_the_receiver_and_its_authorizer_only", "test_gives_back_to_the_payer_at_once"],
    ["msg.sender == config.payer || msg.sender == config.payerAuthorizer",
      "test_payer_and_payer_authorizer_may_start", "test_nobody_else_may"],
    ["wanted < limit ? wanted : limit", "test_gives_at_most_what_is_unclaimed", "test_gives_back_to_the_payer_at_once"],
  ],
  "src/CallAggregator.sol": [
    ["result.success || allowFailure", "test_answers_each_call_and_lets_failures_be", "test_each_call_says_whether_it_may_fail"],
  ],
  "src/MorToken.sol": [["_minters[msg.sender] || msg.sender == owner()", "test_owner_and_minters_mint"]],
  "src/UsdToken.sol": [
    ["block.timestamp > validAfter && block.timestamp < validBefore", "test_refuses_before_and_after_its_time"],
  ],
  "src/registry/Marketplace.sol": [
    ["pricePerSecond >= _bidMinPricePerSecond && pricePerSecond <= _bidMaxPricePerSecond",
      "test_refuses_prices_outside_the_bounds"],
    ["amount < _feeBalance ? amount : _feeBalance", "test_the_owner_sets_the_fee_and_takes_it"],
    ["bid.createdAt != 0 && bid.deletedAt == 0", "test_a_deleted_bid_leaves_the_market_and_stays_readable"],
  ],
  "src/registry/ModelRegistry.sol": [
    ["entry.createdAt != 0 && !entry.isDeleted", "test_an_unknown_model_is_nobodys", "test_removing_returns_the_whole_stake"],
  ],
  "src/registry/ProviderRegistry.sol": [
    ["entry.createdAt != 0 && !entry.isDeleted", "test_refuses_to_let_go_of_an_unknown_or_gone_provider"],
  ],
  "src/registry/RegistryBase.sol": [
    ["limit < length - offset ? offset + limit : length", "test_a_page_beyond_the_end_is_empty_and_no_limit_is_too_large"],
  ],
};

function report() {
  const folder = mkdtempSync(join(tmpdir(), "lethe-coverage-"));
  try {
    const file = join(folder, "lcov.info");
    const args = ["coverage", "--no-match-contract", LEFT_OUT, "--report", "lcov", "--report-file", file];
    execFileSync(executable("forge"), args, { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
    return readFileSync(file, "utf8");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What was not reached, as "file:line what", and how much there is in all. */
function read(lcov) {
  const missed = [];
  const total = { lines: 0, functions: 0, branches: 0 };
  let file = "";
  for (const line of lcov.split("\n")) {
    const [kind, rest = ""] = line.split(/:(.*)/s);
    const fields = rest.split(",");
    if (kind === "SF") file = rest;
    if (!file.startsWith("src/")) continue;
    const count = (what, place, times) => {
      total[what] += 1;
      if (times === "0" || times === "-") missed.push(`${file}:${place} is not reached (${what})`);
    };
    if (kind === "DA") count("lines", fields[0], fields[1]);
    if (kind === "FNDA") count("functions", fields[1], fields[0]);
    if (kind === "BRDA") count("branches", fields[0], fields[3]);
  }
  return { missed, total };
}

const solidityBelow = (folder) =>
  readdirSync(join(ROOT, folder), { recursive: true }).filter((name) => name.endsWith(".sol")).map((name) => `${folder}/${name}`);
const source = (path) => readFileSync(join(ROOT, path), "utf8");

/** Expressions with two ways that the list lacks, and entries of the list that name no expression or no test. */
function unlisted() {
  const tests = solidityBelow("test").map(source).join("");
  const findings = [];
  for (const file of solidityBelow("src")) {
    let text = source(file).replace(/\/\/.*/g, "").replace(/\s+/g, " ");
    for (const [expression, ...shownBy] of UNSEEN[file] ?? []) {
      if (!text.includes(expression)) findings.push(`${file} has no "${expression}" any more`);
      text = text.replaceAll(expression, "");
      for (const test of shownBy.filter((test) => !tests.includes(`function ${test}(`))) findings.push(`there is no test ${test}`);
    }
    for (const [left] of text.matchAll(/.{0,60}( \? | && | \|\| ).{0,60}/g)) {
      findings.push(`${file} has two ways that forge does not count: list "${left.trim()}" in analysis/coverage.mjs with its tests`);
    }
  }
  return findings;
}

const { missed, total } = read(report());
const findings = [...missed, ...unlisted()];
if (findings.length > 0 || total.branches === 0) {
  console.error(`${findings.join("\n")}\ncoverage of src/ is not whole`);
  process.exit(1);
}
console.log(`coverage of src/: all of ${total.lines} lines, ${total.functions} functions and ${total.branches} branches`);
