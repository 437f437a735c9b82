// Named checks: each says ok or FAIL and the next one runs, so that one defect does not hide another.

export const { LETHE_BASE_URL: baseUrl, LETHE_API_KEY: apiKey, LETHE_RPC_URL: rpcUrl, LETHE_DASHBOARD_URL: dashboardUrl } = process.env;

const CHECK_MS = 60_000;

/** Runs the function as the check of this name. */
export async function check(name, run) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${CHECK_MS} ms`)), CHECK_MS);
  });
  try {
    await Promise.race([run(), late]);
    console.log(`ok ${name}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`FAIL ${name}: ${String(error).replaceAll("\n", " ").slice(0, 1000)}`);
    console.error(error.stack);
  } finally {
    clearTimeout(timer);
  }
}
