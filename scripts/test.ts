/**
 * Runs the tests with tap and closes with the line `N passed, N failed` (`, N skipped` when there are any).
 * Arguments are handed to tap: files, options.
 */
import { spawn, spawnSync } from 'node:child_process'

// tap keeps its set of plugins in a generated package, which is made here so that .taprc holds on a fresh clone.
spawnSync('tap', ['build'], { stdio: 'ignore' })

const tap = spawn(
  'tap',
  ['run', '--color', '--reporter=terse', '--disable-coverage', ...process.argv.slice(2)],
  {
    stdio: ['ignore', 'pipe', 'inherit'],
  },
)
let output = ''
tap.stdout.on('data', (chunk: Buffer) => {
  process.stdout.write(chunk)
  output = (output + chunk).slice(-10_000)
})
tap.on('close', (code) => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: tap's colours
  const plain = output.replace(/\u001b\[[0-9;]*m/g, '')
  const summary = /# \{ total: (\d+)(.*?) \}/.exec(plain.slice(plain.lastIndexOf('# { total')))
  const count = (name: string) => Number(new RegExp(`${name}: (\\d+)`).exec(summary?.[2] ?? '')?.[1] ?? 0)
  const skipped = count('skip') + count('todo')
  const failed = summary ? count('fail') : 1
  console.log(`${count('pass')} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`)
  process.exit(code || (failed > 0 ? 1 : 0))
})
