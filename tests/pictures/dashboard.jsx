// A dashboard's panels with the answers to their queries (window.told, from ask.mjs), by Grafana's own components. What
// is said here about looks are the defaults of Grafana's panels; everything else is from the dashboard.
import "@fontsource/inter/latin-400.css";
import "@fontsource/inter/latin-500.css";
import "@fontsource/inter/latin-600.css";
import {
  EventBusSrv,
  FieldType,
  ThemeContext,
  applyFieldOverrides,
  createTheme,
  dateTime,
  dateTimeFormat,
  getFieldDisplayValues,
  toDataFrame,
} from "@grafana/data";
import {
  BigValue,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueTextMode,
  GlobalStyles,
  PanelChrome,
  PanelContextProvider,
  TimeSeries,
  VizRepeater,
} from "@grafana/ui";
import { createRoot } from "react-dom/client";

const { dashboard, start, end, step, answers } = window.told;
const theme = createTheme({ colors: { mode: "dark" } });
const timeZone = "utc";
const [from, to] = [dateTime(start * 1000), dateTime(end * 1000)];
const timeRange = { from, to, raw: { from, to } };

// Grafana's grid: 24 columns, rows of 30 pixels, 8 between two panels.
const WIDTH = 1440;
const [MARGIN, ROW, GAP] = [16, 30, 8];
const column = (WIDTH - 2 * MARGIN + GAP) / 24;
const place = ({ x, y, w, h }) => ({
  left: MARGIN + x * column,
  top: y * (ROW + GAP),
  width: w * column - GAP,
  height: h * (ROW + GAP) - GAP,
});

const legend = (format, labels) => format.replace(/\{\{ *(\w+) *\}\}/g, (_, name) => labels[name] ?? "");
const number = (text) => (text === "+Inf" ? null : Number(text));

// A sample that is missing is a gap, as Prometheus's data source has it.
function frame(series, target, looks) {
  const known = new Map(series.values.map(([at, value]) => [Math.round(at / step), number(value)]));
  const times = [];
  for (let at = start; at <= end + 1e-6; at += step) times.push(at);
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: "Time", type: FieldType.time, values: times.map((at) => at * 1000) },
      {
        name: "Value",
        type: FieldType.number,
        labels: series.metric,
        config: { ...looks, displayNameFromDS: legend(target.legendFormat, series.metric) },
        values: times.map((at) => known.get(Math.round(at / step)) ?? null),
      },
    ],
  });
}

const defaults = {
  stat: { color: { mode: "thresholds" } },
  timeseries: { color: { mode: "palette-classic" } },
};
const thresholds = { mode: "absolute", steps: [{ value: -Infinity, color: "green" }, { value: 80, color: "red" }] };

function frames(panel) {
  // What applies these is in no package of Grafana's.
  if (panel.fieldConfig.overrides.length > 0) throw new Error(`${panel.title} has overrides, which are not drawn here`);
  const fieldConfig = { defaults: { ...defaults[panel.type], thresholds, ...panel.fieldConfig.defaults }, overrides: [] };
  const data = panel.targets.flatMap((target) =>
    answers[panel.id][target.refId].map((series) => frame(series, target, fieldConfig.defaults)),
  );
  return [applyFieldOverrides({ data, fieldConfig, replaceVariables: (text) => text, theme, timeZone }), fieldConfig];
}

function Stat({ panel, width, height }) {
  const [data, fieldConfig] = frames(panel);
  const values = () =>
    getFieldDisplayValues({
      data,
      fieldConfig,
      reduceOptions: { calcs: ["lastNotNull"], values: false },
      replaceVariables: (text) => text,
      sparkline: true,
      theme,
      timeZone,
    });
  const one = ({ value, width, height, count }) => (
    <BigValue
      value={value.display}
      sparkline={value.sparkline}
      count={count}
      colorMode={BigValueColorMode.Value}
      graphMode={BigValueGraphMode.Area}
      textMode={BigValueTextMode.Auto}
      theme={theme}
      width={width}
      height={height}
    />
  );
  return (
    <VizRepeater getValues={values} renderValue={one} width={width} height={height} source={data} orientation="vertical" />
  );
}

function Series({ panel, width, height }) {
  const [data] = frames(panel);
  const words = { showLegend: true, calcs: [], ...panel.options?.legend };
  return <TimeSeries frames={data} width={width} height={height} timeRange={timeRange} timeZone={timeZone} legend={words} />;
}

const kinds = { stat: Stat, timeseries: Series };

function Panel({ panel }) {
  const { left, top, width, height } = place(panel.gridPos);
  const Inside = kinds[panel.type];
  return (
    <div style={{ position: "absolute", left, top, width, height }}>
      <PanelChrome title={panel.title} width={width} height={height}>
        {(width, height) => <Inside panel={panel} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

function Head() {
  const box = { border: `1px solid ${theme.colors.border.medium}`, padding: "5px 10px", borderRadius: 2 };
  const clock = (at) => dateTimeFormat(at, { timeZone, format: "YYYY-MM-DD HH:mm:ss" });
  return (
    <div style={{ display: "flex", gap: 8, alignItems: "center", padding: `12px ${MARGIN}px` }}>
      <strong style={{ fontSize: 18, marginRight: 16 }}>{dashboard.title}</strong>
      {dashboard.templating.list.map((it) => (
        <span key={it.name} style={box}>
          {it.label} <span style={{ color: theme.colors.text.secondary }}>{it.current?.text ?? "default"}</span>
        </span>
      ))}
      <span style={{ ...box, marginLeft: "auto" }}>
        {clock(from)} to {clock(to)} UTC
      </span>
    </div>
  );
}

function Dashboard() {
  const rows = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PanelContextProvider value={{ eventsScope: "pictures", eventBus: new EventBusSrv() }}>
        <Head />
        <div style={{ position: "relative", height: rows * (ROW + GAP) + MARGIN - GAP }}>
          {dashboard.panels.map((panel) => (
            <Panel key={panel.id} panel={panel} />
          ))}
        </div>
      </PanelContextProvider>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById("dashboard")).render(<Dashboard />);
// Two looks of the browser later everything is drawn.
setTimeout(() => (window.ready = true), 2000);
