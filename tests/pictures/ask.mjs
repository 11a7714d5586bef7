// node ask.mjs DASHBOARD.json PROMETHEUS START END STEP > answers.json: asks every query of the dashboard as Grafana
// would, with the variables at their saved values. Fails when one of them has no answer.
import { readFileSync } from "node:fs";

const [file, server, ...numbers] = process.argv.slice(2);
const [start, end, step] = numbers.map(Number);
const dashboard = JSON.parse(readFileSync(file, "utf8"));

async function ask(path, query) {
  const answer = await (await fetch(`${server}/api/v1/${path}?${new URLSearchParams(query)}`)).json();
  if (answer.status !== "success") throw new Error(`${JSON.stringify(query)}: ${answer.error}`);
  return answer.data;
}

// As Grafana has it: at least four scrapes.
const variables = { __rate_interval: `${4 * step}s` };
const filled = (text) =>
  text.replace(/\$\{?(\w+)\}?/g, (whole, name) => {
    if (!(name in variables)) throw new Error(`${text}: nobody knows ${whole}`);
    return variables[name];
  });

for (const variable of dashboard.templating.list.filter((it) => it.type === "query")) {
  const [, metric, label] = /^label_values\((.*), *(\w+)\)$/.exec(variable.query);
  const values = await ask(`label/${label}/values`, { "match[]": filled(metric), start, end });
  if (values.length === 0) throw new Error(`the variable ${variable.name} has no values`);
  const escaped = values.map((value) => value.replace(/[.\\+*?()[\]{}|^$]/g, "\\\\$&"));
  variables[variable.name] = `(${escaped.join("|")})`;
}

const answers = {};
const silent = [];
for (const panel of dashboard.panels) {
  for (const target of panel.targets) {
    const query = filled(target.expr);
    const { result } = await ask("query_range", { query, start, end, step });
    const numbers = result.flatMap((series) => series.values).filter(([, value]) => value !== "NaN");
    console.error(`pictures: ${panel.title} ${target.refId}: ${result.length} series, ${numbers.length} values`);
    if (numbers.length === 0) silent.push(`${panel.title}: ${query}`);
    (answers[panel.id] ??= {})[target.refId] = result;
  }
}
if (silent.length > 0) {
  console.error(`pictures: without an answer:\n  ${silent.join("\n  ")}`);
  process.exit(1);
}
console.log(JSON.stringify({ dashboard, start, end, step, answers }));
