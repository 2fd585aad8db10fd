/** A goal that was measured. */
export interface Verdict {
  goal: string
  /** As the reader sees it. */
  measured: string
  reached: boolean
}

export interface Table {
  title: string
  /** What a reader has to know to read it. */
  note?: string
  columns: string[]
  rows: (string | number)[][]
  verdicts: Verdict[]
}

/** How much a table may take. */
export interface Scale {
  quick: boolean
}

export function median(values: number[]): number {
  return percentile(values, 0.5)
}

/** Nearest rank. */
export function percentile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN
}

/** Rounds what is read side by side: three digits that count. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en')
  return value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2)
}

export const mebibytes = (bytes: number) => figure(bytes / 2 ** 20)

export function atMost(goal: string, measured: number, limit: number, unit = ''): Verdict {
  return { goal, measured: figure(measured) + unit, reached: measured <= limit }
}

export function atLeast(goal: string, measured: number, limit: number, unit = ''): Verdict {
  return { goal, measured: figure(measured) + unit, reached: measured >= limit }
}

/** The table in Markdown, as the terminal and `docs/performance.md` show it. */
export function print({ title, note, columns, rows, verdicts }: Table): string {
  const cells = [columns, ...rows].map((row) =>
    row.map((cell) => (typeof cell === 'number' ? figure(cell) : cell)),
  )
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => row[index]?.length ?? 0)))
  const line = (row: string[]) =>
    `| ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(' | ')} |`
  const rule = `|${widths.map((width, i) => (i === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`
  const [header, ...body] = cells
  const goals = verdicts.map(
    ({ goal, measured, reached }) => `- ${reached ? 'reached' : 'MISSED'}: ${goal}; measured ${measured}`,
  )
  const parts = [`### ${title}`, note, [line(header!), rule, ...body.map(line)].join('\n'), goals.join('\n')]
  return parts.filter(Boolean).join('\n\n')
}
