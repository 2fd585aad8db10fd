/**
 * Asks the registry for known vulnerabilities of the packages in the lockfile, and fails on any. A registry without
 * audits (a mirror, or an unavailable one) is reported in one line and is not a failure.
 */
import { spawnSync } from 'node:child_process'

interface Report {
  metadata?: { vulnerabilities: { total: number } }
  vulnerabilities?: Record<string, { severity: string; range: string; fixAvailable: unknown }>
  message?: string
  error?: { summary?: string }
}

const { stdout, error } = spawnSync('npm', ['audit', '--json'], {
  encoding: 'utf8',
  timeout: 60_000,
  // A truncated report would look like an empty one.
  maxBuffer: Number.POSITIVE_INFINITY,
})
const report = parse(stdout)
const total = report.metadata?.vulnerabilities.total

if (total === undefined) {
  const reason = report.message ?? report.error?.summary ?? error?.message ?? 'no answer'
  console.log(`audit: not done, the registry does not offer it (${reason.split('\n', 1)[0]})`)
} else if (total === 0) {
  console.log('audit: no known vulnerabilities')
} else {
  for (const [name, { severity, range, fixAvailable }] of Object.entries(report.vulnerabilities ?? {}))
    console.error(`audit: ${severity}: ${name} ${range}${fixAvailable ? ', a fix is available' : ''}`)
  console.error(`audit: ${total} known vulnerabilities`)
  process.exit(1)
}

function parse(text: string | null): Report {
  try {
    return JSON.parse(text ?? '') as Report
  } catch {
    return {}
  }
}
