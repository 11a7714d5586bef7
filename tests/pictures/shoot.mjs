// node shoot.mjs PAGE.html PICTURE.png [--width N] [--height N] [--scale N] [--dark]: the page as a browser without a
// screen shows it, as high as it is or --height. Fails when the page asks the network for something or a script of it fails.
// A page that sets window.ready to false is waited for until it is true.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    width: { type: "string", default: "1000" },
    height: { type: "string" },
    scale: { type: "string", default: "1" },
    dark: { type: "boolean", default: false },
  },
});
const [page, picture] = positionals;
const profile = mkdtempSync(join(tmpdir(), "pictures-"));
const quiet = ["gpu", "quic", "background-networking", "component-update", "sync"].map((it) => `--disable-${it}`);
const browser = spawn(
  process.env.CHROMIUM ?? "chromium",
  ["--headless", "--no-sandbox", "--no-first-run", ...quiet, `--user-data-dir=${profile}`, "--remote-debugging-pipe"],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
);

// The protocol of the browser's own tools: messages that end with a zero byte.
const waiting = new Map();
const listeners = [];
let last = 0;
let session;
let rest = "";
browser.stdio[4].setEncoding("utf8").on("data", (chunk) => {
  const messages = (rest + chunk).split("\0");
  rest = messages.pop();
  for (const message of messages.map((text) => JSON.parse(text))) {
    const { done, failed } = waiting.get(message.id) ?? {};
    waiting.delete(message.id);
    if (message.error) failed?.(new Error(message.error.message));
    else if (done) done(message.result);
    else listeners.forEach((listener) => listener(message.method, message.params));
  }
});
const ask = (method, params = {}) =>
  new Promise((done, failed) => {
    waiting.set(++last, { done, failed });
    browser.stdio[3].write(`${JSON.stringify({ id: last, method, params, sessionId: session })}\0`);
  });
const happens = (method) =>
  new Promise((done) => listeners.push((name, params) => name === method && done(params)));

async function shoot() {
  const { targetId } = await ask("Target.createTarget", { url: "about:blank" });
  session = (await ask("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  const faults = [];
  listeners.push((name, params) => {
    if (name === "Network.requestWillBeSent" && !/^(file|data|blob):/.test(params.request.url))
      faults.push(`it asks for ${params.request.url}`);
    if (name === "Runtime.exceptionThrown")
      faults.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (name === "Runtime.consoleAPICalled" && process.env.PICTURES_DEBUG)
      console.error(params.type, ...params.args.map((it) => it.value ?? it.description));
  });
  for (const part of ["Page", "Runtime", "Network"]) await ask(`${part}.enable`);
  const size = async (height) =>
    await ask("Emulation.setDeviceMetricsOverride", {
      width: Number(values.width),
      height,
      deviceScaleFactor: Number(values.scale),
      mobile: false,
    });
  await size(Number(values.height ?? 1));
  const scheme = { name: "prefers-color-scheme", value: values.dark ? "dark" : "light" };
  await ask("Emulation.setEmulatedMedia", { features: [scheme] });
  const loaded = happens("Page.loadEventFired");
  await ask("Page.navigate", { url: pathToFileURL(page).href });
  await loaded;
  await ask("Runtime.evaluate", {
    awaitPromise: true,
    expression: `(async () => { await document.fonts.ready;
      while (window.ready === false) await new Promise((done) => setTimeout(done, 50)); })()`,
  });
  const { cssContentSize } = await ask("Page.getLayoutMetrics");
  const height = Number(values.height ?? Math.ceil(cssContentSize.height));
  await size(height);
  await new Promise((done) => setTimeout(done, 300));
  const clip = { x: 0, y: 0, width: Number(values.width), height, scale: 1 };
  const { data } = await ask("Page.captureScreenshot", { format: "png", clip, captureBeyondViewport: true });
  if (cssContentSize.width > Number(values.width)) faults.push(`it is ${cssContentSize.width} wide`);
  if (faults.length > 0) throw new Error(`${page}: ${faults.join("; ")}`);
  writeFileSync(picture, Buffer.from(data, "base64"));
}

const late = setTimeout(() => {
  console.error(`pictures: ${page} is not ready after a minute`);
  process.exitCode = 1;
  browser.kill();
}, 60_000);
try {
  await shoot();
} catch (error) {
  console.error(`pictures: ${error.message}`);
  process.exitCode = 1;
} finally {
  clearTimeout(late);
  const gone = new Promise((done) => browser.on("exit", done));
  browser.kill();
  await gone;
  rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
}
