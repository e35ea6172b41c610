// Ask the sidecar before the work. Node 18 or newer; no package is needed.
const SIDECAR = process.env.RATECTL_HTTP ?? "http://127.0.0.1:8082";

/** Return the sidecar's answer; null if there is none, and the request may pass. */
export async function check(scope, attributes, cost = 1) {
  try {
    const answer = await fetch(`${SIDECAR}/v1/check`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ scope, attributes, cost }),
      signal: AbortSignal.timeout(250),
    });
    const body = await answer.json();
    if ("allowed" in body) return body;
    console.error(`ratectl: ${body.detail}`); // a mistake in the request: 400
  } catch (error) {
    console.error(`ratectl: ${error.message}`); // no sidecar, or not in time
  }
  return null;
}

if (process.argv[2]) {
  for (let n = 0; n < 4; n++) {
    const answer = await check("/shop", { client: process.argv[2] });
    const wait = answer?.retry_after;
    console.log(answer === null || answer.allowed ? "200" : `429, retry after ${Math.ceil(wait)} s`);
  }
}
