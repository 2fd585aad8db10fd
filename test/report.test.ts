import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createPlainReport } from '../scripts/plain-report.ts'

const tests = `import t from 'tap'
t.test('good', async (t) => t.equal(1, 1))
t.test('bad', async (t) => t.equal('is', 'should be', 'a comparison'))
t.test('skipped', { skip: 'no such tool' }, async () => {})
t.test('thrown', async () => { throw new Error('boom') })
`

t.test('npm test in a pipe prints one line per file, and the failures', async (t) => {
  // Below node_modules, from where tap is found, and with a root of its own.
  const directory = mkdtempSync(join('node_modules', '.report-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  copyFileSync('.taprc', join(directory, '.taprc'))
  writeFileSync(join(directory, 'package.json'), '{"type":"module"}')
  writeFileSync(join(directory, 'good.test.mjs'), tests.split('\n').slice(0, 2).join('\n'))
  writeFileSync(join(directory, 'bad.test.mjs'), tests)
  writeFileSync(join(directory, 'broken.test.mjs'), 'process.exit(7)')
  const options = [
    'run',
    '--no-color',
    '--reporter=tap',
    '--disable-coverage',
    'good.test.mjs',
    'bad.test.mjs',
    'broken.test.mjs',
  ]
  const { stdout } = spawnSync('env', ['-i', `PATH=${process.env.PATH}`, 'tap', ...options], {
    cwd: directory,
    encoding: 'utf8',
  })
  const report = createPlainReport()
  const lines = stdout.split('\n').flatMap(report)
  const text = lines.join('\n')
  t.equal(lines.filter((line) => /^passed good\.test\.mjs \(\d+\.\d s\)$/.test(line)).length, 1)
  t.equal(lines.filter((line) => /^FAILED bad\.test\.mjs \(\d+\.\d s\)$/.test(line)).length, 1)
  t.match(text, /not ok 1 - a comparison\n( .*\n)*? +lineNumber: 3\n/)
  t.match(text, / +-should be\n +\+is\n/)
  t.match(
    text,
    /FAILED broken\.test\.mjs .*\n(.*\n)*? +exitCode: 7\n/,
    'a file that could not run says how it ended',
  )
  t.match(text, /not ok 1 - boom\n/)
  t.match(text, /ok 3 - skipped # SKIP no such tool/)
  t.notMatch(text, /good$/m, 'what passed is one line per file')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: cursor movements and colours begin with it
  t.notMatch(text, /\u001b/)
})
