/**
 * Runs the tests with tap and closes with the line `N passed, N failed` (`, N skipped` when there are any). The tests
 * share one PostgreSQL server; a run of named files leaves it to them to start one. A terminal shows tap's live view; a file or a pipe gets plain lines, see `plain-report.ts`.
 * Arguments are handed to tap: files, options.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { sharedPostgres } from '../test/support/postgres.ts'
import { createPlainReport } from './plain-report.ts'

// tap keeps its set of plugins in a generated package, which is made here so that .taprc holds on a fresh clone.
spawnSync('tap', ['build'], { stdio: 'ignore' })

const args = process.argv.slice(2)
const plain = !process.stdout.isTTY && !args.some((arg) => /^(-R|--reporter)/.test(arg))
const reporter = plain ? ['--no-color', '--reporter=tap'] : ['--color', '--reporter=terse']
const named = args.some((arg) => !arg.startsWith('-') && !arg.includes('*'))
const postgres = named ? undefined : await sharedPostgres()
const tap = spawn('tap', ['run', ...reporter, '--disable-coverage', ...args], {
  stdio: ['ignore', 'pipe', 'inherit'],
  env: { ...process.env, ...variablesOf(postgres) },
})

let summary: string | undefined
const report = createPlainReport()
if (!plain) tap.stdout.pipe(process.stdout)
createInterface({ input: tap.stdout }).on('line', (line) => {
  summary = /# \{ total: \d+.*? \}/.exec(line)?.[0] ?? summary
  if (plain) for (const text of report(line)) console.log(text)
})
tap.on('close', async (code) => {
  if (postgres && 'close' in postgres) await postgres.close()
  const count = (name: string) => Number(new RegExp(`${name}: (\\d+)`).exec(summary ?? '')?.[1] ?? 0)
  const skipped = count('skip') + count('todo')
  const failed = summary ? count('fail') : 1
  console.log(`${count('pass')} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`)
  process.exit(code || (failed > 0 ? 1 : 0))
})

/** How the test files find the server of the run. */
function variablesOf(server: Awaited<ReturnType<typeof sharedPostgres>> | undefined): NodeJS.ProcessEnv {
  if (!server) return {}
  return 'unavailable' in server
    ? { POSTGRES_UNAVAILABLE: server.unavailable }
    : { TEST_POSTGRES_URL: server.url }
}
