import { spawnSync } from 'node:child_process'
import { cp, mkdir, readFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import t from 'tap'
import { temporaryDirectory } from '../support/gateway.ts'

const { scripts, dependencies } = JSON.parse(await readFile('package.json', 'utf8'))
/** The machine's own Node, of whatever version: that of the project is not there before `npm ci`. */
const PATH = process.env.PATH?.split(delimiter)
  .filter((folder) => !folder.includes('node_modules'))
  .join(delimiter)

/** The project as cloned, as far as the scripts reach. */
async function clone(t: Parameters<typeof temporaryDirectory>[0]) {
  const directory = await temporaryDirectory(t)
  for (const name of ['package.json', 'scripts', 'src', 'sandbox', 'bench', 'client', 'openapi'])
    await cp(name, join(directory, name), { recursive: true })
  return directory
}

function run(cwd: string, command: string, env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', command], {
    cwd,
    env: { PATH, ...env },
    encoding: 'utf8',
  })
  return { status, said: stdout + stderr }
}

t.test('every script that needs the dependencies says so in one line', async (t) => {
  const directory = await clone(t)
  const names = Object.keys(scripts).filter((name) => /(^|\s)node /.test(scripts[name]))
  t.ok(names.length > 10)
  for (const name of names) {
    const { status, said } = run(directory, scripts[name])
    t.equal(status, 1, name)
    t.equal(
      said,
      'video-gateway: the dependencies are not installed, or not all of them: run npm ci first\n',
      name,
    )
  }
})

t.test('one missing dependency is reported', async (t) => {
  const directory = await clone(t)
  for (const name of Object.keys(dependencies).slice(1))
    await mkdir(join(directory, 'node_modules', name), { recursive: true })
  t.match(run(directory, scripts.start).said, /^video-gateway: .*run npm ci first\n$/)
})

t.test('an older Node is reported although all dependencies are installed', async (t) => {
  const directory = await clone(t)
  for (const name of Object.keys(dependencies))
    await mkdir(join(directory, 'node_modules', name), { recursive: true })
  for (const version of ['20.20.2', '22.18.0', '25.0.0']) {
    const fake = `Object.defineProperty(process.versions, 'node', { value: '${version}' })`
    const { status, said } = run(
      directory,
      `"${process.execPath}" -e "${fake}; require('./scripts/preflight.cjs')"`,
    )
    t.equal(status, 1)
    t.equal(
      said,
      `video-gateway: needs Node 26 and this is ${version}: run npm ci, which installs it for the npm scripts\n`,
    )
  }
  const { status } = run(directory, `"${process.execPath}" -r ./scripts/preflight.cjs -e 0`)
  t.equal(status, 0, 'the right one')
})
