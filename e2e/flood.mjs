// A server in front of the node that floods a page: it hands on page and state, and in place of the node's few events
// and tokens sends as many a second as it is told, over HTTP as the node would.

import { createServer } from "node:http";

const LINE = 60;
const TICK_MS = 5;
/** So much waits for a page that is busy for a moment. */
const BUFFER_BYTES = 4 << 20;
/** So many are in each event. */
const ANSWERS = 40;
const WORDS = ["sea ", "ice ", "rock ", "wind ", "snow "];

/**
 * @param origin Where the node is.
 * @param state What it said last.
 * @param perSecond Events, and tokens.
 */
export async function flood(origin, key, state, perSecond) {
  const sent = { events: 0, tokens: 0 };
  let rest = "";
  const each = (response, write) => {
    response.flushHeaders();
    const begun = performance.now();
    let count = 0;
    const timer = setInterval(() => {
      const due = Math.floor(((performance.now() - begun) * perSecond) / 1000);
      // Who does not read gets no more: what is counted has gone out.
      for (; count < due && !response.writableNeedDrain; count += 1) response.write(write(count));
    }, TICK_MS);
    response.on("close", () => clearInterval(timer));
  };
  const server = createServer({ highWaterMark: BUFFER_BYTES }, async (request, response) => {
    if (request.url === "/api/events") {
      response.setHeader("content-type", "text/event-stream");
      each(response, (count) => {
        sent.events += 1;
        state.chain.block += 1;
        // A new answer every tenth time, so that tables and charts have work, too.
        if (count % 10 === 0) {
          const [last] = state.answers;
          const answer = { ...last, request: `0x${count.toString(16).padStart(32, "0")}`, ttft_ms: 20 + (count % 50) };
          state.answers = [answer, ...state.answers].slice(0, ANSWERS);
          rest = JSON.stringify({ ...state, chain: undefined }).slice(1);
        }
        return `data: {"chain":${JSON.stringify(state.chain)},${rest}\n\n`;
      });
      return;
    }
    if (request.url === "/v1/chat/completions") {
      response.setHeader("content-type", "text/event-stream");
      each(response, (count) => {
        sent.tokens += 1;
        // Lines as an answer has them.
        const content = count % LINE === LINE - 1 ? "\n" : WORDS[count % WORDS.length];
        const chunk = { choices: [{ index: 0, delta: { content } }] };
        return `data: ${JSON.stringify(chunk)}\n\n`;
      });
      return;
    }
    const answer = await fetch(`${origin}${request.url}`, { headers: { authorization: `Bearer ${key}` } });
    response.statusCode = answer.status;
    for (const name of ["content-type", "content-security-policy"]) {
      if (answer.headers.has(name)) response.setHeader(name, answer.headers.get(name));
    }
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    sent,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** The frames of a page within so many milliseconds: how many, the longest gap, and how many gaps were longer than two frames. */
export function frames(page, ms) {
  return page.evaluate(
    (ms) =>
      new Promise((resolve) => {
        const gaps = [];
        let [last, begun] = [null, null];
        const next = (now) => {
          if (last !== null) gaps.push(now - last);
          last = now;
          begun ??= now;
          if (now - begun < ms) return requestAnimationFrame(next);
          const sorted = [...gaps].sort((a, b) => a - b);
          const usual = sorted[sorted.length >> 1];
          resolve({
            count: gaps.length,
            longest_ms: Math.round(sorted.at(-1)),
            usual_ms: Math.round(usual * 10) / 10,
            late: gaps.filter((gap) => gap > 2.5 * usual).length,
          });
        };
        requestAnimationFrame(next);
      }),
    ms,
  );
}
