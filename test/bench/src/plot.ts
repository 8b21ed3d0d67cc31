/** One measured point; `low` and `high` are the interval of its median. */
interface Point {
  x: number;
  y: number;
  low?: number;
  high?: number;
}

export interface Series {
  name: string;
  /** Number of its colour, the same in each plot that it is in. @default its place */
  color?: number;
  points: Point[];
}

/** Curves over a common axis. */
export interface LinePlot {
  kind: "lines";
  /** Of its file, without an ending. */
  name: string;
  title: string;
  x: string;
  y: string;
  series: Series[];
  /** Where the axes begin; by default x at the first point and y at 0. */
  from?: { x?: number; y?: number };
  /** Steps of x as doublings. */
  isLogarithmic?: boolean;
}

/** One bar for each name. */
interface BarPlot {
  kind: "bars";
  name: string;
  title: string;
  y: string;
  bars: { name: string; y: number; low?: number; high?: number }[];
}

export type Plot = LinePlot | BarPlot;

const WIDTH = 760;
const HEIGHT = 400;
const FRAME = { left: 70, right: 560, top: 40, bottom: 340 };
const TICKS = 6;
/** Told apart also by those who see few colours (Okabe and Ito). */
const COLORS = ["#000000", "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#e69f00", "#56b4e9", "#999999"];

/** A drawing that stands for itself: no fonts, scripts or colours from elsewhere. */
export function plotAsSvg(plot: Plot): string {
  const body = plot.kind === "lines" ? lines(plot) : bars(plot);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">
<title>${escaped(plot.title)}</title>
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
${text(FRAME.left, 22, plot.title, 'font-size="14" font-weight="bold"')}
${body.join("\n")}
</svg>
`;
}

function lines({ x, y, series, from, isLogarithmic = false }: LinePlot): string[] {
  const points = series.flatMap((one) => one.points);
  const shape = isLogarithmic ? Math.log2 : (value: number) => value;
  const columns = [...new Set(points.map((point) => point.x))].sort((a, b) => a - b);
  const [first, last] = [shape(from?.x ?? columns[0]!), shape(columns.at(-1)!)];
  const atX = (value: number): number => place(shape(value), [first, last], [FRAME.left, FRAME.right]);
  const vertical = verticalAxis(y, from?.y ?? 0, Math.max(...points.map((point) => point.high ?? point.y)));
  const atY = vertical.at;
  const labels = isLogarithmic ? columns : ticks(first, last).filter((value) => value >= first && value <= last);
  return [
    ...vertical.drawing,
    ...labels.map((value) => text(atX(value), FRAME.bottom + 18, label(value), 'text-anchor="middle"')),
    text((FRAME.left + FRAME.right) / 2, FRAME.bottom + 42, x, 'text-anchor="middle"'),
    ...series.flatMap((one, index) => {
      const color = COLORS[(one.color ?? index) % COLORS.length]!;
      const path = one.points.map((point) => `${round(atX(point.x))},${round(atY(point.y))}`).join(" ");
      return [
        `<polyline points="${path}" fill="none" stroke="${color}" stroke-width="1.5"/>`,
        ...one.points.map(
          (point) => `<circle cx="${round(atX(point.x))}" cy="${round(atY(point.y))}" r="2.5" fill="${color}"/>`,
        ),
        ...one.points.map((point) => whisker(atX(point.x), point, atY, color)),
        `<rect x="${FRAME.right + 16}" y="${FRAME.top + 20 * index}" width="14" height="4" fill="${color}"/>`,
        text(FRAME.right + 36, FRAME.top + 6 + 20 * index, one.name),
      ];
    }),
  ];
}

function bars({ y, bars: all }: BarPlot): string[] {
  const right = WIDTH - 20;
  const { drawing, at } = verticalAxis(y, 0, Math.max(...all.map((bar) => bar.high ?? bar.y)), right);
  const step = (right - FRAME.left) / all.length;
  return [
    ...drawing,
    ...all.flatMap((bar, index) => {
      const middle = FRAME.left + step * (index + 0.5);
      const top = at(bar.y);
      const box = `x="${round(middle - step * 0.3)}" y="${round(top)}" width="${round(step * 0.6)}"`;
      return [
        `<rect ${box} height="${round(FRAME.bottom - top)}" fill="${COLORS[index % COLORS.length]}" fill-opacity="0.75"/>`,
        whisker(middle, bar, at, "#000000"),
        text(middle, FRAME.bottom + 18, bar.name, 'text-anchor="middle"'),
        text(middle, FRAME.bottom + 36, label(bar.y), 'text-anchor="middle"'),
      ];
    }),
  ];
}

function verticalAxis(
  name: string,
  from: number,
  most: number,
  right = FRAME.right,
): { drawing: string[]; at: (value: number) => number } {
  const marks = ticks(from, most);
  const at = (value: number): number => place(value, [marks[0]!, marks.at(-1)!], [FRAME.bottom, FRAME.top]);
  const middle = (FRAME.top + FRAME.bottom) / 2;
  return {
    at,
    drawing: [
      ...marks.flatMap((value) => [
        `<line x1="${FRAME.left}" x2="${right}" y1="${round(at(value))}" y2="${round(at(value))}" stroke="#ddd"/>`,
        text(FRAME.left - 8, at(value) + 4, label(value), 'text-anchor="end"'),
      ]),
      `<path d="M${FRAME.left} ${FRAME.top}V${FRAME.bottom}H${right}" fill="none" stroke="#000"/>`,
      text(18, middle, name, `text-anchor="middle" transform="rotate(-90 18 ${middle})"`),
    ],
  };
}

function whisker(
  x: number,
  point: { low?: number; high?: number },
  at: (value: number) => number,
  color: string,
): string {
  if (point.low === undefined || point.high === undefined) return "";
  return `<path d="M${round(x)} ${round(at(point.low))}V${round(at(point.high))}" stroke="${color}" stroke-opacity="0.5"/>`;
}

function place(value: number, [from, to]: readonly number[], [start, end]: readonly number[]): number {
  return start! + ((value - from!) / (to! - from! || 1)) * (end! - start!);
}

/** Round numbers from at most `from` to at least `to`. */
export function ticks(from: number, to: number): number[] {
  const rough = (to - from || 1) / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)!;
  const [first, last] = [Math.floor(from / step), Math.ceil(to / step - 1e-9)];
  return Array.from({ length: last - first + 1 }, (_, n) => Number(((first + n) * step).toPrecision(12)));
}

function text(x: number, y: number, content: string, attributes = ""): string {
  return `<text x="${round(x)}" y="${round(y)}"${attributes && ` ${attributes}`}>${escaped(content)}</text>`;
}

function escaped(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

function label(value: number): string {
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

function round(value: number): string {
  return String(Number(value.toFixed(1)));
}
