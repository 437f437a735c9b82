// Compares the branch trees (test/**/*.tree) with the tests and the contracts, so that neither can go stale.
//
// A tree stands beside its test file. Its roots name functions and the test contract; inner lines are conditions ("when"
// for what is passed, "given" for what is so already), leaves what has to happen and the tests that show it:
//
//   BatchSettlement.settle (SettleTest)
//   └── given nothing due
//       └── it does nothing: test_pays_nothing_twice
//
// What must hold: every leaf names tests of its contract; every test is named; a leaf that says "reverts with X" is
// shown by a test that asks for X; every function and error of the contracts below is in a tree. And the tests that
// INVARIANTS.md names have to exist, at least one for each number.

import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const CONTRACTS = ["BatchSettlement", "AllowanceCollector", "Eip3009Collector"];
const FOLDERS = ["test/settlement", "test/collectors"];

/** Errors in a contract's ABI that no call can bring about, and why. */
const OUT_OF_REACH = {
  AddressEmptyCode: "of OpenZeppelin's Multicall, whose only target is the contract itself",
};

const findings = [];
const complain = (where, what) => findings.push(`${where}: ${what}`);

/** Roots with their nodes: `{ line, text, leaf, children }`, by the depth of the branch drawing. */
function parse(path) {
  const roots = [];
  let open = [];
  for (const [index, line] of readFileSync(join(ROOT, path), "utf8").split("\n").entries()) {
    if (line === "") continue;
    const [, drawing, text] = line.match(/^((?:│   |    )*(?:├── |└── )?)(.*)$/u);
    const depth = drawing.length / 4;
    const node = { where: `${path}:${index + 1}`, text, children: [] };
    if (depth === 0) roots.push(node);
    else if (depth > open.length) complain(node.where, "hangs below no line");
    else open[depth - 1].children.push(node);
    open = [...open.slice(0, depth), node];
  }
  return roots;
}

/** Functions by contract of a test file, each with its text. */
function functionsOf(path) {
  const contracts = {};
  for (const part of readFileSync(join(ROOT, path), "utf8").split(/^(?=contract )/m).slice(1)) {
    const functions = part.split(/^(?=    function |    modifier |    constructor)/m).slice(1);
    contracts[part.match(/^contract (\w+)/)[1]] = Object.fromEntries(
      functions.map((text) => [text.match(/(?:function|modifier) (\w+)|constructor/)[1] ?? "constructor", text]),
    );
  }
  return contracts;
}

/** The text of a test and of the helpers that it calls. */
function reach(functions, name, seen = new Set()) {
  if (seen.has(name)) return "";
  seen.add(name);
  const called = Object.keys(functions).filter((other) => new RegExp(`\\b${other}\\(`).test(functions[name]));
  return functions[name] + called.map((other) => reach(functions, other, seen)).join("");
}

function checkLeaf({ where, text }, functions, named, errors) {
  const [, claim, tests] = text.match(/^it (.+): (\w+(?:, \w+)*)$/) ?? [];
  if (claim === undefined) return complain(where, 'a leaf reads "it does something: test_name"');
  const known = tests.split(", ").filter((test) => {
    named.add(test);
    if (!/^test/.test(test) || !(test in functions)) complain(where, `there is no test ${test}`);
    return test in functions;
  });
  for (const error of claim.matchAll(/\b[A-Z]\w+[a-z]\w*\b/g)) {
    errors.add(error[0]);
    for (const test of known) {
      if (!reach(functions, test).includes(error[0])) complain(where, `${test} does not ask for ${error[0]}`);
    }
  }
}

function checkBranch(node, functions, named, errors) {
  if (node.children.length === 0) return checkLeaf(node, functions, named, errors);
  if (!/^(when|given) /.test(node.text)) complain(node.where, 'a condition begins with "when" or "given"');
  node.children.forEach((child) => checkBranch(child, functions, named, errors));
}

function checkTree(path, rooted, errors) {
  const contracts = functionsOf(path.replace(/\.tree$/, ".t.sol"));
  const named = Object.fromEntries(Object.keys(contracts).map((contract) => [contract, new Set()]));
  for (const root of parse(path)) {
    const [, subject, contract] = root.text.match(/^(.+) \((\w+)\)$/) ?? [];
    if (!(contract in contracts)) {
      complain(root.where, "a root reads \"Contract.function (TestContract)\", with a contract of the file beside it");
      continue;
    }
    for (const name of subject.split(", ")) rooted.add(name);
    root.children.forEach((child) => checkBranch(child, contracts[contract], named[contract], errors));
  }
  for (const [contract, functions] of Object.entries(contracts)) {
    for (const test of Object.keys(functions).filter((name) => /^test/.test(name) && !named[contract].has(name))) {
      complain(path, `no leaf names ${contract}.${test}`);
    }
  }
}

/** The tests, moves and checks that INVARIANTS.md names under its numbers. */
function checkInvariants() {
  const known = readdirSync(join(ROOT, "test"), { recursive: true })
    .filter((name) => name.endsWith(".sol"))
    .map((name) => readFileSync(join(ROOT, "test", name), "utf8"))
    .join("");
  const items = readFileSync(join(ROOT, "INVARIANTS.md"), "utf8").matchAll(/^(\d+)\. (.+\n(?:   .*\n)+)/gm);
  for (const [, number, text] of items) {
    const names = [...text.matchAll(/`(_holds_\w+|test\w*_\w+|check_\w+|\w+Wrongly|\w+Withdrawal|\w+Test|giveBackTwice)`/g)].map(([, name]) => name);
    if (names.length === 0) complain(`INVARIANTS.md, ${number}`, "names no test");
    for (const name of names.filter((name) => !new RegExp(`(function|contract) ${name}\\b`).test(known))) {
      complain(`INVARIANTS.md, ${number}`, `there is no ${name}`);
    }
  }
}

const rooted = new Set();
const errors = new Set();
for (const folder of FOLDERS) {
  const files = readdirSync(join(ROOT, folder));
  for (const file of files.filter((name) => name.endsWith(".t.sol"))) {
    const tree = file.replace(/\.t\.sol$/, ".tree");
    if (files.includes(tree)) checkTree(`${folder}/${tree}`, rooted, errors);
    else complain(`${folder}/${file}`, `has no ${tree} beside it`);
  }
}
const unreached = new Set(Object.keys(OUT_OF_REACH));
for (const contract of CONTRACTS) {
  const { abi } = JSON.parse(readFileSync(join(ROOT, `artifacts/${contract}.json`), "utf8"));
  for (const { type, name } of abi) {
    if (type === "function" && !rooted.has(`${contract}.${name}`)) complain(contract, `no tree has ${name} at its root`);
    if (type !== "error") continue;
    if (!errors.has(name) && !(name in OUT_OF_REACH)) complain(contract, `no leaf reverts with ${name}`);
    unreached.delete(name);
  }
}
for (const name of unreached) complain("analysis/trees.mjs", `no contract has ${name}: take it off the list of what is out of reach`);
checkInvariants();
if (findings.length > 0) {
  console.error(`${findings.join("\n")}\n${findings.length} findings in the branch trees`);
  process.exit(1);
}
console.log(`branch trees: ${rooted.size} roots and ${errors.size} errors and events are what tests and contracts have`);
