import { expect, test } from "vitest";
import { figure } from "../src/figure.ts";
import { goalsAsMarkdown, measureAsMarkdown, type Report, replaceTables } from "../src/report.ts";

const measure = { name: "m", title: "Speed", method: "How.", seconds: 1, load: { before: 0.25, after: 1 } };

test("a table has a row for each figure, with what was wanted and whether it is so", () => {
  const figures = [
    figure("fast", "Gbit/s", [1234.5, 1300, 1250]),
    figure("small", "KB", [0.01234], { atMost: 0.5 }),
    figure("ratio", "x", [1, 2, 3], { atLeast: 2.5 }),
  ];
  expect(measureAsMarkdown({ ...measure, figures })).toBe(`### Speed

How. Load average 0.3 before, 1.0 after.

| what  | median      | 95 % interval | goal   |         |
| ----- | ----------- | ------------- | ------ | ------- |
| fast  | 1250 Gbit/s | 1235 to 1300  |        |         |
| small | 0.012 KB    |               | <= 0.5 | met     |
| ratio | 2.00 x      | 1.00 to 3.00  | >= 2.5 | unclear |`);
});

test("a measure that failed says so", () => {
  expect(measureAsMarkdown({ ...measure, figures: [], error: "no haproxy" })).toContain("Not measured: no haproxy");
});

test("tables go into their place in a page, and the rest stays", () => {
  const page = (tables: string): string =>
    `# Page\n\n<!-- tables of npm run bench, one: begin -->\n\n${tables}\n\n<!-- tables of npm run bench, one: end -->\n\nMore.\n`;
  expect(replaceTables(page("old"), "one", "new")).toBe(page("new"));
  expect(() => replaceTables(page("old"), "two", "new")).toThrow("no place");
});

test("points of plots are left out of tables, and plots stand below", () => {
  const points = [{ ...figure("a point", "us", [1]), isDetail: true }, figure("all", "us", [2])];
  const plots = [{ kind: "bars" as const, name: "times", title: "Times", y: "us", bars: [{ name: "a", y: 1 }] }];
  const text = measureAsMarkdown({ ...measure, figures: points, plots }, "pictures");
  expect(text).toContain("| all ");
  expect(text).not.toContain("a point");
  expect(text).toMatch(/!\[Times\]\(pictures\/times\.svg\)$/);
});

test("goals that are not met stand together, with the measures that they are of", () => {
  const report = (...figures: Parameters<typeof measureAsMarkdown>[0]["figures"]): Report => ({
    version: 1,
    started: "2026-11-22T00:00:00Z",
    machine: {} as Report["machine"],
    measures: [{ ...measure, figures }],
  });
  const text = goalsAsMarkdown([
    report(figure("fast", "x", [3], { atLeast: 2 }), figure("told", "x", [1])),
    report(figure("slow", "x", [1], { atLeast: 2 })),
  ]);
  expect(text).toContain("1 of 2 goals are met.");
  expect(text).toContain("| m: slow | 1.00 x | ");
  expect(text).not.toContain("fast");
  expect(text).not.toContain("told");
});
