import { expect, test } from "vitest";
import { type LinePlot, plotAsSvg, ticks } from "../src/plot.ts";

const plot: LinePlot = {
  kind: "lines",
  name: "speed",
  title: "Speed & <more>",
  x: "connections",
  y: "Mbit/s",
  series: [
    {
      name: "one",
      points: [
        { x: 1, y: 0 },
        { x: 2, y: 50, low: 40, high: 60 },
        { x: 4, y: 100 },
      ],
    },
    {
      name: "two",
      points: [
        { x: 1, y: 100 },
        { x: 2, y: 100 },
        { x: 4, y: 100 },
      ],
    },
  ],
};

function curves(svg: string): number[][][] {
  return [...svg.matchAll(/<polyline points="([^"]*)"/g)].map(([, points]) =>
    points!.split(" ").map((point) => point.split(",").map(Number)),
  );
}

test("curves go through their points, to scale", () => {
  const [one, two] = curves(plotAsSvg(plot));
  const [[, zero], [middleX, half], [, full]] = one as [[number, number], [number, number], [number, number]];
  expect(half).toBeCloseTo((zero + full) / 2, 0);
  expect(two!.map(([, y]) => y)).toEqual([full, full, full]);
  expect(middleX).toBeCloseTo(one![0]![0]! + (one![2]![0]! - one![0]![0]!) / 3, 0);
  const [logarithmic] = curves(plotAsSvg({ ...plot, isLogarithmic: true }));
  expect(logarithmic![1]![0]).toBeCloseTo((one![0]![0]! + one![2]![0]!) / 2, 0);
});

test("a drawing is well-formed, names its curves and shows intervals where there are any", () => {
  const svg = plotAsSvg(plot);
  expect(svg).toContain("Speed &amp; &lt;more>");
  for (const name of ["one", "two", "connections", "Mbit/s"]) expect(svg).toContain(`>${name}</text>`);
  expect(svg.match(/stroke-opacity/g)).toHaveLength(1);
});

test("bars begin at zero and are as high as their values", () => {
  const bars = [
    { name: "a", y: 10 },
    { name: "b", y: 20, low: 19, high: 20 },
  ];
  const heights = [
    ...plotAsSvg({ kind: "bars", name: "n", title: "t", y: "us", bars }).matchAll(/height="([\d.]+)" fill="#[^f]/g),
  ];
  expect(Number(heights[1]![1]) / Number(heights[0]![1])).toBeCloseTo(2, 1);
});

test.each([
  [0, 100, [0, 20, 40, 60, 80, 100]],
  [0, 730, [0, 200, 400, 600, 800]],
  [187, 214, [185, 190, 195, 200, 205, 210, 215]],
  [0, 0, [0]],
])("ticks from %d to %d are round", (from, to, expected) => {
  expect(ticks(from, to)).toEqual(expected);
});

test("nothing is drawn below an axis that does not begin at zero", () => {
  const svg = plotAsSvg({
    ...plot,
    series: [
      {
        name: "near",
        color: 3,
        points: [
          { x: 1, y: 187 },
          { x: 2, y: 214 },
        ],
      },
    ],
    from: { y: 183 },
  });
  const [, bottom] = /V([\d.]+)H/.exec(svg)!;
  for (const [, y] of svg.matchAll(/<(?:line|circle)[^>]* (?:cy|y1)="([\d.]+)"/g)) {
    expect(Number(y)).toBeLessThanOrEqual(Number(bottom));
  }
});
